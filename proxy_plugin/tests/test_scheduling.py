"""Tests side by side: who shares running programs goes to one process, and nobody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from harness.scheduling import TOGETHER, scope_of

from jupyterhub_junction.conformance.plugin import BEHAVIOURS, pytest_configure

pytest_plugins = ["jupyterhub_junction.conformance.plugin"]

CONFORMANCE = "tests/conformance/test_conformance.py::test_conformance[{}-{}]"
IMPLEMENTATIONS = ("junction", "junction-file", "traefik-proxy", "traefik-proxy-etcd")


def test_cells_share_a_scope_if_they_share_a_running_proxy() -> None:
    scopes: dict[str, set[object]] = {}
    for implementation in IMPLEMENTATIONS:
        for name, behaviour in BEHAVIOURS.items():
            scope = scope_of(CONFORMANCE.format(implementation, name))
            scopes.setdefault(scope, set()).add((implementation, behaviour.options))
    assert all(len(proxies) == 1 for proxies in scopes.values())
    proxies = set.union(*scopes.values())
    assert len(scopes) == len(proxies)


def test_modules_that_share_an_etcd_stay_whole_and_other_tests_are_on_their_own() -> None:
    for module in TOGETHER:
        assert scope_of(f"tests/{module}::test_a") == scope_of(f"tests/{module}::test_b[c]")
    assert scope_of("tests/test_keys.py::test_a") != scope_of("tests/test_keys.py::test_b")


def test_a_report_by_several_processes_is_refused() -> None:
    config: Any = SimpleNamespace(getoption=lambda name, _: {"numprocesses": 2}.get(name, "DIR"))
    with pytest.raises(pytest.UsageError, match="leave -n out"):
        pytest_configure(config)
