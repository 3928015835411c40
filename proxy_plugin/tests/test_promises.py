"""The promises of the design, on real replicas and a real etcd whose parts are killed.

While parts fail, :class:`Load` asks for a user's server over and over at the replicas that are
to go on, and counts what does not come from that server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from harness.replicas import Replica
from harness.waiting import until
from harness.world import Load, World, make_world

from jupyterhub_junction.keys import REPLICAS, ROUTES
from jupyterhub_junction.ports import free_ports
from jupyterhub_junction.store import Delete, Put, StoreError

pytestmark = pytest.mark.needs_programs


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(tmp_path) as made:
        yield made


async def _live_names(world: World) -> set[str]:
    store = world.cluster.store()
    try:
        snapshot = await store.read(REPLICAS)
    finally:
        await store.close()
    return {item.key.removeprefix(REPLICAS) for item in snapshot.items}


async def test_add_and_delete_are_live_at_every_replica_when_they_return(world: World) -> None:
    for number in range(10):
        path = await world.add(f"u{number}")
        for replica in world.replicas:
            assert await world.ask(replica, path) == "200 server"
    for number in range(10):
        await world.proxy.delete_route(f"/user/u{number}/")
        for replica in world.replicas:
            assert await world.ask(replica, f"/user/u{number}/") == "200 hub"


async def test_a_killed_replica_comes_back_with_the_same_table(world: World) -> None:
    one, two = world.replicas
    async with Load(world, one):
        two.kill()
        await world.add("meanwhile")
        two.start()
        await two.ready()
    assert await world.ask(two, "/user/zoe/") == "200 server"
    assert await world.ask(two, "/user/meanwhile/") == "200 server"


async def test_a_killed_agent_is_started_again_and_traefik_serves_on(world: World) -> None:
    one, two = world.replicas
    async with Load(world, one, two):
        before = two.child("agent")
        two.signal_child("agent")

        async def back() -> bool:
            with contextlib.suppress(ProcessLookupError):
                return two.child("agent") != before
            return False

        await until(back, "the agent runs again")
        await two.ready()
        await world.add("after")
    assert await world.ask(two, "/user/after/") == "200 server"


async def test_a_killed_traefik_is_loaded_again(world: World) -> None:
    one, two = world.replicas
    async with Load(world, one):
        before = (await two.status())["applies"]
        two.signal_child("traefik")
        await two.until("loaded again", lambda s: s["ready"] and s["applies"] > before)
    assert await world.ask(two, "/user/zoe/") == "200 server"


@dataclass
class Newcomer:
    """One request on a connection of its own."""

    begun: float
    answer: str = "none yet"
    took: float = 0.0


async def _come(replica: Replica, newcomer: Newcomer) -> None:
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=30)
    ) as session:
        try:
            async with session.get(replica.url + "/user/zoe/x") as response:
                newcomer.answer = f"{response.status} {await response.text()}"
        except (aiohttp.ClientError, TimeoutError) as error:
            newcomer.answer = f"no answer: {error!r}"
    newcomer.took = loop.time() - newcomer.begun


@pytest.mark.parametrize("privileged", [True, False], ids=["privileged", "unprivileged"])
@pytest.mark.parametrize("shared_port", [False, True], ids=["own-port", "shared-port"])
async def test_who_comes_while_traefik_is_dead_waits_for_the_next_one(
    tmp_path: Path, shared_port: bool, privileged: bool
) -> None:
    """None is refused, and none gets the 404 of a Traefik that is not loaded yet."""
    async with make_world(tmp_path, shared_port=shared_port, privileged=privileged) as world:
        await _newcomers(world.replicas[1])
        assert "may answer 404" not in world.replicas[1].log.read_text()


async def _newcomers(two: Replica) -> None:
    loop = asyncio.get_running_loop()
    for kill in range(1, 4):
        newcomers: list[Newcomer] = []
        killed = 0.0
        noticed = 0  # how many had begun when the supervisor had seen that its Traefik died
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in range(200):
                newcomers.append(Newcomer(loop.time()))
                group.create_task(_come(two, newcomers[-1]))
                await asyncio.sleep(0.005)
                if number == 20:
                    killed = loop.time()
                    two.signal_child("traefik")
                if not noticed and two.log.read_text().count("traefik ended") == kill:
                    noticed = len(newcomers)
        assert noticed, "nobody came while Traefik was dead"
        for number, newcomer in enumerate(newcomers):
            # those that the old one had, or was about to have, share its fate; none is refused
            assert "Cannot connect" not in newcomer.answer
            if number >= noticed or newcomer.begun + newcomer.took < killed:
                assert newcomer.answer == "200 server", f"{number} of {noticed}: {newcomer}"
        await two.ready()


async def test_a_replica_serves_at_all_its_addresses(tmp_path: Path) -> None:
    ports = free_ports(2)
    arguments = [f"--also-listen=127.0.0.1:{port}" for port in ports]
    async with make_world(tmp_path) as world:
        third = Replica("third", world.cluster, tmp_path, arguments)
        third.start()
        try:
            await third.ready()
            for port in (third.port, *ports):
                third.port = port
                assert await world.ask(third, "/user/zoe/") == "200 server"
        finally:
            third.kill()


async def test_no_request_fails_while_an_etcd_member_is_dead(world: World) -> None:
    async with Load(world, *world.replicas):
        for number in range(3):
            world.cluster.kill(number)
            path = await world.add(f"without-{number}")
            for replica in world.replicas:
                assert await world.ask(replica, path) == "200 server"
            await world.cluster.restart(number)


async def test_replicas_serve_on_without_etcd_and_the_next_check_repairs(world: World) -> None:
    async with Load(world, *world.replicas):
        world.cluster.kill_all()
        with pytest.raises(StoreError):
            await world.add("lost")
        for replica in world.replicas:
            await replica.until("not following", lambda s: not s["following"] and s["ready"])
        await world.cluster.restart()
        await world.check()
        for replica in world.replicas:
            await replica.ready()
    for replica in world.replicas:
        assert await world.ask(replica, "/user/lost/") == "200 server"


async def test_an_etcd_made_anew_takes_no_route_away(world: World) -> None:
    async with Load(world, *world.replicas):
        await world.cluster.wipe()

        async def checked() -> bool:
            # the hub may still be told by a member that is only starting
            with contextlib.suppress(StoreError):
                await world.check()
                return True
            return False

        await until(checked, "the hub has checked its routes")
        for replica in world.replicas:
            await replica.until(
                "follows the new etcd",
                lambda s: s["following"] and s["routes"] == 2,
            )
    await world.add("later")
    for replica in world.replicas:
        assert await world.ask(replica, "/user/later/") == "200 server"


async def test_an_etcd_restored_from_an_old_snapshot_takes_no_route_away(
    world: World, tmp_path: Path
) -> None:
    await world.cluster.snapshot(tmp_path / "old")
    await world.add("newer")
    newer = Load(world, *world.replicas, path="/user/newer/")
    async with Load(world, *world.replicas), newer:
        await world.cluster.restore(tmp_path / "old")

        async def checked() -> bool:
            with contextlib.suppress(StoreError):
                await world.check()
                return True
            return False

        await until(checked, "the hub has checked its routes")
        for replica in world.replicas:
            await replica.until("follows again", lambda s: s["following"] and s["routes"] == 3)


async def test_a_table_deleted_by_hand_is_not_taken_over(world: World) -> None:
    store = world.cluster.store()
    async with Load(world, *world.replicas):
        await store.write([Delete("table"), Delete(ROUTES + "/user/zoe/")])
        for replica in world.replicas:
            await replica.until("holds", lambda s: not s["following"] and s["ready"])
        await world.check()
        for replica in world.replicas:
            await replica.ready()
    await store.close()


async def test_broken_values_are_skipped_and_named(world: World) -> None:
    store = world.cluster.store()
    await store.write(
        [
            Put(ROUTES + "/user/no-json/", b"{"),
            Put(ROUTES + "/user/no-target/", b"{}"),
            Put(ROUTES + "/user/../up/", b'{"target":"http://127.0.0.1:1"}'),
            Put("routes-of-another", b"\xff"),
        ]
    )
    await store.write([Put(ROUTES + "/user/large/", b'"' + b"x" * 1_400_000 + b'"')])
    await store.close()
    path = await world.add("fine")
    for replica in world.replicas:
        status = await replica.until("bad keys", lambda s: len(s["bad_keys"]) == 4)
        assert ROUTES + "/user/no-json/" in status["bad_keys"]
        assert await world.ask(replica, path) == "200 server"
    assert set(await world.proxy.get_all_routes()) == {"/", "/user/zoe/", "/user/fine/"}


async def test_a_replica_that_is_stopped_leaves_at_once(world: World) -> None:
    _, two = world.replicas
    assert two.stop() == 0
    assert await _live_names(world) == {"one"}


async def test_a_silent_replica_stops_counting_when_its_lease_ends(world: World) -> None:
    one, two = world.replicas
    pids = [two.child("agent"), two.child("traefik")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        path = await world.add("without-two")
        assert await world.ask(one, path) == "200 server"
        assert "two" not in await _live_names(world)

        async def alone() -> bool:
            return await _live_names(world) == {"one"}

        await until(alone, "only the other one counts")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    await two.until("caught up", lambda s: s["routes"] == 3 and s["revision"] == s["known"])
    assert await world.ask(two, path) == "200 server"


async def test_it_all_works_with_tls_and_least_power(tmp_path: Path) -> None:
    async with make_world(tmp_path, tls=True, auth=True) as world:
        path = await world.add("safe")
        for replica in world.replicas:
            assert await world.ask(replica, path) == "200 server"
        agent = world.cluster.store("agent")
        with pytest.raises(StoreError):
            await agent.write([Put(ROUTES + "/user/evil/", b"{}")])
        await agent.close()

        async def active() -> bool:
            for replica in world.replicas:
                await world.ask(replica, path)
            routes = await world.proxy.get_all_routes()
            return "last_activity" in routes[path]["data"]

        await until(active, "last_activity is reported")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--etcd=http://127.0.0.1:1"], "127.0.0.1:1"),
        (["--etcd=nonsense"], "nonsense"),
    ],
)
def test_a_wrong_etcd_address_is_one_clear_line(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    command = [sys.executable, "-m", "jupyterhub_junction.cli", "replica"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--listen=127.0.0.1:0", "--name=lost", *arguments], stdout=file, stderr=file
        )

    async def seen() -> bool:
        lines = [line for line in log.read_text().splitlines() if said in line]
        return len(lines) == 1 or process.poll() is not None

    try:
        asyncio.run(until(seen, "the address stands in the log"))
        assert said in log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.terminate()
        process.wait(60)
