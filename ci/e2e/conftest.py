"""The cluster, the images on it, and one installed Junction with a hub and running servers."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import cluster
import pytest

from e2e import figures
from e2e.machine import make_cluster
from e2e.site import Site, new_namespace


@pytest.fixture(scope="session")
def access() -> cluster.Access:
    """The cluster that KUBECONFIG names, or one made here, which ``ci/run_e2e`` takes down."""
    return make_cluster()


@pytest.fixture(scope="session")
def kube_config(access: cluster.Access) -> str:
    """What pytest-helm-charts' own fixtures work on."""
    return str(access.kubeconfig)


@pytest.fixture(scope="session")
def site(access: cluster.Access) -> Iterator[Site]:
    """Junction and a hub in a namespace that enforces the restricted Pod Security Standard."""
    with new_namespace(access.kubeconfig) as kube:
        made = Site(kube, cluster.NODES[0].name if access.owned else "")
        made.install()
        yield made


@pytest.fixture
def owned(access: cluster.Access) -> None:
    """For tests that kill nodes or look into them."""
    if not access.owned:
        pytest.skip("KUBECONFIG names a cluster whose nodes are not ours to kill")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What only measures is left out unless it is asked for."""
    if not config.option.keyword and not config.option.markexpr:
        left = [item for item in items if item.get_closest_marker("measured")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was counted."""
    for line in figures.LINES:
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure comes what the cluster says of it."""
    report = yield
    given = getattr(item, "funcargs", {})
    both = given.get("both")
    found = [given.get("site"), given.get("z2jh"), *([both.manual, both.offload] if both else [])]
    if report.failed and report.when != "teardown":
        for one in filter(None, found):
            report.sections.append(("cluster", one.kube.diagnosis()))
    return report
