"""Names, addresses and folders of the test cluster: one cluster on a machine, so they are fixed.

Everything outside of the cluster's folder carries a name from here (control groups, links,
firewall chains), so that what was left by an ``up`` that failed half-way is known by its name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BRIDGE", "CHAIN", "CLUSTER_DNS", "DOMAIN", "GROUP", "HOST", "HOST_GROUP", "NODES", "PAUSE",
    "PODS", "PREFIX", "PROBE", "PROVISIONER", "SERVICES", "STORAGE_CLASS", "WIRE", "ClusterError",
    "Node", "cache", "folder", "node", "write",
]  # fmt: skip

#: the bridge that all nodes hang on, and its address and network
BRIDGE = "junction0"
HOST = "10.207.0.1"
WIRE = "10.207.0.0/24"
PREFIX = 24
PODS = "10.208.0.0/16"
SERVICES = "10.96.0.0/16"
CLUSTER_DNS = "10.96.0.10"
DOMAIN = "cluster.local"
#: in every cgroup hierarchy: what is in it was started by the cluster
GROUP = "junction"
HOST_GROUP = f"{GROUP}/host"
#: the firewall chain on the host; while it is there, KUBE- chains are the cluster's
CHAIN = "JUNCTION-CLUSTER"
PAUSE = "localhost/junction-test/pause:1"
PROBE = "localhost/junction-test/probe:1"
STORAGE_CLASS = "standard"
PROVISIONER = "junction.jupyter.org/local"


class ClusterError(Exception):
    """What is wrong and how to mend it, in one line."""


@dataclass(frozen=True, slots=True)
class Node:
    """A worker: its names and addresses follow from its number."""

    number: int

    @property
    def name(self) -> str:
        return f"worker-{self.number}"

    @property
    def address(self) -> str:
        return f"10.207.0.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"10.208.{self.number}.0/24"

    @property
    def link(self) -> str:
        """The end of its wire that is on the host."""
        return f"junction-{self.number}"

    @property
    def hardware_address(self) -> str:
        """Always the same, or its neighbours would ask the old one after the node came back."""
        return f"02:6a:75:6e:00:{self.number:02x}"

    @property
    def zone(self) -> str:
        return f"z{self.number}"

    @property
    def group(self) -> str:
        return f"{GROUP}/{self.name}"

    @property
    def folder(self) -> Path:
        return folder() / "nodes" / self.name


NODES = tuple(Node(number) for number in (1, 2, 3))


def node(name: str) -> Node:
    """The node of that name or number.

    Raises:
        ClusterError: there is none.
    """
    for one in NODES:
        if name in (one.name, str(one.number)):
            return one
    raise ClusterError(f"no node {name!r}: name one of {', '.join(one.name for one in NODES)}")


def cache() -> Path:
    """$JUNCTION_CACHE, by default ~/.cache/junction: what is kept from cluster to cluster."""
    return Path(os.environ.get("JUNCTION_CACHE") or Path.home() / ".cache" / "junction").absolute()


def folder() -> Path:
    """$JUNCTION_CLUSTER_DIR, by default ``cluster`` in the cache: all that the cluster writes."""
    return Path(os.environ.get("JUNCTION_CLUSTER_DIR") or cache() / "cluster").absolute()


def write(file: Path, text: str, mode: int = 0o644) -> Path:
    """Write a file, whole or not at all, unless it says that already; return it.

    kube-proxy ends when its configuration is written anew, even with the same words.
    """
    if not file.exists() or file.read_text() != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.new")
        fresh.touch(mode)
        fresh.write_text(text)
        fresh.replace(file)
    return file
