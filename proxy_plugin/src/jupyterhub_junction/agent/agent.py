"""One replica's agent: follows the routes in etcd and keeps Traefik at them.

It watches and reports; what may be claimed is decided in :mod:`.replica`, and applied by
:mod:`.applier`.  Invariants:

* It registers under ``replicas/`` only once Traefik serves a complete table, and reads the
  table again in the very transaction that registers it: every later write of the hub waits for
  this replica, and none before is missed.
* It is ready when Traefik serves all that was there when it registered, and stays so while
  etcd is away.
* A replica whose Traefik does not answer is not registered.
* The forwarder listens only while there is a complete table.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import __version__
from ..changed import Changed
from ..forwarder.server import ForwardedRules, Forwarder, Limits
from ..forwarder.thread import ForwarderThread
from ..keys import REPLICAS, ROUTES, TABLE, check_replica_name
from ..store import Compacted, Put, Snapshot, Store, StoreError, StoreRefused, StoreUnavailable
from ..traefik.api import TraefikAPI
from ..traefik.dispatch import hub_route
from ..traefik.documents import FORWARDER_HEALTH, RenderOptions
from ..traefik.user_certificate import UserCertificate
from .activity_reports import ActivityReports
from .applier import Applier
from .pacing import Pacing
from .replica import Apply, Replica
from .saved_table import SavedTable

__all__ = ["Agent", "AgentOptions"]

#: seconds between two looks at the files of the users' certificate
_LOOK = 2.0


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Settings of an agent; times in seconds.

    Attributes:
        name: of this replica, unique among those of one table.
        lease: how long the replica counts as live after its last word.
        poll: between two looks at whether Traefik is there and is the same.
        activity: at most one report per route in this time; 0 reports none.
        max_stale: a replica cut off from etcd for longer is not ready; 0 is never.
        traefik_pid: gives the process whose connections count as activity; None counts all.
        pacing: how long changes wait for an apply.
        forwarder: a socket bound to loopback for the forwarder; None for no forwarder.
        saved: file for the last complete table; None keeps none.
        certificate: of users' connections, followed as its files change; None: ``rendering``'s.
    """

    name: str
    lease: float = 10.0
    poll: float = 0.2
    activity: float = 60.0
    max_stale: float = 0.0
    traefik_pid: Callable[[], int | None] | None = None
    pacing: Pacing = field(default_factory=Pacing)
    forwarder: socket.socket | None = None
    saved: Path | None = None
    certificate: UserCertificate | None = None
    answer_timeout: float = 0.0


