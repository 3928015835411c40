"""Images on the nodes: an archive goes to all of them at once, and to none that has it.

What an archive holds is known by the digest of each image's configuration, which stays the same
whatever the archive is made by; a node has an image when its name leads to that digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .node import Worker
from .settings import ClusterError

REF_NAME = "org.opencontainers.image.ref.name"

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

    def one(worker: Worker) -> list[str]:
        missing: list[str] = []
        for archive, images in wanted:
            lacks = [name for name, digest in images.items() if not has(worker, name, digest)]
            if lacks:
                worker.ctr("images", "import", "--snapshotter", "overlayfs", archive)
                missing += lacks
        return missing

    listed = list(workers)
    with ThreadPoolExecutor() as pool:
        return {
            worker.node.name: lacks
            for worker, lacks in zip(listed, pool.map(one, listed), strict=True)
        }


def scratch(archive: Path, name: str, files: Mapping[str, Path], entrypoint: list[str]) -> None:
    """Write an oci-archive of an image that holds these programs alone (path in it -> file)."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for path, file in sorted(files.items()):
            program = tarfile.TarInfo(path.lstrip("/"))
            program.mode, program.size = 0o755, file.stat().st_size
            with file.open("rb") as source:
                tar.addfile(program, source)
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{digest}",
            "size": len(content),
        }

    first = blob(layer.getvalue(), "layer.v1.tar")
    config = {
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": "65534"},
        "rootfs": {"type": "layers", "diff_ids": [first["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [first],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    notes = {"io.containerd.image.name": name, REF_NAME: name}
    blobs["index.json"] = json.dumps(
        {"schemaVersion": 2, "manifests": [entry | {"annotations": notes}]}
    ).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(archive, "w") as tar:
        for path, content in blobs.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def architecture() -> str:
    import platform

    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
