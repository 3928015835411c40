"""The generator's process: a setup from stdin, a line a second to stdout.

The setup (JSON): ``users`` (a module of this package), ``addresses``, ``people``, ``count`` of
users at once, ``arrive`` of them a second, ``rate`` of requests a second (0: as fast as they are
answered), ``seconds`` at most, ``once`` if users leave by themselves, and what the module wants.
A line: ``t`` (CLOCK_MONOTONIC), ``for_s`` (its length), ``users``,
``cpu`` (share of a core that this process used), ``bytes`` and ``kinds``.  It ends when its time is
up, with its stdin, or at the line ``stop``.  When its time is up, what is under way gets ``grace``
seconds, and what comes of it stands in one more line, which is ``late``.  The last line is
``{"done": true}``.

With ``workers`` in the setup this is Locust's master, and waits for so many workers, which are
``python -m scenarios.load --worker HOST:PORT`` on any machine: they are told the setup.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
import sys
import time
from typing import Any

# first: it replaces the standard library's sockets
import gevent
import gevent.event
import locust.runners
from gevent.fileobject import FileObject
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from .recorder import Recorder

__all__: list[str] = []

#: seconds that workers get to come
WORKERS = 300.0
#: seconds that students get to come to their first request
SETTLE = 5.0
#: seconds that users get to end what they are at when the load is broken off
ABORT = 2.0
#: seconds between two reports of a worker, as between two lines
REPORTS = 1.0
#: Locust's own port between master and workers
PORT = 5557


def _say(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def _environment(setup: dict[str, Any], recorder: Recorder) -> Environment:
    module = importlib.import_module(f".{setup['users']}", __package__)
    environment = Environment(
        user_classes=module.classes(setup), catch_exceptions=False,
        stop_timeout=float(setup["grace"]),
    )  # fmt: skip
    environment.events.request.add_listener(recorder.request)
    return environment


def _used() -> float:
    times = os.times()
    return times.user + times.system


class Stopped(Exception):
    """It was told to stop."""


def _await_end(
    setup: dict[str, Any], recorder: Recorder, runner: Any, commands: Any, starting: Any
) -> None:
    """A line a second, until the time is up, stdin ends or says stop, or all users have left.

    Then a last one, of what they were at and have brought to an end, or have not.
    """
    begun = time.monotonic()
    ends = begun + float(setup["seconds"])
    arrive = int(setup["count"]) / float(setup.get("arrive", 100))
    all_here = begun + arrive + SETTLE if setup.get("once") else math.inf
    used, at = _used(), time.monotonic()

    def line(**more: bool) -> None:
        nonlocal used, at
        now, now_used = time.monotonic(), _used()
        share = (now_used - used) / max(now - at, 1e-6)
        workers = [one.cpu_usage / 100 for one in getattr(runner, "clients", {}).values()]
        _say({
            "t": now, "for_s": now - at, "users": runner.user_count, **recorder.take(),
            "cpu": max([share, *workers]), **more,
        })  # fmt: skip
        used, at = now_used, now

    while time.monotonic() < ends and not commands.ready():
        commands.join(timeout=max(0.0, min(1.0, ends - time.monotonic())))
        line()
        if at > all_here and runner.user_count == 0:
            break  # all have come, and gone
    if setup.get("once") and not commands.ready():
        for _ in range(runner.user_count):
            error = TimeoutError(f"not over after {setup['seconds']:g} s")
            recorder.request("a student's class", 0, 0, exception=error)
        line(late=True)
    starting.kill()
    if starting.exception:
        raise Stopped(f"users could not be started: {starting.exception}")
    if commands.ready():  # nobody waits for what is under way
        runner.environment.stop_timeout = ABORT
        if isinstance(runner, MasterRunner):
            runner.send_message("abort", {"seconds": ABORT})
        return
    with gevent.Timeout(float(setup["grace"]) + 2 * SETTLE, False):
        if isinstance(runner, MasterRunner):
            runner.send_message("quit")  # each worker ends what it is at, and tells the last of it
            while runner.user_count:
                gevent.sleep(REPORTS)
            gevent.sleep(REPORTS)
        else:
            runner.stop()
    line(late=True)


def generate(setup: dict[str, Any], stdin: Any) -> None:
    """Run users as the setup says."""
    recorder = Recorder()
    environment = _environment(setup, recorder)
    workers = int(setup.get("workers", 0))
    runner: Any
    if workers:
        runner = _master(environment, recorder, setup, workers)
    else:
        runner = environment.create_local_runner()
    commands = gevent.spawn(stdin.readline)
    _say({"ready": True, "t": time.monotonic()})
    # a master's returns when all have come
    starting = gevent.spawn(
        runner.start, int(setup["count"]), spawn_rate=float(setup.get("arrive", 100))
    )
    try:
        _await_end(setup, recorder, runner, commands, starting)
    finally:
        starting.kill()
        runner.quit()
        commands.kill()


def _master(
    environment: Environment, recorder: Recorder, setup: dict[str, Any], workers: int
) -> MasterRunner:
    """Wait for the workers; each is told the setup, with a part of the people of its own."""
    host, _, port = str(setup.get("listen", "127.0.0.1")).partition(":")
    runner: MasterRunner = environment.create_master_runner(host, int(port or PORT))
    environment.events.worker_report.add_listener(
        lambda client_id, data: recorder.add(data["junction"]) if "junction" in data else None
    )
    told: list[str] = []
    ready: set[str] = set()

    def hello(environment: Environment, msg: Any, **_: Any) -> None:
        if msg.node_id not in told:
            told.append(msg.node_id)
        part = setup["people"]
        if setup.get("once"):
            part = part[told.index(msg.node_id) % workers :: workers]
        runner.send_message("setup", {**setup, "people": part}, client_id=msg.node_id)

    def set_up(environment: Environment, msg: Any, **_: Any) -> None:
        ready.add(msg.node_id)

    runner.register_message("hello", hello)
    runner.register_message("set-up", set_up)
    ends = time.monotonic() + WORKERS
    while len(ready) < workers:
        if time.monotonic() > ends:
            raise Stopped(f"{len(ready)} of {workers} workers came within {WORKERS:g} s")
        gevent.sleep(0.1)
    return runner


def work(master: str) -> None:
    """One worker: told its setup by the master, it ends with it."""
    locust.runners.WORKER_REPORT_INTERVAL = REPORTS
    host, _, port = master.partition(":")
    environment = Environment(user_classes=[], catch_exceptions=False)
    runner: WorkerRunner = environment.create_worker_runner(host, int(port or PORT))
    recorder = Recorder()
    environment.events.request.add_listener(recorder.request)

    def report(client_id: str, data: dict[str, Any]) -> None:
        data["junction"] = recorder.take()

    environment.events.report_to_master.add_listener(report)

    def set_up(environment: Environment, msg: Any, **_: Any) -> None:
        module = importlib.import_module(f".{msg.data['users']}", __package__)
        environment.user_classes = module.classes(msg.data)
        environment.stop_timeout = float(msg.data["grace"])
        done.set()
        runner.send_message("set-up", {})

    def abort(environment: Environment, msg: Any, **_: Any) -> None:
        environment.stop_timeout = float(msg.data["seconds"])

    done = gevent.event.Event()
    runner.register_message("setup", set_up)
    runner.register_message("abort", abort)
    while not done.wait(1):  # a master that has just come may not have listened yet
        runner.send_message("hello", {})
    runner.greenlet.join()


def main() -> int:
    """Generate, or work for a master."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if sys.argv[1:2] == ["--worker"] and len(sys.argv) == 3:
        work(sys.argv[2])
        return 0
    stdin = FileObject(sys.stdin.buffer, "rb", close=False)
    try:
        generate(json.loads(stdin.readline()), stdin)
    except Stopped as why:
        _say({"error": str(why)})
        return 1
    _say({"done": True})
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # gevent's threads of locust do not hold the end up
