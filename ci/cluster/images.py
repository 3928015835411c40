"""Images on the nodes: an archive goes to all of them at once, and to none that has it.

What an archive holds is known by the digest of each image's configuration, which stays the same
whatever the archive is made by; a node has an image when its name leads to that digest.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from .layers import OCI, REF_NAME, Layers, descriptor, named, write_archive
from .node import Worker
from .settings import ClusterError

__all__ = ["images_in", "load", "scratch"]


def images_in(archive: Path) -> dict[str, str]:
    """Name -> digest of its configuration, for each image in a docker-archive or oci-archive.

    Raises:
        ClusterError: the file is neither, or its images have no names.
    """
    try:
        with tarfile.open(archive) as tar:
            names = set(tar.getnames())
            if "manifest.json" in names:
                return docker_images(read_json(tar, "manifest.json"))
            if "index.json" in names:
                return oci_images(tar)
    except (OSError, tarfile.TarError) as error:
        raise ClusterError(f"{archive} cannot be read: {error}") from None
    raise ClusterError(f"{archive} is no image: make it as docker-archive or oci-archive")


def read_json(tar: tarfile.TarFile, name: str) -> object:
    file = tar.extractfile(name)
    assert file
    return json.load(file)


def docker_images(manifest: object) -> dict[str, str]:
    assert isinstance(manifest, list)
    found: dict[str, str] = {}
    for image in manifest:
        # "abc.json", or "blobs/sha256/abc"
        digest = Path(image["Config"]).name.removesuffix(".json")
        for name in image.get("RepoTags") or ():
            found[name] = f"sha256:{digest}"
    if not found:
        raise ClusterError("the archive's images have no names: `docker-archive:FILE:NAME:TAG`")
    return found


def oci_images(tar: tarfile.TarFile) -> dict[str, str]:
    index = read_json(tar, "index.json")
    assert isinstance(index, dict)
    found: dict[str, str] = {}
    for entry in index["manifests"]:
        notes = entry.get("annotations", {})
        name = notes.get("io.containerd.image.name") or notes.get(REF_NAME)
        if not name:
            raise ClusterError("the archive's image has no name: `oci-archive:FILE:NAME:TAG`")
        manifest = read_json(tar, f"blobs/{entry['digest'].replace(':', '/')}")
        assert isinstance(manifest, dict)
        found[name] = manifest["config"]["digest"]
    return found


def has(worker: Worker, name: str, digest: str) -> bool:
    """Whether the node knows that image by that name."""
    listed = worker.ctr("images", "list", f"name=={name}").splitlines()[1:]
    if not listed:
        return False
    try:
        manifest = json.loads(worker.ctr("content", "get", listed[0].split()[2]))
    except ClusterError:
        return False
    return bool(manifest.get("config", {}).get("digest") == digest)


def load(workers: Iterable[Worker], archives: Iterable[Path]) -> dict[str, list[str]]:
    """Import archives into all nodes; return which images each node was missing.

    Raises:
        ClusterError: an archive cannot be read, or a node refuses it.
    """
    wanted = [(archive, images_in(archive)) for archive in archives]

    listed = list(workers)
    missing: dict[str, list[str]] = {worker.node.name: [] for worker in listed}
    with ThreadPoolExecutor() as pool:
        for archive, images in wanted:
            lacking = list(pool.map(lambda one: lacks(one, images), listed))  # noqa: B023
            takers = [worker for worker, names in zip(listed, lacking, strict=True) if names]
            if takers:
                give(takers, archive, pool)
            for worker, names in zip(listed, lacking, strict=True):
                missing[worker.node.name] += names
    return missing


def lacks(worker: Worker, images: Mapping[str, str]) -> list[str]:
    return [name for name, digest in images.items() if not has(worker, name, digest)]


def give(workers: list[Worker], archive: Path, pool: ThreadPoolExecutor) -> None:
    """Import an archive into these nodes, by way of links where that can be."""
    with tempfile.TemporaryDirectory(dir=workers[0].at.parent) as temporary:
        with tarfile.open(archive) as tar:
            layers = Layers(archive, Path(temporary)) if is_docker(tar) else None

        def one(worker: Worker) -> None:
            if layers:
                with suppress(ClusterError, OSError):
                    return layers.give(worker)
            worker.ctr("images", "import", "--snapshotter", "overlayfs", archive)

        list(pool.map(one, workers))


def is_docker(tar: tarfile.TarFile) -> bool:
    return "manifest.json" in tar.getnames()


def scratch(archive: Path, name: str, files: Mapping[str, Path], entrypoint: list[str]) -> None:
    """Write an oci-archive of an image that holds these programs alone (path in it -> file)."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path, file in sorted(files.items()):
            program = tarfile.TarInfo(path.lstrip("/"))
            program.mode, program.size = 0o755, file.stat().st_size
            with file.open("rb") as source:
                tar.addfile(program, source)
    first = descriptor(layer.getvalue(), "layer.v1.tar")
    config = json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "User": "65534"},
            "rootfs": {"type": "layers", "diff_ids": [first["digest"]]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": descriptor(config, "config.v1+json"),
            "layers": [first],
        }
    ).encode()
    write_archive(archive, [layer.getvalue(), config, manifest], [named(manifest, name)])


def architecture() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