class Agent:
    """The agent of one Traefik.

    Args:
        store: the keys; closed by whoever made it.
        traefik: the API of the Traefik to feed.
        options: see :class:`AgentOptions`.
        rendering: what the document holds besides routes.
    """

    def __init__(
        self,
        store: Store,
        traefik: TraefikAPI,
        options: AgentOptions,
        rendering: RenderOptions,
        log: logging.Logger,
    ) -> None:
        check_replica_name(options.name)
        self.store = store
        self.options = options
        self.rendering = rendering
        self.log = log
        self.replica = Replica(pacing=options.pacing)
        #: why the agent does not follow etcd now; empty while it does
        self.trouble = "not connected yet"
        self.draining = False
        self._changed = Changed()
        self.applier = Applier(
            self.replica,
            traefik,
            rendering,
            self._changed,
            log,
            poll=options.poll,
            on_apply=self._on_apply,
            may_apply=lambda: self._forwarder is None or self._listening,
        )
        self._forwarder = self._make_forwarder() if options.forwarder else None
        self._saved = SavedTable(options.saved, log) if options.saved else None
        self._listening = False  # the forwarder is
        self._live = False  # has once served all that was there when it registered
        self._followed = time.monotonic()  # when the agent last followed etcd
        self._lease = 0  # what this replica is registered under; 0 while it is not

    # --- what others ask --------------------------------------------------------------------

    @property
    def not_ready(self) -> str:
        """Why this replica should get no users; empty if it should."""
        if self.draining:
            return "draining"
        if not self.applier.started:
            return "Traefik does not answer"
        if not self.replica.applied or not self._live:
            return self.trouble or "the table is being loaded"
        stale = self.options.max_stale
        if stale and self.trouble and time.monotonic() - self._followed > stale:
            return f"cut off from etcd for over {stale:g} s: {self.trouble}"
        return ""

    def status(self) -> dict[str, object]:
        """A JSON object for people and probes."""
        replica = self.replica
        return {
            "name": self.options.name,
            "version": __version__,
            "ready": not self.not_ready,
            "reason": self.not_ready,
            "following": not self.trouble,
            "trouble": self.trouble,
            "cluster_id": replica.cluster_id,
            "known": replica.known,
            "revision": replica.revision,
            "applied": replica.applied,
            "forwarding": self._listening and self.applier.forwards(),
            "pending": replica.pending,
            "applies": self.applier.applies,
            "apply_seconds": round(self.applier.apply_seconds, 3),
            "forwarder_connections": self.forwarder_connections,
            "routes": len(replica.table),
            "warning": self.warning,
            "certificate_expires": self.options.certificate.expires
            if self.options.certificate
            else "",
            "bad_keys": dict(sorted(replica.bad.items())[:100]),
        }

    @property
    def warning(self) -> str:
        """What has to be mended although all goes on for now; empty if nothing has."""
        shown = self.options.certificate.trouble if self.options.certificate else ""
        return "; ".join(filter(None, [shown, self.store.warning]))

    @property
    def forwarder_connections(self) -> int:
        """Connections that the forwarder serves now."""
        return len(self._forwarder.forwarder.clients) if self._forwarder else 0

    # --- the parts that run -----------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            StoreRefused: the store says no before there is any table; later it is tried again.
        """
        activity = ActivityReports(
            self.store,
            self.replica.table,
            self.log,
            interval=self.options.activity,
            pids=self._pids,
            following=lambda: not self.trouble,
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.applier.run())
                group.create_task(self._follow_loop())
                if self._forwarder is not None:
                    group.create_task(self._forward(self._forwarder))
                if self._saved is not None:
                    group.create_task(self._saved.keep(self.replica, self._changed))
                group.create_task(self._follow_certificate())
                if self.options.activity:
                    group.create_task(activity.run())
        finally:
            if self._forwarder is not None:
                await self._forwarder.stop()

    async def _follow_certificate(self) -> None:
        """Give Traefik the users' certificate when its files change; say what needs a mend."""
        certificate, said = self.options.certificate, ""
        while True:
            # Traefik reads a certificate only with a new document
            if certificate is not None and await asyncio.to_thread(certificate.look):
                assert certificate.pair is not None
                shown, key = certificate.pair
                self.applier.rendering = replace(self.applier.rendering, certificate=shown, key=key)
                self.replica.renew()
                self._changed.notify()
                self.log.info("users get the certificate that ends on %s", certificate.expires)
            if self.warning and self.warning != said:
                self.log.warning("%s", self.warning)
            said = self.warning
            await asyncio.sleep(_LOOK)

    def _serves(self) -> bool:
        """Whether Traefik is loaded, and so there is something to claim."""
        return self.replica.applied > 0 and bool(self.applier.started)

    def _pids(self) -> Collection[int] | None:
        pid = self.options.traefik_pid() if self.options.traefik_pid else None
        return None if pid is None else (pid, os.getpid())

    # --- the forwarder ----------------------------------------------------------------------

    def _make_forwarder(self) -> ForwarderThread:
        options = self.rendering
        client_ssl = None
        if options.ca:
            client_ssl = ssl.create_default_context(cafile=options.ca)
            if options.client_certificate:
                client_ssl.load_cert_chain(options.client_certificate, options.client_key)
        forwarder = Forwarder(
            resolve=self.replica.table.resolve,
            client_ssl=client_ssl,
            # Traefik has seen to these headers
            trust_forwarded=ForwardedRules(["127.0.0.1", "::1"], "keep"),
            limits=Limits(response_timeout=self.options.answer_timeout)
            if self.options.answer_timeout
            else None,
            health_path=FORWARDER_HEALTH,
            log=self.log,
        )

        async def listen() -> None:
            assert self.options.forwarder is not None
            await forwarder.start_on(self.options.forwarder)

        return ForwarderThread(forwarder, listen, name="forwarder")

    async def _forward(self, thread: ForwarderThread) -> None:
        """Listen from the first complete table on; its end is this agent's."""
        await self._changed.until(lambda: self.replica.known > 0)
        self._show_error_pages()
        await thread.start()
        self._listening = True
        self._changed.notify()
        await thread.wait()
        raise RuntimeError("the forwarder has ended")

    def _on_apply(self, apply: Apply) -> None:
        self._show_error_pages()

    def _show_error_pages(self) -> None:
        """Let the forwarder show the hub's error pages; where the hub is may have changed."""
        if self._forwarder is not None and self.rendering.error_target:
            self._forwarder.forwarder.error_target = self.rendering.error_target.rstrip("/")
        elif self._forwarder is not None and self.replica.info is not None:
            hub = hub_route(self.replica.table)
            path = self.replica.info.error_path.rstrip("/")
            self._forwarder.forwarder.error_target = hub.target.rstrip("/") + path if hub else None

    # --- the session with etcd --------------------------------------------------------------

    async def _follow_loop(self) -> None:
        pause = 0.1
        while True:
            begun = time.monotonic()
            try:
                await self._follow()
                trouble = self.replica.holding or "Traefik does not answer"
            except StoreError as error:
                trouble = str(error)
                self._restore()
                if isinstance(error, StoreRefused) and not self.replica.known:
                    raise
            if trouble != self.trouble:
                self.log.warning("not following etcd: %s", trouble)
            self.trouble = trouble
            pause = 0.1 if time.monotonic() - begun > 5 else min(pause * 2, 5.0)
            await asyncio.sleep(pause)

    def _restore(self) -> None:
        """Serve the table of the agent before this one, if none could be read yet."""
        saved = self._saved.read() if self._saved and not self.replica.known else None
        if saved is None:
            return
        snapshot, age = saved
        if self.replica.offer(snapshot):
            self.log.warning(
                "etcd is away: serving the %d routes saved %.0f s ago at revision %d",
                len(self.replica.table),
                age,
                snapshot.revision,
            )
            self._live = True
            self._followed -= age
            self._changed.notify()

    async def _follow(self) -> None:
        """One session: read, load, register, then follow until something breaks."""
        snapshot = await self.store.read(ROUTES, TABLE)
        if not self._offer(snapshot):
            if self._lease:
                await self._leave()
            await self._wait_for_table(snapshot)
            return
        self._changed.notify()
        await self._changed.until(self._serves)
        lease = self._lease = await self._living_lease()
        try:
            written = await self.store.write([self._report(lease)], read=[ROUTES, TABLE])
            if not self._offer(Snapshot(written.cluster_id, written.revision, written.items)):
                return
            self._changed.notify()
            self.trouble = ""
            self.log.info(
                "following etcd at revision %d with %d routes",
                written.revision,
                len(self.replica.table),
            )
            await self._first_failure(
                self._watch(written.revision + 1),
                self._keep_alive(lease),
                self._report_loop(lease, written.revision),
                self._changed.until(lambda: not self.applier.started),
            )
        except StoreError:
            # Only the way to etcd broke: this replica still serves, so the hub has to go on
            # waiting for it until it is back, or until its lease has ended.
            raise
        except BaseException:
            await self._leave()
            raise
        else:
            await self._leave()
        finally:
            self._followed = time.monotonic()

    async def _living_lease(self) -> int:
        """The lease of the session before if it still lives, else a new one."""
        if self._lease and await self.store.keep_alive(self._lease):
            return self._lease
        return await self.store.lease(self.options.lease)

    async def _leave(self) -> None:
        """Stop counting as a live replica, now."""
        lease, self._lease = self._lease, 0
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(2):
                await self.store.revoke(lease)

    async def _first_failure(
        self, *parts: contextlib.AbstractContextManager[None] | object
    ) -> None:
        """Run the parts until the first ends; then end the others, and raise what it raised."""
        tasks = [asyncio.ensure_future(part) for part in parts]  # type: ignore[call-overload]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def _offer(self, snapshot: Snapshot) -> bool:
        before = set(self.replica.bad)
        taken = self.replica.offer(snapshot)
        self._log_bad(before)
        return taken

    def _log_bad(self, before: set[str]) -> None:
        for key in self.replica.bad.keys() - before:
            self.log.error("skipping a broken value in etcd: %s", self.replica.bad[key])

    async def _wait_for_table(self, snapshot: Snapshot) -> None:
        """Wait for the hub to declare a table complete; meanwhile what was served stays."""
        if self.replica.holding != self.trouble:
            self.log.warning("waiting: %s", self.replica.holding)
        self.trouble = self.replica.holding
        with contextlib.suppress(Compacted):
            async for batch in self.store.watch(TABLE, revision=snapshot.revision + 1):
                if batch.events:
                    return

    async def _watch(self, revision: int) -> None:
        async for batch in self.store.watch(ROUTES, TABLE, revision=revision):
            if batch.cluster_id != self.replica.cluster_id:
                raise StoreUnavailable("the watch came to another etcd cluster")
            before = set(self.replica.bad)
            follows = self.replica.follow(batch)
            self._log_bad(before)
            self._changed.notify()
            if not follows:
                return

    async def _keep_alive(self, lease: int) -> None:
        while True:
            await asyncio.sleep(self.options.lease / 3)
            if not await self.store.keep_alive(lease):
                raise StoreUnavailable("the lease of this replica ended")

    def _report(self, lease: int) -> Put:
        self.replica.set_forwarder(self._listening and self.applier.forwards())
        value = self.replica.report(__version__).encode()
        return Put(REPLICAS + self.options.name, value, lease)

    async def _report_loop(self, lease: int, registered: int) -> None:
        last = None
        while True:
            await self._changed.until(lambda: self._report(lease) != last)  # noqa: B023
            if not self.replica.applied:
                return
            if self.replica.revision >= registered:
                self._live = True
            last = self._report(lease)
            await self.store.write([last])
