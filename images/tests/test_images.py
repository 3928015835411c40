"""The images as they are built: as a user they do not know, on a root that is read-only.

make test-images
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from container import Container, Image
from harness.etcd_cluster import EtcdCluster, access
from harness.waiting import until

from jupyterhub_junction.ports import free_ports

pytestmark = pytest.mark.needs_programs

UID = 1_234_567


def archives() -> dict[str, Path]:
    folder = os.environ.get("JUNCTION_IMAGES")
    assert folder, "JUNCTION_IMAGES is not set: run this by `make test-images`"
    lines = (Path(folder) / "list").read_text().splitlines()
    return {name: Path(path) for name, path in (line.split(" ", 1) for line in lines)}


class Images(dict[str, Image]):
    """Images by the last part of their name, each unpacked when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archives = {archive.stem: archive for archive in archives().values()}

    def __missing__(self, name: str) -> Image:
        self[name] = Image(self.archives[name], self.folder / name)
        return self[name]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    folder = tmp_path_factory.mktemp("images")
    yield Images(folder)
    shutil.rmtree(folder)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    made = EtcdCluster(tmp_path / "etcd", members=1, tls=True, auth=True)
    try:
        await made.start()
        yield made
    finally:
        made.kill_all()


async def test_hub_and_replica_as_any_user_on_a_read_only_root(
    images: Images, cluster: EtcdCluster, tmp_path: Path
) -> None:
    port, hub_port = free_ports(2)
    with contextlib.ExitStack() as stack:
        replica = Container("replica", images["replica"], tmp_path)
        hub = Container("hub", images["hub"], tmp_path)
        for container in (replica, hub):
            stack.callback(container.kill)
        replica.start(
            [
                "configurable-http-proxy", "--ip=127.0.0.1", "--api-ip=", "--api-port=8001",
                f"--default-target=http://127.0.0.1:{hub_port}",
                f"--error-target=http://127.0.0.1:{hub_port}/hub/error", f"--port={port}",
            ],
            access(cluster, "agent") | {"JUNCTION_ACCEPT_GRACE": "0", "JUNCTION_GRACE": "1"},
            uid=UID,
        )  # fmt: skip
        hub.start(
            [
                "jupyterhub", "--JupyterHub.proxy_class=junction",
                f"--JupyterHub.hub_bind_url=http://127.0.0.1:{hub_port}",
                f"--JupyterHub.bind_url=http://127.0.0.1:{port}",
                "--JupyterHub.db_url=sqlite:////dev/shm/hub.sqlite",
                "--JupyterHub.cookie_secret_file=/dev/shm/cookie",
                "--JupyterHub.authenticator_class=dummy", "--JupyterHub.spawner_class=simple",
            ],
            access(cluster, "hub") | {"TMPDIR": "/dev/shm"},  # noqa: S108 (JupyterHub needs one)
            uid=UID,
        )  # fmt: skip
        async with aiohttp.ClientSession() as client:

            async def status(path: str) -> int:
                for container in (replica, hub):
                    assert container.process is not None
                    assert container.process.poll() is None, container.said()
                try:
                    async with client.get(f"http://127.0.0.1:{port}{path}") as response:
                        return response.status
                except aiohttp.ClientError:
                    return 0

            async def is_ready() -> bool:
                return await status("/_chp_healthz") == 200

            try:
                await until(is_ready, "the replica is ready")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{replica.said()}\n{hub.said()}") from None
            assert await status("/hub/login") == 200
        assert replica.stop() == 0, replica.said()
        hub.stop()


@pytest.mark.parametrize(
    ("image", "words", "said"),
    [
        ("replica", ["junction", "--version"], "junction 0.1.0"),
        ("replica", ["traefik", "version"], "3.7.15"),
        ("hub", ["junction", "--version"], "junction 0.1.0"),
        ("hub", ["python3", "-c", "import kubespawner, pycurl, nullauthenticator"], ""),
        ("hub", ["python3", "-m", "jupyterhub_idle_culler", "--help"], "--timeout"),
        ("k8s-hub", ["jupyterhub", "--version"], "5.5."),
        ("singleuser", ["jupyterhub-singleuser", "--version"], "5.5."),
        ("etcd", ["/usr/local/bin/etcd", "--version"], "etcd Version: 3.6.14"),
        ("etcd", ["/usr/local/bin/etcdutl", "version"], "3.6.14"),
        ("configurable-http-proxy", ["--version"], "5.3.0"),
    ],
)
async def test_a_program_of_an_image_runs(
    images: Images, tmp_path: Path, image: str, words: list[str], said: str
) -> None:
    container = Container("one", images[image], tmp_path)
    try:
        container.start(words, {}, uid=UID)
        assert container.process is not None
        assert container.process.wait(60) == 0, container.said()
        assert said in container.log.read_text()
    finally:
        container.kill()


def test_settings_are_those_of_the_dockerfiles(images: Images) -> None:
    replica, hub = images["replica"].config, images["hub"].config
    assert (replica["User"], hub["User"]) == ("65534:65534", "1000")
    assert replica["StopSignal"] == "SIGTERM"
    for config in (replica, hub):
        labels = config["Labels"]
        assert labels["org.opencontainers.image.version"] == "0.1.0"
        assert labels["org.opencontainers.image.licenses"].startswith("BSD-3-Clause")


def test_no_image_holds_caches_compilers_or_keys(images: Images) -> None:
    for name in images.archives:
        image = images[name]
        for path in image.root.rglob("*"):
            inside = path.relative_to(image.root)
            is_program = path.parent.name in ("bin", "sbin")
            assert not (is_program and path.name in ("gcc", "cc", "pip")), f"{name}: {inside}"
            assert path.name not in ("pip.conf", ".netrc"), f"{name}: {inside}"
            assert not inside.is_relative_to("root/.cache"), f"{name}: {inside}"
        secrets = [p for p in (image.root / "etc").rglob("*.key") if p.is_file()]
        assert not secrets, name
