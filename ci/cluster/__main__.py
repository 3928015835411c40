"""The cluster's commands."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from . import access, lifecycle
from .settings import ClusterError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", "make the cluster, or what is missing of it"),
        ("down", "end it and remove everything"),
        ("status", "say how each part is; exit 1 if one is not well"),
        ("measure", "start metrics-server, which autoscalers ask (by `ci/setup metrics-server`)"),
        ("env", "print the environment that kubectl needs"),
        ("left", "list what there is of a cluster on this machine; exit 1 if anything"),
    ):
        commands.add_parser(name, help=text)
    for name, text in (
        ("kill-node", "take a node's power away"),
        ("heal-node", "give it back; returns when the node is ready"),
        ("cut-node", "cut a node's wire: all on it runs on"),
        ("join-node", "mend it"),
    ):
        commands.add_parser(name, help=text).add_argument("node", help="worker-1, or 1")
    load = commands.add_parser("load-image", help="import image archives into all nodes")
    load.add_argument("archive", nargs="+", type=Path)
    given = parser.parse_args()
    try:
        return run(given)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def run(given: argparse.Namespace) -> int:
    acts = {
        "kill-node": lifecycle.kill, "heal-node": lifecycle.heal,
        "cut-node": lifecycle.cut, "join-node": lifecycle.join,
    }  # fmt: skip
    if given.command in acts:
        acts[given.command](given.node)
    elif given.command == "up":
        lifecycle.up()
    elif given.command == "down":
        lifecycle.down()
    elif given.command == "measure":
        lifecycle.measure()
    elif given.command == "env":
        print(f"export KUBECONFIG={shlex.quote(str(access.given().kubeconfig))}")
    elif given.command == "load-image":
        for name, images in lifecycle.load(given.archive).items():
            print(f"{name}: {', '.join(images) or 'has them all'}")
    elif given.command == "left":
        found = lifecycle.left()
        print("\n".join(found) or "nothing")
        return bool(found)
    else:
        states = lifecycle.status()
        for name, state in states.items():
            print(f"{name:24} {state}")
        return any(state not in ("runs", "Ready") for state in states.values())
    return 0


if __name__ == "__main__":
    sys.exit(main())
