"""The wire between the host and the nodes: a bridge, one veth a node, routes, and what the host's
own firewall and settings need.

Everything is made only where it is missing, and ``remove`` takes it all away, by name: also what
kube-proxy made on the host, whose chains are the cluster's while its own chain is there.
Settings of the kernel are written down before they are changed, and put back.
"""

from __future__ import annotations

import ipaddress
import json
import re
from contextlib import suppress
from pathlib import Path

from .processes import run
from .settings import (
    BRIDGE,
    CHAIN,
    HOST,
    NODES,
    PODS,
    PREFIX,
    SERVICES,
    WIRE,
    ClusterError,
    Node,
    folder,
)

__all__ = ["attach", "check", "down", "is_up", "left", "make", "remove", "up"]

TABLES = ("nat", "mangle", "filter")
CHAINS_OF_KUBE = "KUBE-"
#: kubelet and kube-proxy set these by themselves; inotify has too few instances for three nodes
SETTINGS = (
    "net/ipv4/conf/all/route_localnet", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic",
    "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
    "fs/inotify/max_user_instances",
)  # fmt: skip
INOTIFY_INSTANCES = 1024


def links() -> set[str]:
    return {str(one["ifname"]) for one in json.loads(run("ip", "-j", "link"))}


def check() -> None:
    """Raise ClusterError if the host's network cannot take the cluster."""
    wanted = [ipaddress.ip_network(text) for text in (WIRE, PODS, SERVICES)]
    for route in json.loads(run("ip", "-j", "-4", "route", "show", "table", "all")):
        if route["dst"] == "default" or route.get("dev") == BRIDGE:
            continue
        taken = ipaddress.ip_network(route["dst"], strict=False)
        for network in wanted:
            if taken.prefixlen and taken.overlaps(network):
                raise ClusterError(
                    f"this machine routes {taken} already, the cluster needs {network}:"
                    " use another cluster, by KUBECONFIG"
                )
    rules = run("iptables-save")
    if f":{CHAINS_OF_KUBE}" in rules and f":{CHAIN} " not in rules:
        raise ClusterError(
            "there are chains of another Kubernetes in this machine's firewall: use that one, by"
            " KUBECONFIG"
        )


def make(api_port: int) -> None:
    """Make the bridge, the chain and the settings, where they are missing."""
    if BRIDGE not in links():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{HOST}/{PREFIX}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    for node in NODES:
        run("ip", "route", "replace", node.pods, "via", node.address, "dev", BRIDGE)
    if f":{CHAIN} " not in run("iptables-save", "-t", "filter"):
        run("iptables", "-w", "-N", CHAIN)
    run("iptables", "-w", "-F", CHAIN)
    for rule in (
        ("-i", "lo", "-j", "RETURN"),
        # a firewall that lets in or forwards nothing by default
        ("-i", BRIDGE, "-j", "ACCEPT"),
        # the API server listens on all addresses, and is for these two alone
        ("-p", "tcp", "--dport", str(api_port), "-j", "DROP"),
    ):
        run("iptables", "-w", "-A", CHAIN, *rule)
    for chain in ("INPUT", "FORWARD"):
        with suppress(ClusterError):
            run("iptables", "-w", "-D", chain, "-j", CHAIN)
        run("iptables", "-w", "-I", chain, "-j", CHAIN)
    save_settings()
    instances = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(instances.read_text()) < INOTIFY_INSTANCES:
        instances.write_text(str(INOTIFY_INSTANCES))


def attach(node: Node, holder: int) -> None:
    """Give the node, whose network namespace is the holder's, its wire, addresses and routes."""
    inside = ("nsenter", "--target", holder, "--net", "--")
    if node.link in links():  # of the node's last life
        run("ip", "link", "delete", node.link)
    run(
        *("ip", "link", "add", node.link, "type", "veth"),
        *("peer", "name", "eth0", "address", node.hardware_address, "netns", holder),
    )
    run("ip", "link", "set", node.link, "master", BRIDGE, "up")
    run(*inside, "ip", "link", "set", "lo", "up")
    run(*inside, "ip", "address", "add", f"{node.address}/{PREFIX}", "dev", "eth0")
    run(*inside, "ip", "link", "set", "eth0", "up")
    run(*inside, "ip", "route", "add", "default", "via", HOST)
    for other in NODES:
        if other != node:
            run(*inside, "ip", "route", "add", other.pods, "via", other.address)
    run(*inside, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")


def up(node: Node) -> None:
    run("ip", "link", "set", node.link, "up")


def down(node: Node) -> None:
    if node.link in links():
        run("ip", "link", "set", node.link, "down")


def is_up(node: Node) -> bool:
    """Whether the node's wire is there and not cut."""
    for one in json.loads(run("ip", "-j", "link")):
        if one["ifname"] == node.link:
            return "UP" in one["flags"]
    return False


def save_settings() -> None:
    file = folder() / "settings.json"
    if not file.exists():
        found = {name: Path("/proc/sys", name) for name in SETTINGS}
        before = {name: path.read_text().strip() for name, path in found.items() if path.exists()}
        file.write_text(json.dumps(before, indent=1))


def restore_settings() -> None:
    file = folder() / "settings.json"
    if file.exists():
        for name, value in json.loads(file.read_text()).items():
            path = Path("/proc/sys", name)
            if path.read_text().strip() != value:
                path.write_text(value)
        file.unlink()


def remove() -> None:
    """Take everything away."""
    restore_settings()
    found = links()
    for name in [*(node.link for node in NODES), BRIDGE]:
        if name in found:
            with suppress(
                ClusterError
            ):  # the other end may have gone at this moment, and it with it
                run("ip", "link", "delete", name)
    for network in (WIRE, PODS, SERVICES):
        for side in ("-s", "-d", "-r", "-q"):
            with suppress(ClusterError):  # there are none
                run("conntrack", "-D", side, network)
    if f":{CHAIN} " not in run("iptables-save", "-t", "filter"):
        return
    for family in ("ip6tables", "iptables"):
        for table in TABLES:  # the cluster's own chain last: it says whose the others are
            saved = run(f"{family}-save", "-t", table)
            if script := removal(table, saved):
                run(f"{family}-restore", "-w", "--noflush", stdin=script)


def removal(table: str, saved: str) -> str:
    """What takes the cluster's chains out of a table, for iptables-restore."""
    chains = re.findall(rf"^:({CHAINS_OF_KUBE}\S+|{CHAIN}) ", saved, re.MULTILINE)
    jumps = [
        line.replace("-A ", "-D ", 1)
        for line in saved.splitlines()
        if (words := re.match(r"-A (\S+) .*-j (\S+)", line))
        and words[2] in chains
        and words[1] not in chains
    ]
    if not chains:
        return ""
    lines = [*jumps, *(f"-F {name}" for name in chains), *(f"-X {name}" for name in chains)]
    # a chain is named here, or -D and -F do not find it
    return "\n".join([f"*{table}", *(f":{name} - [0:0]" for name in chains), *lines, "COMMIT", ""])


def left() -> list[str]:
    """What there is of the cluster's on the host, by name."""
    names = {BRIDGE, *(node.link for node in NODES)}
    rules = run("iptables-save") + run("ip6tables-save")
    chains = set(re.findall(rf"^:({CHAINS_OF_KUBE}\S+|{CHAIN}) ", rules, re.MULTILINE))
    return [f"link {name}" for name in sorted(names & links())] + [
        f"firewall chain {name}" for name in sorted(chains)
    ]
