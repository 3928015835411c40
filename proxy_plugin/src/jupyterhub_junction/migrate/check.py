"""What becomes of an admin's values: read them, merge them as helm does, look each up.  Pure
but for reading.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from ..commands.chp_flags import FLAGS
from .options import FATES, OPTIONS, Fate, Option
from .presets import ONE

__all__ = ["BadValues", "Finding", "check", "merge", "read", "unwrapped"]

Values = dict[str, Any]

MAX_BYTES = 4 * 1024 * 1024
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "map": dict, "list": list, "text": str, "number": (int, float), "bool": bool,
}  # fmt: skip
_NAMES = {
    "map": "a map", "list": "a list", "text": "a text", "number": "a number",
    "bool": "true or false",
}  # fmt: skip
#: keys of a chart that has z2jh as a dependency
_WRAPPER = "jupyterhub"


class BadValues(ValueError):
    """Values that cannot be judged; one line that names the file or the key, and the mend."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of one key that an admin has set."""

    path: str
    fate: Fate
    says: str

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.path}: {FATES[self.fate]}: {self.says}"


def read(path: str) -> Values:
    """The values of one file.

    Raises:
        BadValues: it cannot be read, or is no map of YAML.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadValues(f"{path} cannot be read: {error.strerror or error}") from None
    if len(text) > MAX_BYTES:
        raise BadValues(f"{path} is larger than {MAX_BYTES >> 20} MiB: are these values?")
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise BadValues(f"{path}{where} is no YAML: {what}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadValues(f"{path} holds no map of values, but {type(values).__name__}")
    return values


def merge(files: Sequence[Values]) -> Values:
    """What helm makes of several ``-f``: maps are merged, all else is replaced, null deletes."""
    result: Values = {}
    for values in files:
        _merge_into(result, values)
    return result


def _merge_into(result: Values, values: Values) -> None:
    for key, value in values.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            _merge_into(result[key], value)
        else:
            result[key] = copy.deepcopy(value)


def check(files: Sequence[tuple[str, Values]]) -> list[Finding]:
    """What becomes of each key that is set in these files, by name and content, in helm's order.

    HTTPS with hosts and without a type is of the type that z2jh has by default, and what is said of
    one that is switched off is not judged.

    Raises:
        BadValues: a key that z2jh does not have, a value of a wrong type, or two presets.
    """
    files = [(name, unwrapped(name, values)) for name, values in files]
    values = merge([content for _, content in files])
    once = _look(values, "hub.extraFiles", ONE)
    if isinstance(once, dict) and len(once) > 2:
        raise BadValues("more than one of Junction's presets is given: give one at a time")
    https = _look(values, "proxy.https")
    if isinstance(https, dict) and https.get("enabled") is True and https.get("hosts"):
        https.setdefault("type", "letsencrypt")
    elif isinstance(https, dict) and https.get("enabled") is False:
        https.pop("type", None)
        https.pop("secret", None)
    found = [_judge(path, value) for path, value in _leaves(values, "", files)]
    return [*found, *_dropped(files)]


def unwrapped(name: str, values: Values) -> Values:
    """The values of z2jh, also where they are those of a chart that depends on it.

    Raises:
        BadValues: what stands under ``jupyterhub`` is no map.
    """
    if _WRAPPER in values and not {"hub", "proxy"} & values.keys():
        inner = values[_WRAPPER]
        if not isinstance(inner, dict):
            raise BadValues(f"{name}: jupyterhub has to be a map")
        return inner
    return values


def _look(values: Any, path: str, *more: str) -> Any:
    for key in (*path.split("."), *more):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _rows(path: str) -> list[Option]:
    return [option for option in OPTIONS if option.path == path]


def _leaves(
    values: Values, above: str, files: Sequence[tuple[str, Values]]
) -> Iterator[tuple[str, Any]]:
    """The keys that have rows of their own, as deep as there are any."""
    for key, value in values.items():
        path = f"{above}.{key}" if above else str(key)
        rows = _rows(path)
        deeper = any(option.path.startswith(f"{path}.") for option in OPTIONS)
        if not rows and not deeper:
            row = next((o for o in OPTIONS if o.path == above), None)
            if row is None or above in ("", "hub", "proxy", "proxy.chp"):
                place = next((n for n, v in files if _look(v, path) is not None), "")
                raise BadValues(f"{place}: {path} is no value of z2jh: mend it, or leave it out")
            yield path, value
            continue
        kind = rows[0].kind if rows else "map"
        if not _fits(kind, value):
            place = next((n for n, v in reversed(files) if _look(v, path) is not None), "")
            wanted = " or ".join(_NAMES[one] for one in kind.split("|"))
            raise BadValues(f"{place}: {path} has to be {wanted}, not {_shown(value)}")
        if deeper and isinstance(value, dict):
            yield from _leaves(value, path, files)
        else:
            yield path, value


def _fits(kind: str, value: Any) -> bool:
    if kind == "any" or value is None:
        return True
    for one in kind.split("|"):
        wanted = _KINDS[one]
        if isinstance(value, wanted) and (one == "bool" or not isinstance(value, bool)):
            return True
    return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _judge(path: str, value: Any) -> Finding:
    at = path
    while True:
        for option in _rows(at):
            if option.applies(value):
                return Finding(path, option.fate, option.says + _flags(path, option, value))
        at, dot, _ = at.rpartition(".")
        if not dot:
            return Finding(path, "same", "nothing of the proxy")


def _flags(path: str, option: Option, value: Any) -> str:
    """What becomes of each flag for CHP that is more than taken."""
    if path != "proxy.chp.extraCommandLineFlags" or option.fate == "same":
        return ""
    known = {flag.name: flag for flag in FLAGS}
    said = []
    for name in dict.fromkeys(str(flag).partition("=")[0].strip() for flag in value):
        if name in known:
            said.append(f"{name} ({known[name].fate}: {known[name].says})")
        elif name.startswith("--"):
            said.append(f"{name} (no flag of CHP)")
    return f": {'; '.join(said)}" if said else ""


def _dropped(files: Sequence[tuple[str, Values]]) -> Iterator[Finding]:
    """Lists that a later file replaces by its own: helm does not merge them, and says nothing."""
    seen: dict[str, tuple[str, Any]] = {}
    for name, values in files:
        for path, value in _all(values, ""):
            before = seen.get(path)
            if before is not None and isinstance(before[1], list) and before[1]:
                lost = [one for one in before[1] if not isinstance(value, list) or one not in value]
                if lost:
                    yield Finding(
                        path,
                        "step",
                        f"helm replaces the one of {before[0]} by that of {name}, and drops"
                        f" {_shown(lost)}: put both into the last file, or write the presets by"
                        f" `junction migrate presets -f {before[0]}`",
                    )
            seen[path] = (name, value)


def _all(values: Values, above: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        path = f"{above}.{key}" if above else str(key)
        yield path, value
        if isinstance(value, dict):
            yield from _all(value, path)
