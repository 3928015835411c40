"""A process that ends is started again, whatever kept it from starting."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from harness.waiting import SOON, until

from jupyterhub_junction.traefik.supervisor import Child

LOG = logging.getLogger("test.supervisor")


async def ended(child: Child, keeping: asyncio.Task[int]) -> None:
    child.kill()
    async with asyncio.timeout(SOON):
        assert await keeping == 0


async def test_a_program_that_is_not_there_for_a_while_is_started_once_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As while its package is being replaced."""
    program = tmp_path / "program"
    child = Child("it", [str(program)], LOG)
    keeping = asyncio.create_task(child.keep())
    await until(lambda: "it cannot be started" in caplog.text, deadline=SOON)
    assert not keeping.done()
    script = tmp_path / "new"
    script.write_text(f"#!{sys.executable}\nimport signal\nsignal.pause()\n")
    script.chmod(0o755)
    os.replace(script, program)
    await until(lambda: child.process is not None, deadline=SOON)
    await ended(child, keeping)


async def test_a_retired_child_is_not_started_again() -> None:
    child = Child("it", [sys.executable, "-c", "import signal; signal.pause()"], LOG)
    keeping = asyncio.create_task(child.keep())
    await until(lambda: child.process is not None, deadline=SOON)
    child.retire()
    child.signal(signal.SIGKILL)
    async with asyncio.timeout(SOON):
        assert await keeping == 0
