"""A deployment that runs: users are made on it, their servers started, and all of it removed again.

Invariants: nothing that is not this machine's own is loaded without consent; every user that was
asked for is on the list of what has to be removed before the request is sent; that list is worked
off however the run ends, and what could not be removed is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from . import churn, class_begins
from .hubapi import Away, HubAPI
from .options import Options, is_loopback
from .stage import Change, LoadtestError, Stage, together

__all__ = ["Deployment"]

#: users that are dealt with at once
AT_ONCE = 8
#: seconds that all of the removing may take, and as many more for each user
REMOVING, EACH = 120.0, 1.5
#: times that the hub may refuse to remove a user; seconds between two, at first and at most
REFUSALS, PAUSES = 3, (1.0, 10.0)
#: seconds after which the users' tokens are of no use any more
TOKENS = 7200.0
#: seconds that a server which the hub calls ready may take to answer through the proxy
LIVE = 30.0
PAUSE = 0.01
LARGE = 1_000_000


class Deployment:
    """The deployment that the options name; an asynchronous context.

    Attributes:
        about: what it is, for the report.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.api = HubAPI(options.hub, options.token)
        self.prefix = f"loadtest-{secrets.token_hex(3)}-"
        self.about = options.hub
        self._made: dict[str, None] = {}
        self._given_up: set[str] = set()
        self._asked = False
        self._numbers = iter(range(1, 1_000_000))

    async def __aenter__(self) -> Self:
        await self.api.__aenter__()
        try:
            found = await self.api.check()
        except BaseException:
            await self.api.__aexit__(None, None, None)
            raise
        self.about = f"{self.options.hub}, JupyterHub {found['version']}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            # a request that was cut off may have made one after it was looked for
            if self._asked:
                with contextlib.suppress(LoadtestError):
                    self._made |= dict.fromkeys(await self.api.named(self.prefix))
            await self.remove()
        finally:
            await self.api.__aexit__(kind, error, trace)

    @property
    def left(self) -> list[str]:
        """What there is of it on the hub, as far as is known."""
        return [f"user {name} of {self.options.hub}" for name in self._made]

    async def _each(self, names: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with room:
                await work(name)

        await together(one(name) for name in names)

    async def create(self, count: int) -> list[str]:
        """Make so many users."""
        names = [f"{self.prefix}{next(self._numbers)}" for _ in range(count)]
        self._made |= dict.fromkeys(names)
        self._asked = True
        await self.api.create(names)
        return names

    async def remove(self) -> None:
        """Remove all users and their servers; those that cannot be are given up, and listed.

        A hub that is away is asked again until the time for all of it is up.
        """
        refused: dict[str, int] = {}

        async def one(name: str) -> None:
            try:
                await self.api.remove(name)
                self._made.pop(name, None)
            except Away:
                pass
            except LoadtestError:
                refused[name] = refused.get(name, 0) + 1

        names = [name for name in self._made if name not in self._given_up]
        if not names:
            return
        print(f"junction-loadtest: removing {len(names)} users", file=sys.stderr)
        ends, pause, left = time.monotonic() + REMOVING + EACH * len(names), PAUSES[0], names
        while left:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ends - time.monotonic()):
                    await self._each(left, one)
            left = [name for name in left if name in self._made and refused.get(name, 0) < REFUSALS]
            if not left or time.monotonic() + pause > ends:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSES[1])
        self._given_up |= {name for name in names if name in self._made}

    # --- the stage

    def opener(
        self, scenario: str, name: str, folder: Path
    ) -> AbstractAsyncContextManager[Stage]:  # its name and folder are of no use here
        """A stage with what a scenario needs."""
        return self._stage(scenario == class_begins.NAME)

    @contextlib.asynccontextmanager
    async def _stage(self, is_class: bool) -> AsyncIterator[Stage]:
        settings = self.options.settings
        names = await self.create(settings["students" if is_class else "routes"])
        people: list[dict[str, str]] = []
        try:
            tokens = {} if is_class and settings["password"] else await self._tokens(names)
            terminals: dict[str, str] = {}
            if not is_class:
                await self._each(names, self._start)
                await self._each(names, lambda name: self._prepare(name, tokens, terminals))
            for name in names:
                one = {"name": name, "path": f"/user/{name}/"}
                one |= {"token": tokens[name]} if name in tokens else {}
                people.append(one | ({"terminal": terminals[name]} if name in terminals else {}))
            settings["sockets"] = is_class or len(terminals) == len(names)
            settings["prefix"] = self.prefix
            yield Stage(
                [self.options.hub], people, stand_in=False, start=self._change(True),
                stop=self._change(False), hub={"password": settings["password"]},
            )  # fmt: skip
        finally:
            await self.remove()

    async def _tokens(self, names: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}

        async def one(name: str) -> None:
            found[name] = await self.api.user_token(name, TOKENS)

        await self._each(names, one)
        return found

    async def _start(self, name: str) -> None:
        await self.api.start(name)

    async def _prepare(self, name: str, tokens: dict[str, str], terminals: dict[str, str]) -> None:
        """A large file, and a terminal where there may be one."""
        token, base = tokens[name], f"/user/{name}/"
        body = {"type": "file", "format": "text", "content": "x" * LARGE}
        await self.api.ask("PUT", f"{base}api/contents/loadtest-large.txt", body, token=token)
        status, made = await self.api.ask(
            "POST", f"{base}api/terminals", {}, token=token, good=tuple(range(200, 600))
        )
        if status in (200, 201) and isinstance(made, dict) and "name" in made:
            terminals[name] = str(made["name"])

    def _change(self, starts: bool) -> Callable[[str], Awaitable[Change]]:
        async def start(name: str) -> Change:
            self._made[name] = None
            await self.api.create([name])
            token = await self.api.user_token(name, TOKENS)
            begun = time.monotonic()
            ready = await self.api.start(name)
            live = await self._until(name, token, served=True)
            return Change(round(1000 * (live - ready), 3), round(1000 * (ready - begun), 3))

        async def stop(name: str) -> Change:
            begun = time.monotonic()
            await self.api.remove(name)
            self._made.pop(name, None)
            took = round(1000 * (time.monotonic() - begun), 3)
            return Change(took, took)

        return start if starts else stop

    async def _until(self, name: str, token: str, served: bool) -> float:
        ends, status = time.monotonic() + LIVE, 0
        while time.monotonic() < ends:
            status, _ = await self.api.ask(
                "GET", f"/user/{name}/api", token=token, good=tuple(range(200, 600))
            )
            if (status == 200) == served:
                return time.monotonic()
            await asyncio.sleep(PAUSE)
        raise LoadtestError(f"/user/{name}/: answered {status} {LIVE:g} s after it was ready")


