"""wrk: requests over kept connections, as fast as they are answered."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .client import Address, Connection
from .results import Skipped
from .world import program

__all__ = ["CONNECTIONS", "Wrk", "ask", "load_by", "parse", "run_wrk", "script"]

CONNECTIONS = 32
THREADS = 1
#: seconds beyond its own time that wrk gets to end
GRACE = 20.0
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass
class Wrk:
    """Requests a second; the median and p99 of their times (ms); how many failed.

    Failed are those that were answered with 400 or more, or not at all: wrk takes a redirect for a
    good answer.
    """

    per_second: float
    median: float
    p99: float
    failed: int
    requests: int


def script(paths: Sequence[str]) -> str:
    """wrk's Lua: the paths in turn, each request put together before the run."""
    listed = ",\n".join(f'"{path}"' for path in paths)
    return f"""
local paths = {{ {listed} }}
local requests, at = {{}}, 0
init = function(args)
  for i, path in ipairs(paths) do requests[i] = wrk.format("GET", path) end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format("counted %d %d %d", summary.requests, e.status,
    e.connect + e.read + e.write + e.timeout))
end
"""


def parse(said: str) -> Wrk:
    """What wrk printed, with ``--latency``.

    Raises:
        ValueError: it holds no result.
    """
    speed = re.search(r"Requests/sec:\s+([\d.]+)", said)
    shares = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+(?:us|ms|s|m))\s*$", said, re.MULTILINE))
    counted = re.search(r"counted (\d+) (\d+) (\d+)", said)
    if not speed or not counted or len(shares) != 2:
        raise ValueError(f"wrk printed no result: {said.strip()[-300:]!r}")
    requests, status, sockets = map(int, counted.groups())
    return Wrk(
        float(speed[1]), _milliseconds(shares["50"]), _milliseconds(shares["99"]),
        status + sockets, requests,
    )  # fmt: skip


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return round(float(number) * _UNITS[unit], 4)


async def run_wrk(address: Address, paths: Sequence[str], seconds: float, folder: Path) -> Wrk:
    """Run it for so many seconds.

    Raises:
        Skipped: there is no wrk.
        ValueError: it gave no result, or the first path is not answered with 200 before it runs.
    """
    # a good figure has to be real: of the server's answers, not of a quick error
    connection = Connection(address)
    first = await connection.get(paths[0])
    connection.close()
    if first.status != 200:
        raise ValueError(f"{paths[0]} is answered with {first.status} {first.body[:80]!r}")
    return await ask(f"http://{address[0]}:{address[1]}", script(paths), seconds, folder)


async def ask(url: str, lua_script: str, seconds: float, folder: Path) -> Wrk:
    """Run wrk on a URL without a path, by a script such as :func:`script` makes.

    Raises:
        Skipped: there is no wrk.
        ValueError: it gave no result.
    """
    wrk = program("wrk", "JUNCTION_WRK")
    if wrk is None:
        raise Skipped("wrk is not on PATH, and JUNCTION_WRK does not name it")
    with tempfile.NamedTemporaryFile("w", suffix=".lua", dir=folder) as lua:
        lua.write(lua_script)
        lua.flush()
        said = await load_by(
            "wrk", seconds,
            [wrk, f"-c{CONNECTIONS}", f"-t{THREADS}", f"-d{max(1, round(seconds))}s", "--latency",
             f"-s{lua.name}", url],
        )  # fmt: skip
    return parse(said)


async def load_by(name: str, seconds: float, command: Sequence[str]) -> str:
    """Run a load generator that ends by itself after so many seconds; returns what it printed.

    Raises:
        ValueError: it has not ended some time after.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds + GRACE):
            said, _ = await process.communicate()
    except TimeoutError:
        raise ValueError(f"{name} has not ended {GRACE:g} s after its time") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(errors="replace")
