"""What Zero to JupyterHub's own chart takes: ``shared/z2jh``, beside a checkout or above it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


def z2jh_schema() -> Any:
    """The closed schema of z2jh's values; skips the test where it is not there."""
    for above in ROOT.parents:
        file = above / "shared" / "z2jh" / "values.schema.json"
        if file.exists():
            return json.loads(file.read_text())
    pytest.skip("../shared/z2jh/values.schema.json is not there: z2jh's schema checks nothing")
