"""Users who work: small and large answers, uploads, WebSocket echoes and event streams.

Whose server is asked is skewed as on a real hub: a few are asked much, most of them little
(Zipf's law with exponent 1).
"""

from __future__ import annotations

import bisect
import itertools
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from locust import FastHttpUser, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS

from ..standin import EVENT_PAUSE, SIZE
from .sockets import PATIENCE, Socket

__all__ = ["classes"]

#: bytes of a large answer and of an upload
LARGE = 1_000_000
UPLOAD = 200_000
#: seconds between two keys in a terminal, and what clears its line (Ctrl-U)
KEYS, CLEAR = 0.5, "\x15"
#: of all users, so many hold a WebSocket, and so many an event stream
TALKERS = 0.3
LISTENERS = 0.1


class People:
    """Whom requests are for, the first of them most often."""

    def __init__(self, people: Sequence[Mapping[str, str]]) -> None:
        self.people = people
        weights = (1 / rank for rank in range(1, len(people) + 1))
        self._sums = list(itertools.accumulate(weights))

    def anyone(self) -> Mapping[str, str]:
        """One of them."""
        at = bisect.bisect(self._sums, random.random() * self._sums[-1])  # noqa: S311
        return self.people[min(at, len(self.people) - 1)]


def typed(message: str) -> str:
    """What a terminal's message says: ``["stdout", text]``; all of it if it is none."""
    try:
        said = json.loads(message)
    except ValueError:
        return message
    return str(said[-1]) if isinstance(said, list) and said else message


def headers(person: Mapping[str, str], **more: str) -> dict[str, str]:
    """A request's headers in the name of a person."""
    token = person.get("token")
    return {**({"Authorization": f"token {token}"} if token else {}), **more}


def paced(pace: float) -> Callable[[FastHttpUser], float]:
    """Locust's wait: every ``pace`` seconds on average, at times of each user's own.

    A pace that is kept exactly would bring users together: those whom one stall has held up would
    ask at the same moment ever after, and what is measured is a burst that nobody has ordered.
    """

    times: dict[FastHttpUser, float] = {}

    def wait(user: FastHttpUser) -> float:
        now = time.monotonic()
        # one that is behind does not catch up
        last = max(times.get(user, now), now - pace)
        times[user] = last + pace * random.uniform(0.5, 1.5)  # noqa: S311
        return max(0.0, times[user] - now)

    return wait


def classes(setup: Mapping[str, Any]) -> list[type[FastHttpUser]]:
    """The classes of users, each with its number of them."""
    people = People(setup["people"])
    addresses = itertools.cycle(setup["addresses"])
    count = int(setup["count"])
    stand_in = bool(setup.get("stand_in"))
    talkers = max(1, round(TALKERS * count)) if setup.get("sockets", True) else 0
    listeners = max(1, round(LISTENERS * count)) if stand_in and talkers else 0
    browsers = max(1, count - talkers - listeners)
    large, upload = int(setup.get("large", LARGE)), int(setup.get("upload", UPLOAD))
    body = json.dumps({"type": "file", "format": "text", "content": "x" * upload})
    # 0: as fast as answers come
    pace = browsers / setup["rate"] if setup["rate"] else 0.0

    class User(FastHttpUser):
        abstract = True
        connection_timeout = PATIENCE
        network_timeout = PATIENCE

        def __init__(self, environment: Any) -> None:
            self.host = next(addresses)
            super().__init__(environment)

        def ask(self, method: str, name: str, path: str, status: int, **more: Any) -> None:
            person = people.anyone()
            with self.client.request(
                method, person["path"] + path, name=name, catch_response=True,
                headers=headers(person, **more.pop("headers", {})), allow_redirects=False, **more,
            ) as answer:  # fmt: skip
                if answer.status_code not in (status, 200):
                    answer.failure(
                        f"answered {answer.status_code}" if answer.status_code else answer.error
                    )

    class Browser(User):
        fixed_count = browsers
        wait_time = paced(pace)

        def on_start(self) -> None:
            # not all at once
            time.sleep(random.random() * pace)  # noqa: S311

        @task(85)
        def small(self) -> None:
            self.ask("GET", "small", "api", 200)

        @task(10)
        def large(self) -> None:
            self.ask("GET", "large", "files/loadtest-large.txt", 200, headers={SIZE: str(large)})

        @task(5)
        def upload(self) -> None:
            self.ask(
                "PUT", "upload", "api/contents/loadtest-upload.txt", 201, data=body,
                headers={"Content-Type": "application/json"},
            )  # fmt: skip

    class Talker(User):
        fixed_count = talkers
        wait_time = paced(KEYS)

        def on_start(self) -> None:
            person = people.anyone()
            terminal = person.get("terminal", "1")
            path = f"{person['path']}terminals/websocket/{terminal}"
            self.socket = Socket(self, path, headers(person))

        @task
        def key(self) -> None:
            if not self.socket.open("WebSocket opens"):
                return
            sent = f"{random.randrange(10**6):06}"  # noqa: S311
            with self.socket.counted("WebSocket echo"):
                # of a real terminal the line is cleared first, or it would be wrapped some time
                self.socket.send(json.dumps(["stdin", CLEAR + sent]))
                ends, said = time.monotonic() + PATIENCE, ""
                while sent not in said:
                    # no more is kept than what the next part may complete
                    said = said[-len(sent) :] + typed(self.socket.receive())
                    if time.monotonic() > ends:
                        raise TimeoutError("no echo")

        def on_stop(self) -> None:
            self.socket.close()

    class Listener(User):
        fixed_count = listeners
        wait_time = paced(0)

        @task
        def stream(self) -> None:
            """One stream of 20 events: how late each comes is counted."""
            person = people.anyone()
            fired = self.environment.events.request.fire
            with self.client.get(
                f"{person['path']}stand-in/events", name="stream opens", stream=True,
                headers=headers(person), catch_response=True,
            ) as answer:  # fmt: skip
                if answer.status_code != 200:
                    answer.failure(
                        f"answered {answer.status_code}" if answer.status_code else answer.error
                    )
            if answer.status_code != 200:
                time.sleep(1)
                return
            last = None
            try:
                for _ in range(20):
                    error, got = None, b""
                    while not got.endswith(b"\n\n"):
                        part = answer._response.read(1)
                        if not part:
                            raise ConnectionError("stream ended")
                        got += part
                    now = time.monotonic()
                    if last is not None:
                        late = max(0.0, now - last - EVENT_PAUSE)
                        fired(request_type="SSE", name="stream event", response_time=late * 1000,
                              response_length=len(got), exception=error, context={})  # fmt: skip
                    last = now
            except FAILURE_EXCEPTIONS as failed:
                fired(request_type="SSE", name="stream event", response_time=0,
                      response_length=0, exception=failed, context={})  # fmt: skip
            finally:
                answer._response.release()

    return [one for one in (Browser, Talker, Listener) if one.fixed_count]
