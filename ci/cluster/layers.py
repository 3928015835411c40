"""The fast way of an image into all nodes: its layers are read once, and linked into each of them.

containerd takes content that lies in its store already for written once its digest and size are
named (its ``content_sharing_policy`` is ``shared``), so what goes through its socket is only an
archive of the manifest and the configuration.  All nodes' stores are on one file system.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from .node import Worker
from .processes import environment
from .settings import ClusterError

__all__ = ["Layers"]

STORE = "containerd/io.containerd.content.v1.content/blobs/sha256"
OCI = "application/vnd.oci.image"
REF_NAME = "org.opencontainers.image.ref.name"
CHUNK_BYTES = 1 << 20
INGEST_SECONDS = 60.0


def descriptor(content: bytes, kind: str) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}


def write_archive(file: Path, blobs: list[bytes], manifests: list[dict[str, object]]) -> None:
    """Write an oci-archive of these blobs."""
    index = {"schemaVersion": 2, "manifests": manifests}
    contents = {f"blobs/sha256/{hashlib.sha256(one).hexdigest()}": one for one in blobs}
    contents["index.json"] = json.dumps(index).encode()
    contents["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(file, "w") as tar:
        for path, content in contents.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def named(manifest: bytes, name: str) -> dict[str, object]:
    """The index's entry of an image by that name."""
    notes = {"io.containerd.image.name": name, REF_NAME: name}
    return descriptor(manifest, "manifest.v1+json") | {"annotations": notes}


class Layers:
    """A docker-archive, unpacked into a folder: a file for each layer, and an archive of the rest.

    Args:
        archive: the docker-archive.
        at: an empty folder on the file system of the nodes.
    """

    def __init__(self, archive: Path, at: Path) -> None:
        self.at = at
        self.rest = at / "rest.tar"
        self.found: dict[str, int] = {}
        blobs, manifests = [], []
        with tarfile.open(archive) as tar:
            for image in json.load(self._member(tar, "manifest.json")):
                config = self._member(tar, image["Config"]).read()
                manifest = json.dumps(
                    {
                        "schemaVersion": 2,
                        "mediaType": f"{OCI}.manifest.v1+json",
                        "config": descriptor(config, "config.v1+json"),
                        "layers": [self._layer(tar, name) for name in image["Layers"]],
                    }
                ).encode()
                blobs += [config, manifest]
                manifests += [named(manifest, name) for name in image.get("RepoTags") or ()]
        write_archive(self.rest, blobs, manifests)

    @staticmethod
    def _member(tar: tarfile.TarFile, name: str) -> Any:
        file = tar.extractfile(name)
        if file is None:
            raise ClusterError(f"the archive has no {name}: make it anew")
        return file

    def _layer(self, tar: tarfile.TarFile, name: str) -> dict[str, object]:
        digest, size = hashlib.sha256(), 0
        fresh = self.at / "layer"
        with self._member(tar, name) as source, fresh.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                size += target.write(chunk)
        fresh.rename(self.at / digest.hexdigest())
        self.found[digest.hexdigest()] = size
        return {
            "mediaType": f"{OCI}.layer.v1.tar",
            "digest": f"sha256:{digest.hexdigest()}",
            "size": size,
        }

    def give(self, worker: Worker) -> None:
        """Put the images into a node.

        Raises:
            ClusterError: it does not take them so: import the archive itself.
        """
        store = worker.at / STORE
        store.mkdir(parents=True, exist_ok=True)
        for digest, size in self.found.items():
            if not (store / digest).exists():
                os.link(self.at / digest, store / digest)
            expected = ("--expected-digest", f"sha256:{digest}", "--expected-size", str(size))
            ingest = ("ctr", "-a", str(worker.socket), "-n", "k8s.io", "content", "ingest")
            with (self.at / digest).open("rb") as content:  # it is asked for its end alone
                done = subprocess.run(
                    [*ingest, *expected, f"junction-{digest}"], stdin=content, text=True,
                    capture_output=True, timeout=INGEST_SECONDS, env=environment(),
                )  # fmt: skip
            if done.returncode != 0:
                raise ClusterError(f"containerd does not take a layer: {done.stderr.strip()}")
        worker.ctr("images", "import", "--snapshotter", "overlayfs", self.rest)
