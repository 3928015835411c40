"""The registry of behaviours: what a proxy is expected to do, as data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .implementation import FEATURES, Options

if TYPE_CHECKING:
    from .world import World

__all__ = ["BEHAVIOURS", "Behaviour", "Body", "behaviour"]

Body = Callable[["World"], Awaitable[None]]


@dataclass(frozen=True)
class Behaviour:
    """One row of the table.

    Attributes:
        name: short, unique, as it stands in the table.
        sentence: what is expected, in one sentence.
        theme: the group it belongs to.
        body: raises if the proxy behaves otherwise.
        needs: features without which it does not apply.
        options: how the proxy is set up.
    """

    name: str
    sentence: str
    theme: str
    body: Body
    needs: frozenset[str] = frozenset()
    options: Options = Options()  # noqa: RUF009 - frozen


BEHAVIOURS: dict[str, Behaviour] = {}
"""All behaviours by name, in the order they were declared."""


def behaviour(
    name: str, sentence: str, *, needs: Iterable[str] = (), options: Options | None = None
) -> Callable[[Body], Body]:
    """Declare the decorated coroutine function as the body of a behaviour."""
    wanted = frozenset(needs)
    options = options or Options()
    for flag in ("host_routing", "tls", "internal_ssl"):
        if getattr(options, flag):
            wanted |= {flag.replace("_", "-")}
    unknown = wanted - FEATURES.keys()
    if unknown:
        raise ValueError(f"{name} needs features that do not exist: {sorted(unknown)}")

    def declare(body: Body) -> Body:
        if name in BEHAVIOURS:
            raise ValueError(f"two behaviours have the name {name!r}")
        theme = body.__module__.rpartition(".")[2]
        BEHAVIOURS[name] = Behaviour(name, sentence, theme, body, wanted, options)
        return body

    return declare
