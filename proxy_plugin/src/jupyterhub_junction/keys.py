"""What stands under the prefix in etcd: the names of the keys and the form of their values.

Pure.  Every value is one JSON object; a value that is not what its key promises is a
:class:`BadValue`, which names the key, so that one broken key never hides the others.

==========================  ==================================================================
``table``                   format number, table id, path of the hub's error pages: the table
                            is complete
``routes/<routespec>``      target, data
``activity/<routespec>``    time of the last data, ISO 8601 in UTC
``replicas/<name>``         cluster id, revision in effect, applied revision, routes, version
==========================  ==================================================================
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from .routes import Route, RouteError

__all__ = [
    "ACTIVITY",
    "FORMAT",
    "REPLICAS",
    "ROUTES",
    "TABLE",
    "BadValue",
    "ReplicaReport",
    "TableInfo",
    "check_replica_name",
    "decode_activity",
    "decode_route",
    "encode_activity",
    "encode_route",
    "iso_time",
    "new_table_id",
]

TABLE = "table"
ROUTES = "routes/"
ACTIVITY = "activity/"
REPLICAS = "replicas/"

#: Changes when an older reader would misread what a newer writer stores.
FORMAT = 1

MAX_VALUE_BYTES = 128 * 1024


class BadValue(ValueError):
    """A value that its key does not promise; the message names the key."""


def _load(key: str, value: bytes) -> dict[str, Any]:
    if len(value) > MAX_VALUE_BYTES:
        raise BadValue(f"{key}: {len(value)} bytes, more than the {MAX_VALUE_BYTES} allowed")
    try:
        loaded = json.loads(value)
    except (ValueError, RecursionError):
        raise BadValue(f"{key}: no JSON: {value[:40]!r}") from None
    if not isinstance(loaded, dict):
        raise BadValue(f"{key}: no JSON object: {value[:40]!r}")
    return loaded


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def encode_route(route: Route) -> bytes:
    """The value of ``routes/<routespec>``."""
    return _dump({"target": route.target, "data": route.data})


def decode_route(key: str, value: bytes) -> Route:
    """The route that a key under ``routes/`` holds.

    Raises:
        BadValue: no JSON object, or no valid routespec, target or data.
    """
    loaded = _load(key, value)
    try:
        return Route(key.removeprefix(ROUTES), loaded["target"], loaded.get("data", {}))
    except KeyError:
        raise BadValue(f"{key}: no target") from None
    except RouteError as error:
        raise BadValue(f"{key}: {error}") from None


def iso_time(when: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, ``2026-01-31T12:00:00.000Z``."""
    text = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def encode_activity(when: float) -> bytes:
    """The value of ``activity/<routespec>``; ``when`` in seconds since the epoch."""
    return _dump({"last": iso_time(when)})


def decode_activity(key: str, value: bytes) -> str:
    """The time of the last data, as ISO 8601 in UTC, ``2026-01-31T12:00:00.000Z``."""
    last = _load(key, value).get("last")
    if not isinstance(last, str) or not re.fullmatch(r"[0-9T:.-]{19,32}Z", last):
        raise BadValue(f"{key}: no time: {last!r:.60}")
    return last


#: As many as 16 hex digits hold.
_LAST_TABLE_ID = 2**64 - 1


def new_table_id(after: str = "") -> str:
    """An id that sorts after all earlier ones: the hub's clock in nanoseconds, in hex.

    Args:
        after: an earlier id, should the clock have gone back since.
    """
    following = int(after, 16) + 1 if after else 0
    return f"{min(max(time.time_ns(), following), _LAST_TABLE_ID):016x}"


@dataclass(frozen=True, slots=True)
class TableInfo:
    """The value of ``table``: the hub's word that all its routes are written."""

    id: str
    error_path: str = "/hub/error/"

    def encode(self) -> bytes:
        """The value as stored."""
        return _dump({"format": FORMAT, "id": self.id, "error_path": self.error_path})

    @classmethod
    def decode(cls, value: bytes) -> TableInfo:
        """Raises :class:`BadValue` for another format number, or a value that is none."""
        loaded = _load(TABLE, value)
        if loaded.get("format") != FORMAT:
            raise BadValue(
                f"{TABLE}: format {loaded.get('format')!r:.60}, but this version of junction reads"
                f" format {FORMAT}: give hub and replicas the same version"
            )
        table_id, error_path = loaded.get("id"), loaded.get("error_path", "/hub/error/")
        if not isinstance(table_id, str) or not re.fullmatch(r"[0-9a-f]{16}", table_id):
            raise BadValue(f"{TABLE}: id {table_id!r:.60} is no table id")
        if not isinstance(error_path, str) or not re.fullmatch(r"/[^?#\s]*/", error_path):
            raise BadValue(f"{TABLE}: error_path {error_path!r:.60} is no path")
        return cls(table_id, error_path)


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """The value of ``replicas/<name>``: what a live replica answers for.

    Attributes:
        cluster_id: of the etcd whose revisions these are.
        revision: everything up to it is in effect at this replica.
        applied: the revision of the document that Traefik serves.
        routes: how many the replica serves.
        version: of junction.
    """

    cluster_id: str
    revision: int
    applied: int
    routes: int
    version: str

    def encode(self) -> bytes:
        """The value as stored."""
        return _dump(asdict(self))

    @classmethod
    def decode(cls, key: str, value: bytes) -> ReplicaReport:
        """Raises :class:`BadValue` for a value that is no report."""
        loaded = _load(key, value)
        known = {field.name: loaded.get(field.name) for field in fields(cls)}
        for name in ("revision", "applied", "routes"):
            if type(known[name]) is not int:
                raise BadValue(f"{key}: {name} is no number: {known[name]!r:.60}")
        for name in ("cluster_id", "version"):
            if not isinstance(known[name], str):
                raise BadValue(f"{key}: {name} is no string: {known[name]!r:.60}")
        return cls(**known)  # type: ignore[arg-type]


def check_replica_name(name: str) -> str:
    """Return a name that can stand in a key.

    Raises:
        ValueError: not 1 to 253 letters, digits, ``.``, ``_`` or ``-``.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", name):
        raise ValueError(
            f"replica name {name!r} is refused: use 1 to 253 letters, digits, '.', '_' or '-'"
        )
    return name
