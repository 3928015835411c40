"""``make demo``: run it all, show it, end it all."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from .launcher import Demo
from .programs import DemoError, answers
from .table import Row, render

RESTART_AFTER = 10.0
"""Seconds until a killed replica is started again: long enough to watch the others go on."""


class Ended(BaseException):
    """A signal asked for the end."""


def _raise_ended(number: int, frame: FrameType | None) -> None:
    _on_signals(signal.SIG_IGN)  # the end takes some seconds: one signal is enough
    raise Ended


def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, handler)


def _help(demo: Demo) -> str:
    one = next(iter(demo.replicas.values()))
    member = demo.members[0]
    return f"""
JupyterHub, behind {len(demo.replicas)} replicas:  {demo.address}
Sign in as anyone, with the password {demo.password}

What to try while a notebook runs there (the table has the process ids):
  kill -9 {one.program.pid:<9} one replica: the page goes on through the other one
  kill -9 {member.pid:<9} one etcd member: the other two go on
What was killed is started again after {RESTART_AFTER:.0f} s. Ctrl-C ends everything.
The logs are in {demo.folder}
"""


class Screen:
    """Redraws the table on a terminal; elsewhere prints it when it has changed."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._shown: list[str] = []

    def show(self, lines: list[str]) -> None:
        if self._terminal:
            up = f"\x1b[{len(self._shown)}F" if self._shown else ""
            print(up + "".join(f"{line}\x1b[K\n" for line in lines), end="", flush=True)
        elif lines != self._shown:
            print("\n".join(lines), flush=True)
        self._shown = lines


def _watch(demo: Demo, seconds: float) -> None:
    screen = Screen()
    gone: dict[str, float] = {}
    programs = [replica.program for replica in demo.replicas.values()] + demo.members
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        demo.hub.check()
        for program in programs:
            if program.pid is not None:
                gone.pop(program.name, None)
            elif now - gone.setdefault(program.name, now) > RESTART_AFTER:
                program.start()
        reports = demo.etcd.reports()
        rows = [
            Row(name, replica.program.pid, replica.address, reports.get(name))
            for name, replica in demo.replicas.items()
        ]
        alive = sum(answers(f"{endpoint}/health") for endpoint in demo.etcd.endpoints)
        screen.show(render(rows, demo.etcd.routes(), alive, len(demo.members)))
        time.sleep(max(0.0, min(1.0, end - time.monotonic())))


def main() -> int:
    """Run until a signal, or for DEMO_SECONDS."""
    _on_signals(_raise_ended)
    seconds = float(os.environ.get("DEMO_SECONDS") or "inf")
    folder = Path(tempfile.mkdtemp(prefix="junction-demo-"))
    demo = Demo(folder, mark=os.environ.get("DEMO_MARK"))
    code = 0
    try:
        print("Starting three etcd members, two replicas and JupyterHub ...", flush=True)
        demo.start()
        print(_help(demo), flush=True)
        _watch(demo, seconds)
    except DemoError as error:
        print(f"demo: {error}\nThe logs are in {folder}", file=sys.stderr, flush=True)
        code = 1
    except Ended:
        pass
    finally:
        _on_signals(signal.SIG_IGN)
        print("Ending everything ...", flush=True)
        demo.stop()
    if code == 0:
        shutil.rmtree(folder, ignore_errors=True)
    print("Everything has ended.", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
