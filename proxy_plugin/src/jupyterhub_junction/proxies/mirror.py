"""``junction-mirror``: every route goes to configurable-http-proxy (CHP) and to etcd.

For moving a hub from the one to the other, and back.  Invariants:

* One side serves: what fails there fails the call, as that proxy's own class would.  The other
  side follows: it holds a call up for ``follow_timeout`` at most, and never fails one.
* A route exists when both sides have it alike.  To ``check_routes``, one that they have not is a
  route without a target or an owner: it is written anew if it is wanted, else deleted, on both.
* Only etcd's complete table is declared complete: after a check whose writes all succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from jupyterhub.proxy import ConfigurableHTTPProxy, Proxy
from prometheus_client import Gauge
from traitlets import Enum, Float, default

from .etcd import TraefikEtcdProxy
from .follower import Follower

__all__ = ["MirrorStatus", "MirroredProxy"]

Routes = dict[str, dict[str, Any]]
Held = dict[str, tuple[str, dict[str, Any]]]
#: what the serving side and the other one had when the check that runs now read them: it writes
#: a route only where it is missing, as CHP takes a write for activity.  Other calls see none of it.
_HELD: ContextVar[tuple[Held, Held]] = ContextVar("_HELD", default=({}, {}))

IN_STEP = Gauge(
    "junction_mirror_in_step",
    "1 while the side that does not serve has what the serving one has",
    ["side"],
)
UNLIKE = Gauge("junction_mirror_unlike_routes", "routes that the two sides had not alike, last")
LOST = Gauge("junction_mirror_lost_writes", "writes that the other side did not take", ["side"])

NAMES = {"chp": "configurable-http-proxy", "etcd": "etcd"}
#: seconds between two looks at a side that fails
LEAST_PAUSE, MOST_PAUSE = 0.5, 15.0


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """How the two sides stand.

    Attributes:
        serving, following: ``chp`` or ``etcd``.
        in_step: whether the one that follows has what the serving one has.
        reason: why not.
        unlike: routes that they had not alike when both were last read.
        lost: writes that the one that follows did not take.
        refused: routes that it can never take.
    """

    serving: str
    following: str
    in_step: bool
    reason: str
    unlike: int
    lost: int
    refused: int


class MirroredProxy(Proxy):
    """Routes go to CHP, configured by ``c.ConfigurableHTTPProxy``, and to etcd, configured by
    ``c.TraefikEtcdProxy``.  Neither is started by the hub.

    How they stand is in :attr:`status`, in the hub's log at each change, and in its
    ``/hub/metrics`` as ``junction_mirror_*``.
    """

    serving = Enum(
        ["chp", "etcd"],
        "chp",
        config=True,
        help="The side whose failures fail the hub's calls: chp or etcd. The other one follows.",
    )
    follow_timeout = Float(
        2.0,
        config=True,
        help="Seconds that a call waits at most for the side that follows; not at all while that"
        " side is out of step.",
    )

    @default("should_start")
    def _default_should_start(self) -> bool:
        return False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        given = {
            name: getattr(self, name)
            for name in ("app", "hub", "log", "public_url", "ssl_key", "ssl_cert", "host_routing")
        }
        given |= {"db_factory": self.db_factory, "parent": self, "should_start": False}
        self.etcd = TraefikEtcdProxy(**given)
        self.etcd.waits_at_start = self.serving == "etcd"
        if self.serving == "etcd":
            # JupyterHub's class says so each time that it tries again
            given["log"] = self.log.getChild("following")
            given["log"].setLevel(logging.ERROR)
        self.chp = ConfigurableHTTPProxy(**given)
        sides: dict[str, Proxy] = {"chp": self.chp, "etcd": self.etcd}
        self.following = "etcd" if self.serving == "chp" else "chp"
        self._serving, self._following = sides[self.serving], sides[self.following]
        self.follower = Follower(
            NAMES[self.following], self.log, wait=self.follow_timeout, on_change=self._changed
        )
        self._unlike = 0
        self._activity: dict[str, str] = {}
        self._checked = False  # the hub knows which servers run
        self._healer: asyncio.Task[None] | None = None
        self._changed()

    @property
    def status(self) -> MirrorStatus:
        """How the two sides stand."""
        follower = self.follower
        return MirrorStatus(
            self.serving,
            self.following,
            follower.in_step,
            follower.reason,
            self._unlike,
            follower.lost,
            len(follower.refused),
        )

    async def stop(self) -> None:
        """Let go of both; they serve on."""
        if self._healer is not None:
            self._healer.cancel()
            await asyncio.gather(self._healer, return_exceptions=True)
        await self.follower.close()
        await self.etcd.stop()

    def validate_routespec(self, routespec: str) -> str:
        """The serving side's own checks."""
        checked: str = self._serving.validate_routespec(routespec)
        return checked

    async def add_route(self, routespec: str, target: str, data: dict[str, Any] | None) -> None:
        """Add or change a route; returns when the serving side has it, and the other one unless
        that takes more than ``follow_timeout``.

        Raises:
            Exception: as the serving side's own class does.
        """
        spec = self.validate_routespec(routespec)
        wanted = (target, data or {})
        held = _HELD.get()
        mine, theirs = (side.get(_canonical(spec)) == wanted for side in held)
        task = None
        # each side its own: JupyterHub's class for CHP writes into what it is given
        if not theirs:
            task = self.follower.submit(
                spec, lambda: self._following.add_route(spec, target, dict(data or {}))
            )
        if not mine:
            await self._serving.add_route(spec, target, dict(data or {}))
        await self.follower.settle(task)

    async def delete_route(self, routespec: str) -> None:
        """Delete a route if it is there; returns as :meth:`add_route` does."""
        spec = self.validate_routespec(routespec)
        task = self.follower.submit(spec, lambda: self._following.delete_route(spec))
        await self._serving.delete_route(spec)
        await self.follower.settle(task)
        self.follower.refused.pop(spec, None)

    async def get_all_routes(self) -> Routes:
        """The routes that both sides have alike; those of the serving one while the other is out
        of step.

        ``last_activity`` is the newest of both.
        """
        mine, theirs = await self._read(ask_both=self.follower.in_step)
        alike, _ = self._compare(mine, theirs)
        return alike

    async def check_routes(
        self, user_dict: Any, service_dict: Any, routes: Routes | None = None
    ) -> None:
        """JupyterHub's check, of what both sides have now; puts the one that follows in step."""
        self._checked = True
        with self.follower.check():
            mine, theirs = await self._read()
            alike, unlike = self._compare(mine, theirs)
            nobodys = {spec: {"routespec": spec, "target": "", "data": {}} for spec in unlike}
            held = _HELD.set((self._all_given(mine), self._all_given(theirs or {})))
            try:
                await super().check_routes(user_dict, service_dict, alike | nobodys)
            finally:
                _HELD.reset(held)
            if self.serving == "etcd":
                await self.etcd.checked(user_dict)
            elif theirs is not None:
                self.follower.submit("", lambda: self._declare(user_dict))
            await self.follower.settle_all()
        self._changed()

    async def _declare(self, user_dict: Any) -> None:
        """The table in the etcd that follows is complete, unless something of it was lost."""
        await self.follower.drain()
        if not self.follower.failed:
            await self.etcd.checked(user_dict)

    # --- reading ----------------------------------------------------------------------------

    async def _read(self, *, ask_both: bool = True) -> tuple[Routes, Routes | None]:
        """What the serving side has, and the other one if it answers."""
        if not ask_both:
            return await self._serving.get_all_routes(), None
        theirs = asyncio.ensure_future(self.follower.read(self._following.get_all_routes))
        try:
            mine: Routes = await self._serving.get_all_routes()
            return mine, await theirs
        finally:
            theirs.cancel()

    def _compare(self, mine: Routes, theirs: Routes | None) -> tuple[Routes, set[str]]:
        """The routes that both have alike, and the names of the others."""
        others = {_canonical(spec): route for spec, route in (theirs or {}).items()}
        alike: Routes = {}
        unlike: set[str] = set()
        newest: dict[str, str] = {}
        for spec, route in mine.items():
            other = others.pop(_canonical(spec), None)
            data, last = self._given(route)
            times = [self._activity.get(spec, ""), last]
            if other is not None:
                other_data, last = self._given(other)
                times.append(last)
                is_alike = other["target"] == route["target"] and other_data == data
            else:
                is_alike = theirs is None or spec in self.follower.refused
            if last := max(times, key=_time):
                data["last_activity"] = newest[spec] = last
            if is_alike:
                alike[spec] = route | {"data": data}
            else:
                unlike.add(spec)
        unlike |= {other["routespec"] for other in others.values()}
        self._activity = newest
        if theirs is not None:
            self._unlike = len(unlike)
        return alike, unlike

    def _given(self, route: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """The data that the hub has given a route, and the time of its last activity."""
        data = dict(route["data"])
        if self.host_routing:
            data.pop("host", None)  # CHP's own
        return data, data.pop("last_activity", "")

    def _all_given(self, routes: Routes) -> Held:
        return {
            _canonical(spec): (route["target"], self._given(route)[0])
            for spec, route in routes.items()
        }

    # --- the side that fell behind ----------------------------------------------------------

    def _changed(self) -> None:
        IN_STEP.labels(self.following).set(self.follower.in_step)
        LOST.labels(self.following).set(self.follower.lost)
        UNLIKE.set(self._unlike)
        healing = self._healer is not None and not self._healer.done()
        if not self.follower.in_step and self._checked and not healing:
            self._healer = asyncio.create_task(self._heal())

    async def _heal(self) -> None:
        """Look for the side that is out of step, less and less often; check all routes then.

        JupyterHub's own check would do so too, but only with the next round.
        """
        pause = LEAST_PAUSE
        while not self.follower.in_step:
            await asyncio.sleep(pause)
            pause = min(pause * 2, MOST_PAUSE)
            await self.follower.drain()
            if await self.follower.read(self._following.get_all_routes) is None:
                continue
            try:
                await self.check_routes(self.app.users, self.app._service_map)
            except Exception as error:
                self.log.error("Checking all routes failed, the next check tries again: %s", error)


def _canonical(routespec: str) -> str:
    """CHP keeps names decoded, so only so can the two be compared."""
    return quote(unquote(routespec), safe="@/~")


def _time(text: str) -> float:
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text).timestamp()
    return 0.0
