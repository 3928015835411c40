"""A forwarder in a thread with a loop of its own.

So what it carries does not hold up its owner's loop, nor the other way round.  Invariants:

* The forwarder and all its connections belong to the thread; others reach them by
  :meth:`ForwarderThread.call`.
* The thread ends with :meth:`ForwarderThread.stop`, and does not keep the process alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from . import loops
from .server import Forwarder

__all__ = ["ForwarderThread"]

T = TypeVar("T")


class ForwarderThread:
    """Runs a forwarder.

    Args:
        forwarder: not started yet.
        listen: called in the thread's loop, makes it listen.
        name: of the thread.
        timeout: seconds that starting, and each call, may take.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        listen: Callable[[], Awaitable[None]],
        *,
        name: str,
        timeout: float = 30.0,
    ) -> None:
        self.forwarder = forwarder
        self._listen = listen
        self._name = name
        self._timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._grace = 0.0
        self._ended: asyncio.Event | None = None
        self._given_up = False

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the address cannot be listened on.
            TimeoutError: not in time.
        """
        loop = asyncio.get_running_loop()
        ended = self._ended = asyncio.Event()
        started: asyncio.Future[asyncio.AbstractEventLoop] = loop.create_future()

        def tell(error: Exception | None, own: asyncio.AbstractEventLoop) -> None:
            if started.done():
                return
            if error is None:
                started.set_result(own)
            else:
                started.set_exception(error)

        async def run() -> None:
            own = asyncio.get_running_loop()
            # a name of its own: stop() may have let go of the attribute before the wait begins
            stop = self._stop = asyncio.Event()
            try:
                await self._listen()
            except Exception as error:
                await self.forwarder.stop()
                loop.call_soon_threadsafe(tell, error, own)
                return
            loop.call_soon_threadsafe(tell, None, own)
            if self._given_up:
                stop.set()
            await stop.wait()
            await self.forwarder.stop(self._grace)

        def work() -> None:
            try:
                loops.run(run())
            finally:
                with contextlib.suppress(RuntimeError):  # its owner's loop is closed
                    loop.call_soon_threadsafe(ended.set)

        self._thread = threading.Thread(target=work, name=self._name, daemon=True)
        self._thread.start()
        try:
            async with asyncio.timeout(self._timeout):
                self._loop = await started
        except TimeoutError:
            self._given_up = True  # it ends as soon as it listens
            raise

    async def wait(self) -> None:
        """Return when the thread has ended."""
        if self._ended is not None:
            await self._ended.wait()

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function in the thread's loop; returns what it returns.

        Raises:
            RuntimeError: the thread does not run.
            TimeoutError: it does not answer in time.
        """
        if self._loop is None:
            raise RuntimeError("the forwarder does not run")

        async def work() -> T:
            return function()

        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        async with asyncio.timeout(self._timeout):
            return await asyncio.wrap_future(future)

    async def stop(self, grace: float = 0.0) -> None:
        """Stop listening, let requests end for ``grace`` seconds, and cut the rest.

        Raises:
            RuntimeError: the thread does not end.
        """
        thread, loop, stop = self._thread, self._loop, self._stop
        self._thread = self._loop = self._stop = None
        if thread is None or loop is None or stop is None:
            return
        self._grace = grace
        with contextlib.suppress(RuntimeError):  # it has ended, and its loop is closed
            loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(thread.join, grace + self._timeout)
        if thread.is_alive():
            raise RuntimeError(f"the thread {self._name} does not end")