def asked(options: Options) -> list[str]:
    """What each scenario does to a deployment, in words."""
    settings, found = options.settings, []
    for name in options.scenarios:
        if name == class_begins.NAME:
            lasts = 2 * settings["seconds"] + class_begins.BESIDE
            found.append(
                f"{name}: {settings['students']} students, each with a server, for up to"
                f" {lasts:g} s, at the rate of a browser each"
            )
            continue
        said = (
            f"{name}: {settings['users']} users with {settings['rate']:g} requests/s and WebSockets"
            f" on {settings['routes']} servers for {settings['seconds']:g} s"
        )
        if name == churn.NAME:
            said += f", {settings['changes'] / 2:g} more servers a second that start and stop"
        found.append(said)
    if options.rounds > 1:
        found.append(f"all of it {options.rounds} times")
    return found


def consent(options: Options) -> None:
    """See that somebody wants this deployment to be loaded.

    Raises:
        LoadtestError: nobody said so.
    """
    if options.local or is_loopback(options.hub) or options.yes:
        return
    what = f"{options.hub}: {'; '.join(asked(options))}"
    if not sys.stdin.isatty():
        raise LoadtestError(f"{what}: it is not local, so --yes has to be given")
    print(f"junction-loadtest: {what}.\nType yes to load it: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise LoadtestError("not loaded: nobody said yes")
