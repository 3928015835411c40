"""A worker: a network and a mount namespace with containerd, kubelet and kube-proxy in them.

The namespaces live as long as their holder, a process that only waits; all of a node's processes
are in its control group.  Inside, the paths that the programs have no setting for (/run/containerd,
/var/lib/kubelet, /var/log ...) are folders of the node.  So a node that is killed loses what a
machine loses with its power: processes, mounts, network, /run; and keeps its images, volumes and
logs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from . import cgroups, network
from .certificates import Authority
from .controlplane import proxy_config
from .processes import Program, run, wait
from .settings import CLUSTER_DNS, DOMAIN, PAUSE, ClusterError, Node, write

__all__ = ["MOUNTS", "Worker"]

START_SECONDS = 60.0
#: folder of the node -> where it is for the node's programs; those below run are new in each life
MOUNTS = {
    "run/containerd": "/run/containerd",
    "run/netns": "/run/netns",
    "run/cni": "/var/lib/cni",
    "kubelet": "/var/lib/kubelet",
    "var-log": "/var/log",
}
CONTENT = "containerd/io.containerd.content.v1.content"
CONTAINERD = """\
version = 2
root = "{at}/containerd"
state = "/run/containerd/state"
[grpc]
  address = "{at}/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # without CAP_SYS_RESOURCE no sandbox starts otherwise
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{at}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""
# ptp and not bridge: it needs no netfilter on bridges for a pod to reach its neighbour's Service
CNI = """\
{{"cniVersion": "1.0.0", "name": "junction", "plugins": [
  {{"type": "ptp", "ipam": {{"type": "host-local", "dataDir": "/var/lib/cni/networks",
    "ranges": [[{{"subnet": "{pods}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"""
KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {ca}}}
authorization: {{mode: Webhook}}
tlsCertFile: {certificate}
tlsPrivateKeyFile: {key}
containerRuntimeEndpoint: unix://{at}/run/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /{group}
clusterDNS: [{dns}]
clusterDomain: {domain}
resolvConf: {at}/resolv.conf
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {{memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 2s
nodeLeaseDurationSeconds: 8
oomScoreAdj: 0
maxPods: 200
serializeImagePulls: false
registryPullQPS: 0
healthzPort: 10248
"""


class Worker:
    """One node's programs and files."""

    def __init__(self, node: Node, authority: Authority, server: str) -> None:
        self.node = node
        self.at = node.folder
        self._authority = authority
        self._server = server
        self.socket = self.at / "run" / "containerd.sock"
        binds = " && ".join(f"mount --bind {self.at / own} {path}" for own, path in MOUNTS.items())
        begin = (
            f"mount --make-rshared / && {binds} && {{ {self._volatile()} || true; }}"
            f" && touch {self.at}/run/mounted && exec sleep inf"
        )
        # private first: what is mounted here shows nowhere else
        held = ("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", begin)
        self.holder = Program("holder", node.group, held, self.at)

    def _volatile(self) -> str:
        """Mount where containerd keeps archives' content so that syncing it costs nothing.

        Else three nodes wait for the disk to take each image three times.  Where the kernel has no
        such mounts, they do.
        """
        upper, work = self.at / "content", self.at / "content-work"
        options = f"lowerdir={self.at / 'empty'},upperdir={upper},workdir={work},volatile"
        return f"mount -t overlay -o {options} content {self.at / CONTENT}"

    def _inside(self, name: str, *command: object) -> Program:
        enter = ("nsenter", "--target", self.holder.pid, "--net", "--mount", "--")
        return Program(name, self.node.group, [*enter, *command], self.at)

    def start(self) -> None:
        """Start the namespaces and containerd; return when that answers."""
        cgroups.make(self.node.group)
        if not self.holder.pid:
            cgroups.kill(self.node.group)  # left of its last life
            self._write_files()
            self.holder.start()
            mounted = (self.at / "run" / "mounted").exists
            wait(f"{self.node.name}'s mounts", mounted, START_SECONDS, self.holder)
            network.attach(self.node, self.holder.pid or 0)
        containerd = self._inside(
            "containerd", "containerd", "--config", self.at / "containerd.toml"
        )
        containerd.start()
        wait(f"{self.node.name}'s containerd", self._serves, START_SECONDS, containerd)

    def join(self) -> None:
        """Start kubelet and kube-proxy; the API server and the pause image are there."""
        kubelet = self._inside(
            "kubelet", "kubelet", f"--config={self.at / 'kubelet.yaml'}",
            f"--kubeconfig={self.at / 'kubeconfig'}", f"--hostname-override={self.node.name}",
            f"--node-ip={self.node.address}", "--root-dir=/var/lib/kubelet",
            f"--node-labels=topology.kubernetes.io/zone={self.node.zone}",
        )  # fmt: skip
        proxy = self._inside("kube-proxy", "kube-proxy", f"--config={self.at / 'kube-proxy.yaml'}")
        kubelet.start()
        proxy.start()

    def kill(self) -> None:
        """What a loss of power does.  The wire first: nobody hears the connections being closed."""
        network.down(self.node)
        cgroups.kill(self.node.group)

    def running(self) -> dict[str, bool]:
        names = ("holder", "containerd", "kubelet", "kube-proxy")
        return {name: bool(Program(name, self.node.group, (), self.at).pid) for name in names}

    def ctr(self, *words: object, seconds: float = 300.0) -> str:
        """Ask the node's containerd for something, where Kubernetes keeps its images."""
        return run("ctr", "-a", self.socket, "-n", "k8s.io", *words, seconds=seconds)

    def _serves(self) -> bool:
        try:
            self.ctr("version", seconds=5)
        except ClusterError:
            return False
        return True

    def _write_files(self) -> None:
        node, at = self.node, self.at
        shutil.rmtree(at / "run", ignore_errors=True)
        for own, path in MOUNTS.items():
            (at / own).mkdir(parents=True, exist_ok=True)
            Path(path).mkdir(parents=True, exist_ok=True)
        # a volatile mount's mark would keep it from being mounted again
        shutil.rmtree(at / "content-work", ignore_errors=True)
        for name in ("cni", "volumes", "empty", "content", "content-work", CONTENT):
            (at / name).mkdir(parents=True, exist_ok=True)
        certificate, key = self._authority.pair(
            f"kubelet-{node.name}", f"system:node:{node.name}", hosts=[node.name, node.address]
        )
        self._authority.kubeconfig(
            at / "kubeconfig", self._server, f"system:node:{node.name}", ["system:nodes"]
        )
        proxies = self._authority.kubeconfig(
            at / "kubeconfig-proxy", self._server, "system:kube-proxy"
        )
        files = {
            "containerd.toml": CONTAINERD.format(at=at, pause=PAUSE),
            "cni/10-junction.conflist": CNI.format(pods=node.pods),
            "resolv.conf": "",
            "kubelet.yaml": KUBELET.format(
                at=at, ca=self._authority.certificate, certificate=certificate, key=key,
                group=node.group, dns=CLUSTER_DNS, domain=DOMAIN,
            ),
            "kube-proxy.yaml": proxy_config(
                node.name, proxies, "", "0.0.0.0:10256", "127.0.0.1:10249"
            ),
        }  # fmt: skip
        for name, text in files.items():
            write(at / name, text)
