"""Paths and queries: what arrives is what was sent, and goes where it belongs."""

from __future__ import annotations

import re

from .behaviours import behaviour
from .implementation import Options
from .world import World, until

CORPUS = {
    "slash": "a%2Fb",
    "slash-lower": "a%2fb",
    "percent": "100%25",
    "percent-twice": "a%252Fb",
    "semicolon": "a%3Bb",
    "semicolon-raw": "a;v=1;w/b",
    "space": "a%20b",
    "plus": "a+b",
    "plus-encoded": "a%2Bb",
    "tilde": "~a",
    "tilde-encoded": "%7Ea",
    "letter-encoded": "%61bc",
    "at": "a@b",
    "at-encoded": "a%40b",
    "question-mark": "a%3Fb",
    "hash": "a%23b",
    "colon": "a:b",
    "delimiters": "!$&'()*,=",
    "unicode": "%E7%A7%80%E6%A8%B9",
    "unicode-lower": "%e7%a7%80",
    "not-utf8": "%FF%FE",
    "backslash": "a%5Cb",
    "brackets": "%5B0%5D",
    "quotes": "%22a%22%60b%60",
    "double-slash": "a//b",
    "dot-segments": "a/./b/../c",
    "dot-segments-encoded": "a/%2E/b/%2e%2e/c",
    "trailing-slash": "a/",
    "bare-ending": "a",
}

QUERIES = {
    "encoded": "a=b%20c&d=%2F%2f&e=%C3%BC",
    "plus": "a=b+c&d=%2B",
    "empty-parts": "&&a&=b&c=&",
    "delimiters": "q=/?:@!$()*,[]",
    "quote": "q=it's",
    "semicolon": "a=1;b=2",
    "broken-escape": "a=%zz&b=%",
    "url": "next=http://127.0.0.1/hub/?a=b",
}


def _path_arrives(name: str, rest: str) -> None:
    @behaviour(f"path-{name}", f"The path `{rest}` arrives at the server as it was sent.")
    async def body(world: World) -> None:
        backend = await world.serve()
        for answer in await world.get(world.path(rest)):
            assert backend.seen(answer).target == world.path(rest)


def _query_arrives(name: str, query: str) -> None:
    @behaviour(f"query-{name}", f"The query `{query}` arrives at the server as it was sent.")
    async def body(world: World) -> None:
        backend = await world.serve()
        target = f"{world.path('x')}?{query}"
        for answer in await world.get(target):
            assert backend.seen(answer).target == target


for _name, _text in CORPUS.items():
    _path_arrives(_name, _text)
for _name, _text in QUERIES.items():
    _query_arrives(_name, _text)


@behaviour("path-long", "A path of 4,000 and a query of 3,000 characters arrive whole.")
async def path_long(world: World) -> None:
    backend = await world.serve()
    target = f"{world.path('p' * 4000)}?{'q' * 3000}"
    for answer in await world.get(target):
        assert backend.seen(answer).target == target


@behaviour("query-on-prefix", "A query right after the prefix, with no slash, is no part of it.")
async def query_on_prefix(world: World) -> None:
    backend = await world.serve()
    target = f"{world.base.rstrip('/')}?next=/"
    for answer in await world.get(target):
        assert backend.seen(answer).target == target


@behaviour("no-trailing-slash", "`/user/x` belongs to the route `/user/x/`.")
async def no_trailing_slash(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.base.rstrip("/")):
        assert backend.seen(answer).target == world.base.rstrip("/")


@behaviour("neighbours", "`/user/xy`, `/user/x.y` and `/user/X` do not belong to `/user/x/`.")
async def neighbours(world: World) -> None:
    backend = await world.serve()
    bare = world.base.rstrip("/")
    others = [f"{bare}y", f"{bare}y/z", f"{bare}.y/", f"{bare}%20/", f"{bare}~", bare.upper()]
    for target in others:
        for answer in await world.get(target):
            assert answer.backend == world.hub.name, target
    assert not backend.requests


@behaviour("neighbour-routes", "`/user/x/` and `/user/xy/` are two routes.")
async def neighbour_routes(world: World) -> None:
    one, two = await world.backend(), await world.backend()
    bare = world.base.rstrip("/")
    await world.route(one)
    await world.route(two, f"{world.host}{bare}y/")
    for target, backend in ((bare, one), (f"{bare}/y", one), (f"{bare}y", two), (f"{bare}y/", two)):
        for answer in await world.get(target):
            assert backend.seen(answer).target == target


