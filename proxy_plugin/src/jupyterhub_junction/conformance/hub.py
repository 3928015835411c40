"""What the hub does with its proxy: check_routes, users, services, restarts."""

from __future__ import annotations

import asyncio
from typing import Any

from .backend import Backend
from .behaviours import behaviour
from .implementation import Options
from .surroundings import fake_service, fake_spawner, fake_user
from .world import World

NAMES = {
    "ascii": "zoe",
    "digits": "50fia",
    "unicode": "秀樹",
    "tilde": "~TestJH",
    "at": "has@",
    "space": "has space",
    "quotes": "o'n\"e`",
    "percent": "50%",
}


def _user(world: World, name: str, backend: Backend, server: str = "") -> Any:
    user = fake_user(f"{world.user}{name}", world.options)
    spec = f"{user.proxy_spec}{server}/" if server else user.proxy_spec
    user.spawners[server] = fake_spawner(spec, backend.url)
    world.specs[spec] = None
    return user


async def _listed(world: World) -> list[str]:
    return sorted(await world.proxy.get_all_routes())


async def _serves(world: World, backend: Backend, spec: str) -> None:
    host, slash, rest = spec.partition("/")
    for answer in await world.get(f"{slash}{rest}x", host=host or None):
        backend.seen(answer)


def _check_routes(label: str, name: str, options: Options) -> None:
    hosts = "-host" if options.host_routing else ""

    @behaviour(
        f"check-routes-{label}{hosts}",
        f"check_routes puts the lost route of the user `{name}` back, and changes nothing else.",
        options=options,
    )
    async def body(world: World) -> None:
        backend = await world.backend()
        await world.proxy.check_routes({}, {})
        assert await _listed(world) == [world.around.hub.routespec]
        user = _user(world, name, backend)
        users = {user.name: user}
        await world.proxy.add_user(user, "")
        before = await _listed(world)
        assert user.proxy_spec in before
        await world.proxy.check_routes(users, {})
        assert await _listed(world) == before
        await world.proxy.delete_user(user)
        assert user.proxy_spec not in await _listed(world)
        await world.proxy.check_routes(users, {})
        assert await _listed(world) == before
        await _serves(world, backend, user.proxy_spec)


for _label, _name in NAMES.items():
    _check_routes(_label, _name, Options())
for _label in ("ascii", "tilde"):
    _check_routes(_label, NAMES[_label], Options(host_routing=True))


@behaviour("check-routes-stale", "check_routes deletes the routes that nobody has.")
async def check_routes_stale(world: World) -> None:
    backend = await world.backend()
    user = _user(world, "", backend)
    await world.proxy.add_user(user, "")
    await world.add(f"{world.spec}stale/", backend.url, {"user": "x"})
    await world.add(f"{world.spec}stale/er/", backend.url, {"service": "x"})
    await world.proxy.check_routes({user.name: user}, {})
    assert await _listed(world) == [world.around.hub.routespec, user.proxy_spec]


@behaviour("check-routes-target", "check_routes corrects a target that has changed.")
async def check_routes_target(world: World) -> None:
    old, new = await world.backend(), await world.backend()
    user = _user(world, "", new)
    await world.route(old, user.proxy_spec, {"user": user.name, "server_name": ""})
    await world.proxy.check_routes({user.name: user}, {})
    await world.served_by(new, user.proxy_spec)


@behaviour("check-routes-pending", "check_routes leaves the route of a server that is stopping.")
async def check_routes_pending(world: World) -> None:
    backend = await world.backend()
    user = _user(world, "", backend)
    await world.route(backend, user.proxy_spec, {"user": user.name, "server_name": ""})
    user.spawners[""].ready, user.spawners[""].pending = False, "stop"
    await world.proxy.check_routes({user.name: user}, {})
    await _serves(world, backend, user.proxy_spec)
    user.spawners[""].pending = None
    await world.proxy.check_routes({user.name: user}, {})
    assert user.proxy_spec not in await _listed(world)


@behaviour("check-routes-hub", "check_routes puts the hub's own route back, and corrects it.")
async def check_routes_hub(world: World) -> None:
    routespec = world.around.hub.routespec
    await world.proxy.delete_route(routespec)
    await world.proxy.check_routes({}, {})
    await world.served_by(world.hub, routespec)
    backend = await world.backend()
    await world.proxy.add_route(routespec, backend.url, {"hub": True})
    await world.proxy.check_routes({}, {})
    await world.served_by(world.hub, routespec)


@behaviour(
    "check-routes-concurrent", "Calls of check_routes at once do not get in each other's way."
)
async def check_routes_concurrent(world: World) -> None:
    backend = await world.backend()
    made = [_user(world, f"-{number}", backend) for number in range(20)]
    users = {user.name: user for user in made}
    await asyncio.gather(
        *(world.proxy.check_routes(users, {}) for _ in range(4)),
        *(world.proxy.delete_user(user) for user in made[:5]),
        *(world.proxy.add_user(user, "") for user in made[5:10]),
    )
    await world.proxy.check_routes(users, {})
    wanted = [world.around.hub.routespec, *(user.proxy_spec for user in made)]
    assert await _listed(world) == sorted(wanted)
    for user in made:
        await _serves(world, backend, user.proxy_spec)


