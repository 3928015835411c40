"""Where a run took place and with what: a figure without them says nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import psutil
from harness.etcd_cluster import etcd_program

from .world import program

__all__ = ["commit", "host", "versions"]

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("jupyterhub-junction", "jupyterhub", "jupyterhub-traefik-proxy", "aiohttp", "etcd3")


def _said(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def host() -> dict[str, str]:
    """The machine, without its name."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model or platform.machine(),
        "cpus": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 1e9:.1f} GB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "load before": " ".join(f"{one:.2f}" for one in os.getloadavg()),
    }


def versions() -> dict[str, str]:
    """All programs and packages that are measured, or measure."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    asked = {
        "configurable-http-proxy": ("JUNCTION_CHP", "--version"),
        "traefik": ("JUNCTION_TRAEFIK", "version"),
        "nginx": ("JUNCTION_NGINX", "-v"),
        "node": ("JUNCTION_NODE", "--version"),
        "wrk": ("JUNCTION_WRK", "-v"),
    }
    for name, (variable, flag) in asked.items():
        path = program(name, variable)
        said = _said(path, flag) if path else ""
        number = re.search(r"\d+\.\d+[\w.+-]*", said)
        found[name] = number[0] if number else "missing"
    try:
        said = _said(etcd_program(), "--version")
    except FileNotFoundError:
        said = ""
    number = re.search(r"\d+\.\d+\.\d+", said)
    found["etcd"] = number[0] if number else "missing"
    return found


def commit() -> str:
    """The commit that is measured, marked when the tree differs from it."""
    found = _said("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return (found or "unknown") + (" and changes" if changed else "")
