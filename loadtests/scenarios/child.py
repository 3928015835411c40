"""A program of this package that talks in JSON lines: started, read, told to end, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from bench.processes import module_environment

from .stage import LoadtestError

__all__ = ["Child"]

#: bytes of a line at most
LINE = 1 << 24
#: seconds that one gets to end when its stdin has
GRACE = 15.0


class Child:
    """``python -m scenarios.<module>``, as an asynchronous context.

    Args:
        module: which one.
        log: where its stderr goes.
    """

    def __init__(self, module: str, log: Path) -> None:
        self.module = module
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"scenarios.{self.module}", limit=LINE,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=module_environment(), start_new_session=True,
            )  # fmt: skip
        return self

    def send(self, line: dict[str, Any]) -> None:
        """One line to its stdin."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def line(self) -> dict[str, Any]:
        """The next line.

        Raises:
            LoadtestError: it has ended.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        got = await self._process.stdout.readline()
        if not got:
            said = self.log.read_text(errors="replace").strip().splitlines()
            last = f": {said[-1][:300]}" if said else ""
            raise LoadtestError(f"the program scenarios.{self.module} has ended{last}")
        found: dict[str, Any] = json.loads(got)
        return found

    async def first(self, seconds: float) -> dict[str, Any]:
        """The first line, within so many seconds.

        Raises:
            LoadtestError: there is none, or it says an error.
        """
        try:
            async with asyncio.timeout(seconds):
                line = await self.line()
        except TimeoutError:
            raise LoadtestError(
                f"the program scenarios.{self.module} has not begun within {seconds:g} s"
            ) from None
        if "error" in line:
            raise LoadtestError(str(line["error"]))
        return line

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """All lines until the last one, which says ``done``.

        Raises:
            LoadtestError: it says an error, or ends without that line.
        """
        while "done" not in (line := await self.line()):
            if "error" in line:
                raise LoadtestError(str(line["error"]))
            yield line

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
