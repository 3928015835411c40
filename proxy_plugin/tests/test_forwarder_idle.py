"""Idle clients and WebSockets cost little memory; loadtests/bench/idle.py has the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "loadtests/bench/idle.py"


def test_idle_connections_cost_little() -> None:
    command = [sys.executable, str(SCRIPT), "--clients", "600", "--websockets", "200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # measured with ten times as many: 2 kB and 4 kB; the kernel gives memory in larger pieces
    assert found["kB per idle client"] < 20
    assert found["kB per idle WebSocket"] < 40
