"""The rendered document, read as Traefik reads it.

The model below is written from Traefik's own code (3.7): ``pkg/muxer/http``, the entry point's
``normalizePath``, Go's ``net/url`` and string literals.  It shares nothing with the renderer, so
that a request goes where the route table says only if the rendered rules really say so.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

import pytest
from harness.traefik_model import (
    Model,
    go_unquote,
    routing_path,
)
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jupyterhub_junction.routes import Route, RouteTable
from jupyterhub_junction.traefik import documents as traefik
from jupyterhub_junction.traefik.documents import (
    FANOUT,
    RenderOptions,
    encode,
    marker_name,
    render,
    with_marker,
)
from jupyterhub_junction.traefik.static import control_document, static_document


@pytest.fixture(scope="module", params=[2, 5])
def fanout(request: pytest.FixtureRequest) -> Any:
    """Small levels, so that small tables make deep trees."""
    patch = pytest.MonkeyPatch()
    patch.setattr(traefik, "FANOUT", request.param)
    yield request.param
    patch.undo()


def levels(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for body in document["http"]["routers"].values():
        for parent in body.get("parentRefs", ()):
            found.setdefault(parent, []).append(body)
    return found


# --- random tables and requests ------------------------------------------------------------------

LETTERS = "ab@:+%/?`\"'\\($ .é\U0001f600"
NAMES = st.text(st.sampled_from(LETTERS), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..")
)
SEGMENTS = st.one_of(NAMES, st.sampled_from(["user", "a", "b", "ab"])).map(
    lambda name: quote(name, safe="@~")
)
HOSTS = st.sampled_from(["", "", "", "", "a.b", "A.bc", "b", "bc", "c.d", "c.d.e", "x_1~-"])
SPECS = st.tuples(HOSTS, st.lists(SEGMENTS, max_size=4)).map(
    lambda drawn: drawn[0] + "/" + "".join(segment + "/" for segment in drawn[1])
)


@st.composite
def tables(draw: st.DrawFn) -> RouteTable:
    specs = draw(st.lists(SPECS, max_size=30, unique=True))
    if draw(st.booleans()):
        specs.append("/")
    prefixes = draw(st.lists(st.sampled_from(["", "", "/p", "/$1/%2F"]), min_size=1))
    routes = {}
    for number, (spec, prefix) in enumerate(zip(specs, itertools.cycle(prefixes), strict=False)):
        hub = number == 0 and draw(st.booleans())
        target = f"http://10.0.0.{number}:80{prefix}"
        routes[spec] = Route(spec, target, {"hub": True} if hub else {})
    return RouteTable(routes.values())


def respelled(path: str, draw: st.DrawFn, *, raw: bool) -> str:
    """Another form of a path: escapes made plain, plain characters escaped, hex in lower case."""

    def plain(found: re.Match[str]) -> str:
        text = unquote_to_bytes(found[0]).decode("utf-8", "replace")
        if re.search(r"[/%?#]", text) or "\ufffd" in text or not draw(st.booleans()):
            return found[0].lower() if draw(st.booleans()) else found[0]
        if not raw and re.search(r"[^-A-Za-z0-9._~:@!$&'()*+,;=\[\]]", text):
            return found[0]
        return text

    def encoded(found: re.Match[str]) -> str:
        if not draw(st.booleans()):
            return found[0]
        return "".join(f"%{byte:02x}" for byte in found[0].encode())

    path = re.sub("(?:%[0-9A-Fa-f]{2})+", plain, path)
    return re.sub(r"(?<![%])(?<!%.)[^/%]", encoded, path)


@st.composite
def requests(draw: st.DrawFn, table: RouteTable, *, raw: bool = False) -> tuple[str, str]:
    """A request near one of the routes."""
    spec = draw(st.one_of(st.sampled_from([*table, "/"]), SPECS))
    host, slash, path = spec.partition("/")
    path = slash + path
    tail = draw(
        st.sampled_from(
            ["", "", "lab", "a/b", "/", "%40", "%25", "%2f", "%2F", "%ff", "é", "?", "%3f"]
        )
    )
    cut = draw(st.sampled_from([0, 0, 1]))
    path = (path[: len(path) - cut] or "/") + tail.replace("?", "")
    path = respelled(path if raw else quote(path, safe="/%@:+'($"), draw, raw=raw)
    host = draw(st.sampled_from([host, host, "", "a.bcd", "c.d.e.f"]))
    if host:
        host = draw(st.sampled_from([host, host.upper(), host + ":8000", host + "."]))
    return host, path


def expected(table: RouteTable, host: str, path: str) -> str | None:
    route = table.match(host, path)
    return None if route is None else route.target


@given(tables(), st.data())
def test_requests_go_where_the_table_says(
    fanout: int, table: RouteTable, data: st.DataObject
) -> None:
    model = Model(render(table))
    for _ in range(5):
        host, path = data.draw(requests(table))
        assert model.target(host, path) == expected(table, host, path), (host, path)


@given(tables(), st.data())
def test_also_when_clients_send_raw_characters(
    fanout: int, table: RouteTable, data: st.DataObject
) -> None:
    host, path = data.draw(requests(table, raw=True))
    # Go encodes a path anew that holds characters which no URL may hold, and takes %2F for /
    # then: such a request is no HTTP (RFC 9112 §3.2), and no client that can be named sends it
    assume("%2f" not in path.lower())
    assert Model(render(table)).target(host, path) == expected(table, host, path), (host, path)


@pytest.mark.parametrize("seed", range(2))
def test_large_tables(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_.~@é中`'\" "
    names = {"".join(chance.choices(letters, k=chance.randint(1, 8))) for _ in range(1000)}
    names = {name for name in names if name not in (".", "..")}
    specs = ["/", "/hub/"]
    for name in sorted(names):
        specs.append(f"/user/{quote(name, safe='@~')}/")
        if chance.random() < 0.1:
            specs.append(f"/user/{quote(name, safe='@~')}/named/")
    hosts = [f"{name}.example.com/" for name in sorted(names) if re.fullmatch("[a-z0-9]+", name)]
    specs += hosts + [f"u{number}.example.com/user/x/" for number in range(300)]
    table = RouteTable(Route(spec, f"http://10.0.0.1:{1024 + n}") for n, spec in enumerate(specs))
    document = render(table)
    assert max(map(len, levels(document).values())) <= FANOUT + 5
    model = Model(document)
    # each level is tried one rule after another, so a look at some requests is enough
    for spec in chance.sample(specs, 60):
        host, slash, path = spec.partition("/")
        for tail in ("", "x/y", "named"):
            request = slash + path + tail
            assert model.target(host, request) == expected(table, host, request), (host, request)
    for request in ("/user/", "/user/zzzzzzzzzzz/", "/nothing", "/hub/login"):
        for host in ("", "unknown.example.com", "u7.example.com", "u.example.com"):
            assert model.target(host, request) == expected(table, host, request), (host, request)


# --- names that once broke rules -----------------------------------------------------------------

NASTY = [
    "`", '"', "'", "\\", "a\\", "\\\\", '\\"', "\\n", "\\u0060", "\\x41", "\\ud83d\\ude00",
    "`) || PathPrefix(`/", '") || PathPrefix("/', "(", ")", "(?:", ".*", "[a-z]+", "a|b", "^$",
    "{name}", "{name:.*}", "$", "$1", "${1}", "*", "+", "?", "#", "a b", "é", "中文", "\U0001f600",
    "%", "%2F", "%41", "a/b", "&&", "||", "!", "noop@internal", "root", "missing", "r0", "s0",
    "applied-1", "<script>", "{{ . }}", "{{env \"HOME\"}}", ";", ":", "~", "\u2028", "\u0301",
]  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("size", [1, 40])
def test_no_name_can_change_what_another_route_matches(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traefik, "FANOUT", 5)
    others = [Route(f"/user/u{n}/", f"http://10.0.0.1:{1024 + n}") for n in range(size)]
    table = RouteTable([Route("/", "http://hub:8081"), *others])
    nasty = Route(f"/user/{quote(name, safe='')}/", "http://10.0.0.2:80")
    before = Model(render(table))
    table.add(nasty)
    model = Model(render(table))
    for host in ("", "example.com"):
        for other in ["/", "/user/", "/user/x", *(route.routespec for route in others)]:
            assert model.target(host, other) == before.target(host, other)
        for path in (nasty.routespec, nasty.routespec[:-1], nasty.routespec + "lab?x".rstrip("?x")):
            assert model.target(host, path) == nasty.target
        assert model.target(host, nasty.routespec[:-1] + "z") == "http://hub:8081"
    assert set(model.http["services"]) == {f"s{n}" for n in range(size + 2)}
    assert all(re.fullmatch(r"root|r\d+", router) for router in model.routers)


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:80/user/$1/$name/",
        "http://127.0.0.1:80/%2F/%25",
        "https://[::1]:443/a'b(c)",
    ],
)
def test_a_targets_path_comes_before_the_requests(target: str) -> None:
    model = Model(render(RouteTable([Route("/user/x/", target), Route("/", "http://hub:81/")])))
    assert model.target("", "/user/x/lab") == target.rstrip("/")


def test_two_targets_of_one_server_keep_their_paths() -> None:
    routes = [Route(f"/{n}/", f"http://10.0.0.1:80/{n}") for n in "ab"]
    model = Model(render(RouteTable([Route("/x/", "http://10.0.0.1:80"), *routes])))
    assert model.target("", "/x/") == "http://10.0.0.1:80"
    assert {model.target("", route.routespec) for route in routes} == {r.target for r in routes}


# --- the document's shape ------------------------------------------------------------------------


@settings(max_examples=40)
@given(tables(), st.randoms(use_true_random=False))
def test_the_same_table_gives_the_same_bytes(
    fanout: int, table: RouteTable, chance: random.Random
) -> None:
    routes = list(table.values())
    chance.shuffle(routes)
    shuffled = RouteTable()
    for route in routes:  # and the way there leaves no trace
        shuffled.add(Route(route.routespec, "http://elsewhere:80"))
        shuffled.add(Route("/gone/" + quote(route.target, safe="") + "/", "http://gone:80"))
    for route in routes:
        shuffled.add(route)
        shuffled.remove("/gone/" + quote(route.target, safe="") + "/")
    assert json.dumps(render(shuffled)) == json.dumps(render(table))
    assert json.dumps(render(table.copy())) == json.dumps(render(table))


@pytest.mark.parametrize("routes", [0, 1, 49, 50, 51, 300])
def test_what_is_encoded_in_parts_is_the_whole_document(routes: int) -> None:
    table = RouteTable([Route(f"/user/{n}/", f"http://h{n}:80") for n in range(routes)])
    document = with_marker(render(table, RenderOptions(certificate="/c", key="/k")), 1)
    assert encode(document) == json.dumps(document, separators=(",", ":")).encode()


@settings(max_examples=40)
@given(tables())
@example(RouteTable([Route(f"/a{'b' * n}/", "http://x") for n in range(30)]))
@example(RouteTable([Route("/" + "b/" * n, "http://x") for n in range(30)]))
@example(RouteTable([Route(f"/{chr(0x4E00 + n)}/", "http://x") for n in range(300)]))
def test_levels_are_small_and_have_a_catch_all(fanout: int, table: RouteTable) -> None:
    document = render(table)
    hosts = {route.host for route in table.values()} - {""}
    for children in levels(document).values():
        # the group's own route, its catch-all and what is below it come on top; and the root has
        # one more level for hosts beside its paths
        assert len(children) <= fanout + 3 + min(fanout, len(hosts))
        if "/" in table or any(route.data.get("hub") for route in table.values()):
            catch_alls = [c for c in children if c["rule"] == 'PathPrefix("/")']
            # a group of hosts needs none: it matches only hosts that are in it
            only_hosts = all(c["rule"].startswith("Host") for c in children)
            assert [c["priority"] for c in catch_alls] == ([] if only_hosts else [1])


def test_the_hubs_route_answers_for_what_no_route_matches() -> None:
    hub = Route("/base/hub/", "http://hub:8081", {"hub": True})
    table = RouteTable([hub, Route("/base/user/x/", "http://x:80")])
    document = render(table, RenderOptions(error_path="/base/hub/error/"))
    model = Model(document)
    assert model.target("", "/elsewhere") is None
    missing = document["http"]["middlewares"]["missing"]["errors"]
    assert missing["statusRewrites"] == {"418": 404}
    assert missing["query"] == "/base/hub/error/404?url={url}"
    service = document["http"]["services"][missing["service"]]
    assert service["loadBalancer"]["servers"] == [{"url": "http://hub:8081"}]
    errors = document["http"]["middlewares"]["errors"]["errors"]
    assert errors["statusRewrites"] == {"502": 503, "504": 503}
    assert document["http"]["routers"]["root"]["middlewares"] == ["claims", "errors"]


def test_the_default_route_is_the_hub_if_none_is_marked() -> None:
    document = render(RouteTable([Route("/", "http://hub:8081")]))
    service = document["http"]["middlewares"]["errors"]["errors"]["service"]
    assert document["http"]["services"][service]["loadBalancer"]["servers"] == [
        {"url": "http://hub:8081"}
    ]


def test_an_empty_table() -> None:
    document = render(RouteTable())
    assert set(document["http"]) == {"routers", "middlewares"}
    assert set(document["http"]["middlewares"]) == {"claims"}
    [root] = document["http"]["routers"].values()
    assert root["service"] == "noop@internal"


def test_unix_sockets_are_left_out() -> None:
    table = RouteTable([Route("/", "http://hub:80"), Route("/user/x/", "http+unix://%2Fx.sock")])
    assert Model(render(table)).target("", "/user/x/") == "http://hub:80"


def test_certificates() -> None:
    options = RenderOptions(
        certificate="/c.pem", key="/k.pem", ca="/ca.pem",
        client_certificate="/cc.pem", client_key="/ck.pem",
    )  # fmt: skip
    table = RouteTable([Route("/", "http://hub:80"), Route("/user/x/", "https://x:80")])
    document = render(table, options)
    assert document["tls"]["stores"]["default"]["defaultCertificate"] == {
        "certFile": "/c.pem",
        "keyFile": "/k.pem",
    }
    assert document["http"]["serversTransports"]["internal"] == {
        "rootCAs": ["/ca.pem"],
        "certificates": [{"certFile": "/cc.pem", "keyFile": "/ck.pem"}],
    }
    transports = [
        s["loadBalancer"].get("serversTransport") for s in document["http"]["services"].values()
    ]
    assert sorted(transports, key=str) == [None, "internal"]
    plain = render(table)
    assert "tls" not in plain
    assert "serversTransports" not in plain["http"]


def test_the_marker_stands_on_the_control_entry_point_only() -> None:
    document = render(RouteTable([Route("/", "http://hub:80")]))
    before = copy.deepcopy(document)
    marked = with_marker(document, 7)
    assert document == before
    marker = marked["http"]["routers"].pop(marker_name(7))
    assert marker["entryPoints"] == ["control"]
    assert marked == document
    assert marker_name(7) != marker_name(8)


# --- what Traefik is started with ----------------------------------------------------------------


def static(**options: Any) -> dict[str, Any]:
    return static_document(
        listen="0.0.0.0:8000",
        control="127.0.0.1:9000",
        control_file="/run/control",
        **options,
    )


def test_no_time_limit_cuts_uploads_and_no_path_is_rewritten() -> None:
    web = static()["entryPoints"]["web"]
    assert web["transport"]["respondingTimeouts"]["readTimeout"] == "0s"
    assert web["transport"]["respondingTimeouts"]["writeTimeout"] == "0s"
    assert web["http"]["sanitizePath"] is False
    assert set(web["http"]["encodedCharacters"].values()) == {True}
    assert "allowEncodedSlash" in web["http"]["encodedCharacters"]
    assert "tls" not in web["http"]
    assert static(tls=True)["entryPoints"]["web"]["http"]["tls"] == {}


def test_the_control_entry_point_is_the_one_given_and_holds_what_must_not_be_public() -> None:
    document = static()
    assert document["entryPoints"]["control"] == {"address": "127.0.0.1:9000"}
    assert set(document["entryPoints"]) == {"web", "control"}
    assert document["api"] == {"dashboard": False}  # no insecure API on an entry point of its own
    assert document["ping"] == {"manualRouting": True}
    assert document["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}


def test_the_providers() -> None:
    rest = static()["providers"]
    assert rest["rest"] == {}  # not insecure, which would put it on an entry point by itself
    assert rest["file"] == {"directory": "/run/control", "watch": False}
    files = static(dynamic_file="/run/control/routes.toml")["providers"]
    assert "rest" not in files
    assert files["file"] == {"directory": "/run/control", "watch": True}


def test_what_is_believed_of_clients() -> None:
    assert static()["entryPoints"]["web"]["forwardedHeaders"] == {"trustedIPs": []}
    trusted = static(trusted_ips=["10.0.0.0/8"])["entryPoints"]["web"]["forwardedHeaders"]
    assert trusted == {"trustedIPs": ["10.0.0.0/8"]}
    cycle = static(grace=7, accept_grace=3)["entryPoints"]["web"]["transport"]["lifeCycle"]
    assert cycle == {"requestAcceptGraceTimeout": "3s", "graceTimeOut": "7s"}
    assert static(reuse_port=True)["entryPoints"]["web"]["reusePort"] is True


@pytest.mark.parametrize("rest", [True, False])
def test_the_control_routers_all_ask_for_a_password(rest: bool) -> None:
    document = control_document("junction:hash", rest=rest)["http"]
    assert len(document["routers"]) == 1 + rest
    for router in document["routers"].values():
        assert router["entryPoints"] == ["control"]
        assert router["middlewares"] == ["junction-auth"]
    assert document["middlewares"]["junction-auth"]["basicAuth"]["users"] == ["junction:hash"]


# --- the model itself ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/user/%61", b"/user/a"),
        ("/user/a%20b", b"/user/a b"),
        ("/user/a%40b", b"/user/a%40b"),
        ("/user/a@b", b"/user/a@b"),
        ("/user/a%2fb", b"/user/a%2Fb"),
        ("/user/%c3%a9", "/user/é".encode()),
        ("/user/é", "/user/é".encode()),
        ("/user/%25", b"/user/%25"),
        ("/user/%ff", b"/user/\xff"),
        ("/user/(a)", b"/user/(a)"),
        ('/user/(a)"', b'/user/%28a%29"'),
    ],
)
def test_the_path_that_traefik_matches(sent: str, seen: bytes) -> None:
    assert routing_path(sent) == seen


@pytest.mark.parametrize("text", ['"a', '"\\/"', '"\\ud83d"', '"a"b"', '"\\q"', "`a`"])
def test_what_go_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"literal|escape|character"):
        go_unquote(text)


def test_targets_are_whole_urls() -> None:
    target = "https://[::1]:8443/a"
    model = Model(render(RouteTable([Route("/", target)])))
    found = model.target("", "/")
    assert found is not None
    assert urlsplit(found) == urlsplit(target)


def test_profiles_are_offered_only_where_asked_for_and_behind_the_password() -> None:
    assert "debug" not in static()["api"]
    assert static(profiling=True)["api"]["debug"]
    routers = control_document("hash", rest=True)["http"]["routers"]
    assert not [one for one in routers.values() if "pprof" in one["rule"]]
    routers = control_document("hash", rest=True, profiling=True)["http"]["routers"]
    (one,) = [one for one in routers.values() if "pprof" in one["rule"]]
    assert one["middlewares"] == ["junction-auth"]
    assert one["entryPoints"] == ["control"]
