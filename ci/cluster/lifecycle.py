"""The cluster as a whole: up, down, what is left of it, and its nodes' lives.

One command at a time works on it (a lock beside its folder).  ``up`` starts what does not run and
leaves the rest alone; ``down`` goes by names and groups alone, so it needs no record of what an
``up`` got to.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from . import addons, cgroups, disk, images, metrics, network, requirements
from .controlplane import ControlPlane
from .node import MOUNTS, Worker
from .processes import run, wait
from .settings import GROUP, HOST_GROUP, NODES, ClusterError, folder, node

__all__ = [
    "cut", "down", "heal", "join", "kill", "left", "load", "measure", "ready_nodes", "status", "up",
]  # fmt: skip

READY_SECONDS = 90.0
EVER = datetime.datetime.min.replace(tzinfo=datetime.UTC)


@contextmanager
def alone() -> Iterator[None]:
    """Keep all other commands waiting."""
    folder().parent.mkdir(parents=True, exist_ok=True)
    with (folder().parent / f".{folder().name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(started: float, line: str) -> None:
    print(f"cluster: {time.monotonic() - started:5.1f} s  {line}", flush=True)


def workers(plane: ControlPlane) -> list[Worker]:
    return [Worker(one, plane.authority, plane.server) for one in NODES]


def up() -> Path:
    """Make the cluster, or what is missing of it; return its kubeconfig file.

    Raises:
        ClusterError: what is missing on this machine, or what did not start.
    """
    with alone():
        requirements.check()
        started = time.monotonic()
        folder().mkdir(parents=True, exist_ok=True)
        disk.make()
        cgroups.make(HOST_GROUP)
        plane = ControlPlane()
        network.make(plane.ports["api"])
        with ThreadPoolExecutor() as pool:
            pause = pool.submit(addons.pause_image)
            api = pool.submit(plane.start_api)
            made = workers(plane)
            list(pool.map(Worker.start, made))
            images.load(made, [pause.result()])
            say(started, "containers can run on all nodes")
            api.result()
            say(started, "the API server answers")
        plane.start_others()
        addons.apply(plane.admin, plane.ports["dns"])
        for worker in made:
            worker.join()
        wait_ready(plane, [one.name for one in NODES])
        say(started, "all nodes are ready")
        plane.wait_proxy()
        say(started, f"up: export KUBECONFIG={plane.admin}")
        return plane.admin


def existing() -> ControlPlane:
    """The cluster that is up.

    Raises:
        ClusterError: there is none.
    """
    if not (folder() / "kubeconfig").exists():
        raise ClusterError("the cluster is not up: `make cluster-up`")
    return ControlPlane()


def ready_nodes(kubeconfig: Path, since: datetime.datetime = EVER) -> dict[str, bool]:
    """Node -> whether it said that it is ready, at that time or later, and is believed."""
    listed = json.loads(run("kubectl", f"--kubeconfig={kubeconfig}", "get", "nodes", "-o", "json"))
    return {
        item["metadata"]["name"]: any(
            one["type"] == "Ready"
            and one["status"] == "True"
            and datetime.datetime.fromisoformat(one["lastHeartbeatTime"]) >= since
            for one in item["status"].get("conditions", ())
        )
        for item in listed["items"]
    }


def wait_ready(plane: ControlPlane, names: list[str], since: datetime.datetime = EVER) -> None:
    def ready() -> bool:
        found = ready_nodes(plane.admin, since)
        return all(found.get(name) for name in names)

    wait(f"{', '.join(names)} to be ready", ready, READY_SECONDS, pause=0.5)


def kill(name: str) -> None:
    """Take a node's power away."""
    with alone():
        worker = Worker(node(name), (plane := existing()).authority, plane.server)
        worker.kill()


def heal(name: str) -> None:
    """Give it back; return when the node is ready."""
    with alone():
        plane = existing()
        worker = Worker(node(name), plane.authority, plane.server)
        worker.start()
        network.up(worker.node)
        images.load([worker], [addons.pause_image()])
        # the API server tells whole seconds; what it holds may be of before the node was killed
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        worker.join()
        wait_ready(plane, [worker.node.name], now)


def cut(name: str) -> None:
    """Cut a node's wire: all on it runs on."""
    network.down(node(name))


def join(name: str) -> None:
    """Mend a node's wire."""
    network.up(node(name))


def load(archives: Iterable[Path]) -> dict[str, list[str]]:
    """Import image archives into all nodes that run; return what each was missing."""
    plane = existing()
    alive = [one for one in workers(plane) if one.holder.pid]
    return images.load(alive, archives)


def measure() -> None:
    """Start metrics-server, which autoscalers ask.

    Raises:
        ClusterError: the cluster is not up, or metrics-server is not on PATH or does not start.
    """
    with alone():
        metrics.start(existing())


def status() -> dict[str, str]:
    """Program or node -> how it is."""
    plane = existing()
    found = {
        one.name: "runs" if one.pid else f"does not run, see {one.log}"
        for one in (plane.etcd, plane.api, *plane.others)
    }
    try:
        ready = ready_nodes(plane.admin)
    except ClusterError:
        ready = {}
    for worker in workers(plane):
        missing = [name for name, runs in worker.running().items() if not runs]
        parts = ["Ready" if ready.get(worker.node.name) else "NotReady"]
        parts += [f"without {', '.join(missing)}"] if missing else []
        parts += [] if network.is_up(worker.node) else ["cut off"]
        found[worker.node.name] = ", ".join(parts)
    return found


def down() -> None:
    """End and remove everything that any ``up`` has made.

    Raises:
        ClusterError: something is left; the line names it.
    """
    with alone():
        cgroups.kill(GROUP)
        network.remove()
        cgroups.remove(GROUP)
        disk.remove()
        shutil.rmtree(folder(), ignore_errors=True)
        for path in MOUNTS.values():
            with suppress(OSError):  # there is something in it: it is not the cluster's alone
                Path(path).rmdir()
        if found := left():
            raise ClusterError(f"left behind: {', '.join(found)}")


def left() -> list[str]:
    """What there is of a cluster on this machine."""
    found = [f"process {pid}" for pid in sorted(cgroups.members(GROUP))]
    found += [f"group {at}" for at in cgroups.groups(GROUP)]
    at = str(folder())
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [
        f"mount {path}" for path in (line.split()[4] for line in mounts) if path.startswith(at)
    ]
    found += network.left()
    if folder().exists():
        found.append(f"folder {at}")
    return found
