"""The forwarder's limits, and the system's that they have to fit into."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator

import pytest
from harness.forwarding import forwarding

from jupyterhub_junction.forwarder import limits
from jupyterhub_junction.forwarder import server as forwarder
from jupyterhub_junction.forwarder.limits import Limits, raise_file_limit

INFINITE = resource.RLIM_INFINITY


class System:
    """A system's limit on open files."""

    RLIMIT_NOFILE = resource.RLIMIT_NOFILE
    RLIM_INFINITY = INFINITE

    def __init__(self, soft: int, hard: int, most: int = 2**40) -> None:
        self.now = (soft, hard)
        self.most = most

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.now

    def setrlimit(self, _: int, new: tuple[int, int]) -> None:
        if new[0] > self.most:
            raise ValueError("current limit exceeds maximum limit")
        self.now = new


@pytest.fixture
def restored() -> Iterator[tuple[int, int]]:
    """The process's own limit, set back at the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("soft", "hard", "allowed"),
    [
        (1024, 4096, 4096),
        (1024, 2**20, 40_000),
        (1024, INFINITE, 40_000),
        (2**20, 2**20, 2**20),
        (4096, 4096, 4096),
        (INFINITE, INFINITE, float("inf")),
    ],
)
def test_open_files_are_raised_to_what_is_wanted_and_may_be(
    soft: int, hard: int, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = System(soft, hard)
    monkeypatch.setattr(limits, "resource", system)
    assert raise_file_limit(40_000) == allowed
    assert system.now == (INFINITE if allowed == float("inf") else allowed, hard)


def test_open_files_that_cannot_be_raised_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "resource", System(256, INFINITE, most=10_240))
    assert raise_file_limit(40_000) == 256
    monkeypatch.setattr(limits, "resource", None)
    assert raise_file_limit(40_000) == float("inf")


def test_connections_fit_into_the_open_files() -> None:
    wanted = Limits(connections=20_000)
    assert wanted.within(wanted.files) is wanted
    assert wanted.within(float("inf")) is wanted
    assert wanted.within(wanted.files - 1).connections == 19_999
    assert wanted.within(1024) == Limits(connections=384)
    assert wanted.within(100).connections == 37
    assert wanted.within(1).connections == 1


async def test_a_forwarder_raises_its_processs_limit(restored: tuple[int, int]) -> None:
    _, hard = restored
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    async with forwarding({}, limits=Limits(connections=200)):
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (656, hard)


async def test_a_forwarder_takes_what_fits_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forwarder, "raise_file_limit", lambda wanted: 1024)
    with caplog.at_level(logging.WARNING):
        async with forwarding({}) as f:
            registry = f.forwarder._registry
            assert registry is not None
            assert registry.limits.connections == 384
    assert "384 connections are served at once, not 20000" in caplog.text
    assert "LimitNOFILE=40256" in caplog.text
    caplog.clear()
    async with forwarding({}, limits=Limits(connections=300)) as f:
        assert f.forwarder.limits.connections == 300
    assert not caplog.text