@behaviour("named-servers", "A user's named servers have routes of their own.")
async def named_servers(world: World) -> None:
    default, named = await world.backend(), await world.backend()
    user = _user(world, "", default)
    user.spawners["srv"] = _user(world, "", named, "srv").spawners["srv"]
    await world.proxy.check_routes({user.name: user}, {})
    await world.served_by(named, f"{user.proxy_spec}srv/")
    await _serves(world, default, user.proxy_spec)
    routes = await world.proxy.get_all_routes()
    assert routes[f"{user.proxy_spec}srv/"]["data"]["server_name"] == "srv"
    await world.proxy.delete_user(user, "srv")
    await world.served_by(default, f"{user.proxy_spec}srv/")


@behaviour("services", "Services have routes, which check_routes keeps.")
async def services(world: World) -> None:
    backend = await world.backend()
    service = fake_service(f"s{world.user}", backend.url, world.options)
    world.specs[service.proxy_spec] = None
    await world.proxy.add_service(service)
    await world.served_by(backend, service.proxy_spec)
    await world.proxy.check_routes({}, {service.name: service})
    await _serves(world, backend, service.proxy_spec)
    await world.proxy.delete_service(service)
    assert service.proxy_spec not in await _listed(world)
    await world.proxy.check_routes({}, {service.name: service})
    await _serves(world, backend, service.proxy_spec)


@behaviour("all-users-and-services", "add_all_users and add_all_services fill an empty table.")
async def all_users_and_services(world: World) -> None:
    backend = await world.backend()
    made = [_user(world, f"-{number}", backend) for number in range(10)]
    service = fake_service(f"s{world.user}", backend.url, world.options)
    world.specs[service.proxy_spec] = None
    await world.proxy.add_all_users({user.name: user for user in made})
    await world.proxy.add_all_services({service.name: service})
    for spec in (service.proxy_spec, *(user.proxy_spec for user in made)):
        await _serves(world, backend, spec)


EXTRA = {
    "space": ("has%20space/foo/", "has%20space/foo/"),
    "no-slash": ("missing-trailing/slash", "missing-trailing/slash/"),
    "at": ("has/@/", "has/@/"),
    "unicode": ("has/%C3%BC%C3%B1%E2%88%82%C3%A9", "has/%C3%BC%C3%B1%E2%88%82%C3%A9/"),
}


def _extra_route(label: str, given: str, listed: str) -> None:
    @behaviour(f"extra-routes-{label}", f"The extra route `/…/{given}` is kept by check_routes.")
    async def body(world: World) -> None:
        backend = await world.backend()
        world.specs[world.spec + listed] = None
        world.proxy.extra_routes = {world.spec + given: f"{backend.url}/test"}
        try:
            for _ in range(2):
                await world.proxy.check_routes({}, {})
                routes = await world.proxy.get_all_routes()
                assert routes[world.spec + listed]["target"] == f"{backend.url}/test"
                assert routes[world.spec + listed]["data"]["extra"] is True
        finally:
            world.proxy.extra_routes = {}


for _label, (_given, _listed_as) in EXTRA.items():
    _extra_route(_label, _given, _listed_as)


@behaviour("hub-restart", "A hub that restarts finds its routes kept.", needs=["hub-restart"])
async def hub_restart(world: World) -> None:
    assert world.running.restart_hub is not None
    backend = await world.serve(data={"user": world.user, "server_name": ""})
    before = await world.proxy.get_all_routes()
    world.running.proxy = await world.running.restart_hub()
    for answer in await world.get(world.path("x")):
        backend.seen(answer)
    after = await world.proxy.get_all_routes()
    assert after.keys() == before.keys()
    assert after[world.spec]["target"] == backend.url
    assert after[world.spec]["data"]["user"] == world.user
    other = await world.backend()
    await world.route(other)
    await world.proxy.delete_route(world.spec)
    assert world.spec not in await world.proxy.get_all_routes()


@behaviour(
    "hub-restart-check",
    "A restarted hub's check_routes repairs what changed meanwhile.",
    needs=["hub-restart"],
)
async def hub_restart_check(world: World) -> None:
    assert world.running.restart_hub is not None
    old, new = await world.backend(), await world.backend()
    user = _user(world, "", new)
    await world.add(user.proxy_spec, old.url, {"user": user.name, "server_name": ""})
    await world.add(f"{world.spec}gone/", old.url, {"user": "gone", "server_name": ""})
    world.running.proxy = await world.running.restart_hub()
    await world.proxy.check_routes({user.name: user}, {})
    assert await _listed(world) == [world.around.hub.routespec, user.proxy_spec]
    await world.served_by(new, user.proxy_spec)


@behaviour(
    "proxy-restart",
    "After a restart of the proxy, check_routes leaves all routes served.",
    needs=["proxy-restart"],
)
async def proxy_restart(world: World) -> None:
    assert world.running.restart_proxy is not None
    backend = await world.backend()
    user = _user(world, "", backend)
    await world.proxy.add_user(user, "")
    before = await _listed(world)
    await world.running.restart_proxy()
    await world.proxy.check_routes({user.name: user}, {})
    assert await _listed(world) == before
    await world.served_by(backend, user.proxy_spec)
    await world.served_by(world.hub, world.around.hub.routespec)
