"""Which tests go to one process when they run side by side (pytest-xdist).

A scope is what one process gets whole, and runs in order: tests that need the same running
programs.  All else goes to whichever process is free.  Scopes are told by a test's id, which is all
that the process that hands them out knows.
"""

from __future__ import annotations

import functools
import re

import pytest
from xdist.scheduler import LoadScopeScheduling

#: modules whose tests share an etcd
TOGETHER = ("test_etcd.py", "test_etcd_prepare.py")

_CELL = re.compile(r"test_conformance\[(.+)\]$")


@functools.cache
def _behaviours() -> dict[str, int]:
    """By name the number of its options; the longest first: a name may be the end of another."""
    # where tests are collected, pytest has to be the first to import a plugin
    from jupyterhub_junction.conformance.plugin import BEHAVIOURS

    options = list(dict.fromkeys(each.options for each in BEHAVIOURS.values()))
    names = sorted(BEHAVIOURS, key=len, reverse=True)
    return {name: options.index(BEHAVIOURS[name].options) for name in names}


def scope_of(test: str) -> str:
    """The scope of a test by its id."""
    if cell := _CELL.search(test):
        for name, options in _behaviours().items():
            if cell[1].endswith(f"-{name}"):
                # those of one implementation and its options share a running proxy
                return f"{cell[1].removesuffix(name)}{options}"
    module = test.partition("::")[0]
    return module if module.endswith(TOGETHER) else test


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Scopes with the most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


class SideBySide:
    """The plugin; registered where there are several processes."""

    @pytest.hookimpl
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> Scheduling:
        return Scheduling(config, log)

    @pytest.hookimpl
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """What starts programs comes first, so that what is short fills the end."""
        items.sort(key=lambda item: item.get_closest_marker("needs_programs") is None)
