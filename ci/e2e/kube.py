"""What the tests ask of a Kubernetes: helm, pods and what becomes of them, each with a deadline."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cluster
from kubernetes import client, config

__all__ = ["Kube", "until"]


def until(condition: Callable[[], Any], what: str, deadline: float = 60) -> Any:
    """The first truthy value of a condition; raises TimeoutError that says what was waited for."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline:g} s: {what}")
        time.sleep(0.2)
    return value


@dataclass
class Kube:
    """One namespace of a cluster.

    Args:
        kubeconfig: path of the file.
        namespace: made and removed by whoever makes this.
    """

    kubeconfig: Path
    namespace: str

    def __post_init__(self) -> None:
        config.load_kube_config(str(self.kubeconfig))  # type: ignore[no-untyped-call]
        self.core = client.CoreV1Api()
        self.apps = client.AppsV1Api()

    # --- programs ----------------------------------------------------------------------------

    def run(self, *words: str, deadline: float = 300, check: bool = True, stdin: str = "") -> str:
        """Run a program with this cluster's KUBECONFIG; returns its stdout and stderr.

        Raises:
            AssertionError: its exit code is not 0; with all that it said.
        """
        done = subprocess.run(
            words,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            input=stdin,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=deadline,
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-4000:]}"
        return done.stdout

    def kubectl(self, *words: str, **options: Any) -> str:
        """kubectl in this namespace."""
        return self.run("kubectl", "-n", self.namespace, *words, **options)

    def helm(
        self, *words: str, values: Mapping[str, Any] | None = None, wait: int = 240, **options: Any
    ) -> str:
        """helm in this namespace; ``values`` are the first values file, ``wait`` is in seconds."""
        more = ["-f", "-"] if values is not None else []
        waiting = wait and words[0] in ("install", "upgrade")
        waits = ["--wait", f"--timeout={wait}s"] if waiting else []
        options.setdefault("deadline", wait + 60)
        return self.run(
            "helm", "-n", self.namespace, words[0], *more, *words[1:], *waits,
            stdin=json.dumps(values), **options,
        )  # fmt: skip

    # --- pods --------------------------------------------------------------------------------

    def pods(self, selector: str = "") -> list[Any]:
        """Pods that are not on their way out."""
        found: Any = self.core.list_namespaced_pod(self.namespace, label_selector=selector)
        return [pod for pod in found.items if pod.metadata.deletion_timestamp is None]

    @staticmethod
    def is_ready(pod: Any) -> bool:
        """Whether its condition Ready is True."""
        return any(
            one.type == "Ready" and one.status == "True" for one in pod.status.conditions or ()
        )

    def ready(self, selector: str, count: int, deadline: float = 120) -> list[Any]:
        """Wait until exactly so many pods are there, all of them ready."""

        def found() -> list[Any]:
            pods = self.pods(selector)
            return pods if len(pods) == count and all(map(self.is_ready, pods)) else []

        try:
            return until(found, f"{count} ready pods of {selector}", deadline)  # type: ignore[no-any-return]
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.kubectl('get', 'pods', '-o', 'wide')}") from None

    def exec(self, pod: str, *words: str, container: str = "", check: bool = True) -> str:
        """Run a command in a pod."""
        where = ["-c", container] if container else []
        return self.kubectl("exec", pod, *where, "--", *words, deadline=60, check=check)

    def logged(self, pod: str, text: str, deadline: float = 60) -> float:
        """When the last line with ``text`` came into a log, of the monotonic clock.

        Args:
            pod: its name, or ``deployment/`` and that of one; its first container is asked.
        """

        def moments() -> list[float]:
            lines = self.kubectl("logs", pod, "--timestamps", check=False).splitlines()
            return [
                datetime.fromisoformat(line.partition(" ")[0]).timestamp()
                for line in lines
                if text in line
            ]

        last: float = until(moments, f"{text!r} in the log of {pod}", deadline)[-1]
        return last - time.time() + time.monotonic()

    def node_port(self, service: str, port: str = "http") -> str:
        """The URL of a NodePort Service."""
        found: Any = self.core.read_namespaced_service(service, self.namespace)
        number = next(one.node_port for one in found.spec.ports if one.name == port)
        return f"{'https' if port == 'https' else 'http'}://{self.node_address()}:{number}"

    def node_address(self) -> str:
        """Loopback, at which the tests' own cluster answers, or any node's address."""
        if cluster.given().owned:
            return "127.0.0.1"
        nodes: Any = self.core.list_node()
        found = {one.type: one.address for one in nodes.items[0].status.addresses}
        return str(found.get("ExternalIP") or found["InternalIP"])

    def workers(self) -> list[str]:
        """Names of the nodes that pods may run on."""
        nodes: Any = self.core.list_node()
        return sorted(
            one.metadata.name
            for one in nodes.items
            if not any(taint.effect == "NoSchedule" for taint in one.spec.taints or ())
        )

    def diagnosis(self) -> str:
        """What a reader of a failed test needs."""
        parts = [
            self.kubectl("get", "pods", "-o", "wide", check=False),
            self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False)[-4000:],
        ]
        for pod in self.pods():
            for container in pod.spec.containers:
                said = self.kubectl(
                    "logs", pod.metadata.name, "-c", container.name, "--tail=15", check=False
                )
                parts.append(f"--- {pod.metadata.name} {container.name}\n{said}")
        return "\n".join(parts)
