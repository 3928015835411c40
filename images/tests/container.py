"""Runs an image's archive with runc as Kubernetes would: any user, and a read-only root.

Nothing can be written but /dev/shm; the network is the test's own.  Root alone can do this.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Container", "Image"]

_NAMESPACES = ("pid", "ipc", "uts", "mount")
_MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "mode=755", "size=64k"],
    },
    {
        "destination": "/dev/shm",  # noqa: S108 (of the container)
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "nodev", "mode=1777", "size=65536k"],
    },
]


class Image:
    """The files and settings of an archive."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.root = folder
        with tarfile.open(archive) as tar:

            def blob(digest: str) -> Any:
                return tar.extractfile(f"blobs/{digest.replace(':', '/')}")

            index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
            manifest = json.load(blob(index["manifests"][0]["digest"]))
            self.config: dict[str, Any] = json.load(blob(manifest["config"]["digest"]))["config"]
            for layer in manifest["layers"]:
                with tarfile.open(fileobj=blob(layer["digest"])) as files:
                    files.extractall(folder, filter="fully_trusted")  # noqa: S202 (built here)
        for name in ("proc", "dev"):
            (folder / name).mkdir(exist_ok=True)


class Container:
    """One container; its output goes to ``log``."""

    def __init__(self, name: str, image: Image, folder: Path) -> None:
        self.name = name
        self.image = image
        self.bundle = folder / name
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, words: Sequence[str], environment: Mapping[str, str], *, uid: int) -> None:
        """Run a command as a user that the image does not know."""
        runc = shutil.which("runc")
        assert runc, "runc is not on PATH: apt-get install runc"
        self.bundle.mkdir()
        variables = [f"{name}={value}" for name, value in environment.items()]
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": uid},
                "args": [*self.image.config.get("Entrypoint", []), *words],
                "env": [*self.image.config.get("Env", []), *variables],
                "cwd": self.image.config.get("WorkingDir", "/"),
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.image.root), "readonly": True},
            "hostname": self.name,
            "mounts": _MOUNTS,
            "linux": {"namespaces": [{"type": kind} for kind in _NAMESPACES]},
        }
        (self.bundle / "config.json").write_text(json.dumps(spec))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [runc, "--root", self.bundle / "state", "run", "-b", self.bundle, self.name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def said(self) -> str:
        """The end of its output, and how it ended, if it has."""
        assert self.process is not None
        code = self.process.poll()
        return f"{self.name} ({'runs' if code is None else code}): {self.log.read_text()[-3000:]}"

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM, which runc hands on; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End it at once, and everything in it."""
        if self.process is None:
            return
        runc = ["runc", "--root", str(self.bundle / "state")]
        subprocess.run([*runc, "delete", "--force", self.name], capture_output=True, check=False)
        self.process.wait(30)
