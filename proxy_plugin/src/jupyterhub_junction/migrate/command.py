"""``junction migrate`` and ``junction fill-chp``: what they take, and print."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from ..etcd import environment
from ..etcd.store import EtcdStore
from ..store import StoreRefused
from .check import BadValues, check, merge, read, unwrapped
from .fill import Chp, Fill
from .options import FATES
from .presets import HUB_IMAGE, PRESETS, REPLICA_IMAGE, BadPreset, Names, preset

__all__ = ["as_yaml", "fill_chp", "migrate", "rendered"]

#: exit codes of ``check``
NO_COUNTERPART, BAD_INPUT = 1, 2


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,51}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a release")
    return text


def _cidr(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="junction migrate",
        description="Move a Zero to JupyterHub (z2jh) from configurable-http-proxy, and back.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    checks = commands.add_parser(
        "check",
        help="say what becomes of an admin's values",
        description="Say what becomes of an admin's values of z2jh. Ends with 1 if something has no"
        " counterpart, with 2 if the values cannot be judged.",
    )
    checks.add_argument("-f", "--values", metavar="FILE", action="append", required=True,
                        help="values of z2jh, as helm gets them; may be given again")  # fmt: skip
    checks.add_argument("--json", action="store_true", help="print JSON")
    checks.add_argument("--all", action="store_true", help="also what stays as it is")
    writes = commands.add_parser(
        "presets",
        help="write the presets for names and values of yours",
        description="Write prepare.yaml, takeover.yaml and rollback.yaml, to be given to helm by -f"
        " after the admin's own values.",
    )
    writes.add_argument("-o", "--output", metavar="DIR", default=".", help="where to (%(default)s)")
    writes.add_argument("--release", type=_name, default="junction",
                        help="of Junction's chart, in z2jh's namespace (%(default)s)")  # fmt: skip
    writes.add_argument("-f", "--values", metavar="FILE", action="append", default=[],
                        help="values of z2jh whose lists are to be kept; may be given again")  # fmt: skip  # noqa: E501
    writes.add_argument("--hub-image", metavar="NAME:TAG", default=HUB_IMAGE,
                        help="the hub's image with the plugin (%(default)s)")  # fmt: skip
    writes.add_argument("--replica-image", metavar="NAME:TAG", default=REPLICA_IMAGE,
                        help="the replica's (%(default)s)")  # fmt: skip
    writes.add_argument("--z2jh-fullname", metavar="NAME", default="",
                        help="z2jh's fullnameOverride, if it has one")  # fmt: skip
    writes.add_argument("--trust", metavar="CIDR", type=_cidr, action="append", default=[],
                        help="whose X-Forwarded headers are believed; may be given again")  # fmt: skip  # noqa: E501
    return parser


def migrate(arguments: Sequence[str]) -> int:
    """Run ``junction migrate``; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "check":
            return _check(options)
        return _presets(options)
    except (BadValues, BadPreset, OSError) as error:
        print(f"junction migrate {options.command}: {error}", file=sys.stderr)
        return BAD_INPUT


def _check(options: argparse.Namespace) -> int:
    found = check([(path, read(path)) for path in options.values])
    worst = any(one.fate == "none" for one in found)
    if options.json:
        print(json.dumps({"ok": not worst, "values": [one.as_json() for one in found]}, indent=2))
        return NO_COUNTERPART if worst else 0
    order = list(FATES)[::-1]
    for one in sorted(found, key=lambda one: (order.index(one.fate), one.path)):
        if options.all or one.fate != "same":
            print(one)
    counts = [(fate, sum(one.fate == fate for one in found)) for fate in FATES]
    print(
        ", ".join(f"{count} {FATES[fate]}" for fate, count in counts if count) or "nothing is set"
    )
    return NO_COUNTERPART if worst else 0


HEADER = """\
# {what}
# Made by: junction migrate presets{words}
# Give it to helm by -f after your own values of z2jh, one preset at a time.  See MIGRATION.md.
"""
_WHAT = {
    "prepare": "Junction beside CHP: the hub writes to both. CHP's pod stays as it is.",
    "takeover": "Junction in place of CHP: z2jh's proxy is one more replica.",
    "rollback": "CHP again, once its table is filled; the replicas serve until then, and on.",
}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def rendered(name: str, values: dict[str, Any], words: str = "") -> str:
    """A preset as a file."""
    return HEADER.format(what=_WHAT[name], words=words) + as_yaml(values)


def as_yaml(values: dict[str, Any]) -> str:
    """Values as helm reads them, and people."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, width=10_000)


def _presets(options: argparse.Namespace) -> int:
    names = Names.of_release(
        options.release,
        hub_image=options.hub_image,
        replica_image=options.replica_image,
        z2jh=options.z2jh_fullname,
    )
    own = merge([unwrapped(path, read(path)) for path in options.values])
    made = {name: preset(name, names, own, trust=options.trust) for name in PRESETS}
    words = "" if options.release == "junction" else f" --release {options.release}"
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in made.items():
        path = folder / f"{name}.yaml"
        path.write_text(rendered(name, values, words))
        print(path)
    return 0


# --- junction fill-chp ----------------------------------------------------------------------


def fill_chp(arguments: Sequence[str]) -> int:
    """Run ``junction fill-chp``; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="junction fill-chp",
        description="Fill the table of a CHP that was just started from etcd, whose address and"
        " access are in the environment: JUNCTION_ETCD and so on. Ready once CHP has all routes.",
    )
    parser.add_argument("--chp-api", metavar="URL", default="http://127.0.0.1:8001",
                        help="CHP's API (%(default)s); its token is CONFIGPROXY_AUTH_TOKEN")  # fmt: skip  # noqa: E501
    parser.add_argument("--status", metavar="HOST:PORT", default="127.0.0.1:8083",
                        help="where /readyz and /healthz answer (%(default)s)")  # fmt: skip
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level="INFO", format="%(asctime)s %(levelname)s fill-chp %(message)s", stream=sys.stderr
    )
    log = logging.getLogger("junction")
    for name in ("JUNCTION_ETCD", "CONFIGPROXY_AUTH_TOKEN"):
        if not os.environ.get(name):
            print(f"junction fill-chp: {name} is not set in the environment", file=sys.stderr)
            return BAD_INPUT
    try:
        asyncio.run(_fill(options, log))
    except (StoreRefused, OSError, ValueError) as error:
        print(f"junction fill-chp: {error}", file=sys.stderr)
        return BAD_INPUT
    except asyncio.CancelledError:
        pass
    return 0


async def _fill(options: argparse.Namespace, log: logging.Logger) -> None:
    get = environment.value
    store = EtcdStore(
        environment.endpoints(get("etcd")),
        prefix=get("etcd_prefix", "/junction/").rstrip("/") + "/",
        username=get("etcd_username") or None,
        password=get("etcd_password") or None,
        ca=get("etcd_ca") or None,
        cert=get("etcd_cert") or None,
        key=get("etcd_key") or None,
    )
    chp = Chp(options.chp_api, os.environ["CONFIGPROXY_AUTH_TOKEN"])
    fill = Fill(store, chp, log)

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text=f"{fill.why or 'ok'}\n", status=200 if fill.ready else 503)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    task = asyncio.ensure_future(fill.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await runner.setup()
        host, _, port = options.status.rpartition(":")
        await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        await task
    except ExceptionGroup as group:
        refused = group.subgroup(StoreRefused)
        if refused is None:
            raise
        raise refused.exceptions[0] from None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()
        await chp.close()
        await store.close()
