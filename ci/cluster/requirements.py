"""What a machine must have for the cluster, and the one line that names what it lacks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from . import cgroups, network
from .processes import environment
from .settings import ClusterError, folder

__all__ = ["check"]

PROGRAMS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
    "kubectl", "coredns", "go", "containerd", "ctr", "runc", "iptables", "iptables-save",
    "iptables-restore", "conntrack", "ip", "nsenter", "unshare", "setsid", "mount",
)  # fmt: skip
#: a socket's path has 107 characters at most
LONGEST_FOLDER = 107 - len("/nodes/worker-1/run/containerd.sock.ttrpc")
CONTROLLERS = {"cpu", "cpuacct", "cpuset", "memory", "pids"}


def check() -> None:
    """Raise ClusterError for the first thing that is missing."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        raise ClusterError("a cluster needs root on Linux: be root, or name one in KUBECONFIG")
    missing = [name for name in PROGRAMS if not shutil.which(name, path=environment()["PATH"])]
    if not Path("/usr/lib/cni/ptp").exists():
        missing.append("/usr/lib/cni/ptp")
    if missing:
        raise ClusterError(
            f"not on this machine: {', '.join(missing)}: run this by"
            " `ci/setup containers kubernetes -- COMMAND`"
        )
    lacking = CONTROLLERS - {
        name for root in cgroups.hierarchies() for name in root.name.split(",")
    }
    if lacking:
        raise ClusterError(
            f"no control groups of version 1 for {', '.join(sorted(lacking))} on this machine:"
            " name another cluster in KUBECONFIG"
        )
    if len(str(folder())) > LONGEST_FOLDER:
        raise ClusterError(
            f"{folder()} is too long for sockets: name a folder of at most {LONGEST_FOLDER}"
            " characters in JUNCTION_CLUSTER_DIR"
        )
    network.check()
