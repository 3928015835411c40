"""Students: each signs in, starts a server, opens JupyterLab and a notebook, works, and leaves.

What JupyterLab asks for is recorded (:mod:`.recording`): its files and API requests at their times,
six at a time as a browser does it, and two WebSockets.  The stand-in answers with the recorded
sizes; a real server is asked for the same paths, and what its version lacks is counted apart.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.pool import Pool
from locust import FastHttpUser, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS
from locust.exception import StopUser

from ..standin import SIZE
from . import recording
from .sockets import PATIENCE, Socket

__all__ = ["classes"]

#: connections of a browser to one host
AT_ONCE = 6
#: seconds that a server may take to start
STARTS = 120.0
#: seconds between two cells, and cells between two times that the notebook is saved
THINKS, SAVES = 5.0, 3
NOTEBOOK = "Untitled.ipynb"
_TOKEN = re.compile(r'name="_xsrf" value="([^"]+)"')


class Gone(Exception):
    """A student who cannot go on; what failed is counted already."""


def classes(setup: Mapping[str, Any]) -> list[type[FastHttpUser]]:
    """Students, as many as the setup has people."""
    people = iter(setup["people"])
    addresses = itertools.cycle(setup["addresses"])
    password, work = setup.get("password", ""), float(setup["work"])

    class Student(FastHttpUser):
        fixed_count = len(setup["people"])
        connection_timeout = PATIENCE
        network_timeout = STARTS
        concurrency = AT_ONCE + 2

        def __init__(self, environment: Any) -> None:
            self.host = next(addresses)
            super().__init__(environment)
            # a worker may be given one user more than it has people
            self.person: Mapping[str, str] = next(people, {})
            self.name: str = self.person.get("name", "")
            self.base: str = self.person.get("path", "")
            self.root = urlsplit(self.host).path
            self.real = not self.person.get("stand_in")
            self.sockets: list[Socket] = []
            self.xsrf: dict[str, str] = {}

        # --- asking

        def headers(self, **more: str) -> dict[str, str]:
            token = self.person.get("token")
            return {**({"Authorization": f"token {token}"} if token else {}), **more}

        def ask(
            self, method: str, name: str, path: str, *, good: tuple[int, ...] = (200,),
            lacks: bool = False, headers: Mapping[str, str] | None = None, **more: Any,
        ) -> Any:  # fmt: skip
            with self.client.request(
                method, path, name=name, catch_response=True,
                headers=self.headers(**(headers or {})), **more,
            ) as answer:  # fmt: skip
                if answer.status_code == 404 and lacks:
                    answer.request_meta["name"] = "file of another version"
                    answer.success()
                elif answer.status_code not in good:
                    answer.failure(
                        f"answered {answer.status_code}"
                        if answer.status_code
                        else f"{type(answer.error).__name__}: {answer.error}"
                    )
            return answer

        def must(self, method: str, name: str, path: str, **more: Any) -> Any:
            answer = self.ask(method, name, path, **more)
            if answer.status_code not in more.get("good", (200,)):
                raise Gone
            return answer

        def cookie(self, name: str, path: str) -> str:
            """The value of the cookie with the longest path that holds for this one."""
            full = self.root + path
            found = [
                one
                for one in self.client.cookiejar
                if one.name == name and full.startswith(one.path)
            ]
            return str(max(found, key=lambda one: len(one.path)).value) if found else ""

        # --- the hub

        def sign_in(self) -> None:
            if not password:
                return
            page = self.must("GET", "sign-in page", "/hub/login")
            for one in recording.sign_in_files():
                self.ask(one.method, "hub's files", one.path, lacks=True)
            found = _TOKEN.search(page.text or "")
            form = {
                "username": self.name, "password": password,
                "_xsrf": found[1] if found else self.cookie("_xsrf", "/hub/login"),
            }  # fmt: skip
            self.must(
                "POST", "sign in", "/hub/login", data=form, good=(200, 302), allow_redirects=False
            )

        def start_server(self) -> None:
            if password:
                self.must(
                    "GET", "ask for a server", f"/hub/spawn/{self.name}", good=(200, 302),
                    allow_redirects=False,
                )  # fmt: skip
            else:
                self.must(
                    "POST", "ask for a server", f"/hub/api/users/{self.name}/server",
                    good=(201, 202), data="{}",
                )  # fmt: skip
            begun, ready = time.perf_counter(), False
            query = f"?_xsrf={self.cookie('_xsrf', '/hub/')}" if password else ""
            answer = self.must(
                "GET", "progress opens", f"/hub/api/users/{self.name}/server/progress{query}",
                stream=True, headers={"Accept": "text/event-stream"},
            )  # fmt: skip
            error: Exception | None = None
            try:
                ready = self._progress(answer._response)
                if not ready:
                    error = ConnectionError("the stream of its progress ended before it was ready")
            except FAILURE_EXCEPTIONS as failed:
                error = failed
            finally:
                answer._response.release()
            self.environment.events.request.fire(
                request_type="SSE", name="server starts", exception=error, context={},
                response_time=(time.perf_counter() - begun) * 1000, response_length=0,
            )  # fmt: skip
            if error:
                raise Gone

        def _progress(self, stream: Any) -> bool:
            said, ends = b"", time.monotonic() + STARTS
            while part := stream.read(64):
                said += part
                if b'"ready": true' in said:
                    return True
                if b'"failed": true' in said:
                    raise ConnectionError("the server did not start")
                if time.monotonic() > ends:
                    raise TimeoutError(f"no server within {STARTS:g} s")
            return False

        # --- the server

        def open_lab(self) -> None:
            if not self.real and password:
                # the stand-in sends nobody to sign in: the same way, without its redirects
                query = (
                    f"client_id=jupyterhub-user-{self.name}&response_type=code&state=x"
                    f"&redirect_uri={self.base}oauth_callback"
                )
                self.must("GET", "OAuth", f"/hub/api/oauth2/authorize?{query}")
            page = self.must("GET", "lab's page", f"{self.base}lab", headers={SIZE: "4828"})
            if "/hub/" in (page.url or ""):
                self.environment.events.request.fire(
                    request_type="GET", name="first page", response_time=0, response_length=0,
                    exception=ConnectionError("sent back to the hub"), context={},
                )  # fmt: skip
                raise Gone
            if self.real:
                self.xsrf = {"X-XSRFToken": self.cookie("_xsrf", self.base)}

        def socket(self, path: str) -> Socket:
            cookies = "; ".join(f"{one.name}={one.value}" for one in self.client.cookiejar
                                if (self.root + self.base).startswith(one.path))  # fmt: skip
            found = Socket(self, path, self.headers(**({"Cookie": cookies} if cookies else {})))
            self.sockets.append(found)
            return found

        def replay(self, phase: str) -> None:
            """What was recorded, at its times, six at once."""
            begun, pool = time.monotonic(), Pool(AT_ONCE)
            for one in recording.phase(phase):
                if self.real and one.method != "GET":
                    continue  # a real server wants contents, not sizes
                gevent.sleep(max(0.0, begun + one.at - time.monotonic()))
                more: dict[str, Any] = {"data": "x" * one.sends} if one.sends else {}
                good = (200, 201, 204) if one.method != "GET" else (200,)
                pool.spawn(
                    self.ask, one.method, "lab's files" if one.is_file else "lab's API",
                    one.path.replace("{user}", self.name).replace("{id}", "k"), good=good,
                    lacks=self.real and (one.is_file or "/api/" not in one.path),
                    headers={SIZE: str(one.size)}, **more,
                )  # fmt: skip
            pool.join()

        def open_notebook(self) -> Socket:
            if self.real:
                self.must(
                    "POST", "lab's API", f"{self.base}api/contents", good=(201,),
                    data=json.dumps({"type": "notebook"}), headers=self.xsrf,
                )  # fmt: skip
            body = {"path": NOTEBOOK, "name": NOTEBOOK, "type": "notebook",
                    "kernel": {"name": "python3"}}  # fmt: skip
            made = self.must(
                "POST", "kernel starts", f"{self.base}api/sessions", good=(201,),
                data=json.dumps(body), headers=self.xsrf,
            )  # fmt: skip
            kernel = made.json()["kernel"]["id"]
            found = self.socket(
                f"{self.base}api/kernels/{kernel}/channels?session_id={uuid.uuid4()}"
            )
            if not found.open("WebSocket opens"):
                raise Gone
            return found

        def run_cell(self, kernel: Socket, code: str) -> None:
            ident = uuid.uuid4().hex
            message = {
                "channel": "shell", "parent_header": {}, "metadata": {}, "buffers": [],
                "header": {
                    "msg_id": ident, "msg_type": "execute_request", "username": "",
                    "version": "5.3",
                    "session": ident, "date": "2026-01-01T00:00:00Z",
                },
                "content": {"code": code, "silent": False, "store_history": True,
                            "user_expressions": {}, "allow_stdin": False},
            }  # fmt: skip
            if not kernel.open("WebSocket opens again"):
                return
            with kernel.counted("cell runs"):
                kernel.send(json.dumps(message))
                ends = time.monotonic() + STARTS
                while True:
                    said = json.loads(kernel.receive())
                    if said["parent_header"].get("msg_id") == ident and (
                        said["content"].get("execution_state") == "idle"
                    ):
                        return
                    if time.monotonic() > ends:
                        raise TimeoutError(f"no answer within {STARTS:g} s")

        def work(self, kernel: Socket) -> None:
            ends, content = time.monotonic() + work, {"cells": [], "metadata": {}, "nbformat": 4,
                                                      "nbformat_minor": 5}  # fmt: skip
            for number in itertools.count(1):
                pause = random.uniform(0.5, 1.5) * THINKS  # noqa: S311
                gevent.sleep(max(0.0, min(pause, ends - time.monotonic())))
                if time.monotonic() >= ends:
                    return
                self.run_cell(kernel, f"print({number} * 7)")
                if number % SAVES == 0:
                    self.ask(
                        "PUT", "notebook is saved", f"{self.base}api/contents/{NOTEBOOK}",
                        good=(200, 201), headers=self.xsrf,
                        data=json.dumps({"type": "notebook", "content": content}),
                    )  # fmt: skip
                self.ask("GET", "lab's API", f"{self.base}api/sessions")

        def leave(self) -> None:
            for one in self.sockets:
                one.close()
            token = {"X-XSRFToken": self.cookie("_xsrf", "/hub/")} if password else {}
            self.ask(
                "DELETE", "server stops", f"/hub/api/users/{self.name}/server", good=(202, 204),
                headers={**token, "Referer": f"{self.host}/hub/home"},
            )  # fmt: skip

        @task
        def attend(self) -> None:
            """The whole class."""
            if not self.person:
                raise StopUser
            started = False
            try:
                self.sign_in()
                self.start_server()
                started = True
                self.open_lab()
                self.socket(f"{self.base}api/events/subscribe").open("WebSocket opens")
                self.replay("lab")
                kernel = self.open_notebook()
                self.replay("notebook")
                self.work(kernel)
            except Gone:
                pass
            except gevent.GreenletExit:
                started = False  # the load is over, and nobody waits
                raise
            finally:
                with contextlib.suppress(Gone):
                    if started:
                        self.leave()
            raise StopUser

        def on_stop(self) -> None:
            for one in self.sockets:
                one.close()

    return [Student]
