"""Requests and answers: methods, headers, statuses, connections."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
from urllib.parse import urlsplit

from .backend import Exchange, echo
from .behaviours import behaviour
from .implementation import Options
from .wire import encode_head
from .world import World, until

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")


def _method_arrives(method: str) -> None:
    @behaviour(f"method-{method.lower()}", f"{method} arrives with its body, and is answered.")
    async def body(world: World) -> None:
        backend = await world.serve()
        sent = b"{}" if method in ("GET", "OPTIONS") else b"some body\x00\xff"
        for answer in await world.request(method, world.path("x"), body=sent):
            seen = backend.seen(answer)
            assert (seen.method, seen.body) == (method, sent)
            assert answer.body == f"{backend.name}\n".encode()


for _method in METHODS:
    _method_arrives(_method)


@behaviour("method-head", "HEAD is answered with the length and without the body.")
async def method_head(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, [("Content-Length", "12345"), ("ETag", '"a"')])

    backend = await world.serve(handler)
    for connection in world.connections():
        async with connection:
            for _ in range(2):
                answer = await connection.request("HEAD", world.path("x"))
                assert backend.seen(answer).method == "HEAD"
                assert (answer.status, answer.get("content-length")) == (200, "12345")
                assert answer.get("etag") == '"a"'


@behaviour("empty-post", "A POST with an empty body arrives as one.")
async def empty_post(world: World) -> None:
    backend = await world.serve()
    for answer in await world.request("POST", world.path("x"), body=b""):
        seen = backend.seen(answer)
        assert (seen.method, seen.size, seen.complete) == ("POST", 0, True)


@behaviour("connect-refused", "CONNECT opens no tunnel.")
async def connect_refused(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection:
            await connection.send(
                f"CONNECT 127.0.0.1:{backend.port} HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{backend.port}\r\n\r\n".encode()
            )
            try:
                answer = await connection.answer("HEAD")
            except (EOFError, ConnectionError):
                continue
            assert answer.status >= 400
    assert not backend.requests


@behaviour("host-kept", "The server sees the Host that the client asked for.")
async def host_kept(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x"), host="hub.example.org:1234"):
        assert backend.seen(answer).head.all("host") == ["hub.example.org:1234"]
    for answer in await world.get(world.path("x")):
        assert backend.seen(answer).head.all("host") == [urlsplit(answer.sent_to).netloc]


@behaviour("origin-kept", "Origin, Referer, Cookie, Authorization and the like arrive as sent.")
async def origin_kept(world: World) -> None:
    backend = await world.serve()
    headers = [
        ("Origin", "https://hub.example.org"),
        ("Referer", "https://hub.example.org/hub/home"),
        ("Cookie", 'a="1; 2"; _xsrf=2|3; username-x="2|1:0|10:15"'),
        ("Authorization", "token 0123456789"),
        ("Accept-Encoding", "br;q=1.0, zstd"),
        ("Accept", "*/*"),
        ("User-Agent", "conformance/1 (x; y)"),
        ("If-None-Match", 'W/"a", "b"'),
        ("Range", "bytes=0-9"),
        ("X-XSRFToken", "2|3"),
        ("X-Long", "v" * 6000),
        ("X_Underscore", "1"),
    ]
    for answer in await world.get(world.path("x"), headers):
        seen = backend.seen(answer)
        for name, value in headers:
            assert seen.head.all(name) == [value]


@behaviour("no-header-made-up", "No User-Agent, Accept-Encoding, Cookie or body is made up.")
async def no_header_made_up(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x")):
        seen = backend.seen(answer)
        for name in ("User-Agent", "Accept-Encoding", "Cookie", "Authorization", "Content-Length"):
            assert not "".join(seen.head.all(name)), name
        assert seen.size == 0


@behaviour("response-headers", "The answer's header fields arrive as sent, repeated ones apart.")
async def response_headers(world: World) -> None:
    cookies = ["a=1; Path=/; HttpOnly", "b=2; Expires=Wed, 01 Jan 2031 00:00:00 GMT", "a=3"]
    fields = [
        ("Content-Type", "text/x-strange; charset=latin-1"),
        ("ETag", 'W/"x"'),
        ("Cache-Control", "no-cache, no-store"),
        ("Content-Security-Policy", "frame-ancestors 'self'; report-uri /x"),
        ("X-Long", "v" * 4000),
        ("Vary", "Accept-Encoding, Cookie"),
        ("Server", "TornadoServer/6"),
    ]

    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.reply(200, [*fields, *(("Set-Cookie", each) for each in cookies)], b"x")

    backend = await world.serve(handler)
    for answer in await world.get(world.path("x")):
        backend.seen(answer)
        assert answer.head.all("set-cookie") == cookies
        for name, value in fields:
            assert answer.head.all(name) == [value]


@behaviour("hop-by-hop-request", "What the client's Connection field names stays with the proxy.")
async def hop_by_hop_request(world: World) -> None:
    backend = await world.serve()
    headers = [
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic x"),
        ("X-End", "1"),
    ]
    for answer in await world.get(world.path("x"), headers):
        seen = backend.seen(answer)
        assert seen.get("x-end") == "1"
        assert not seen.get("x-hop")
        assert not seen.get("keep-alive")


@behaviour("hop-by-hop-response", "What the server's Connection field names stays with the proxy.")
async def hop_by_hop_response(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.reply(200, [("Connection", "X-Hop"), ("X-Hop", "1"), ("X-End", "1")], b"x")

    backend = await world.serve(handler)
    for answer in await world.get(world.path("x")):
        backend.seen(answer)
        assert answer.get("x-end") == "1"
        assert not answer.get("x-hop")


def _status_passes(name: str, statuses: tuple[int, ...]) -> None:
    shown = ", ".join(map(str, statuses))

    @behaviour(f"status-{name}", f"A server's own {shown} passes with its headers and body.")
    async def body(world: World) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.body()
            status = int(exchange.seen.target.rpartition("/")[2])
            reply = json.dumps({"message": f"own {status}"}).encode()
            await exchange.reply(status, [("Content-Type", "application/x-own")], reply)

        backend = await world.serve(handler)
        for status in statuses:
            for method in ("GET", "POST"):
                sent = b"x" if method == "POST" else None
                for answer in await world.request(method, world.path(str(status)), body=sent):
                    backend.seen(answer)
                    assert answer.status == status
                    assert answer.get("content-type") == "application/x-own"
                    assert json.loads(answer.body) == {"message": f"own {status}"}


_status_passes("2xx", (200, 201, 202, 203, 206, 207))
_status_passes("4xx", (400, 401, 403, 404, 405, 409, 410, 413, 418, 422, 424, 428, 429, 431, 451))
_status_passes("500", (500, 501, 507, 599))
_status_passes("503", (503,))
_status_passes("502-504", (502, 504))


@behaviour("status-without-body", "204 and 304 pass without a body, and the connection lives on.")
async def status_without_body(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.reply(int(exchange.seen.target.rpartition("/")[2]), [("ETag", '"a"')])

    await world.serve(handler)
    for connection in world.connections():
        async with connection:
            for status in (204, 304, 204):
                answer = await connection.request("GET", world.path(str(status)))
                assert (answer.status, answer.get("etag")) == (status, '"a"')


@behaviour("range", "A partial answer (206) passes with its Content-Range.")
async def range_(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.reply(206, [("Content-Range", "bytes 2-4/10")], b"234")

    backend = await world.serve(handler)
    for answer in await world.get(world.path("x"), [("Range", "bytes=2-4")]):
        assert backend.seen(answer).get("range") == "bytes=2-4"
        assert (answer.get("content-range"), answer.body) == ("bytes 2-4/10", b"234")


@behaviour("redirects", "Redirects are not followed, and their Location is untouched.")
async def redirects(world: World) -> None:
    places = [
        "http://foo.example:12345/whatever?a=b%2Fc",
        "https://127.0.0.1/x",
        "/relative/path",
        "../up?next=%2Fhub",
        "//other.example/x",
    ]

    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        status, _, place = exchange.seen.target.rpartition("/")[2].partition("-")
        location = exchange.backend.url + "/own" if place == "own" else places[int(place)]
        await exchange.reply(int(status), [("Location", location)], b"moved")

    backend = await world.serve(handler)
    for status in (301, 302, 303, 307, 308):
        for place, expected in [*enumerate(places), ("own", f"{backend.url}/own")]:
            for answer in await world.get(world.path(f"{status}-{place}")):
                backend.seen(answer)
                assert (answer.status, answer.get("location")) == (status, expected)
                assert answer.body == b"moved"


@behaviour("keep-alive", "Many requests over one connection of the client's are answered in turn.")
async def keep_alive(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection:
            for number in range(10):
                target = world.path(str(number))
                sent = b"x" * number if number % 2 else None
                method = "POST" if sent else "GET"
                answer = await connection.request(method, target, body=sent)
                assert backend.seen(answer).target == target
                assert answer.get("connection").lower() != "close"


@behaviour("keep-alive-routes", "One connection of the client's may use many routes.")
async def keep_alive_routes(world: World) -> None:
    one, two = await world.backend(), await world.backend()
    await world.route(one)
    await world.route(two, f"{world.spec}two/")
    for connection in world.connections():
        async with connection:
            for rest, backend in (("", one), ("two/", two), ("x", one), ("two/x", two)):
                answer = await connection.request("GET", world.path(rest))
                backend.seen(answer)
            answer = await connection.request("GET", world.options.base_url)
            world.hub.seen(answer)


@behaviour("keep-alive-upstream", "Connections to the server are used again.")
async def keep_alive_upstream(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection:
            for _ in range(20):
                backend.seen(await connection.request("GET", world.path("x")))
    assert len({seen.connection for seen in backend.requests}) <= 4 * len(world.urls)


@behaviour("keep-alive-closed-by-server", "A server may close idle connections at any time.")
async def keep_alive_closed_by_server(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.reply(200, [], b"x")
        # No "Connection: close" before it.  The proxy's own end closes once it has seen this:
        # without waiting for that, the next request would race with it.
        exchange.writer.write_eof()
        await exchange.reader.read()
        exchange.close()

    backend = await world.serve(handler)
    for connection in world.connections():
        async with connection:
            for _ in range(5):
                answer = await connection.request("GET", world.path("x"))
                backend.seen(answer)
                await until(lambda: not backend.busy, "the proxy has seen the end", times=1)


@behaviour("close-asked-by-client", "`Connection: close` from the client ends its connection.")
async def close_asked_by_client(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection:
            answer = await connection.request("GET", world.path("x"), [("Connection", "close")])
            backend.seen(answer)
            assert await connection.reader.read() == b""


@behaviour("close-by-server-kept-from-client", "A server's `Connection: close` does no harm.")
async def close_by_server(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.reply(200, [("Connection", "close")], b"x" * 1000)
        exchange.close()

    backend = await world.serve(handler)
    for _ in range(3):
        for answer in await world.get(world.path("x")):
            backend.seen(answer)
            assert answer.body == b"x" * 1000


@behaviour("pipelining", "Requests sent at once over one connection are answered in order.")
async def pipelining(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection:
            targets = [world.path(f"p{number}") for number in range(5)]
            host = [("Host", connection.netloc)]
            await connection.send(b"".join(encode_head(f"GET {t} HTTP/1.1", host) for t in targets))
            for target in targets:
                assert backend.seen(await connection.answer()).target == target


@behaviour("http-1.0", "An HTTP/1.0 client gets an answer that it understands.")
async def http_1_0(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.start(200, [("Transfer-Encoding", "chunked")])
        for part in (b"one ", b"two"):
            await exchange.chunk(part)
        await exchange.chunk(b"")

    await world.serve(handler)
    for connection in world.connections():
        async with connection:
            head = encode_head(f"GET {world.path('x')} HTTP/1.0", [("Host", connection.netloc)])
            await connection.send(head)
            answer = await connection.answer()
            assert answer.status == 200
            assert "chunked" not in answer.get("transfer-encoding")
            assert answer.body == b"one two"


@behaviour("100-continue", "A client that waits for 100 gets it, and then sends its body.")
async def continue_(world: World) -> None:
    backend = await world.serve()
    for connection in world.connections():
        async with connection:
            headers = [("Content-Length", "5"), ("Expect", "100-continue")]
            await connection.start("POST", world.path("x"), headers)
            status, _ = await connection.head()
            assert status == 100
            await connection.send(b"hello")
            answer = await connection.answer()
            assert (answer.status, backend.seen(answer).body) == (200, b"hello")


@behaviour("100-continue-refused", "A server that refuses a body unseen is heard by the client.")
async def continue_refused(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(413, [("Connection", "close")], b"too large")
        exchange.close()

    await world.serve(handler)
    for connection in world.connections():
        async with connection:
            headers = [("Content-Length", "50000000"), ("Expect", "100-continue")]
            await connection.start("POST", world.path("x"), headers)
            answer = await connection.answer()
            assert (answer.status, answer.body) == (413, b"too large")


@behaviour("early-answer", "A server may refuse an upload before it has all of it.")
async def early_answer(world: World) -> None:
    async def handler(exchange: Exchange) -> None:
        async for _ in exchange.stream():
            if exchange.seen.size >= 65536:
                break
        await exchange.reply(413, [("Connection", "close")], b"too large")
        async for _ in exchange.stream():
            pass

    await world.serve(handler)
    for answer in await world.request("POST", world.path("x"), body=bytes(4_000_000)):
        assert (answer.status, answer.body) == (413, b"too large")


@behaviour("compressed-untouched", "A compressed answer passes as it is, and is not made one.")
async def compressed_untouched(world: World) -> None:
    packed = gzip.compress(b"text " * 1000, mtime=0)

    async def handler(exchange: Exchange) -> None:
        await exchange.body()
        if exchange.seen.target.endswith("plain"):
            await exchange.reply(200, [("Content-Type", "text/plain")], b"text " * 1000)
        else:
            await exchange.reply(200, [("Content-Encoding", "gzip")], packed)

    await world.serve(handler)
    for answer in await world.get(world.path("gzip"), [("Accept-Encoding", "gzip")]):
        assert (answer.get("content-encoding"), answer.body) == ("gzip", packed)
    for answer in await world.get(world.path("gzip")):
        assert (answer.get("content-encoding"), answer.body) == ("gzip", packed)
    for answer in await world.get(world.path("plain"), [("Accept-Encoding", "gzip, br, zstd")]):
        assert (answer.get("content-encoding"), answer.body) == ("", b"text " * 1000)


@behaviour("forwarded-for", "X-Forwarded-For ends with the client's address.")
async def forwarded_for(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x")):
        addresses = ", ".join(backend.seen(answer).head.all("x-forwarded-for")).split(", ")
        assert addresses[-1].removeprefix("::ffff:") == "127.0.0.1"


@behaviour("forwarded-proto", "X-Forwarded-Proto is the scheme that the client used.")
async def forwarded_proto(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x")):
        assert backend.seen(answer).get("x-forwarded-proto") == "http"


@behaviour(
    "forwarded-proto-tls", "Behind TLS, X-Forwarded-Proto is https.", options=Options(tls=True)
)
async def forwarded_proto_tls(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x")):
        assert backend.seen(answer).get("x-forwarded-proto") == "https"


@behaviour("forwarded-host", "X-Forwarded-Host is the host that the client asked for.")
async def forwarded_host(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("x"), host="hub.example.org"):
        assert backend.seen(answer).get("x-forwarded-host") == "hub.example.org"


@behaviour(
    "forwarded-not-trusted",
    "What a client itself says in X-Forwarded-* fields and the like is not handed on.",
)
async def forwarded_not_trusted(world: World) -> None:
    backend = await world.serve()
    headers = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "444"),
        # tornado and JupyterHub believe these too
        ("X-Real-Ip", "203.0.113.7"),
        ("Forwarded", "for=203.0.113.7;proto=https"),
        ("X-Scheme", "https"),
        ("X-ProxyScheme", "https"),
    ]
    for answer in await world.get(world.path("x"), headers):
        seen = backend.seen(answer).head
        believed = [name for name, said in headers if said in ", ".join(seen.all(name))]
        assert not believed


SMUGGLES = {
    "both-lengths": ("Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n", True),
    "two-lengths": ("Content-Length: {size}\r\nContent-Length: 3\r\n", False),
    "strange-coding": ("Transfer-Encoding: xchunked\r\n", True),
    "spaced-name": ("Transfer-Encoding : chunked\r\nContent-Length: {size}\r\n", True),
}


def _not_smuggled(name: str, fields: str, chunked: bool) -> None:
    @behaviour(f"smuggling-{name}", "A request of doubtful length never becomes two.")
    async def body(world: World) -> None:
        backend = await world.serve()
        hidden = f"GET {world.path('hidden')} HTTP/1.1\r\nHost: x\r\n\r\n"
        payload = f"0\r\n\r\n{hidden}" if chunked else f"abc{hidden}"
        for connection in world.connections():
            async with connection:
                await connection.send(
                    f"POST {world.path('x')} HTTP/1.1\r\nHost: {connection.netloc}\r\n"
                    f"{fields.format(size=len(payload))}\r\n{payload}".encode()
                )
                try:
                    answer = await connection.answer()
                except (EOFError, ConnectionError):
                    continue
                if answer.status >= 400:
                    continue
                # It was taken for one request: then all of it was its body, and what is
                # answered next on the connection, if it goes on, is the next request.
                assert len(backend.requests) == 1
                last = world.path("last")
                with contextlib.suppress(EOFError, ConnectionError):
                    await connection.start("GET", last)
                    answer = await connection.answer()
                    if answer.status < 400:
                        assert backend.seen(answer).target == last
        assert not any("hidden" in seen.target for seen in backend.requests)


for _name, (_fields, _chunked) in SMUGGLES.items():
    _not_smuggled(_name, _fields, _chunked)


@behaviour("header-injection", "Line breaks in a path or header field make no new field.")
async def header_injection(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("a%0D%0AX-Injected:%201")):
        if answer.backend == backend.name:
            assert not backend.seen(answer).get("x-injected")
    assert all(not seen.get("x-injected") for seen in backend.requests)


@behaviour("tls", "Requests over TLS are served.", options=Options(tls=True))
async def tls(world: World) -> None:
    backend = await world.serve()
    for answer in await world.get(world.path("a%2Fb")):
        assert backend.seen(answer).target == world.path("a%2Fb")


@behaviour("tls-upload", "Uploads over TLS are served.", options=Options(tls=True))
async def tls_upload(world: World) -> None:
    backend = await world.serve()
    sent = bytes(range(256)) * 4096
    for answer in await world.request("PUT", world.path("x"), body=sent):
        assert backend.seen(answer).sha256 == hashlib.sha256(sent).hexdigest()


async def _closes_last(exchange: Exchange) -> None:
    # Node.js ends a request with an empty write, which fails on a Unix socket that was closed
    await echo(exchange)
    if exchange.seen.get("connection").lower() == "close":
        await exchange.reader.read()


@behaviour("unix-target", "A target may be a Unix socket.", needs=["unix-target"])
async def unix_target(world: World) -> None:
    backend = await world.serve(_closes_last, path=world.directory / "s")
    for answer in await world.request("POST", world.path("a%2Fb?c"), body=b"x"):
        seen = backend.seen(answer)
        assert (seen.target, seen.body) == (world.path("a%2Fb?c"), b"x")


@behaviour("ipv6-target", "A target may be an IPv6 address.")
async def ipv6_target(world: World) -> None:
    backend = await world.serve(host="::1")
    for answer in await world.get(world.path("x")):
        backend.seen(answer)


@behaviour("named-target", "A target may be a host name.")
async def named_target(world: World) -> None:
    backend = await world.backend()
    await world.add(world.spec, f"http://localhost:{backend.port}")
    await world.served_by(backend, world.spec)


@behaviour(
    "internal-ssl",
    "Under internal SSL, the proxy shows servers its certificate and checks theirs.",
    options=Options(internal_ssl=True),
)
async def internal_ssl(world: World) -> None:
    backend = await world.serve()
    assert backend.url.startswith("https:")
    for answer in await world.request("POST", world.path("a%2Fb"), body=b"x"):
        assert backend.seen(answer).body == b"x"


@behaviour(
    "internal-ssl-hub",
    "Under internal SSL, the hub is reached over TLS.",
    options=Options(internal_ssl=True),
)
async def internal_ssl_hub(world: World) -> None:
    assert world.hub.url.startswith("https:")
    for answer in await world.get("/hub/home"):
        assert world.hub.seen(answer).target == "/hub/home"


@behaviour(
    "internal-ssl-plain-target",
    "Under internal SSL, servers without TLS (of services, say) are served too.",
    options=Options(internal_ssl=True),
)
async def internal_ssl_plain_target(world: World) -> None:
    backend = await world.serve(tls=None)
    for answer in await world.get(world.path("x")):
        backend.seen(answer)
