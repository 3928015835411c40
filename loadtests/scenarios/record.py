"""Record what a browser asks for when JupyterLab starts: ``python -m scenarios.record``.

Drives what ``make demo`` runs with Chromium, and writes ``lab_start.json``: the order, times, kinds
and sizes of requests and WebSockets' messages, and paths with the user's name and all ids taken
out; no contents, no headers.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.signals import heed_sigterm
from demo import Demo
from playwright.sync_api import Page, Request, WebSocket, sync_playwright

RECORDING = Path(__file__).with_name("lab_start.json")
USER = "recorded"
#: milliseconds that one step in the browser may take
STEP = 90_000
#: as root, in a container, there is no sandbox to be had; the rest keeps it off the network
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_IDS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "{id}"),
    (re.compile(rf"\b{USER}\b"), "{user}"),
)
#: parts of a query that mean nothing elsewhere
_KEPT = ("v",)


def _path(url: str) -> str:
    parts = urlsplit(url)
    path = parts.path
    for pattern, name in _IDS:
        path = pattern.sub(name, path)
    kept = [one for one in parts.query.split("&") if one.partition("=")[0] in _KEPT]
    return path + ("?" + "&".join(kept) if kept else "")


class Recording:
    """What the page asks for, in the order in which it was asked."""

    def __init__(self, page: Page) -> None:
        self.begun = time.monotonic()
        self.phase = "sign in"
        self.requests: list[tuple[dict[str, Any], Request]] = []
        self.sockets: list[dict[str, Any]] = []
        page.on("request", self._request)
        page.on("websocket", self._socket)
        page.on("requestfailed", lambda one: print(f"record: {one.url}: {one.failure}"))

    def _at(self) -> int:
        return round(1000 * (time.monotonic() - self.begun))

    def _request(self, request: Request) -> None:
        if request.url.startswith("http"):
            one = {
                "at": self._at(), "phase": self.phase, "method": request.method,
                "path": _path(request.url), "kind": request.resource_type,
            }  # fmt: skip
            self.requests.append((one, request))

    def _socket(self, socket: WebSocket) -> None:
        one: dict[str, Any] = {
            "at": self._at(), "phase": self.phase, "path": _path(socket.url),
            "sent": [], "received": [],
        }  # fmt: skip
        self.sockets.append(one)
        socket.on("framesent", lambda frame: one["sent"].append([self._at(), len(frame)]))
        socket.on("framereceived", lambda frame: one["received"].append([self._at(), len(frame)]))

    def finished(self) -> list[dict[str, Any]]:
        """The requests, with what came of them."""
        found = []
        for one, request in self.requests:
            response = request.response()
            if response is None:
                continue
            with contextlib.suppress(Exception):
                response.finished()
            sizes = request.sizes()
            one |= {
                "status": response.status,
                "size": sizes["responseBodySize"],
                "sends": sizes["requestBodySize"],
            }
            found.append(one)
        return found


def record(demo: Demo, chromium: str) -> dict[str, Any]:
    """One start of JupyterLab with one notebook, its kernel, and one cell."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(STEP)
        recording = Recording(page)
        page.goto(demo.address)
        page.fill("#username_input", USER)
        page.fill("#password_input", demo.password)
        page.click("#login_submit")
        page.wait_for_url(re.compile(rf"/user/{USER}/lab"))
        recording.phase = "lab"
        page.wait_for_selector('.jp-LauncherCard[data-category="Notebook"]')
        page.wait_for_load_state("networkidle")
        recording.phase = "notebook"
        page.click('.jp-LauncherCard[data-category="Notebook"]')
        page.wait_for_selector("text='Python 3 (ipykernel) | Idle'")
        page.wait_for_load_state("networkidle")
        recording.phase = "work"
        page.click(".jp-NotebookPanel .jp-CodeCell >> nth=-1 >> .cm-content")
        page.keyboard.type("print(6 * 7)")
        page.keyboard.press("Shift+Enter")
        page.wait_for_selector(".jp-OutputArea-output pre:text-is('42')")
        page.keyboard.press("Control+s")
        page.wait_for_timeout(5000)
        requests = recording.finished()
        browser.close()
    packages = ("jupyterhub", "jupyterlab", "jupyter_server", "ipykernel")
    return {
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "requests": requests,
        "sockets": recording.sockets,
    }


def main() -> None:
    """Record, and write."""
    heed_sigterm()
    chromium = os.environ.get("JUNCTION_CHROMIUM") or shutil.which("chromium")
    if not chromium:
        raise SystemExit("record: no chromium on PATH: `ci/setup chromium` says how to get it")
    folder = Path(tempfile.mkdtemp(prefix="junction-record-"))
    demo = Demo(folder)
    try:
        demo.start()
        found = record(demo, chromium)
    finally:
        demo.stop()
        shutil.rmtree(folder, ignore_errors=True)
    lines = [
        f' "{key}": [\n  ' + ",\n  ".join(json.dumps(one) for one in found[key]) + "\n ]"
        for key in ("requests", "sockets")
    ]
    versions = json.dumps(found["versions"])
    RECORDING.write_text("{\n" + ",\n".join([f' "versions": {versions}', *lines]) + "\n}\n")
    print(f"record: {len(found['requests'])} requests, {len(found['sockets'])} WebSockets")


if __name__ == "__main__":
    main()
