"""What runs on the host: etcd, the API server, its controllers, CoreDNS and kube-proxy.

The port of the API server is 6443 where that is free, else one from the system, and stays the
same for the life of the cluster.  CoreDNS is here, and not in a pod, so that names resolve
whichever node is killed; kube-proxy is here so that NodePorts answer on 127.0.0.1.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from .certificates import Authority
from .processes import Program, run, wait
from .settings import DOMAIN, HOST, HOST_GROUP, PODS, SERVICES, folder, write

__all__ = ["ControlPlane"]

API_PORT = 6443
START_SECONDS = 60.0
#: a node that is silent is not ready after this many seconds, and is looked at as often
GRACE_SECONDS = 8
MONITOR_SECONDS = 2

#: who the API server is to servers of other APIs
FRONT_PROXY = "front-proxy"
HOST_NAME = "junction-host"
HOST_NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": HOST_NAME},
    # nothing is to run on it in its few seconds
    "spec": {"taints": [{"key": "junction.jupyter.org/host", "effect": "NoExecute"}]},
    "status": {"addresses": [{"type": "InternalIP", "address": HOST}]},
}
COREFILE = """\
.:{port} {{
    bind {host}
    errors
    ready 127.0.0.1:{ready}
    kubernetes {domain} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 30
    }}
    cache 30 {{
        disable success {domain}
        disable denial {domain}
    }}
    loadbalance
}}
"""
PROXY = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {kubeconfig}}}
hostnameOverride: {name}
mode: iptables
clusterCIDR: {pods}
detectLocalMode: ClusterCIDR
nodePortAddresses: [{nodeports}]
healthzBindAddress: {health}
metricsBindAddress: {metrics}
oomScoreAdj: 0
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"""


def proxy_config(name: str, kubeconfig: Path, nodeports: str, health: str, metrics: str) -> str:
    """kube-proxy's configuration, of a node or of the host."""
    return PROXY.format(
        name=name, kubeconfig=kubeconfig, pods=PODS, nodeports=nodeports, health=health,
        metrics=metrics,
    )  # fmt: skip


