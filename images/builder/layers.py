"""Layers: what a step leaves on top of the layers below it, kept by what it was made from.

Invariants:

* A layer's folder is named after the step, its inputs and the layers below; it is valid once its
  digest is written, so one that was interrupted is made again.
* The same inputs give the same bytes: entries are sorted, root's, and of one date.
* Mounts live in a mount namespace of the step alone, so nothing stays mounted, whatever happens.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EPOCH", "BuildError", "Layer", "Layers", "key", "run", "run_inside"]

#: The date of every file, in seconds: 1980-01-01, the earliest that zip files know.
EPOCH = 315532800
#: Layers of one name that are kept, the ones used last.
KEPT = 8


class BuildError(Exception):
    """What could not be built and why."""


def run(command: Sequence[object], **more: object) -> str:
    """Run a command and return its stdout; a failure shows the end of what it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, **more)  # type: ignore[call-overload]
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-12:]
        raise BuildError("\n    ".join([f"`{shlex.join(words)[:300]}` failed:", *said]))
    return str(done.stdout)


def key(*parts: object) -> str:
    """A short hash of files' contents and other values."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path) and part.is_file():
            digest.update(part.read_bytes())
        else:
            digest.update(str(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Attributes:
        name: of the step that made it.
        folder: its place in the cache.
        digest: of its tar file.
        below: the layers that it stands on, the lowest first.
    """

    name: str
    folder: Path
    digest: str
    below: tuple[Layer, ...] = ()

    @property
    def tree(self) -> Path:
        """The files, as they are in the image."""
        return self.folder / "tree"

    @property
    def file(self) -> Path:
        """The tar file."""
        return self.folder / "layer.tar"

    @property
    def all(self) -> tuple[Layer, ...]:
        """This layer and those below, the lowest first."""
        return (*self.below, self)


Step = Callable[[Path, tuple[Layer, ...]], None]


class Layers:
    """Makes layers in a cache folder."""

    def __init__(self, cache: Path, say: Callable[[str], None]) -> None:
        self.cache = cache
        self.say = say

    def layer(self, name: str, made_from: object, step: Step, below: Layer | None = None) -> Layer:
        """The layer that a step makes; it is run only if there is none of these inputs.

        Args:
            made_from: all that the step's result depends on, besides the layers below.
            step: gets an empty folder for its files, and the layers below.
        """
        under = below.all if below else ()
        folder = self.cache / f"layer-{name}-{key(made_from, *(each.digest for each in under))}"
        stamp = folder / "digest"
        if not stamp.is_file():
            self.say(f"making layer {name}")
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "tree").mkdir(parents=True)
            (folder / "tree").chmod(0o755)
            step(folder / "tree", under)
            _write_tar(folder / "tree", folder / "layer.tar")
            with (folder / "layer.tar").open("rb") as made:
                digest = hashlib.file_digest(made, "sha256").hexdigest()
            stamp.write_text(digest)
        os.utime(folder)
        self._evict(name)
        return Layer(name, folder, stamp.read_text(), under)

    def _evict(self, name: str) -> None:
        same = [f for f in self.cache.glob(f"layer-{name}-*") if f.name.count("-") == 2]
        for old in sorted(same, key=lambda f: f.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def run_inside(
    tree: Path,
    below: Sequence[Layer],
    command: Sequence[str],
    *,
    shown: Path | None = None,
) -> None:
    """Run a command in a root made of the layers below; what it writes is left in ``tree``.

    Args:
        shown: a folder that the command finds at ``/mnt``.
    """
    work = tree.parent / "work"
    merged = tree.parent / "merged"
    for each in (work, merged):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    lower = ":".join(str(each.tree) for each in reversed(below))
    script = [
        "set -e",
        f"mount -t overlay junction -o lowerdir={lower},upperdir={tree},workdir={work} {merged}",
        f"mount --bind {shown} {merged}/mnt" if shown else "",
        f"mount --rbind /dev {merged}/dev",
        f"exec chroot {merged} /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root"
        f" SOURCE_DATE_EPOCH={EPOCH} PYTHONDONTWRITEBYTECODE=1 TMPDIR=/dev/shm"
        f" {shlex.join(command)}",
    ]
    try:
        run(["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)])
    finally:
        for each in (work, merged):
            shutil.rmtree(each, ignore_errors=True)


def _write_tar(tree: Path, file: Path) -> None:
    """The tree as a tar; without devices and sockets, which a runtime makes itself."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as out:
        for folder, names, files in os.walk(tree):
            names.sort()
            links = [name for name in names if (Path(folder) / name).is_symlink()]
            inside = Path(folder).relative_to(tree)
            if inside.parts:
                _add(out, Path(folder), inside)
            for name in sorted(files + links):
                _add(out, Path(folder) / name, inside / name)


def _add(out: tarfile.TarFile, path: Path, inside: Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISCHR(mode) and path.lstat().st_rdev == 0:
        raise BuildError(f"a step removed /{inside}, which a layer below has: remove it there")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        return
    entry = out.gettarinfo(path, str(inside))
    entry.mtime, entry.uname, entry.gname, entry.pax_headers = EPOCH, "", "", {}
    if entry.isreg():
        with path.open("rb") as source:
            out.addfile(entry, source)
    else:
        out.addfile(entry)