@behaviour("longest-prefix", "The longest route that matches wins, whichever came first.")
async def longest_prefix(world: World) -> None:
    long, short, longer = [await world.backend() for _ in range(3)]
    await world.route(long, f"{world.spec}a/")
    await world.route(short)
    await world.route(longer, f"{world.spec}a/b/")
    for rest, backend in (
        ("", short),
        ("ab", short),
        ("a", long),
        ("a/c", long),
        ("a/b/c", longer),
    ):
        for answer in await world.get(world.path(rest)):
            backend.seen(answer)


@behaviour(
    "prefix-uncovered", "When the longer route is deleted, its paths belong to the shorter one."
)
async def prefix_uncovered(world: World) -> None:
    short, long = await world.backend(), await world.backend()
    await world.route(short)
    await world.route(long, f"{world.spec}a/")
    await world.proxy.delete_route(f"{world.spec}a/")
    await world.served_by(short, f"{world.spec}a/")


@behaviour("target-path", "The path of the target is put before the path of the request.")
async def target_path(world: World) -> None:
    backend = await world.backend()
    await world.add(world.spec, f"{backend.url}/deep%20er/down")
    target = world.path("a%2Fb?c=d")
    for answer in await world.get(target):
        assert backend.seen(answer).target == f"/deep%20er/down{target}"


def _normal(target: str) -> str:
    """The normal form of a path (RFC 3986 §6.2.2): the same for all that is equivalent."""

    def spell(escape: re.Match[str]) -> str:
        character = chr(int(escape[1], 16))
        plain = character.isascii() and (character.isalnum() or character in "-._~")
        return character if plain else escape[0].upper()

    return re.sub("%([0-9A-Fa-f]{2})", spell, target)


def _name_is_reached(label: str, sentence: str, escaped: str, *forms: str) -> None:
    @behaviour(f"name-{label}", sentence)
    async def body(world: World) -> None:
        backend = await world.backend()
        prefix = f"{world.base.rstrip('/')}-"
        await world.route(backend, f"{world.host}{prefix}{escaped}/")
        for form in (escaped, *forms):
            for rest in ("", "/", "/a%2Fb"):
                target = f"{prefix}{form}{rest}"
                for answer in await world.get(target):
                    # as which of its equivalent spellings it arrives is what path-* rows are for
                    assert _normal(backend.seen(answer).target) == _normal(target)
        for answer in await world.get(f"{prefix}/"):
            assert answer.backend == world.hub.name


_name_is_reached("at", "A name with `@` is reached as `@` and as `%40`.", "has@", "has%40")
_name_is_reached("at-encoded", "The route `has%40` is reached as `has@` too.", "has%40", "has@")
_name_is_reached("tilde", "A name with `~` is reached as `~` and as `%7E`.", "~Test", "%7ETest")
_name_is_reached("space", "A name with a space is reached as `%20`.", "b%20r")
_name_is_reached("plus", "A name with `+` is reached as `+` and as `%2B`.", "a%2Bb", "a+b")
_name_is_reached("percent", "A name with `%` is reached as `%25`.", "50%25")
_name_is_reached("dot", "A name with dots is reached.", "a.b..c")
_name_is_reached(
    "unicode",
    "A name in any script is reached in upper- and lower-case hex.",
    "%E7%A7%80%E6%A8%B9",
    "%e7%a7%80%e6%a8%b9",
)
_name_is_reached("backtick", "A name with a backtick is reached.", "a%60b")
_name_is_reached(
    "quotes", "A name with quotes is reached, `'` in either form.", "o%27n%22e", "o'n%22e"
)
_name_is_reached(
    "parentheses", "A name with parentheses is reached in either form.", "a%28b%29", "a(b)"
)
_name_is_reached("brackets", "A name with brackets and braces is reached.", "%5Ba%5D%7Bb%7D")
_name_is_reached(
    "rule", "A name that looks like a rule is a name.", "x%60%29%20%7C%7C%20Path%28%60y"
)


@behaviour("name-captures-nothing", "A name that looks like a rule takes no other's requests.")
async def name_captures_nothing(world: World) -> None:
    backend = await world.backend()
    evil = "a%60%29%20%7C%7C%20PathPrefix%28%60%2F"
    await world.route(backend, f"{world.spec}{evil}/")
    for target in (world.base, world.path("a"), world.options.base_url, world.path("a%60%29")):
        for answer in await world.get(target):
            assert answer.backend == world.hub.name, target
    assert not backend.requests


