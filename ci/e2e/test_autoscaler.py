"""A real autoscaler and metrics-server on the chart's HorizontalPodAutoscaler: minutes, so by name.

ci/setup metrics-server -- ci/run_e2e -s -k autoscaler
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import cluster
import pytest

from e2e.figures import note
from e2e.kube import until
from e2e.site import FULL, REPLICAS, SMALL, Site

#: of the requested CPU: high, as these replicas request little
PERCENT = 200
#: the chart's own waits five minutes before it takes a replica away
SCALING = {
    "enabled": True,
    "maxReplicas": 3,
    "targetCPU": PERCENT,
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}},
}
BUSY, QUIET = 500, 20  # requests a second


def millicores(quantity: str) -> float:
    """A quantity of CPU as Kubernetes writes it (``50m``, ``1``, ``1234567n``)."""
    units = {"m": 1.0, "u": 1e-3, "n": 1e-6}
    unit = units.get(quantity[-1])
    return 1000 * float(quantity) if unit is None else float(quantity[:-1]) * unit


def scaler(site: Site) -> dict[str, Any]:
    found = site.kube.kubectl("get", "hpa", f"{FULL}-replica", "-o", "json")
    status: dict[str, Any] = json.loads(found)["status"]
    return status


def seen(status: dict[str, Any]) -> float:
    """The CPU of a replica as the autoscaler last had it, in millicores; 0: not known yet."""
    for metric in status.get("currentMetrics") or ():
        return millicores(metric["resource"]["current"]["averageValue"])
    return 0.0


def wanting(site: Site, replicas: int) -> dict[str, Any] | None:
    """The autoscaler's status, if it wants so many."""
    status = scaler(site)
    return status if status["desiredReplicas"] == replicas else None


@pytest.mark.measured
def test_the_autoscaler_adds_a_replica_under_load_and_takes_it_away_with_no_request_failing(
    site: Site, owned: None
) -> None:
    if not shutil.which("metrics-server"):
        pytest.skip(
            "no metrics-server on PATH: ci/setup metrics-server -- ci/run_e2e -s -k autoscaler"
        )
    cluster.measure()
    site.upgrade({"replica": {"autoscaling": SCALING}})
    limit = millicores(SMALL["replica"]["resources"]["requests"]["cpu"]) * PERCENT / 100
    try:
        idle = until(lambda: seen(scaler(site)), "the autoscaler to know what replicas use", 120)
        assert len(site.kube.ready(REPLICAS, 2)) == 2
        with site.load(rate=BUSY) as busy:
            began = busy.event("the load began")
            status = until(lambda: wanting(site, 3), "the autoscaler to want three", 120)
            wanted, each = busy.event("three were wanted"), seen(status)
            site.kube.ready(REPLICAS, 3, 120)
            ready = busy.event("the third was ready")
            busy.more(BUSY * 5)
        note(
            f"autoscaler, {BUSY} requests a second, more than {limit:.0f}m CPU a replica",
            f"{idle:.0f}m each when idle, {each:.0f}m each as it acted, {wanted - began:.0f} s"
            f" after the load began; the third ready {ready - wanted:.0f} s later; {busy.counted}",
        )
        assert each > limit
        assert not busy.counted.failed, busy.counted
        with site.load(rate=QUIET) as quiet:
            began = quiet.event("the load had ended")
            until(lambda: wanting(site, 2), "the autoscaler to want two", 240)
            wanted = quiet.event("two were wanted")
            site.kube.ready(REPLICAS, 2, 120)
            quiet.more(QUIET * 20)
        note(
            f"autoscaler, {QUIET} requests a second",
            f"two wanted again {wanted - began:.0f} s after the load ended; {quiet.counted}",
        )
        assert not quiet.counted.failed, quiet.counted
    finally:
        site.upgrade()
