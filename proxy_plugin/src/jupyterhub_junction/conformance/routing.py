"""The routing table: what the hub writes is what is served, at once and by everyone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .backend import Backend
from .behaviours import behaviour
from .implementation import Options
from .surroundings import DOMAIN
from .world import World, until

HOSTS = Options(host_routing=True)


async def _raises(call: Callable[[], Awaitable[Any]], *kinds: type[Exception]) -> Exception:
    try:
        await call()
    except kinds as error:
        return error
    raise AssertionError("it was accepted")


async def _route(world: World, spec: str) -> dict[str, Any] | None:
    return dict(await world.proxy.get_all_routes()).get(spec)


async def _gone(world: World, backend: Backend, target: str) -> None:
    """Wait until no replica sends requests for a target to a backend."""

    async def check() -> bool:
        return all(a.backend != backend.name for a in await world.get(target))

    await until(check, f"{backend.name} gets no more requests")


@behaviour("live-on-return", "When add_route returns, every replica serves the route.")
async def live_on_return(world: World) -> None:
    backend = await world.backend()
    for number in range(10):
        spec = f"{world.host}{world.base.rstrip('/')}-{number}/"
        await world.add(spec, backend.url)
        for answer in await world.get(f"{world.base.rstrip('/')}-{number}/x"):
            backend.seen(answer)


@behaviour("gone-on-return", "When delete_route returns, no replica serves the route.")
async def gone_on_return(world: World) -> None:
    backend = await world.backend()
    for _ in range(5):
        await world.route(backend)
        await world.proxy.delete_route(world.spec)
        for answer in await world.get(world.path("x")):
            assert answer.backend == world.hub.name


@behaviour(
    "retarget-on-return", "When add_route returns with a new target, no replica uses the old one."
)
async def retarget_on_return(world: World) -> None:
    backends = [await world.backend() for _ in range(2)]
    await world.route(backends[0])
    for number in range(1, 6):
        backend = backends[number % 2]
        await world.add(world.spec, backend.url)
        for answer in await world.get(world.path("x")):
            backend.seen(answer)


@behaviour("nested-on-return", "A route below another is served as soon as add_route returns.")
async def nested_on_return(world: World) -> None:
    outer, inner = await world.backend(), await world.backend()
    await world.route(outer)
    for number in range(5):
        await world.add(f"{world.spec}n{number}/", inner.url)
        for answer in await world.get(world.path(f"n{number}/x")):
            inner.seen(answer)


@behaviour("retarget", "A route that is added again goes to its new target.")
async def retarget(world: World) -> None:
    one, two = await world.backend(), await world.backend()
    await world.route(one)
    await world.route(two)
    route = await _route(world, world.spec)
    assert route is not None
    assert route["target"] == two.url


@behaviour("delete", "A route that was deleted is neither served nor listed.")
async def delete(world: World) -> None:
    backend = await world.serve()
    await world.proxy.delete_route(world.spec)
    assert await _route(world, world.spec) is None
    assert await world.proxy.get_route(world.spec) is None
    await _gone(world, backend, world.path("x"))


@behaviour("delete-twice", "Deleting what is not there succeeds and changes nothing.")
async def delete_twice(world: World) -> None:
    backend = await world.serve()
    await world.proxy.delete_route(f"{world.spec}not-there/")
    await world.proxy.delete_route(f"{world.host}{world.base.rstrip('/')}y/")
    for answer in await world.get(world.path("x")):
        backend.seen(answer)
    await world.proxy.delete_route(world.spec)
    await world.proxy.delete_route(world.spec)
    assert await _route(world, world.spec) is None


@behaviour("add-twice", "Adding what is there succeeds and changes nothing.")
async def add_twice(world: World) -> None:
    backend = await world.serve(data={"user": world.user})
    before = await world.proxy.get_all_routes()
    await world.add(world.spec, backend.url, {"user": world.user})
    after = await world.proxy.get_all_routes()
    assert before.keys() == after.keys()
    assert after[world.spec]["target"] == backend.url
    for answer in await world.get(world.path("x")):
        backend.seen(answer)


@behaviour("get-all-routes", "get_all_routes gives each route's routespec, target and data.")
async def get_all_routes(world: World) -> None:
    backend = await world.backend()
    specs = {f"{world.spec}r{number}/": {"n": number} for number in range(4)}
    for spec, data in specs.items():
        await world.add(spec, backend.url, dict(data))
    routes = await world.proxy.get_all_routes()
    ours = {spec: route for spec, route in routes.items() if spec.startswith(world.spec)}
    assert ours.keys() == specs.keys()
    for spec, route in ours.items():
        assert route["routespec"] == spec
        assert route["target"] == backend.url
        data = {key: value for key, value in route["data"].items() if key != "last_activity"}
        assert data == specs[spec]


@behaviour("get-route", "get_route gives one route, and None for one that is not there.")
async def get_route(world: World) -> None:
    backend = await world.backend()
    await world.add(world.spec, backend.url, {"user": world.user})
    route = await world.proxy.get_route(world.spec)
    assert (route["routespec"], route["target"]) == (world.spec, backend.url)
    assert route["data"]["user"] == world.user
    assert await world.proxy.get_route(f"{world.spec}x/") is None


@behaviour("hub-route", "The hub's route is listed with its target and `hub` in its data.")
async def hub_route(world: World) -> None:
    route = await _route(world, world.around.hub.routespec)
    assert route is not None
    assert route["target"] == world.hub.url
    assert route["data"]["hub"] is True


@behaviour("data-kept", "A route's data comes back as it was given.")
async def data_kept(world: World) -> None:
    backend = await world.backend()
    data = {
        "user": "秀樹",
        "server_name": "",
        "nested": {"list": [1, 2.5, None, True, {"a": "`\"'\n"}], "empty": {}},
        "": "empty name",
    }
    await world.add(world.spec, backend.url, dict(data))
    route = await _route(world, world.spec)
    assert route is not None
    assert {key: route["data"].get(key) for key in data} == data


@behaviour("data-replaced", "A route that is added again has its new data only.")
async def data_replaced(world: World) -> None:
    backend = await world.backend()
    await world.add(world.spec, backend.url, {"user": "a", "old": 1})
    await world.add(world.spec, backend.url, {"user": "b"})
    route = await _route(world, world.spec)
    assert route is not None
    assert route["data"]["user"] == "b"
    assert "old" not in route["data"]


@behaviour("spec-slash", "A routespec without its last slash gets one.")
async def spec_slash(world: World) -> None:
    backend = await world.backend()
    bare = world.spec.rstrip("/")
    world.specs[world.spec] = None
    await world.proxy.add_route(bare, backend.url, {})
    await world.served_by(backend, world.spec)
    assert await _route(world, world.spec) is not None
    assert (await world.proxy.get_route(bare))["routespec"] == world.spec
    await world.proxy.delete_route(bare)
    assert await _route(world, world.spec) is None


def _spec_comes_back(name: str, tail: str) -> None:
    @behaviour(f"spec-kept-{name}", f"The routespec `/…/{tail}/` is listed as it was given.")
    async def body(world: World) -> None:
        backend = await world.backend()
        spec = f"{world.spec}{tail}/"
        await world.add(spec, backend.url)
        assert await _route(world, spec) is not None
        assert (await world.proxy.get_route(spec))["target"] == backend.url
        await world.proxy.delete_route(spec)
        assert await _route(world, spec) is None


_spec_comes_back("space", "has%20space/foo")
_spec_comes_back("at", "has/@")
_spec_comes_back("tilde", "~TestJH")
_spec_comes_back("unicode", "%C3%BC%C3%B1%E2%88%82%C3%A9")
_spec_comes_back("quotes", "o%27n%22e%60")
_spec_comes_back("percent", "50%25")
_spec_comes_back("plus", "a%2Bb")


@behaviour("extra-path-target", "A target with a path is listed as it was given.")
async def extra_path_target(world: World) -> None:
    backend = await world.backend()
    await world.add(world.spec, f"{backend.url}/test", {"extra": True})
    route = await _route(world, world.spec)
    assert route is not None
    assert route["target"] == f"{backend.url}/test"


@behaviour("host-spec-refused", "Without host routing, a routespec with a host is refused.")
async def host_spec_refused(world: World) -> None:
    backend = await world.backend()
    before = await world.proxy.get_all_routes()
    spec = f"host.name/{world.user}/"
    await _raises(lambda: world.proxy.add_route(spec, backend.url, {}), ValueError)
    await _raises(lambda: world.proxy.get_route(spec), ValueError)
    assert (await world.proxy.get_all_routes()).keys() == before.keys()


@behaviour(
    "path-spec-refused", "With host routing, a routespec without a host is refused.", options=HOSTS
)
async def path_spec_refused(world: World) -> None:
    backend = await world.backend()
    before = await world.proxy.get_all_routes()
    await _raises(lambda: world.proxy.add_route(world.base, backend.url, {}), ValueError)
    assert (await world.proxy.get_all_routes()).keys() == before.keys()


@behaviour("concurrent-adds", "A hundred routes added at once are all listed and served.")
async def concurrent_adds(world: World) -> None:
    backends = [await world.backend() for _ in range(4)]
    specs = {f"{world.spec}c{number}/": backends[number % 4] for number in range(100)}
    await asyncio.gather(*(world.add(spec, backend.url) for spec, backend in specs.items()))
    assert specs.keys() <= (await world.proxy.get_all_routes()).keys()
    for spec, backend in specs.items():
        for answer in await world.get(f"{spec[len(world.host) :]}x"):
            backend.seen(answer)


@behaviour("concurrent-changes", "Adds and deletes at once, of many routes, all take effect.")
async def concurrent_changes(world: World) -> None:
    backend = await world.backend()
    old = [f"{world.spec}o{number}/" for number in range(30)]
    new = [f"{world.spec}n{number}/" for number in range(30)]
    await asyncio.gather(*(world.add(spec, backend.url) for spec in old))
    await asyncio.gather(
        *(world.proxy.delete_route(spec) for spec in old),
        *(world.add(spec, backend.url) for spec in new),
    )
    listed = (await world.proxy.get_all_routes()).keys()
    assert set(new) <= listed
    assert not set(old) & listed
    for spec in new:
        for answer in await world.get(f"{spec[len(world.host) :]}x"):
            backend.seen(answer)
    for spec in old:
        await _gone(world, backend, f"{spec[len(world.host) :]}x")


@behaviour("concurrent-same", "Changes of one route, one after another, end as the last one says.")
async def concurrent_same(world: World) -> None:
    one, two = await world.backend(), await world.backend()
    for _ in range(5):
        await asyncio.gather(*(world.add(world.spec, one.url) for _ in range(5)))
        await asyncio.gather(*(world.proxy.delete_route(world.spec) for _ in range(5)))
        await world.add(world.spec, two.url)
    route = await _route(world, world.spec)
    assert route is not None
    assert route["target"] == two.url
    await world.served_by(two, world.spec)


@behaviour("no-request-lost", "While other routes change, no request of a route's is lost.")
async def no_request_lost(world: World) -> None:
    backend, other = await world.backend(), await world.backend()
    await world.route(backend)
    stop = asyncio.Event()
    done = [0]

    async def ask(url: str) -> None:
        while not stop.is_set():
            async with world.connect(url) as connection:
                for _ in range(10):
                    backend.seen(await connection.request("GET", world.path("x")))
                    done[0] += 1

    askers = [asyncio.ensure_future(ask(url)) for url in world.urls]
    try:
        for number in range(10):
            spec = f"{world.host}{world.base.rstrip('/')}-{number}/"
            await world.add(spec, other.url)
            await world.proxy.delete_route(spec)
    finally:
        stop.set()
        results = await asyncio.gather(*askers, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    assert done[0]


# -- host routing


@behaviour("host-routing", "Requests are routed by host.", options=HOSTS)
async def host_routing(world: World) -> None:
    one, two = await world.backend(), await world.backend()
    await world.route(one)
    await world.route(two, f"{world.user}b.{DOMAIN}/")
    for answer in await world.get(world.path("a%2Fb?c")):
        assert one.seen(answer).target == world.path("a%2Fb?c")
    for target in ("/", "/some/path", world.path("x")):
        for answer in await world.get(target, host=f"{world.user}b.{DOMAIN}"):
            assert two.seen(answer).target == target


@behaviour("host-port", "The port in a Host field does not matter.", options=HOSTS)
async def host_port(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x"), host=f"{world.host}:8000"):
        assert backend.seen(answer).get("host") == f"{world.host}:8000"


@behaviour("host-case", "Host names are the same in any case.", options=HOSTS)
async def host_case(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x"), host=world.host.upper()):
        backend.seen(answer)


@behaviour("host-unknown", "Requests for a host without routes go to the hub.", options=HOSTS)
async def host_unknown(world: World) -> None:
    backend = await world.serve()
    for host in (f"x{world.host}", f"a.{world.host}", DOMAIN, "other.example", "127.0.0.1"):
        for answer in await world.get(world.path("x"), host=host):
            assert answer.backend == world.hub.name, host
    assert not backend.requests


@behaviour("host-paths", "A host may have several routes, told apart by path.", options=HOSTS)
async def host_paths(world: World) -> None:
    one, two = await world.backend(), await world.backend()
    await world.route(one)
    await world.route(two, f"{world.spec}named/")
    for rest, backend in (("", one), ("namedx", one), ("named", two), ("named/x", two)):
        for answer in await world.get(world.path(rest)):
            backend.seen(answer)


@behaviour(
    "host-other-path", "A host's paths that match none of its routes go to the hub.", options=HOSTS
)
async def host_other_path(world: World) -> None:
    backend = await world.serve()
    for target in ("/", "/other/", f"{world.base.rstrip('/')}y/"):
        for answer in await world.get(target):
            assert answer.backend == world.hub.name, target
    assert not backend.requests


@behaviour("host-spec-kept", "Host routes are listed as they were given.", options=HOSTS)
async def host_spec_kept(world: World) -> None:
    backend = await world.backend()
    for spec in (world.spec, f"{world.user}x.{DOMAIN}/", f"{world.user}x.{DOMAIN}/a%20b/@/"):
        await world.add(spec, backend.url, {"user": "x"})
        route = await _route(world, spec)
        assert route is not None
        assert (route["target"], route["data"]["user"]) == (backend.url, "x")
        await world.proxy.delete_route(spec)
        assert await _route(world, spec) is None


# -- what cannot be served


async def _refused(world: World, spec: str, target: str, data: Any, shown: str) -> None:
    before = await world.proxy.get_all_routes()
    error = await _raises(lambda: world.proxy.add_route(spec, target, data), ValueError)
    assert shown in str(error), f"the error does not name the value: {error}"
    assert (await world.proxy.get_all_routes()).keys() == before.keys()


BAD_SPECS = {
    "control": "a%0Ab/",
    "control-raw": "a\nb/",
    "double-slash": "a//b/",
    "dot-dot": "a/../b/",
    "dot-dot-encoded": "a/%2e%2E/b/",
    "too-long": "a" * 1001 + "/",
    "query": "a?b/",
    "broken-escape": "a%zz/",
    "broken-utf8": "a%ff/",
}

BAD_TARGETS = {
    "none": "",
    "no-scheme": "127.0.0.1:8000",
    "path": "/missing-host",
    "scheme": "ftp://127.0.0.1:80",
    "file": "file:///etc/passwd",
    "no-host": "http://",
    "port": "http://127.0.0.1:99999",
    "control": "http://127.0.0.1:80/\r\nX: 1",
}

BAD_DATA: dict[str, Any] = {"set": {"a": {1}}, "object": {"a": object()}, "list": ["a"]}


def _bad_spec(name: str, tail: str) -> None:
    @behaviour(
        f"refuses-spec-{name}",
        "A routespec that cannot be served is refused by name, and nothing is stored.",
        needs=["refuses-bad-routes"],
    )
    async def body(world: World) -> None:
        backend = await world.backend()
        shown = repr(f"{world.spec}{tail}")[1:60]
        await _refused(world, f"{world.spec}{tail}", backend.url, {}, shown)


def _bad_target(name: str, target: str) -> None:
    @behaviour(
        f"refuses-target-{name}",
        "A target that nothing can be sent to is refused by name, and nothing is stored.",
        needs=["refuses-bad-routes"],
    )
    async def body(world: World) -> None:
        await _refused(world, world.spec, target, {}, repr(target)[1:-1])


def _bad_data(name: str, data: Any) -> None:
    @behaviour(
        f"refuses-data-{name}",
        "Data that is no JSON object is refused by name, and nothing is stored.",
        needs=["refuses-bad-routes"],
    )
    async def body(world: World) -> None:
        backend = await world.backend()
        await _refused(world, world.spec, backend.url, data, "a")


for _name, _text in BAD_SPECS.items():
    _bad_spec(_name, _text)
for _name, _text in BAD_TARGETS.items():
    _bad_target(_name, _text)
for _name, _data in BAD_DATA.items():
    _bad_data(_name, _data)
