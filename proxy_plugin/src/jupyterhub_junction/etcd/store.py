"""etcd as a :class:`~jupyterhub_junction.store.Store`, through its HTTP gateway.

Invariants beyond the seam's:

* A read is one read-only transaction, a write is one transaction: each sees one revision.
* A watch is one etcd watch over the smallest range that holds all its prefixes, filtered here.
  Watches of their own for each prefix could not be merged without gaps: etcd orders events within
  a watch, not between watches.
* A revision is handed out when it is whole: etcd keeps a revision's events in one response, and the
  parts of a response that it splits (``fragment``) are put together first.

A write whose answer was lost is sent again.  Puts and deletes done twice leave the same keys, but
then :attr:`Written.revision` may be that of the second time, and ``done`` may be False for a write
that was done, if its own deletes or another client took the key that it was guarded by.  A write
that ended with :class:`StoreUnavailable` may still have been done, or be done shortly after.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from ..store import (
    Batch,
    Compacted,
    Delete,
    Event,
    Exists,
    Put,
    Snapshot,
    Store,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    Written,
)
from .codec import Codec, batches, head
from .errors import Json, RpcError, Transport, cancelled
from .gateway import Gateway, Password
from .stream import Stream

__all__ = ["EtcdStore", "MemberStatus"]

log = logging.getLogger(__name__)

#: below these, RBAC can be passed by (watch, nested transactions, prevKV)
SECURITY_FLOORS = {(3, 5): 33, (3, 6): 14, (3, 7): 1}
#: the gateway's calls are under /v3 from here on
OLDEST = (3, 4)


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """What one endpoint says of itself; with ``error`` set it did not answer."""

    endpoint: str
    error: str | None = None
    version: str = ""
    cluster_id: str = ""
    member_id: str = ""
    is_leader: bool = False
    has_leader: bool = False
    revision: int = 0
    #: bytes
    database_size: int = 0


class EtcdStore(Store):
    """Keys under a prefix of an etcd cluster (3.4 or newer).

    Args:
        endpoints: base URLs of members, such as ``https://etcd-0:2379``.
        prefix: what all keys begin with.
        username: etcd user; None: do not sign in.
        password: the user's password; a Path is a file that holds it, a function gives it.
        ca: PEM file with the CAs to trust; None: the system's.
        cert: PEM file with the client certificate; with ``key``.  Files are read again on change.
        key: PEM file with the client certificate's key.
        timeout: seconds that a call may take, over all endpoints and retries.
        silence: seconds after which a watch without any sign of life counts as broken.
        max_operations: operations in one write; at most etcd's ``--max-txn-ops``.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        prefix: str = "/junction/",
        username: str | None = None,
        password: Password | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        timeout: float = 5.0,
        silence: float = 15.0,
        max_operations: int = 120,
    ) -> None:
        self.gateway = Gateway(
            endpoints,
            username=username,
            password=password,
            ca=ca,
            cert=cert,
            key=key,
            timeout=timeout,
        )
        self.prefix = prefix
        self._codec = Codec(prefix)
        self.max_operations = max_operations
        self._silence = silence

    # -- keys ----------------------------------------------------------------------------------

    async def read(self, *prefixes: str) -> Snapshot:
        answer = await self._txn(
            {"success": [self._codec.range_request(prefix) for prefix in prefixes]}
        )
        return Snapshot(*head(answer), self._codec.items(answer.get("responses", [])))

    async def write(
        self,
        operations: Sequence[Put | Delete],
        *,
        guards: Iterable[Exists] = (),
        read: Iterable[str] = (),
    ) -> Written:
        keys = {operation.key for operation in operations}
        if len(keys) != len(operations):
            raise StoreError("a key stands twice in one transaction")
        requests = [self._codec.operation(operation) for operation in operations]
        answer = await self._txn(
            {
                "compare": [
                    {
                        "key": self._codec.encode(guard.key),
                        "target": "VERSION",
                        "result": "GREATER",
                        "version": "0",
                    }
                    for guard in guards
                ],
                "success": requests + [self._codec.range_request(prefix) for prefix in read],
            }
        )
        done = bool(answer.get("succeeded", False))
        items = self._codec.items(answer.get("responses", [])[len(requests) :]) if done else ()
        return Written(*head(answer), done, items)

    async def _txn(self, body: Json) -> Json:
        try:
            return await self.gateway.call("/v3/kv/txn", body)
        except RpcError as error:
            if "lease not found" in error.message:
                raise StoreError("the lease of a key to write has ended") from None
            raise StoreUnavailable(f"etcd at {error}") from None

    # -- watch ---------------------------------------------------------------------------------

    async def watch(self, *prefixes: str, revision: int) -> AsyncIterator[Batch]:
        """As :meth:`Store.watch`.

        The first batch is an empty one, at once: it names the cluster.  More empty ones follow
        while nothing changes, for etcd's word that nothing did.
        """
        create = {
            **self._codec.covering(prefixes),
            "start_revision": str(revision),
            "progress_notify": True,
            "fragment": True,
        }
        try:
            async with self.gateway.stream("/v3/watch", {"create_request": create}) as stream:
                cluster_id, current = head(stream.first)
                if current < revision - 1:
                    await self._check_history(revision)
                last = revision - 1
                yield Batch(cluster_id, last)
                events: list[Event] = []
                while True:
                    if (message := await self._next(stream, last)) is None:
                        continue
                    _check_cancelled(stream.endpoint, message)
                    events += self._codec.events(message)
                    if message.get("fragment"):
                        continue
                    if not events:
                        # A progress notification: all up to its revision has been sent.
                        if (now := head(message)[1]) > last:
                            last = now
                            yield Batch(cluster_id, last)
                        continue
                    for batch in batches(cluster_id, events):
                        if batch.revision <= last:
                            raise StoreUnavailable(
                                f"etcd at {stream.endpoint} sent revision {batch.revision}"
                                f" after {last}"
                            )
                        last = batch.revision
                        wanted = tuple(e for e in batch.events if e.key.startswith(prefixes))
                        if wanted:
                            yield Batch(cluster_id, last, wanted)
                    events = []
        except Transport as error:
            raise StoreUnavailable(f"the watch on etcd ended: {error}") from None
        except RpcError as error:
            raise error.as_store_error(self.gateway.username) from None

    async def _next(self, stream: Stream, last: int) -> Json | None:
        """The next message, asking for a sign of life when there is none; None if there is no
        message because nothing was ever written.
        """
        asks = 3
        for _ in range(asks):
            try:
                async with asyncio.timeout(self._silence / asks):
                    return await stream.next()
            except TimeoutError:
                stream.send({"progress_request": {}})
        # etcd 3.6 answers no progress request while it is at revision 1, that of a new store
        if last <= 1 and await self._current_revision() <= 1:
            return None
        raise Transport(stream.endpoint, f"silent for {self._silence:g} s")

    async def _check_history(self, revision: int) -> None:
        # A member may be behind for a moment; a linearizable read says what the cluster knows.
        current = await self._current_revision()
        if current < revision - 1:
            raise Compacted(
                f"etcd is at revision {current}, before {revision}: it was restored or made anew"
            )

    async def _current_revision(self) -> int:
        body = {"key": self._codec.encode("-"), "count_only": True}
        return head(await self.gateway.call("/v3/kv/range", body))[1]

    # -- leases --------------------------------------------------------------------------------

    async def lease(self, ttl: float) -> int:
        """As :meth:`Store.lease`; etcd counts whole seconds, so ``ttl`` is rounded up."""
        answer = await self.gateway.call("/v3/lease/grant", {"TTL": str(max(1, math.ceil(ttl)))})
        return int(answer["ID"])

    async def keep_alive(self, lease: int) -> bool:
        try:
            answer = await self.gateway.call("/v3/lease/keepalive", {"ID": str(lease)})
        except RpcError:
            return False
        return int(answer.get("result", answer).get("TTL", 0)) > 0

    async def revoke(self, lease: int) -> None:
        try:
            await self.gateway.call("/v3/lease/revoke", {"ID": str(lease)})
        except RpcError as error:
            log.debug("lease %d: %s", lease, error.message)

    # -- the cluster ---------------------------------------------------------------------------

    async def check(self) -> str:
        """Sign in, read, and return the version of an etcd that answers.

        Raises:
            StoreRefused: etcd is too old, or one of the reasons of :meth:`read`.
            StoreUnavailable: no endpoint answers.
        """
        answer = await self.gateway.call("/v3/maintenance/status", {})
        version = str(answer.get("version", ""))
        numbers = tuple(int(number) for number in [*re.findall(r"\d+", version), 0, 0, 0][:3])
        if numbers[:2] < OLDEST:
            raise StoreRefused(
                f"etcd {version or '(no version)'} is too old: 3.4 or newer is needed"
            )
        floor = SECURITY_FLOORS.get((numbers[0], numbers[1]))
        if numbers < min(SECURITY_FLOORS)[:2] or (floor is not None and numbers[2] < floor):
            log.warning(
                "etcd %s lets users pass by its permissions in known ways: upgrade to %s",
                version,
                " or ".join(f"{a}.{b}.{c}" for (a, b), c in SECURITY_FLOORS.items()),
            )
        await self._current_revision()
        return version

    async def status(self) -> tuple[MemberStatus, ...]:
        """What each endpoint says of itself, asked all at once."""
        return tuple(await asyncio.gather(*map(self._member_status, self.gateway.endpoints)))

    async def _member_status(self, endpoint: str) -> MemberStatus:
        try:
            async with asyncio.timeout(self.gateway.timeout):
                answer = await self.gateway.call_one(endpoint, "/v3/maintenance/status", {})
        except TimeoutError:
            return MemberStatus(endpoint, f"no answer in {self.gateway.timeout:g} s")
        except (Transport, RpcError, StoreError) as error:
            return MemberStatus(endpoint, str(error))
        header = answer["header"]
        leader = str(answer.get("leader", "0"))
        return MemberStatus(
            endpoint,
            None,
            version=str(answer.get("version", "")),
            cluster_id=str(header["cluster_id"]),
            member_id=str(header["member_id"]),
            is_leader=leader == str(header["member_id"]),
            has_leader=leader != "0",
            revision=int(header.get("revision", 0)),
            database_size=int(answer.get("dbSize", 0)),
        )

    @property
    def warning(self) -> str:
        return self.gateway.tls.trouble

    async def close(self) -> None:
        await self.gateway.close()


def _check_cancelled(endpoint: str, message: Json) -> None:
    if not message.get("canceled"):
        return
    compacted = int(message.get("compact_revision", 0))
    if compacted:
        raise Compacted(f"etcd at {endpoint} keeps no revision before {compacted}")
    raise cancelled(endpoint, str(message.get("cancel_reason", "the watch was cancelled")))
