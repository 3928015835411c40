"""A real Kubernetes with three workers on one Linux machine, for end-to-end tests.

    make cluster-up         a control plane on the host, three nodes in namespaces of their own
    make cluster-down       nothing is left of it
    python -m cluster --help

For tests: ``given()`` says which cluster to use, and ``up``, ``kill``, ``heal``, ``cut``, ``join``,
``load`` and ``measure`` do what the commands of these names do.
"""

from .access import Access, given
from .lifecycle import cut, down, heal, join, kill, left, load, measure, status, up
from .settings import NODES, ClusterError

__all__ = [
    "NODES", "Access", "ClusterError", "cut", "down", "given", "heal", "join", "kill", "left",
    "load", "measure", "status", "up",
]  # fmt: skip
