"""A user's session in a real browser, while replicas are killed and restarted.

Elsewhere that loses the table (zero-to-jupyterhub-k8s #1226, jupyterhub #2000, #4369) and drops
WebSockets (traefik #6235, #3630, #4452).
It drives what ``make demo`` runs: three etcd members, two replicas, JupyterHub, JupyterLab.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[2] / "ci"
sys.path.insert(0, str(CI))

from demo import Demo  # noqa: E402
from demo.programs import end_marked, marked, wait  # noqa: E402

pytestmark = pytest.mark.needs_programs

CHROMIUM = os.environ.get("JUNCTION_CHROMIUM") or shutil.which("chromium")
# No sandbox: as root, in a container, there is none to be had.  The rest keeps it off the network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 90
"""Deadline of each step in the browser: a user server's start is the slowest."""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    try:
        demo.start()
        yield demo
    finally:
        demo.stop()
        assert not marked(demo.mark), "processes outlived the demo"


class Lab:
    """JupyterLab in the browser, as far as the test needs it."""

    def __init__(self, page) -> None:
        self.page = page

    def sign_in(self, address: str, user: str, password: str) -> None:
        self.page.goto(address)
        self.page.fill("#username_input", user)
        self.page.fill("#password_input", password)
        self.page.click("#login_submit")
        self.page.wait_for_url(re.compile(rf"/user/{user}/lab"))

    def open_notebook(self) -> None:
        self.page.click('.jp-LauncherCard[data-category="Notebook"]')
        # Before its kernel is there, a notebook drops what it is told to run.
        self.page.wait_for_selector("text='Python 3 (ipykernel) | Idle'")

    def run(self, code: str, *, shows: str) -> None:
        """Type into the last cell, run it, wait for what it prints."""
        self.page.click(".jp-NotebookPanel .jp-CodeCell >> nth=-1 >> .cm-content")
        self.page.keyboard.type(code)
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_selector(f".jp-OutputArea-output pre:text-is('{shows}')")


@pytest.fixture
def lab() -> Iterator[Lab]:
    if not CHROMIUM:
        pytest.fail("no chromium on PATH: `ci/setup chromium` says how to get it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(SECONDS * 1000)
        yield Lab(page)
        browser.close()


def test_a_session_goes_on_while_each_replica_is_lost_in_turn(demo: Demo, lab: Lab) -> None:
    killed, restarted = demo.replicas.values()
    lab.sign_in(demo.address, "zoe", demo.password)
    lab.open_notebook()
    lab.run("answer = 6 * 7; print(answer)", shows="42")

    killed.program.kill()
    lab.run("print(answer + 1)", shows="43")

    killed.program.start()
    demo.wait_ready(killed.name)
    demo.members[0].kill()
    restarted.program.end(seconds=20)
    # Now all goes through the replica that was killed: it has the whole table again.
    lab.run("print(answer + 2)", shows="44")

    restarted.program.start()
    demo.wait_ready(restarted.name)  # with two of three members
    lab.run("print(answer + 3)", shows="45")


def run_demo(mark: str, output: Path, **environment: str) -> subprocess.Popen[bytes]:
    with output.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=CI,
            env={**os.environ, "DEMO_MARK": mark, "TMPDIR": str(output.parent), **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def mark() -> Iterator[str]:
    mark = secrets.token_hex(8)
    yield mark
    end_marked(mark)


def test_the_demo_ends_by_itself_and_leaves_nothing(mark: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    run = run_demo(mark, output, DEMO_SECONDS="3")
    assert run.wait(timeout=300) == 0, output.read_text()
    assert not marked(mark)
    said = output.read_text()
    for line in (r"replica-1 .*live", r"replica-2 .*live", r"etcd .*3 of 3", r"kill -9 \d+"):
        assert re.search(line, said), said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_and_leaves_nothing(
    mark: str, tmp_path: Path, number: signal.Signals
) -> None:
    output = tmp_path / "output"
    run = run_demo(mark, output)
    wait("the live table", lambda: b"3 of 3" in output.read_bytes(), 120)
    assert len(marked(mark)) >= 6
    run.send_signal(number)
    assert run.wait(timeout=120) == 0, output.read_text()
    assert not marked(mark)


def test_a_part_that_does_not_start_is_named_with_its_log(mark: str, tmp_path: Path) -> None:
    etcd = tmp_path / "bin" / "etcd"
    etcd.parent.mkdir()
    etcd.write_text("#!/bin/sh\necho no luck today >&2\nexit 3\n")
    etcd.chmod(0o755)
    output = tmp_path / "output"
    run = run_demo(mark, output, JUNCTION_ETCD_BIN=str(etcd.parent))
    assert run.wait(timeout=120) == 1
    assert "demo: etcd-1 ended with code 3" in output.read_text()
    assert "etcd-1| no luck today" in output.read_text()
    assert not marked(mark)
