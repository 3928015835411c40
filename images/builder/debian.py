"""The base of the images: a minimal Debian with Python, by debootstrap."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .archive import architecture
from .layers import BuildError, Layer, run
from .python import COMPILE

__all__ = ["INPUTS", "base"]

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "tini")
USERS = {"jovyan": 1000}
# What no program needs; the copyright files stay.
_LEFT_OUT = (
    "dev/*", "proc/*", "sys/*", "tmp/*", "var/tmp/*",
    "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*",
    "var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*", "var/cache/debconf/*",
    "usr/lib/python3.*/test", "debootstrap",
)  # fmt: skip

#: all that the layer depends on
INPUTS = (SUITE, PACKAGES, USERS, _LEFT_OUT, 1)


def _debootstrap(scratch: Path) -> tuple[list[str], dict[str, str]]:
    """The command and its environment: the machine's, or the one in Debian's package, unpacked."""
    if found := shutil.which("debootstrap"):
        return [found], {}
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise BuildError("no debootstrap on PATH: install it, or run this on Debian or Ubuntu")
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        run(["apt-get", "download", "-q", "debootstrap"], cwd=scratch)
    except BuildError:
        run(["apt-get", "update", "-q"])
        run(["apt-get", "download", "-q", "debootstrap"], cwd=scratch)
    for package in scratch.glob("*.deb"):
        run(["dpkg-deb", "-x", package, scratch])
    folder = scratch / "usr"
    environment = {"DEBOOTSTRAP_DIR": str(folder / "share" / "debootstrap")}
    return ["sh", str(folder / "sbin" / "debootstrap")], environment


def _stdlib(tree: Path) -> list[Path]:
    return sorted((tree / "usr" / "lib").glob("python3.*"))


def base(tree: Path, _: tuple[Layer, ...]) -> None:
    """The step of the base layer: Debian's minbase, Python 3, and a user for hub and servers."""
    if os.geteuid() != 0:
        raise BuildError("only root can make a Debian in a folder: run this as root")
    scratch = tree.parent / "debootstrap"
    command, environment = _debootstrap(scratch)
    # without one, debootstrap takes Debian's own
    mirror = [given] if (given := os.environ.get("JUNCTION_DEBIAN_MIRROR")) else []
    run(
        [
            # debootstrap mounts what it does not always let go of
            "unshare", "--mount", "--propagation", "private",
            *command, "--variant=minbase", f"--arch={architecture()}", "--force-check-gpg",
            f"--include={','.join(PACKAGES)}", SUITE, tree, *mirror,
        ],
        env=os.environ | environment,
    )  # fmt: skip
    shutil.rmtree(scratch, ignore_errors=True)
    for pattern in _LEFT_OUT:
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for copied in ("hostname", "resolv.conf"):  # debootstrap takes them from this machine
        (tree / "etc" / copied).unlink(missing_ok=True)
    for folder in (tree / "usr" / "share" / "doc").iterdir():
        if folder.is_dir() and not folder.is_symlink():
            for path in folder.iterdir():
                if path.name != "copyright":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    inside = ["chroot", tree, "python3", *COMPILE]
    run([*inside, "/usr/lib/python3", *(f"/{p.relative_to(tree)}" for p in _stdlib(tree))])
    for name, number in USERS.items():
        home = tree / "home" / name
        home.mkdir(parents=True)
        os.chown(home, number, number)
        with (tree / "etc" / "passwd").open("a") as file:
            file.write(f"{name}:x:{number}:{number}::/home/{name}:/bin/bash\n")
        with (tree / "etc" / "group").open("a") as file:
            file.write(f"{name}:x:{number}:\n")
