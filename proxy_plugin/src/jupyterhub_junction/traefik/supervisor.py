"""Keeps Traefik (and, in a replica, the agent) running, and ends them together.

* :class:`Child` is a process that is started again, with a back-off, whenever it ends.
* :func:`run_replica` is one replica: Traefik and its agent.  When either dies, the other goes
  on serving and the dead one is started again.  Who connects while there is no Traefik waits at
  the door (:mod:`.sockets`) until the next one is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from .sockets import Door

__all__ = ["Child", "run_replica"]

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    # so that killing the supervisor leaves no Traefik behind that serves an ageing table
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process that is started again when it ends, until it is told to stop.

    The back-off between starts goes from 0.05 s to 5 s; one that lived for 10 s starts afresh.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: logging.Logger,
        *,
        pid_file: Path | None = None,
        fatal_codes: Sequence[int] = (),
        pass_fds: Sequence[int] = (),
        door: Door | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.pid_file = pid_file
        self.fatal_codes = tuple(fatal_codes)
        self.pass_fds = tuple(pass_fds)
        self.door = door
        self.environment = environment
        self.process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start the process once; it gets the sockets behind the door, if there is one."""
        kept, hand_over = self.door.handing_over() if self.door else ((), None)

        def before_exec() -> None:
            _die_with_parent()
            # not as an argument: handing over sets variables too, with the child's process id
            os.environ.update(self.environment)
            if hand_over is not None:
                hand_over()

        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=before_exec,
            pass_fds=(*kept, *self.pass_fds),
            start_new_session=True,
        )
        if self.pid_file is not None:
            self.pid_file.write_text(str(self.process.pid))

    async def keep(self, on_restart: Callable[[], None] | None = None) -> int:
        """Wait for the process, and start it again when it ends; returns once it was stopped.

        Returns:
            The exit code: 0 after :meth:`stop`, else one of ``fatal_codes``.
        """
        pause = 0.05
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                if self.process is None:
                    await self.start()
                assert self.process is not None
                code = await self.process.wait()
                said = f"ended with code {code}"
            except (OSError, subprocess.SubprocessError) as error:  # no memory, say, or no room
                code, said = 1, f"cannot be started: {error}"
            if self._stopping:
                return 0
            if code in self.fatal_codes:
                return code
            if loop.time() - begun > 10:
                pause = 0.05
            # first, and said then: whoever comes after this line waits for the next one
            if on_restart is not None:
                on_restart()
            self.log.error("%s %s: starting it again", self.name, said)
            self.process = None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    def retire(self) -> None:
        """Do not start it again when it ends."""
        self._stopping = True

    def kill(self) -> None:
        """End the process at once; :meth:`keep` does not start it again."""
        self._stopping = True
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def signal(self, number: int) -> None:
        """Send a signal, if the process is there."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self, timeout: float) -> None:
        """SIGTERM, and SIGKILL after ``timeout`` seconds."""
        self._stopping = True
        self.signal(signal.SIGTERM)
        if self.process is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self.process.wait()
        except TimeoutError:
            self.log.warning("%s did not end within %g s: killed", self.name, timeout)
            self.kill()
            await self.process.wait()


#: Seconds that a Traefik may answer without being loaded, before users are let in to it: etcd
#: may have no table yet, and an answer that says so is better than none.
ADMIT_AFTER = 5.0


async def _admit(door: Door, loaded: Callable[[], Awaitable[bool | None]]) -> None:
    """Open the door once Traefik is loaded."""
    loop = asyncio.get_running_loop()
    answers_since = None
    while not (answer := await loaded()):
        if answer is not None:
            answers_since = answers_since or loop.time()
            if loop.time() - answers_since > ADMIT_AFTER:
                break
        await asyncio.sleep(0.01)
    door.open()


async def run_replica(
    traefik: Child,
    agent: Child,
    log: logging.Logger,
    *,
    door: Door,
    loaded: Callable[[], Awaitable[bool | None]],
    grace: float,
    accept_grace: float,
) -> int:
    """Run both until SIGTERM or SIGINT, then drain; returns the exit code.

    On SIGTERM the agent first says that the replica is not ready, Traefik goes on accepting for
    ``accept_grace`` seconds, then has ``grace`` seconds for what is open.

    Args:
        door: what Traefik's sockets stand behind; closed at the end.
        loaded: whether Traefik serves its routes; None if it does not answer.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    admitting = asyncio.create_task(_admit(door, loaded))

    def restarted() -> None:
        nonlocal admitting
        door.shut()
        admitting.cancel()
        admitting = asyncio.create_task(_admit(door, loaded))

    keepers: list[asyncio.Task[int]] = []
    stopping = asyncio.create_task(stop.wait())
    try:
        await traefik.start()
        await agent.start()
        keepers.append(asyncio.create_task(traefik.keep(restarted)))
        keepers.append(asyncio.create_task(agent.keep()))
        await asyncio.wait([*keepers, stopping], return_when=asyncio.FIRST_COMPLETED)
        for keeper in keepers:
            if keeper.done() and not stop.is_set():
                return keeper.result()
        log.info("draining")
        agent.retire()  # a new one would not know that this replica is leaving
        agent.signal(signal.SIGUSR1)
        # from here on the sockets are Traefik's alone, so that they close when it closes them
        admitting.cancel()
        door.close()
        await traefik.stop(grace + accept_grace + 5)
        await agent.stop(5)
        return 0
    finally:
        door.close()
        for child in (traefik, agent):
            child.kill()
        for task in (*keepers, stopping, admitting):
            task.cancel()
        await asyncio.gather(*keepers, stopping, admitting, return_exceptions=True)
