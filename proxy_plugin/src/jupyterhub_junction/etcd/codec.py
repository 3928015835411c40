"""etcd's JSON: keys under a prefix, values in base64, 64-bit integers as strings.  Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from ..store import Batch, Delete, Event, Item, Put
from .errors import Json

__all__ = ["Codec", "batches", "head"]


class Codec:
    """Requests from a :class:`~jupyterhub_junction.store.Store`'s words, and answers back."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def encode(self, key: str) -> str:
        """A key as etcd has it."""
        return _base64(_bytes(self._prefix + key))

    def range_request(self, prefix: str) -> Json:
        """A transaction's step: read all under the prefix."""
        return {"request_range": self.covering((prefix,))}

    def covering(self, prefixes: Sequence[str]) -> Json:
        """The smallest range of keys that holds all prefixes."""
        if not prefixes:
            raise ValueError("no prefix is given")
        keys = [_bytes(self._prefix + prefix) for prefix in prefixes]
        ends = [_range_end(key) for key in keys]
        end = _ALL if _ALL in ends else max(ends)
        return {"key": _base64(min(keys) or _ALL), "range_end": _base64(end)}

    def operation(self, operation: Put | Delete) -> Json:
        """A transaction's step: write or delete."""
        if isinstance(operation, Delete):
            return {"request_delete_range": {"key": self.encode(operation.key)}}
        put = {"key": self.encode(operation.key), "value": _base64(operation.value)}
        if operation.lease:
            put["lease"] = str(operation.lease)
        return {"request_put": put}

    def _name(self, key: str) -> str:
        return base64.b64decode(key).decode("utf-8", "surrogateescape")[len(self._prefix) :]

    def items(self, responses: Iterable[Json]) -> tuple[Item, ...]:
        """The keys in the answers to a transaction's reads."""
        return tuple(
            Item(
                self._name(pair["key"]),
                base64.b64decode(pair.get("value", "")),
                int(pair["mod_revision"]),
                int(pair.get("lease", 0)),
            )
            for response in responses
            for pair in response.get("response_range", {}).get("kvs", ())
        )

    def events(self, message: Json) -> list[Event]:
        """The changes in a message of a watch."""
        return [
            Event(
                self._name(event["kv"]["key"]),
                None
                if event.get("type") == "DELETE"
                else base64.b64decode(event["kv"].get("value", "")),
                int(event["kv"]["mod_revision"]),
            )
            for event in message.get("events", ())
        ]


#: as a range's end: all keys from its beginning on
_ALL = b"\0"


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _range_end(prefix: bytes) -> bytes:
    """The first key after all keys that begin with ``prefix``."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else _ALL


def head(answer: Json) -> tuple[str, int]:
    """Cluster id and revision, which every answer names."""
    header = answer.get("header", {})
    return str(header.get("cluster_id", "")), int(header.get("revision", 0))


def batches(cluster_id: str, events: Iterable[Event]) -> list[Batch]:
    """Whole revisions' events, sorted into one batch for each."""
    by_revision: dict[int, list[Event]] = {}
    for event in events:
        by_revision.setdefault(event.mod_revision, []).append(event)
    return [
        Batch(cluster_id, revision, tuple(changed))
        for revision, changed in sorted(by_revision.items())
    ]
