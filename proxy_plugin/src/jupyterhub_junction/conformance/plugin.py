"""The pytest plugin: implementation × behaviour, one running proxy per set of options.

A test function that asks for ``conformance_case`` is run for every pair.  The implementations
come from ``--conformance-implementations MODULE:NAME``, or else from the ``IMPLEMENTATIONS``
of the test's own module.

All runs in one event loop that lives as long as the session, because a proxy object belongs
to the loop it was started in.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

THEMES = ("paths", "http", "streaming", "websocket", "routing", "hub", "activity", "robustness")
_MODULES = [f"{__package__}.{theme}" for theme in THEMES]
pytest.register_assert_rewrite(*_MODULES)

from .behaviours import BEHAVIOURS, Behaviour  # noqa: E402
from .implementation import Implementation, Options, Running  # noqa: E402
from .report import Result, write_report  # noqa: E402
from .surroundings import Surroundings, surroundings  # noqa: E402
from .world import DEADLINES, World  # noqa: E402

for _module in _MODULES:
    importlib.import_module(_module)


@dataclass
class Stage:
    """The proxy that runs now: at most one, started when the first behaviour needs it."""

    directory: Path
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)
    key: tuple[str, Options] | None = None
    stack: contextlib.AsyncExitStack | None = None
    running: Running | None = None
    around: Surroundings | None = None
    error: BaseException | None = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def enter(self, implementation: Implementation, options: Options) -> None:
        """Make this the proxy that runs.

        Raises:
            RuntimeError: it could not be started, now or when it was tried before.
        """
        if self.key != (implementation.name, options):
            self.leave()
            self.key, self.error = (implementation.name, options), None
            try:
                self.runner.run(self._start(implementation, options))
            except Exception as error:
                self.error = error
        if self.error is not None:
            raise RuntimeError(
                f"{implementation.name} could not be started with {options}: {self.error!r}"
            ) from self.error

    async def _start(self, implementation: Implementation, options: Options) -> None:
        directory = self.directory / f"{implementation.name}-{next(self.numbers)}"
        directory.mkdir(parents=True)
        async with contextlib.AsyncExitStack() as stack:
            self.around = await stack.enter_async_context(surroundings(options, directory))
            async with asyncio.timeout(DEADLINES["start"]):
                start = implementation.start(self.around)
                self.running = await stack.enter_async_context(start)
                hub = self.around.hub
                await self.running.proxy.add_route(hub.routespec, hub.host, {"hub": True})
                world = World(self.running, self.around, directory)
                await world.served_by(self.around.server, hub.routespec)
            self.stack = stack.pop_all()

    def leave(self) -> None:
        """End the proxy that runs."""
        stack, self.stack, self.key = self.stack, None, None
        if stack is not None:
            self.runner.run(stack.aclose())

    def play(self, behaviour: Behaviour, deadline: str) -> None:
        """Run one behaviour against the proxy that runs.

        Args:
            deadline: which of the deadlines applies to its body.
        """
        assert self.running is not None
        assert self.around is not None
        directory = self.around.directory / f"b{next(self.numbers)}"
        directory.mkdir()
        world = World(self.running, self.around, directory)
        self.runner.run(_play(behaviour, world, DEADLINES[deadline]))

    def close(self) -> None:
        """End everything."""
        self.leave()
        self.runner.close()


async def _play(behaviour: Behaviour, world: World, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await behaviour.body(world)
    except BaseException:
        with contextlib.suppress(Exception):
            await world.close()
        raise
    await world.close()


@dataclass
class Case:
    """One cell of the table; calling it plays it."""

    implementation: Implementation
    behaviour: Behaviour
    stage: Callable[[], Stage]
    results: list[Result]

    def record(self, outcome: str, reason: str = "") -> None:
        """Keep what came of it."""
        self.results.append(Result(self.implementation.name, self.behaviour.name, outcome, reason))

    def __call__(self) -> None:
        """Play the behaviour; skips, fails or expects to fail as the declaration says."""
        __tracebackhide__ = True
        missing = self.implementation.missing()
        if missing:
            self.record("not run", missing)
            pytest.skip(missing)
        themes = self.implementation.themes
        if themes and self.behaviour.theme not in themes:
            self.record("not claimed", f"run through {', '.join(sorted(themes))} only")
            pytest.skip(
                f"{self.implementation.name} is run through {', '.join(sorted(themes))} only"
            )
        lacking = sorted(self.behaviour.needs - self.implementation.features)
        if lacking:
            self.record("not claimed", ", ".join(lacking))
            pytest.skip(f"{self.implementation.name} does not claim {', '.join(lacking)}")
        stage = self.stage()
        try:
            stage.enter(self.implementation, self.behaviour.options)
        except RuntimeError as error:
            self.record("fail", str(error))
            raise
        known = self.implementation.known.get(self.behaviour.name)
        try:
            # A difference is often a wait that never ends: no need to sit it out.
            stage.play(self.behaviour, "body" if known is None else "known")
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            if known is None:
                reason = f"{type(error).__name__}: {error}".partition("\n")[0]
                self.record("fail", reason)
                if self.implementation.judged:
                    raise
                pytest.xfail(reason)
            self.record("difference", known)
            pytest.xfail(known)
        if known is not None and self.behaviour.name in self.implementation.unsteady:
            self.record("difference", known)
            return
        if known is not None and self.implementation.judged:
            self.record("fail", f"it passes, but is listed as a difference: {known}")
            pytest.fail(f"passes, but is listed as a known difference: {known}")
        self.record("pass")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's options."""
    group = parser.getgroup("conformance", "conformance of JupyterHub proxies")
    group.addoption(
        "--conformance-implementations",
        metavar="MODULE:NAME",
        help="the implementations to run: a sequence of Implementation",
    )
    group.addoption(
        "--conformance-only",
        metavar="NAMES",
        help="run only these implementations, separated by commas",
    )
    group.addoption(
        "--conformance-report",
        metavar="DIR",
        help="write conformance.md and conformance.json there",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what would write a report of nothing: each process knows its own results alone."""
    if config.getoption("--conformance-report", None) and config.getoption("numprocesses", None):
        raise pytest.UsageError("--conformance-report takes one process: leave -n out")


_IMPLEMENTATIONS = pytest.StashKey[dict[str, Implementation]]()
_RESULTS = pytest.StashKey[list[Result]]()


def _implementations(metafunc: pytest.Metafunc) -> Sequence[Implementation]:
    named = metafunc.config.getoption("--conformance-implementations", None)
    if named:
        module, _, name = named.partition(":")
        found: Sequence[Implementation] = getattr(
            importlib.import_module(module), name or "IMPLEMENTATIONS"
        )
    else:
        found = getattr(metafunc.module, "IMPLEMENTATIONS", ())
    only = metafunc.config.getoption("--conformance-only", None)
    if only:
        names = only.split(",")
        unknown = set(names) - {each.name for each in found}
        if unknown:
            raise pytest.UsageError(f"no such implementation: {', '.join(sorted(unknown))}")
        found = [each for each in found if each.name in names]
    for each in found:
        strange = set(each.known) - set(BEHAVIOURS)
        if strange:
            raise pytest.UsageError(f"{each.name} knows of no such behaviour: {sorted(strange)}")
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each pair, those that share a running proxy next to each other."""
    if "conformance_case" not in metafunc.fixturenames:
        return
    implementations = _implementations(metafunc)
    metafunc.config.stash.setdefault(_IMPLEMENTATIONS, {}).update(
        {each.name: each for each in implementations}
    )
    options = list(dict.fromkeys(each.options for each in BEHAVIOURS.values()))
    ordered = sorted(BEHAVIOURS.values(), key=lambda each: options.index(each.options))
    metafunc.parametrize(
        "conformance_case",
        [
            pytest.param((implementation, behaviour), id=f"{implementation.name}-{behaviour.name}")
            for implementation in implementations
            for behaviour in ordered
        ],
        indirect=True,
    )


@pytest.fixture(scope="session")
def conformance_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Stage]]:
    """The stage, made when it is first needed."""
    stages: list[Stage] = []

    def stage() -> Stage:
        if not stages:
            stages.append(Stage(tmp_path_factory.mktemp("conformance")))
        return stages[0]

    yield stage
    for each in stages:
        each.close()


@pytest.fixture
def conformance_case(request: Any, conformance_stage: Callable[[], Stage]) -> Case:
    """One cell of the table."""
    implementation, behaviour = request.param
    results = request.config.stash.setdefault(_RESULTS, [])
    return Case(implementation, behaviour, conformance_stage, results)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the report and say where it is."""
    directory = config.getoption("--conformance-report", None)
    implementations = config.stash.get(_IMPLEMENTATIONS, {})
    if not directory or not implementations:
        return
    results: list[Result] = config.stash.get(_RESULTS, [])
    paths = write_report(Path(directory), list(implementations.values()), results)
    terminalreporter.write_line(f"conformance: {', '.join(map(str, paths))}")
