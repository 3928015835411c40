"""The cluster itself: its nodes die and come back, and nothing is left when it is taken down."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cluster
import pytest
import yaml
from cluster.addons import probe_image
from cluster.settings import PROBE

from e2e.kube import until

SECONDS = 90.0
NODEPORT = 30099


def pods(name: str, kind: str, arguments: list[str], **spec: object) -> dict[str, object]:
    container: dict[str, object] = {"name": name, "image": PROBE, "args": arguments}
    if kind == "StatefulSet":
        container["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"fsGroup": 65534},
        },
    }
    selector = {"matchLabels": {"app": name}}
    whole = {"selector": selector, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": whole}


CLAIM = {
    "metadata": {"name": "data"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}},
    },
}
MANIFESTS = [
    pods("web", "DaemonSet", ["serve", ":8080"]),
    pods("keeper", "StatefulSet", ["append", "/data/lines"], volumeClaimTemplates=[CLAIM],
         serviceName="keeper"),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": NODEPORT}],
        },
    },
]  # fmt: skip


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[Path]:
    """The cluster, up; this module takes it down when it ends."""
    if not cluster.given().owned:
        pytest.skip("KUBECONFIG names a cluster, whose nodes are not ours to kill")
    try:
        yield cluster.up()
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path) -> Callable[..., str]:
    def run(*words: str, stdin: str | None = None) -> str:
        command = ["kubectl", f"--kubeconfig={kubeconfig}", *words]
        done = subprocess.run(command, input=stdin, text=True, capture_output=True)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout

    cluster.load([probe_image()])
    run("apply", "-f", "-", stdin=yaml.safe_dump_all(MANIFESTS))
    for name in ("daemonset/web", "statefulset/keeper"):
        run("rollout", "status", name, f"--timeout={SECONDS:.0f}s")
    return run


def names_at(url: str) -> set[str]:
    """Which pods answer there, in many tries; a try that fails counts as a pod named ''."""
    found = set()
    for _ in range(30):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
                found.add(answer.read().decode().strip())
        except OSError:
            found.add("")
    return found


def web_pods(kubectl: Callable[..., str]) -> dict[str, str]:
    """Node -> name of its pod."""
    shown = "-o=jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name}{'\\n'}{end}"
    lines = kubectl("get", "pods", "-l", "app=web", shown).splitlines()
    return dict(tuple(line.split()) for line in lines)  # type: ignore[misc]


def ready(kubectl: Callable[..., str], node: str) -> bool:
    shown = '-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    return kubectl("get", "node", node, shown) == "True"


def test_every_pod_reaches_the_others_by_name_address_and_nodeport(
    kubectl: Callable[..., str],
) -> None:
    found = web_pods(kubectl)
    assert set(found) == {node.name for node in cluster.NODES}
    shown = "-o=jsonpath={.items[*].status.podIP}"
    addresses = kubectl("get", "pods", "-l", "app=web", shown).split()
    urls = [f"http://{address}:8080" for address in addresses]
    urls += [f"http://{node.address}:{NODEPORT}" for node in cluster.NODES]
    urls += ["http://web.default.svc.cluster.local"]
    for pod in found.values():
        for url in urls:
            said = kubectl("exec", pod, "--", "/probe", "get", url).strip()
            assert said in found.values()
    assert names_at(f"http://127.0.0.1:{NODEPORT}") == set(found.values())


def test_a_second_up_changes_nothing(kubectl: Callable[..., str]) -> None:
    before = kubectl("get", "pods", "-A", "-o", "wide", "--no-headers").split()
    cluster.up()
    assert set(cluster.status().values()) == {"runs", "Ready"}
    after = kubectl("get", "pods", "-A", "-o", "wide", "--no-headers").split()
    assert [one for one in after if "-" in one] == [one for one in before if "-" in one]


def test_a_killed_node_is_left_out_and_comes_back(kubectl: Callable[..., str]) -> None:
    found = web_pods(kubectl)
    cluster.kill("worker-3")
    assert cluster.status()["worker-1"] == "Ready"
    until(lambda: not ready(kubectl, "worker-3"), "worker-3 is not ready", SECONDS)
    rest = {found["worker-1"], found["worker-2"]}
    until(
        lambda: names_at(f"http://127.0.0.1:{NODEPORT}") == rest,
        "its pod gets no requests",
        SECONDS,
    )
    cluster.heal("worker-3")
    whole = set(found.values())
    until(lambda: names_at(f"http://127.0.0.1:{NODEPORT}") == whole, "its pod is back", SECONDS)
    assert set(cluster.status().values()) == {"runs", "Ready"}


def test_a_node_that_is_cut_off_runs_on(kubectl: Callable[..., str]) -> None:
    cluster.cut("worker-2")
    until(lambda: not ready(kubectl, "worker-2"), "worker-2 is not ready", SECONDS)
    state = cluster.status()["worker-2"]
    assert state == "NotReady, cut off"
    cluster.join("worker-2")
    until(lambda: ready(kubectl, "worker-2"), "worker-2 is ready", SECONDS)


def test_a_claim_that_was_deleted_gets_a_new_empty_volume(kubectl: Callable[..., str]) -> None:
    def lines() -> int:
        return len(kubectl("logs", "keeper-0").splitlines())

    def restart(*also: str) -> None:
        old = kubectl("get", "pod", "keeper-0", "-o=jsonpath={.metadata.uid}")
        if also:
            kubectl("delete", "--wait=false", *also)
        kubectl("delete", "pod", "keeper-0")
        shown = "-o=jsonpath={.metadata.uid} {.status.phase}"
        listed = ("get", "pods", "-l", "app=keeper")
        until(
            lambda: (
                (words := kubectl(*listed, shown.replace("{.", "{.items[*].")).split())[1:]
                == ["Running"]
                and words[0] != old
            ),
            "keeper-0 is new and runs",
            SECONDS,
        )

    before = lines()
    restart()
    until(lambda: lines() == before + 1, "the volume is the old one", SECONDS)
    restart("pvc", "data-keeper-0")
    until(lambda: lines() == 1, "the volume is a new one", SECONDS)
    until(
        lambda: len(kubectl("get", "pv", "-o", "name").split()) == 1,
        "the old volume is deleted",
        SECONDS,
    )


def test_nothing_is_left_when_it_is_down(kubeconfig: Path) -> None:
    assert cluster.left() != []
    cluster.kill("worker-1")  # as if an up had failed half-way
    cluster.down()
    assert cluster.left() == []
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True).stdout
    assert "junction" not in links
    mounts = Path("/proc/self/mountinfo").read_text()
    assert "junction/cluster/" not in mounts
    for tool in ("iptables-save", "ip6tables-save"):
        rules = subprocess.run([tool], capture_output=True, text=True).stdout
        assert "KUBE-" not in rules
        assert "JUNCTION" not in rules
    assert not list(Path("/sys/fs/cgroup").glob("*/junction"))
    for path in ("/run/netns", "/run/containerd", "/var/lib/cni", "/var/lib/kubelet"):
        assert not Path(path).exists() or any(Path(path).iterdir())
    assert not kubeconfig.exists()
