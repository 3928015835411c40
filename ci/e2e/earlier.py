"""The chart of an earlier release, for upgrades from there to this one."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import yaml

from .site import CHART, ROOT

__all__ = ["earlier_chart"]

#: until there is a release: a commit whose chart made other pods of etcd than this one's
COMMIT = "fa83a3a"


def earlier_chart(folder: Path) -> tuple[Path, str]:
    """The chart's folder, and what it is.

    It is the last release's before this one, or the one of :data:`COMMIT`, where the clone has it.
    A shallow clone has neither: then it is this chart under an earlier version, whose pods differ
    by their labels alone.  The images are this checkout's, as those of a release are elsewhere.
    """
    tag = _git("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD^")
    for name in (tag.decode().strip(), COMMIT):
        archive = _git("archive", name, "chart/junction") if name else b""
        if archive:
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                files.extractall(folder, filter="data")
            return folder / "chart" / "junction", f"the chart of {name}"
    chart = folder / "junction"
    subprocess.run(
        ["helm", "package", str(CHART), "--version=0.0.9", "--app-version=0.0.9",
         f"--destination={folder}"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with tarfile.open(folder / "junction-0.0.9.tgz") as files:
        files.extractall(folder, filter="data")
    values = yaml.safe_load((CHART / "Chart.yaml").read_text())
    text = (chart / "values.yaml").read_text()
    # its own images are nowhere
    (chart / "values.yaml").write_text(text.replace('tag: ""', f"tag: {values['appVersion']}", 1))
    return chart, "this chart as 0.0.9 (the clone has no earlier one)"


def _git(*words: str) -> bytes:
    """What git prints; nothing if it cannot."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, timeout=60)
    return done.stdout if done.returncode == 0 else b""
