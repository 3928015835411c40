"""A member's data folder: what is in it, and how it is emptied.

etcd begins each file of its write-ahead log with a record that names the member and the cluster
(etcd's server/storage/wal, Metadata in api/etcdserverpb): the one place where a member that does
not run says who it is.
"""

from __future__ import annotations

import logging
import shutil
import struct
from pathlib import Path

from .membership import Disk

__all__ = ["empty_disk", "read_disk"]

_METADATA = 1
#: the two records wanted are far shorter
_MOST = 4096


def read_disk(data_dir: Path) -> Disk | None:
    """The data in the folder; None if there is none that a member could start with."""
    files = sorted((data_dir / "member" / "wal").glob("*.wal"))
    for file in reversed(files):
        with file.open("rb") as opened:
            found = _identity(opened.read(_MOST))
        if found is not None:
            return found
    return Disk() if files else None


def empty_disk(data_dir: Path) -> None:
    """Remove all data, so that an interruption leaves all of it or none to start with."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_dir.chmod(0o700)  # etcd warns of others
    gone = data_dir / "gone"
    shutil.rmtree(gone, ignore_errors=True)
    member = data_dir / "member"
    if member.exists():
        logging.getLogger("junction").warning("removing the old data in %s", member)
        member.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _identity(data: bytes) -> Disk | None:
    position = 0
    while position + 8 <= len(data):
        # the length's upper byte tells of padding
        (length,) = struct.unpack_from("<q", data, position)
        padding = (length >> 56) & 0x7 if length < 0 else 0
        length &= (1 << 56) - 1
        position += 8
        record = _message(data[position : position + length])
        if record is None or length == 0:
            return None
        if record.get(1) == _METADATA:
            body = record.get(3)
            ids = _message(body) if isinstance(body, bytes) else None
            if ids is None:
                return None
            member, cluster = ids.get(1, 0), ids.get(2, 0)
            if isinstance(member, int) and isinstance(cluster, int):
                return Disk(member, cluster)
            return None
        position += length + padding
    return None


def _message(data: bytes) -> dict[int, int | bytes] | None:
    """A protobuf message's varints and byte strings by field number."""
    fields: dict[int, int | bytes] = {}
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise IndexError

    try:
        while position < len(data):
            tag = varint()
            if tag & 7 == 0:
                fields[tag >> 3] = varint()
            elif tag & 7 == 2:
                length = varint()
                if position + length > len(data):
                    return None
                fields[tag >> 3] = data[position : position + length]
                position += length
            else:
                return None
    except IndexError:
        return None
    return fields
