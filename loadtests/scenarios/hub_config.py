"""The JupyterHub of a load test: the demo's, with users whose servers are the stand-in.

``LOADTEST_PROXY`` is ``chp`` or ``junction``; each add_route and delete_route is timed to the file
``LOADTEST_TIMES``.
"""

import json
import os
import runpy
import time

from jupyterhub.proxy import ConfigurableHTTPProxy
from jupyterhub.spawner import SimpleLocalProcessSpawner
from traitlets.config import get_config

from jupyterhub_junction.proxies.etcd import TraefikEtcdProxy

c = get_config()
# it sets the same object, which is the application's
runpy.run_path(os.environ["LOADTEST_BASE"])

_TIMES = open(os.environ["LOADTEST_TIMES"], "a", buffering=1)  # noqa: SIM115 (as long as the hub)
_STAND_IN = os.environ["LOADTEST_STAND_IN"].rpartition(":")
_REAL = frozenset(os.environ["LOADTEST_REAL"].split(","))


class _Timed:
    async def add_route(self, routespec, target, data):
        await self._timed("start", super().add_route(routespec, target, data))

    async def delete_route(self, routespec):
        await self._timed("stop", super().delete_route(routespec))

    async def _timed(self, do, call):
        begun, failed = time.monotonic(), ""
        try:
            await call
        except Exception as error:
            failed = str(error) or type(error).__name__
            raise
        finally:
            took = round(1000 * (time.monotonic() - begun), 3)
            line = {"at": begun, "do": do, "live_ms": took, "returned_ms": took}
            if failed:
                line = {"at": begun, "do": do, "failed": failed[:200]}
            _TIMES.write(json.dumps(line) + "\n")


class TimedCHP(_Timed, ConfigurableHTTPProxy):
    """configurable-http-proxy."""


class TimedJunction(_Timed, TraefikEtcdProxy):
    """Junction."""


class LoadSpawner(SimpleLocalProcessSpawner):
    """Real servers for some; for all others the stand-in, which runs already."""

    _stands_in = False

    async def start(self):
        if self.user.name in _REAL:
            return await super().start()
        self._stands_in = True
        return _STAND_IN[0], int(_STAND_IN[2])

    async def poll(self):
        if self.user.name in _REAL:
            return await super().poll()
        return None if self._stands_in else 0

    async def stop(self, now=False):
        if self.user.name in _REAL:
            await super().stop(now)
        self._stands_in = False


c.JupyterHub.spawner_class = LoadSpawner
if os.environ["LOADTEST_PROXY"] == "chp":
    c.JupyterHub.proxy_class = TimedCHP
    c.ConfigurableHTTPProxy.command = [os.environ["LOADTEST_CHP"], "--log-level=error"]
    c.ConfigurableHTTPProxy.api_url = os.environ["LOADTEST_CHP_API"]
    c.ConfigurableHTTPProxy.auth_token = "a-token"  # noqa: S105 (loopback, for this run)
    c.ConfigurableHTTPProxy.pid_file = os.environ["LOADTEST_TIMES"] + ".pid"
else:
    c.JupyterHub.proxy_class = TimedJunction
    # the demo's settings go by the class's name
    c.TimedJunction.etcd_endpoints = os.environ["DEMO_ETCD"].split(",")
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.log_level = "WARN"
c.JupyterHub.services = [{"name": "loadtest", "api_token": os.environ["LOADTEST_TOKEN"]}]
c.JupyterHub.load_roles = [
    {
        "name": "loadtest", "services": ["loadtest"],
        "scopes": ["admin:users", "admin:servers", "tokens", "list:users"],
    }
]  # fmt: skip
