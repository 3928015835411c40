"""Faults of one pod, made from the machine that the tests' own cluster runs on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["cut_off", "kill", "processes"]


def processes(pod: Any, program: str) -> list[int]:
    """Process ids, on this machine, of a program in a pod.

    Args:
        pod: as the API server describes it; its uid is in its control groups' names.
        program: what the command line has to contain.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if program in words and pod.metadata.uid in (entry / "cgroup").read_text():
                    found.append(int(entry.name))
    return sorted(found)


def kill(pod: Any, program: str) -> None:
    """SIGKILL to a program in a pod, and to nothing else."""
    found = processes(pod, program)
    assert found, f"{program} does not run in {pod.metadata.name}"
    for pid in found:
        os.kill(pid, signal.SIGKILL)


@contextmanager
def cut_off(pod: Any, program: str, *ports: int) -> Iterator[None]:
    """A pod whose packets to some ports get lost, in its own network namespace."""
    pid = processes(pod, program)[0]
    rules = [
        ["OUTPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP"] for port in ports
    ]
    with open(f"/proc/{pid}/ns/net") as namespace:  # stays, should the process go

        def iptables(action: str, rule: list[str]) -> None:
            subprocess.run(
                ["nsenter", f"--net=/proc/self/fd/{namespace.fileno()}", "iptables", "-w", action, *rule],
                check=True, timeout=30, pass_fds=[namespace.fileno()],
            )  # fmt: skip

        for rule in rules:
            iptables("-I", rule)
        try:
            yield
        finally:
            for rule in rules:
                iptables("-D", rule)
