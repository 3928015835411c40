"""Python packages in layers: wheels are fetched outside, and installed inside, without network."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from .layers import Layer, Step, key, run, run_inside

__all__ = ["COMPILE", "PREFIX", "environment", "fetch_wheels", "install", "lock", "project_wheel"]

IMAGES = Path(__file__).resolve().parents[1]
LOCK = IMAGES / "requirements.txt"
#: Where the images have their virtual environment.
PREFIX = "/opt/junction"
VERSION = "3.11"  # Debian bookworm's
PIP = "pip==26.3"
_GLIBC_MINOR = 36
#: Bytecode that is valid whatever date its source has.
COMPILE = ("-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash")


def _platform_flags() -> list[str]:
    """For wheels that fit the image's Python, whatever Python this is."""
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC_MINOR, 4, -1)]
    tags += [f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")]
    flags = [f"--platform={tag}" for tag in tags]
    return ["--only-binary=:all:", f"--python-version={VERSION}", "--implementation=cp", *flags]


def lock() -> None:
    """Write requirements.txt anew from requirements.in."""
    report = run(
        [
            sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed",
            "--report=-", "--target=none", *_platform_flags(), "-r", IMAGES / "requirements.in",
        ]
    )  # fmt: skip
    found = [each["metadata"] for each in json.loads(report)["install"]]
    pins = sorted((f"{each['name']}=={each['version']}" for each in found), key=str.lower)
    header = "# Made from requirements.in by: images/build --lock\n"
    LOCK.write_text(header + "\n".join(pins) + "\n")


def fetch_wheels(cache: Path) -> Path:
    """A folder with the wheels of all pinned packages, and pip's."""
    folder = cache / f"wheels-{key(LOCK, PIP, VERSION, platform.machine())}"
    if not (folder / ".complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *_platform_flags()]
        run([*download, "-d", folder, "-r", LOCK, PIP])
        for old in cache.glob("wheels-*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
        (folder / ".complete").touch()
    return folder


def project_wheel(source: Path, folder: Path) -> Path:
    """This project's wheel, built in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    run([sys.executable, "-m", "pip", *build, "-w", folder, source])
    return next(folder.glob("*.whl"))


def environment(tree: Path, below: tuple[Layer, ...]) -> None:
    """The step of an empty virtual environment."""
    run_inside(tree, below, ["python3", "-m", "venv", "--without-pip", PREFIX])


def install(wheels: Path, what: Sequence[str], *, deps: bool = True) -> Step:
    """The step that installs packages from wheels.

    Args:
        what: names, or names of files in the folder.
        deps: also what they need; the pins say in which version.
    """

    def step(tree: Path, below: tuple[Layer, ...]) -> None:
        pip = next(wheels.glob("pip-*.whl")).name
        shutil.copy(LOCK, wheels / "requirements.txt")
        python = f"{PREFIX}/bin/python"
        words = [
            python, f"/mnt/{pip}/pip", "install", "-q", "--no-index", "--find-links=/mnt",
            "--no-compile", "--no-cache-dir", "--root-user-action=ignore",
            "--disable-pip-version-check", "--constraint=/mnt/requirements.txt",
            *([] if deps else ["--no-deps"]), *what,
        ]  # fmt: skip
        run_inside(tree, below, words, shown=wheels)
        # a file system that is read-only takes no bytecode later, and dates are not kept
        site = tree / PREFIX.lstrip("/") / "lib" / f"python{VERSION}" / "site-packages"
        added = sorted(f"{PREFIX}/{path.relative_to(tree / PREFIX[1:])}" for path in site.iterdir())
        run_inside(tree, below, [python, *COMPILE, *added])

    return step