class ControlPlane:
    """All of it; its files are in the cluster's folder.

    Attributes:
        admin: the kubeconfig file of one who may do everything.
        ports: of etcd, its peers, the API server, CoreDNS, and of what watches over them.
    """

    def __init__(self) -> None:
        self.at = folder()
        self.ports = chosen_ports(self.at / "ports.json")
        self.authority = Authority(self.at / "certificates")
        self.local = f"https://127.0.0.1:{self.ports['api']}"
        self.server = f"https://{HOST}:{self.ports['api']}"
        self.admin = self.at / "kubeconfig"
        self.etcd = self._etcd()
        self.api = self._api()
        self.others = [
            *self._controllers(),
            self._coredns(),
            self._proxy(),
            self.program("volumes", sys.executable, "-m", "cluster.volumes"),
        ]

    def program(self, name: str, *command: object) -> Program:
        """A program of the host."""
        return Program(name, HOST_GROUP, [str(word) for word in command], self.at)

    def _etcd(self) -> Program:
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "peer"))
        return self.program(
            "etcd", "etcd", "--data-dir", self.at / "etcd", "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--log-level", "warn",
        )  # fmt: skip

    def _api(self) -> Program:
        signs = self.authority
        hosts = ["localhost", "127.0.0.1", HOST, "10.96.0.1", "kubernetes"]
        hosts += [f"kubernetes.default{rest}" for rest in ("", ".svc", f".svc.{DOMAIN}")]
        serving, serving_key = signs.pair("apiserver", "kube-apiserver", hosts=hosts)
        client, client_key = signs.pair("apiserver-kubelet", "apiserver", ["system:masters"])
        proxy, proxy_key = signs.pair("apiserver-proxy", FRONT_PROXY)
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self.ports['etcd']}",
            "secure-port": self.ports["api"], "bind-address": "0.0.0.0",  # noqa: S104 (network.py)
            "advertise-address": HOST, "service-cluster-ip-range": SERVICES,
            "tls-cert-file": serving, "tls-private-key-file": serving_key,
            "client-ca-file": signs.certificate, "kubelet-certificate-authority": signs.certificate,
            "kubelet-client-certificate": client, "kubelet-client-key": client_key,
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": f"https://kubernetes.default.svc.{DOMAIN}",
            "service-account-key-file": signs.at / "service-accounts.pub",
            "service-account-signing-key-file": signs.at / "service-accounts.key",
            # for servers of other APIs (metrics.py)
            "proxy-client-cert-file": proxy, "proxy-client-key-file": proxy_key,
            "requestheader-client-ca-file": signs.certificate,
            "requestheader-allowed-names": FRONT_PROXY,
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "enable-aggregator-routing": "true",
            "authorization-mode": "Node,RBAC", "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true", "profiling": "false",
        }  # fmt: skip
        return self.program("kube-apiserver", "kube-apiserver", *as_flags(flags))

    def kubeconfig(self, user: str, *groups: str) -> Path:
        """The file by which a program of the host is a user of the API server."""
        name = user.removeprefix("system:")
        file = self.at / "kubeconfigs" / name
        return self.authority.kubeconfig(file, self.local, user, groups)

    def _controllers(self) -> list[Program]:
        signs = self.authority
        manager = {
            "kubeconfig": self.kubeconfig("system:kube-controller-manager"),
            "leader-elect": "false", "secure-port": 0, "use-service-account-credentials": "true",
            "root-ca-file": signs.certificate,
            "service-account-private-key-file": signs.at / "service-accounts.key",
            "cluster-signing-cert-file": signs.certificate, "cluster-signing-key-file": signs.key,
            "node-monitor-period": f"{MONITOR_SECONDS}s",
            "node-monitor-grace-period": f"{GRACE_SECONDS}s",
        }  # fmt: skip
        scheduler = {
            "kubeconfig": self.kubeconfig("system:kube-scheduler"),
            "leader-elect": "false", "secure-port": 0,
        }  # fmt: skip
        return [
            self.program(name, name, *as_flags(flags))
            for name, flags in (
                ("kube-controller-manager", manager),
                ("kube-scheduler", scheduler),
            )
        ]

    def _coredns(self) -> Program:
        file = self.at / "Corefile"
        write(
            file,
            COREFILE.format(
                port=self.ports["dns"], ready=self.ports["dns-ready"], host=HOST, domain=DOMAIN,
                kubeconfig=self.kubeconfig("system:coredns"),
            ),
        )  # fmt: skip
        return self.program("coredns", "coredns", "-conf", file)

    def _proxy(self) -> Program:
        file = self.at / "kube-proxy.yaml"
        health, metrics = (f"127.0.0.1:{self.ports[name]}" for name in ("health", "metrics"))
        kubeconfig = self.kubeconfig("system:kube-proxy")
        write(file, proxy_config(HOST_NAME, kubeconfig, "127.0.0.0/8", health, metrics))
        return self.program("kube-proxy", "kube-proxy", f"--config={file}")

    def start_api(self) -> None:
        """Start etcd and the API server; return when it answers."""
        self.authority.kubeconfig(self.admin, self.local, "admin", ["system:masters"])
        self.etcd.start()
        self.api.start()
        ready = lambda: answers(f"{self.local}/readyz", self.authority.certificate)  # noqa: E731
        wait("the API server", ready, START_SECONDS, self.etcd, self.api)

    def start_others(self) -> None:
        for program in self.others:
            # the volumes' maker is a module of this package
            package = str(Path(__file__).parent.parent)
            program.start({"PYTHONPATH": package, "JUNCTION_CLUSTER_DIR": str(self.at)})

    def wait_proxy(self) -> None:
        """Wait until NodePorts are answered for on the host.

        kube-proxy waits 30 s for a node of its name and then goes on without one, so there is one
        until it goes on.
        """
        proxy = next(one for one in self.others if one.name == "kube-proxy")
        url = f"http://127.0.0.1:{self.ports['health']}/livez"
        if answers(url):
            return
        kubectl = ("kubectl", f"--kubeconfig={self.admin}")
        run(*kubectl, "apply", "-f", "-", stdin=json.dumps(HOST_NODE))
        try:
            wait("kube-proxy on the host", lambda: answers(url), START_SECONDS, proxy)
        finally:
            run(*kubectl, "delete", "node", HOST_NAME)


def as_flags(flags: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def answers(url: str, ca: Path | None = None) -> bool:
    """Whether a GET of the URL is answered with 200."""
    context = ssl.create_default_context(cafile=ca) if ca else None
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def chosen_ports(file: Path) -> dict[str, int]:
    """The cluster's ports on the host, chosen once."""
    if file.exists():
        found: dict[str, int] = json.loads(file.read_text())
        return found
    names = ("api", "etcd", "peer", "dns", "dns-ready", "health", "metrics", "metrics-server")
    sockets = {}
    for name in names:
        sockets[name] = bound(API_PORT if name == "api" else 0)
    ports = {name: int(one.getsockname()[1]) for name, one in sockets.items()}
    for one in sockets.values():
        with closing(one):
            pass
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(ports, indent=1))
    return ports


def bound(port: int) -> socket.socket:
    """A socket on that port, or on one from the system if it is taken."""
    one = socket.socket()
    try:
        one.bind(("0.0.0.0", port))  # noqa: S104 (to find out whether it is free)
    except OSError:
        one.bind(("0.0.0.0", 0))  # noqa: S104
    return one
