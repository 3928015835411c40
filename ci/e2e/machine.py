"""The cluster that the tests run on, with the images on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import cluster

__all__ = ["make_cluster"]

ROOT = Path(__file__).resolve().parents[2]


def make_cluster() -> cluster.Access:
    """The cluster that KUBECONFIG names, or one made here, which ``ci/run_e2e`` takes down."""
    found = cluster.given()
    if found.owned:
        cluster.up()
        cluster.load(_images())
        os.environ["KUBECONFIG"] = str(found.kubeconfig)
    return found


def _images() -> list[Path]:
    """Archives of all images, built where they are not there yet."""
    done = subprocess.run(
        [ROOT / "images" / "build"], stdout=subprocess.PIPE, text=True, check=True, timeout=1800
    )
    return [Path(line.split()[-1]) for line in done.stdout.splitlines() if line.strip()]
