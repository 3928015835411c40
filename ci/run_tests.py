"""Run all tests side by side: the package's, and those of the images and of the cluster.

    python3 ci/run_tests.py [ARGUMENTS OF PYTEST ...]

The package's tests wait for much (elections, leases, programs that start), and so do the cluster's:
beside each other they take less time.  The cluster's count what users notice, so they come first
where there is too little CPU: the package's are in a control group with a small share.  Where that
cannot be made (it takes root and cgroup v1) the parts run one after the other.  Each part writes to
build/tests/NAME.log, which is shown as it grows, one part after the other, so that their lines are
not mixed.  A part that fails ends no other; the last lines say what each took.  With arguments the
package's tests run in one process.

JUNCTION_TEST_WORKERS is how many processes run the package's tests; by default as many as cores.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = Path("build/tests")  # from ROOT, where all of it runs
#: seconds in which what was interrupted has to clear up: a cluster is taken down
CLEARING_UP = 180.0
#: Linux' control groups of version 1; a group whose share is small comes after all others (1024)
GROUPS = Path("/sys/fs/cgroup/cpu")
SMALL_SHARE = 128


@dataclass
class Part:
    """Commands that run one after the other, all of them whatever comes of the first."""

    name: str
    commands: list[list[str]]
    began: float = field(default_factory=time.monotonic)
    took: float | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"

    def start(self) -> None:
        script = "; ".join(f"{shlex.join(command)} || failed=$?" for command in self.commands)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f"failed=0; {script}; exit $failed"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # a group that can be ended as a whole, and that Ctrl-C does not reach before us
                start_new_session=True,
            )

    def ended(self) -> bool:
        """Whether it has; the first to see it keeps how long it took."""
        assert self.process is not None
        if self.process.poll() is None:
            return False
        if self.took is None:
            self.took = time.monotonic() - self.began
        return True

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def workers() -> int:
    given = os.environ.get("JUNCTION_TEST_WORKERS", "")
    if not given:
        return os.cpu_count() or 1
    if not given.isdigit() or given == "0":
        sys.exit(f"JUNCTION_TEST_WORKERS={given!r} is no number of processes: write 1 or more")
    return int(given)


@contextlib.contextmanager
def small_share() -> Iterator[Path | None]:
    """A control group whose processes get CPU after others; None where it cannot be made."""
    group = GROUPS / f"junction-tests-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.shares").write_text(str(SMALL_SHARE))
    except OSError:
        yield None
        return
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):  # a process that is about to end
            group.rmdir()


def parts(arguments: list[str], scratch: str, group: Path | None) -> list[Part]:
    """What there is to run here.

    Args:
        group: the control group for the package's tests; without one nothing runs beside them.
        scratch: a folder for tests' files, with a short name: a Unix socket's path has 107 bytes.
    """
    color = ["--color=yes"] if sys.stdout.isatty() else []
    spread = (
        []
        if arguments
        else ["-n", str(workers()), "--dist", "loadscope", f"--basetemp={scratch}/t"]
    )
    run = shlex.join(["pytest", *spread, *color, *arguments])
    script = f"cd proxy_plugin && exec {run}"
    if group is not None:
        script = f"echo $$ > {shlex.quote(str(group / 'cgroup.procs'))} && {script}"
    package = ["ci/setup", "--", "bash", "-c", script]
    cluster = [["ci/run_e2e", *color, *arguments]] if arguments else [["ci/run_e2e", *color]]
    if not arguments and os.geteuid() == 0:
        # both work with the images, and with runc
        cluster.insert(0, ["make", "--no-print-directory", "test-images"])
    elif not arguments:
        print("SKIPPED: the images are built and run by root", file=sys.stderr)
    if group is None:
        return [Part("all", [package, *cluster])]
    return [Part("package", [package]), Part("cluster", cluster)]


def set_up(arguments: list[str]) -> bool:
    """Make what is missing before any test runs: a build takes all cores."""
    names = ["venv", "etcd", "chp", "chromium", "helm"]
    if not arguments and os.geteuid() == 0:
        names += ["containers", "images"]
        if os.environ.get("KUBECONFIG") or Path("/sys/fs/cgroup/pids").is_dir():  # see run_e2e
            names.append("kubernetes")
    return subprocess.run(["ci/setup", *names, "--", "true"]).returncode == 0


def show(part: Part, all_parts: list[Part]) -> None:
    """The part's log, until it has ended."""
    with part.log.open("rb") as log:
        while True:
            done = part.ended()
            for each in all_parts:
                each.ended()
            said = log.read()
            sys.stdout.buffer.write(said)
            sys.stdout.buffer.flush()
            if done:
                return
            if not said:
                time.sleep(0.2)


@contextlib.contextmanager
def ending(all_parts: list[Part]) -> Iterator[None]:
    """Whatever happens, nothing runs on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # also where a shell had SIGINT ignored, as it does in the background: the parts inherit it
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        left = [each for each in all_parts if each.process and not each.ended()]
        for each in left:
            each.signal(signal.SIGINT)
        deadline = time.monotonic() + CLEARING_UP
        for each in left:
            assert each.process is not None
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                each.process.wait(max(0.0, deadline - time.monotonic()))
        for each in all_parts:
            each.signal(signal.SIGKILL)


def main(all_parts: list[Part]) -> int:
    """Run them side by side; returns the exit code."""
    os.chdir(ROOT)
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        with ending(all_parts):
            for part in all_parts:
                part.start()
            for part in all_parts:
                print(f"=== {part.name}: {part.log}", flush=True)
                show(part, all_parts)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    failed = False
    for part in all_parts:
        assert part.process is not None
        code = part.process.returncode
        failed |= code != 0
        word = f"FAILED ({code}), see {part.log}" if code else "passed"
        print(f"=== {part.name}: {word}, {part.took or 0:.0f} s")
    return int(failed)


if __name__ == "__main__":
    os.chdir(ROOT)
    if not set_up(sys.argv[1:]):
        sys.exit(1)
    with tempfile.TemporaryDirectory(prefix="jt-") as scratch, small_share() as group:
        code = main(parts(sys.argv[1:], scratch, group))
    sys.exit(code)
