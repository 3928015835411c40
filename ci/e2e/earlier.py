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

    It is the last release's before this one, or the one of :data:`COMMIT`, where the clone has it;
    a shallow clone has neither, so there it is this chart.  It gets an earlier version, as the pods
    of each release have, and this checkout's images: no other ones are here.
    """
    tag = _git("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD^").decode().strip()
    found, what = CHART, "this chart, as the clone has no earlier one"
    for name in filter(None, (tag, COMMIT)):
        archive = _git("archive", name, "chart/junction")
        if archive:
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                files.extractall(folder, filter="data")
            found, what = folder / "chart" / "junction", f"the chart of {name}"
            break
    subprocess.run(
        ["helm", "package", str(found), "--version=0.0.9", "--app-version=0.0.9",
         f"--destination={folder}"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with tarfile.open(folder / "junction-0.0.9.tgz") as files:
        files.extractall(folder, filter="data")
    chart = folder / "junction"
    ours = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    values = (chart / "values.yaml").read_text()
    (chart / "values.yaml").write_text(values.replace('tag: ""', f"tag: {ours}", 1))
    return chart, f"{what}, as 0.0.9"


def _git(*words: str) -> bytes:
    """What git prints; nothing if it cannot."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, timeout=60)
    return done.stdout if done.returncode == 0 else b""