@behaviour("climbing-out", "Dot segments that lead out of a route are not delivered to its server.")
async def climbing_out(world: World) -> None:
    backend, other = await world.backend(), await world.backend()
    await world.route(backend)
    await world.route(other, f"{world.host}{world.base.rstrip('/')}-other/")
    for up in ("..", "%2e%2e", "%2E%2E", ".%2E"):
        target = f"{world.base}{up}/{world.user}-other/secret"
        for answer in await world.get(target):
            assert answer.backend != backend.name, target
    assert not backend.requests


#: What may arrive for what is sent: encoded or plain, resolved or not, it is the same place
#: (RFC 3986 §6.2.2).
INSIDE = {
    "a/./b/../c": ("a/./b/../c", "a/c"),
    "a/%2E/b/%2e%2e/c": ("a/%2E/b/%2e%2e/c", "a/%2E/b/%2E%2E/c", "a/./b/../c", "a/c"),
    "./a/c": ("./a/c", "a/c"),
}


@behaviour("dot-segments-inside", "Dot segments that stay inside a route do no harm.")
async def dot_segments_inside(world: World) -> None:
    backend = await world.serve()
    for rest, spellings in INSIDE.items():
        for answer in await world.get(world.path(rest)):
            assert backend.seen(answer).target in [world.path(each) for each in spellings]


@behaviour("absolute-form", "A request whose target is a whole URL is routed by its path.")
async def absolute_form(world: World) -> None:
    backend = await world.serve()
    for url in world.urls:
        async with world.connect(url) as connection:
            answer = await connection.request("GET", f"{url}{world.path('x?y=z')}")
            assert backend.seen(answer).target.endswith(world.path("x?y=z"))


@behaviour(
    "base-url", "With a base URL, routes below it are served.", options=Options(base_url="/b%20se/")
)
async def base_url(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x")):
        assert backend.seen(answer).target == world.path("x")


@behaviour(
    "base-url-hub",
    "With a base URL, the hub gets all below it that has no route.",
    options=Options(base_url="/b%20se/"),
)
async def base_url_hub(world: World) -> None:
    for target in ("/b%20se/", "/b%20se", "/b%20se/hub/home", "/b%20se/user/nobody/"):
        for answer in await world.get(target):
            assert world.hub.seen(answer).target == target


@behaviour(
    "base-url-outside",
    "With a base URL, paths outside it reach no server and are answered with 404.",
    options=Options(base_url="/b%20se/"),
)
async def base_url_outside(world: World) -> None:
    backend = await world.serve()
    for target in ("/", f"/user/{world.user}/", "/b%20seless/", "/hub/"):
        for answer in await world.get(target):
            assert answer.status == 404, target
    assert not backend.requests


@behaviour("root-to-hub", "Everything that has no route goes to the hub, as it was sent.")
async def root_to_hub(world: World) -> None:
    for target in (
        "/",
        "/hub",
        "/hub/",
        "/hub/login?next=%2F",
        f"{world.base}a%2Fb",
        "/favicon.ico",
    ):
        for answer in await world.get(target):
            assert world.hub.seen(answer).target == target


@behaviour("case-of-names", "Names are told apart by case.")
async def case_of_names(world: World) -> None:
    lower, upper = await world.backend(), await world.backend()
    bare = world.base.rstrip("/")
    await world.route(lower, f"{world.host}{bare}-case/")
    await world.route(upper, f"{world.host}{bare}-CASE/")
    for form, backend in (("case", lower), ("CASE", upper)):
        for answer in await world.get(f"{bare}-{form}/"):
            backend.seen(answer)


@behaviour("deep-route", "A route may be as deep as it likes.")
async def deep_route(world: World) -> None:
    backend = await world.backend()
    deep = "/".join("abcdefghij")
    await world.route(backend, f"{world.spec}{deep}/")
    for answer in await world.get(world.path(f"{deep}/k")):
        backend.seen(answer)
    for answer in await world.get(world.path(deep[:-2])):
        assert answer.backend == world.hub.name


@behaviour("route-after-delete", "A route that was deleted and added again is served.")
async def route_after_delete(world: World) -> None:
    backend, other = await world.backend(), await world.backend()
    for each in (backend, other, backend):
        await world.route(each)
        await world.proxy.delete_route(world.spec)

        async def gone() -> bool:
            return all(a.backend == world.hub.name for a in await world.get(world.path("x")))

        await until(gone, "the route is gone")
