"""Which routes are refused, which of them are the same, and which one a request belongs to."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jupyterhub_junction.routes import (
    MAX_ROUTESPEC_BYTES,
    Route,
    RouteError,
    RouteTable,
    canonical_path,
    check_routespec,
    check_target,
    split_routespec,
)

TARGET = "http://127.0.0.1:8000"

# --- what is refused -----------------------------------------------------------------------------

REFUSED_ROUTESPECS = {
    "no slash at all": "user",
    "no slash at the end": "/user/x",
    "host without a path": "example.com",
    "empty": "",
    "control character": "/user/\x00/",
    "line feed": "/user/a\nb/",
    "delete": "/user/\x7f/",
    "C1 control character": "/user/\x85/",
    "encoded control character": "/user/%0a/",
    "encoded C1 control character": "/user/%c2%85/",
    "empty segment": "/user//x/",
    "empty first segment": "//user/",
    "empty segment below a host": "example.com//",
    "dot dot": "/user/../",
    "dot": "/./",
    "encoded dot dot": "/user/%2e%2E/",
    "half-encoded dot dot": "/user/.%2e/x/",
    "query": "/user/?a=b/",
    "fragment": "/user/#x/",
    "broken escape": "/user/%zz/",
    "escape cut short": "/user/%4/",
    "escape at the end": "/user/100%/",
    "not UTF-8": "/user/%ff/",
    "surrogate": "/user/\ud800/",
    "encoded surrogate": "/user/%ed%a0%80/",
    "over 1,000 bytes": "/" + "x" * (MAX_ROUTESPEC_BYTES - 1) + "/",
    "over 1,000 bytes of UTF-8": "/" + "é" * 500 + "/",
    "host with a space": "exam ple/",
    "host with a port": "example.com:80/",
    "host with a backtick": "exa`mple.com/",
    "host with an empty label": "a..b/",
    "host with a trailing dot": "example.com./",
    "host that is not ASCII": "exämple.com/",
    "host with a wildcard": "*.example.com/",
    "scheme": "http://example.com/",
}


@pytest.mark.parametrize("routespec", REFUSED_ROUTESPECS.values(), ids=REFUSED_ROUTESPECS)
def test_bad_routespecs_are_refused_and_named(routespec: str) -> None:
    with pytest.raises(RouteError) as refused:
        Route(routespec, TARGET)
    assert repr(routespec)[:40] in str(refused.value)
    assert len(str(refused.value)) < 1000  # a log line, also for a very long value


@pytest.mark.parametrize("routespec", [None, 7, b"/user/"])
def test_a_routespec_is_a_string(routespec: Any) -> None:
    with pytest.raises(RouteError, match="is no string"):
        check_routespec(routespec)


@pytest.mark.parametrize(
    "routespec",
    [
        "/",
        "/user/x/",
        "/user/%C3%A9/",
        "/user/é/",
        "/user/a%2Fb/",
        "/user/100%25/",
        "/user/.../",
        "/user/`$(x)`'\"\\/",
        "/user/a@b+c~d.e/",
        "/user/%3F%23/",
        "example.com/",
        "Hub.Example.com/hub/",
        "some~user_1-2.example.com/user/x/",
        "/" + "x" * (MAX_ROUTESPEC_BYTES - 2) + "/",
    ],
)
def test_good_routespecs_are_kept_as_written(routespec: str) -> None:
    assert check_routespec(routespec) == routespec
    assert Route(routespec, TARGET).routespec == routespec


REFUSED_TARGETS = {
    "no URL": "nonsense",
    "empty": "",
    "no scheme": "//127.0.0.1:80",
    "ftp": "ftp://127.0.0.1/",
    "file": "file:///etc/passwd",
    "javascript": "javascript:alert(1)",
    "no host": "http://",
    "no host, with a port": "http://:80",
    "port 0": "http://127.0.0.1:0",
    "port too high": "http://127.0.0.1:65536",
    "port that is no number": "http://127.0.0.1:http",
    "broken IPv6": "http://[::1",
    "user information": "http://me:secret@127.0.0.1:80",
    "query": "http://127.0.0.1:80/?a=b",
    "fragment": "http://127.0.0.1:80/#a",
    "space": "http://127.0.0.1:80/a b",
    "line feed": "http://127.0.0.1:80\n",
    "backtick": "http://127.0.0.1:80/`",
    "quote": 'http://127.0.0.1:80/"',
    "brace": "http://127.0.0.1:80/{env.HOME}",
    "not ASCII": "http://bücher:80",
    "broken escape": "http://127.0.0.1:80/%zz",
    "broken escape in the host": "http://%zz:80",
    "very long": "http://127.0.0.1:80/" + "x" * 2000,
}


@pytest.mark.parametrize("target", REFUSED_TARGETS.values(), ids=REFUSED_TARGETS)
def test_bad_targets_are_refused_and_named(target: str) -> None:
    with pytest.raises(RouteError) as refused:
        Route("/user/x/", target)
    assert repr(target)[:40] in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("target", [None, 7, b"http://127.0.0.1"])
def test_a_target_is_a_string(target: Any) -> None:
    with pytest.raises(RouteError, match="is no string"):
        check_target(target)


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:8000",
        "https://server.namespace.svc:8443/user/x/",
        "http://[::1]:8000",
        "http://server",
        "http+unix://%2Frun%2Fserver.sock",
        "unix+http://%2Frun%2Fserver.sock/path/",
    ],
)
def test_good_targets(target: str) -> None:
    assert check_target(target) == target


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


REFUSED_DATA: dict[str, Any] = {
    "a set": {"x": {1}},
    "bytes": {"x": b"1"},
    "an object": {"x": object()},
    "not a number": {"x": math.nan},
    "a list": [1],
    "a string": "x",
    "too large": {"x": "y" * 70_000},
    "too deep": nested(100_000),
    "itself": (lambda d: d.setdefault("me", d))({}),
}


@pytest.mark.parametrize("data", REFUSED_DATA.values(), ids=REFUSED_DATA)
def test_data_that_is_no_json_object_is_refused(data: Any) -> None:
    with pytest.raises(RouteError, match="data") as refused:
        Route("/user/x/", TARGET, data)
    assert len(str(refused.value)) < 400


def test_data_belongs_to_the_route_alone() -> None:
    data = {"user": "x", "list": [1]}
    route = Route("/user/x/", TARGET, data)
    data["list"].append(2)  # type: ignore[attr-defined]
    assert route.data == {"user": "x", "list": [1]}
    assert Route("/user/x/", TARGET, None).data == {}  # type: ignore[arg-type]
    assert route == Route("/user/x/", TARGET)  # data says nothing about where requests go


@given(st.text())
def test_every_text_is_refused_or_served_as_written(text: str) -> None:
    try:
        route = Route(text, TARGET)
    except RouteError:
        return
    host, path = split_routespec(text)
    assert host + path == text
    assert RouteTable([route]).match(host, path) == route


# --- canonical forms -----------------------------------------------------------------------------

# all that a user name may hold, and what is written differently by different clients
NAMES = st.text(
    st.sampled_from("abz09-._~@+:;,=&$!*'()[] `\"\\<>{}|^%/?#é😀" + "\u4e2d\ufffd"),
    min_size=1,
    max_size=6,
).filter(lambda name: name not in (".", ".."))


def escaped(name: str, draw: Any) -> str:
    """One of the ways to write a name as a path segment."""
    written = ""
    for character in name:
        code = quote(character, safe="")
        if len(code) == 1:  # unreserved, which quote leaves as it is
            code = f"%{ord(character):02X}"
        if draw(st.booleans()):
            code = code.lower()
        plain = character not in "/%?#" and draw(st.booleans())
        written += character if plain else code
    return written


@given(NAMES, st.data())
def test_one_name_has_one_canonical_form(name: str, data: st.DataObject) -> None:
    one, other = escaped(name, data.draw), escaped(name, data.draw)
    assert canonical_path(f"/user/{one}/") == canonical_path(f"/user/{other}")


@given(NAMES, NAMES)
def test_two_names_never_have_one_canonical_form(name: str, other: str) -> None:
    assume(name != other)
    paths = {canonical_path(f"/user/{quote(each, safe='')}/") for each in (name, other)}
    assert len(paths) == 2


@given(st.text())
def test_canonical_paths_of_any_text(text: str) -> None:
    canonical_path(text)


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/", ""),
        ("", ""),
        ("/user/x/", "/user/x"),
        ("/user/x", "/user/x"),
        ("/user/x//", "/user/x/"),
        ("/user/has%40", "/user/has@"),
        ("/user/%C3%a9/", "/user/é"),
        ("/user/a%2fb/", "/user/a%2Fb"),
        ("/user/a%2Fb", "/user/a%2Fb"),
        ("/user/a%252Fb", "/user/a%252Fb"),
        ("/user/a%2F", "/user/a%2F"),
        ("/user/%ff", "/user/\udcff"),
        ("/user/\udcff%20", "/user/\udcff "),  # sent raw, as h11 and sockets hand it over
        ("/user/%zz", "/user/%zz"),
    ],
)
def test_canonical_paths(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


# --- the table -----------------------------------------------------------------------------------


def table(*routespecs: str) -> RouteTable:
    return RouteTable(
        Route(routespec, f"http://127.0.0.1:{port}")
        for port, routespec in enumerate(routespecs, 8000)
    )


def matched(table: RouteTable, host: str, path: str) -> str | None:
    route = table.match(host, path)
    return None if route is None else route.routespec


@pytest.mark.parametrize(
    ("path", "routespec"),
    [
        ("/", "/"),
        ("/other", "/"),
        ("/user/", "/"),
        ("/user/x", "/user/x/"),
        ("/user/x/", "/user/x/"),
        ("/user/x/lab/tree", "/user/x/"),
        ("/user/x//lab", "/user/x/"),
        ("/user/xy", "/user/xy/"),
        ("/user/xyz", "/"),
        ("/user/X", "/"),
        ("/user/x/named", "/user/x/named/"),
        ("/user/x/named/", "/user/x/named/"),
        ("/user/x/named2", "/user/x/"),
        ("/user/%78/named", "/user/x/named/"),
        ("/user/x%2Fnamed", "/"),
        ("", "/"),
        ("*", "/"),
    ],
)
def test_the_longest_prefix_of_whole_segments(path: str, routespec: str) -> None:
    assert matched(table("/", "/user/x/", "/user/xy/", "/user/x/named/"), "", path) == routespec


def test_no_route_no_match() -> None:
    assert matched(RouteTable(), "", "/") is None
    assert matched(table("/user/x/"), "", "/user/y/") is None


@pytest.mark.parametrize(
    ("host", "path", "routespec"),
    [
        ("hub.example.com", "/", "hub.example.com/"),
        ("HUB.example.com:8443", "/hub/login", "hub.example.com/"),
        ("hub.example.com.", "/hub/login", "hub.example.com/"),  # fully qualified: the same name
        ("x.example.com", "/user/x/lab", "X.example.com/user/x/"),
        # a host of its own falls back to / alone
        ("x.example.com", "/service/", "/"),
        ("x.example.com", "/", "/"),
        # hosts without routes share those without a host
        ("other.example.com", "/service/x", "/service/"),
        ("", "/service/x", "/service/"),
        ("[::1]:8000", "/service/x", "/service/"),
        ("example.com", "/user/x/", "/"),
        ("a.hub.example.com", "/", "/"),
    ],
)
def test_host_routes(host: str, path: str, routespec: str) -> None:
    routes = table("/", "/service/", "hub.example.com/", "X.example.com/user/x/")
    assert matched(routes, host, path) == routespec


def test_routes_are_added_replaced_and_removed() -> None:
    routes = RouteTable()
    first, second = Route("/a/", TARGET), Route("/a/", TARGET + "/1")
    assert routes.add(first) is None
    assert routes.add(second) == first
    assert (len(routes), list(routes), routes["/a/"]) == (1, ["/a/"], second)
    assert routes.remove("/a/") == second
    assert routes.remove("/a/") is None
    assert matched(routes, "", "/a/") is None


def test_two_spellings_of_one_path_are_two_rows_and_one_is_served() -> None:
    routes = table("/user/é/", "/user/%C3%A9/")
    assert len(routes) == 2
    assert [route.routespec for route in routes.served()] == ["/user/%C3%A9/"]
    assert matched(routes, "", "/user/%c3%a9/") == "/user/%C3%A9/"
    routes.remove("/user/%C3%A9/")
    assert matched(routes, "", "/user/%c3%a9/") == "/user/é/"


def test_a_copy_is_a_table_of_its_own() -> None:
    routes = table("/a/")
    copy = routes.copy()
    routes.remove("/a/")
    routes.add(Route("/b/", TARGET))
    assert list(copy) == ["/a/"]
    assert matched(copy, "", "/a/") == "/a/"
    assert matched(copy, "", "/b/") is None


SEGMENTS = st.sampled_from(["a", "b", "ab", "@", "%40", "é", "a%2Fb", "x y"])
HOSTS = st.sampled_from(["", "", "h", "H", "h.i"])
SPECS = st.tuples(HOSTS, st.lists(SEGMENTS, max_size=4)).map(
    lambda drawn: drawn[0] + "/" + "".join(segment + "/" for segment in drawn[1])
)


def slow_match(specs: set[str], host: str, path: str) -> set[tuple[str, str]]:
    """The host and path that a match must have, found by trying all: the definition."""
    rows = {(split_routespec(spec)[0].lower(), Route(spec, TARGET).path) for spec in specs}
    own = host.lower() if host.lower() in {row[0] for row in rows} else ""
    request = canonical_path(path)
    fits = [row for row in rows if row[0] == own and (request + "/").startswith(row[1] + "/")]
    longest = max(fits, key=lambda row: len(row[1]), default=("", ""))
    return {longest} & rows


@given(st.lists(st.tuples(st.booleans(), SPECS), max_size=20), SPECS, st.data())
def test_after_any_changes_the_match_is_the_longest_prefix(
    changes: list[tuple[bool, str]], request: str, data: st.DataObject
) -> None:
    routes = RouteTable()
    specs: set[str] = set()
    for added, spec in changes:
        if added:
            routes.add(Route(spec, TARGET))
            specs.add(spec)
        else:
            assert (routes.remove(spec) is not None) == (spec in specs)
            specs.discard(spec)
    assert set(routes) == specs
    if specs and data.draw(st.booleans()):
        request = data.draw(st.sampled_from(sorted(specs))) + data.draw(SEGMENTS)
    host, path = split_routespec(request)
    found = routes.match(host, path)
    assert ({(found.host, found.path)} if found else set()) == slow_match(specs, host, path)
    again = RouteTable(Route(spec, TARGET) for spec in sorted(specs, reverse=True))
    assert again.match(host, path) == found  # the order of the changes does not matter
    assert {r.routespec for r in again.served()} == {r.routespec for r in routes.served()}
