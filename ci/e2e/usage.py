"""What etcd and its keeper use with many routes: the figures behind the chart's default resources.

    cd ci && ./setup venv etcd kubernetes containers images -- python -m e2e.usage 5000 10000

On the tests' own cluster, whose control groups (version 1) this machine has.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import faults
from .kube import until
from .machine import make_cluster
from .site import MEMBERS, Site, new_namespace

#: seconds that each figure is taken over
SPAN = 30.0
#: in the hub's pod: routes come and go
CHURN = Path(__file__).with_name("churn.py").read_text()
EXTRA = "c.Proxy.extra_routes = {f'/extra/{n}/': 'http://hub:8081' for n in range(%d)}"


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one container: CPU since its start, in seconds; working set, in bytes."""

    cpu: float
    memory: int


def usage(pod: Any, program: str) -> Usage:
    """What the container of a program in a pod uses."""
    pid = faults.processes(pod, program)[0]
    lines = (Path("/proc") / str(pid) / "cgroup").read_text().splitlines()
    groups = {name: path for line in lines for _, name, path in [line.split(":", 2)]}

    def read(controller: str, file: str) -> str:
        return Path(f"/sys/fs/cgroup/{controller}{groups[controller]}/{file}").read_text()

    stat = dict(line.split() for line in read("memory", "memory.stat").splitlines())
    cache = int(stat.get("total_inactive_file", 0))
    return Usage(
        int(read("cpuacct", "cpuacct.usage")) / 1e9,
        int(read("memory", "memory.usage_in_bytes")) - cache,
    )


def over(site: Site, what: str, seconds: float) -> None:
    """Print what each member's two containers use in a span of time."""
    pods = site.kube.ready(MEMBERS, 3)
    programs = {"etcd": "/usr/local/bin/etcd", "keep": "junction etcd keep"}
    before = {
        (pod.metadata.name, name): usage(pod, words)
        for pod in pods
        for name, words in programs.items()
    }
    begun = time.monotonic()
    if "churn" in what:
        hub = site.kube.ready("component=hub", 1)[0].metadata.name
        site.kube.kubectl("exec", hub, "--", "python3", "-c", CHURN, str(seconds), deadline=300)
    else:
        time.sleep(seconds)
    took = time.monotonic() - begun
    for name, words in programs.items():
        after = [usage(pod, words) for pod in pods]
        cpu = [
            (one.cpu - before[pod.metadata.name, name].cpu) / took
            for pod, one in zip(pods, after, strict=True)
        ]
        print(
            f"{what}: {name}: {', '.join(f'{one * 1000:.0f}m' for one in cpu)} CPU,"
            f" {', '.join(f'{one.memory / 2**20:.0f} MiB' for one in after)}"
            f" (over {took:.0f} s)",
            flush=True,
        )


def main() -> None:
    counts = [int(word) for word in sys.argv[1:]] or [5_000, 10_000]
    with new_namespace(make_cluster().kubeconfig) as kube:
        site = Site(kube)
        site.install(users=())
        for routes in (0, *counts):
            site.upgrade_hub({"hub": {"extraConfig": {"extra": EXTRA % routes}}})
            until(lambda: site.knows(routes), f"{routes} routes", 300)  # noqa: B023
            over(site, f"{routes} routes, idle", SPAN)
            over(site, f"{routes} routes, churn of 20 a second", SPAN)


if __name__ == "__main__":
    main()
