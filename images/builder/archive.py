"""An image as one file: an OCI layout in a tar, which is a ``docker save`` archive as well."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .layers import EPOCH, Layer

__all__ = ["architecture", "image_id", "write_archive"]

_OCI = "application/vnd.oci.image"


def architecture() -> str:
    """This machine's, by Go's name for it."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _config(layers: Sequence[Layer], settings: dict[str, Any]) -> bytes:
    return _dump(
        {
            "created": "1980-01-01T00:00:00Z",  # the same layers are the same image
            "architecture": architecture(),
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{each.digest}" for each in layers]},
            "history": [
                {"created": "1980-01-01T00:00:00Z", "created_by": each.name} for each in layers
            ],
        }
    )


def image_id(layers: Sequence[Layer], settings: dict[str, Any]) -> str:
    """What names the image by all that is in it."""
    return _digest(_config(layers, settings))


def write_archive(path: Path, name: str, layers: Sequence[Layer], settings: dict[str, Any]) -> None:
    """Write the archive; it appears under its path when it is complete.

    Args:
        name: of the image, in full, with its tag.
    """
    config = _config(layers, settings)
    manifest = _dump(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": {
                "mediaType": f"{_OCI}.config.v1+json",
                "digest": f"sha256:{_digest(config)}",
                "size": len(config),
            },
            # not compressed: they go from this disk to this disk
            "layers": [
                {
                    "mediaType": f"{_OCI}.layer.v1.tar",
                    "digest": f"sha256:{each.digest}",
                    "size": each.file.stat().st_size,
                }
                for each in layers
            ],
        }
    )
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": f"{_OCI}.manifest.v1+json",
                "digest": f"sha256:{_digest(manifest)}",
                "size": len(manifest),
                "platform": {"architecture": architecture(), "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": name.rpartition(":")[2],
                },
            }
        ],
    }
    docker = [
        {
            "Config": f"blobs/sha256/{_digest(config)}",
            "RepoTags": [name],
            "Layers": [f"blobs/sha256/{each.digest}" for each in layers],
        }
    ]
    new = path.with_suffix(".new")
    with tarfile.open(new, "w") as out:

        def add(inside: str, data: bytes) -> None:
            entry = tarfile.TarInfo(inside)
            entry.size, entry.mtime, entry.mode = len(data), EPOCH, 0o644
            out.addfile(entry, io.BytesIO(data))

        add("oci-layout", _dump({"imageLayoutVersion": "1.0.0"}))
        add("index.json", _dump(index))
        add("manifest.json", _dump(docker))
        for blob in (config, manifest):
            add(f"blobs/sha256/{_digest(blob)}", blob)
        for digest, file in {each.digest: each.file for each in layers}.items():
            entry = tarfile.TarInfo(f"blobs/sha256/{digest}")
            entry.size, entry.mtime, entry.mode = file.stat().st_size, EPOCH, 0o644
            with file.open("rb") as source:
                out.addfile(entry, source)
    os.replace(new, path)
