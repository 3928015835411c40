"""What a proxy changes in a head that passes it: hop-by-hop fields and X-Forwarded-*.

Pure.  Invariants:

* Fields of one hop end there (RFC 9110 §7.6.1); a ``Connection`` header cannot strike out a
  field that frames or routes the message.
* Everything else passes in its order, with its bytes: Host, Origin, Location, Set-Cookie.
* What an untrusted client says about who it is never reaches a server.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from .http11 import HOP, RequestHead, ResponseHead, tokens

__all__ = ["ForwardedRules", "Peer", "error_head", "request_head", "response_head", "safe_trailers"]

_NEVER_STRUCK = frozenset((b"content-length", b"host", b"cookie", b"authorization"))
_XFWD_NAMES = (b"X-Forwarded-For", b"X-Forwarded-Port", b"X-Forwarded-Proto", b"X-Forwarded-Host")
_XFWD = tuple(name.lower() for name in _XFWD_NAMES)
# tornado and JupyterHub believe these as much as X-Forwarded-*
_CLAIMS = frozenset((b"forwarded", b"x-real-ip", b"x-scheme", b"x-proxyscheme"))
# a proxy of the same installation lets these of its clients pass; the others it has seen to
_UNKEPT = _CLAIMS - {b"x-real-ip"}
# a trailer must not say what its receiver reads from heads (RFC 9110 §6.5.1)
_NO_TRAILER = HOP | _NEVER_STRUCK | _CLAIMS | {b"trailer", b"content-type", b"content-encoding"}
_NO_TRAILER |= {b"content-range", b"set-cookie", b"expect", b"range", b"cache-control", b"location"}


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a request came from; ``address`` is "" for a unix socket."""

    address: str
    tls: bool


@dataclass(frozen=True)
class ForwardedRules:
    """Whose X-Forwarded-* headers count.

    Attributes:
        trusted: addresses and networks of proxies in front, ``"unix"`` for unix sockets,
            ``"*"`` for everybody.  What others send in X-Forwarded-* is dropped.
        mode: what is done with a trusted peer's: ``"append"`` our own, as
            configurable-http-proxy does, or ``"keep"`` them and X-Real-Ip as they are and
            drop the like, for a second proxy of the same installation.

    Raises:
        ValueError: an entry that is no address and no network.
    """

    trusted: Sequence[str] = ()
    mode: Literal["append", "keep"] = "append"

    def __post_init__(self) -> None:
        if self.mode not in ("append", "keep"):
            raise ValueError(f"mode {self.mode!r} is neither 'append' nor 'keep'")
        object.__setattr__(self, "trusted", tuple(self.trusted))
        _networks(tuple(self.trusted))

    def trusts(self, peer: Peer) -> bool:
        """Whether a peer may speak for others."""
        return bool(self.trusted) and _trusts(tuple(self.trusted), peer.address)


@lru_cache(maxsize=16)
def _networks(
    entries: tuple[str, ...],
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    named = (entry for entry in entries if entry not in ("*", "unix"))
    return tuple(ipaddress.ip_network(entry, strict=False) for entry in named)


@lru_cache(maxsize=4096)
def _trusts(entries: tuple[str, ...], address: str) -> bool:
    if "*" in entries:
        return True
    if not address:
        return "unix" in entries
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return any((mapped or ip) in network for network in _networks(entries))


def _forwarded(head: RequestHead, peer: Peer, trusted: bool) -> bytes:
    if trusted and head.claims:
        theirs = tuple(b",".join(filter(None, head.all(name))) for name in _XFWD[:3])
        return _lines(head.host, peer, theirs, head.first(b"x-forwarded-host") or head.host)
    make = _cached_lines if len(head.host) <= 255 else _lines
    return make(head.host, peer, (b"", b"", b""), head.host)


def _lines(host: bytes, peer: Peer, theirs: Sequence[bytes], first_host: bytes) -> bytes:
    _, _, port = host.rpartition(b":")
    ours = (
        peer.address.encode(),
        port if port.isdigit() else (b"443" if peer.tls else b"80"),
        b"https" if peer.tls else b"http",
    )
    values = [b",".join(filter(None, pair)) for pair in zip(theirs, ours, strict=True)]
    named = zip(_XFWD_NAMES, (*values, first_host), strict=True)
    return b"".join([b"%b: %b\r\n" % field for field in named if field[1]])


# the same for all requests on a connection, unless a proxy in front speaks for others
_cached_lines = lru_cache(maxsize=4096)(_lines)


def request_head(
    head: RequestHead,
    *,
    target: bytes,
    host: bytes,
    peer: Peer,
    rules: ForwardedRules,
    upgrade: bool,
    chunked: bool,
) -> bytes:
    """The head that the server behind gets, empty line included.

    Args:
        target: the request target to ask for.
        host: the Host header for an HTTP/1.0 client that sent none.
        upgrade: pass ``Upgrade: websocket`` on.
        chunked: the body is sent chunked.
    """
    trusted = rules.trusts(peer)
    keep_xfwd = trusted and rules.mode == "keep"
    unkept = _UNKEPT if keep_xfwd else frozenset() if trusted else _CLAIMS
    whole = not head.claims_any(unkept) if keep_xfwd else not head.claims
    lines = head.lines() if head.host and whole else None
    if lines is not None and not (upgrade or chunked):  # no field has to go, nor to be added
        forwarded = b"" if keep_xfwd else _forwarded(head, peer, trusted)
        return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (head.method, target, lines, forwarded)
    connection = head.all(b"connection")
    struck = tokens(connection) - _NEVER_STRUCK if connection else ()
    out = [b"%b %b HTTP/1.1\r\n" % (head.method, target)]
    for lower, name, value in head.fields:
        if lower in HOP or lower in struck:
            continue
        if lower[:12] == b"x-forwarded-":
            if not keep_xfwd and (lower in _XFWD or not trusted):
                continue
        elif lower in unkept:
            continue
        out.append(b"%b: %b\r\n" % (name, value))
    if not head.host:
        out = [line for line in out if line[:5].lower() != b"host:"]
        out.append(b"Host: %b\r\n" % host)
    if not keep_xfwd:
        out.append(_forwarded(head, peer, trusted))
    options = []
    if upgrade:
        options.append(b"Upgrade")
        out.append(b"Upgrade: websocket\r\n")
    if b"trailers" in tokens(head.all(b"te")):
        options.append(b"TE")
        out.append(b"TE: trailers\r\n")
    if options:
        out.append(b"Connection: %b\r\n" % b", ".join(options))
    if chunked:
        out.append(b"Transfer-Encoding: chunked\r\n")
    out.append(b"\r\n")
    return b"".join(out)


def response_head(
    head: ResponseHead, *, upgrade: bool = False, chunked: bool = False, connection: bytes = b""
) -> bytes:
    """The head that the client gets, empty line included.

    Args:
        upgrade: the response is the 101 of a WebSocket.
        chunked: the body is sent chunked.
        connection: the Connection header's value, if one is needed.
    """
    no_length = chunked or head.status < 200 or head.status == 204
    lines = None if no_length and head.all(b"content-length") else head.lines()
    if lines is None:
        nominated = head.all(b"connection")
        struck = tokens(nominated) - _NEVER_STRUCK if nominated else ()
        kept = []
        for lower, name, value in head.fields:
            if lower in HOP or lower in struck or (no_length and lower == b"content-length"):
                continue
            kept.append(b"%b: %b\r\n" % (name, value))
        lines = b"".join(kept)
    if upgrade:
        lines += b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    elif connection:
        lines += b"Connection: %b\r\n" % connection
    if chunked:
        lines += b"Transfer-Encoding: chunked\r\n"
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, lines)


def error_head(
    page: ResponseHead, status: int, reason: bytes, *, chunked: bool, connection: bytes
) -> bytes:
    """The head for an error page that the hub made: of the hub's own fields only its type."""
    wanted = (b"content-type", b"content-encoding", b"content-length")
    out = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    for lower, name, value in page.fields:
        if lower in wanted and not (chunked and lower == b"content-length"):
            out.append(b"%b: %b\r\n" % (name, value))
    if connection:
        out.append(b"Connection: %b\r\n" % connection)
    if chunked:
        out.append(b"Transfer-Encoding: chunked\r\n")
    out.append(b"\r\n")
    return b"".join(out)


def safe_trailers(trailers: Iterable[tuple[bytes, bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The trailers that may pass."""
    return [
        (name, value)
        for lower, name, value in trailers
        if lower not in _NO_TRAILER and not lower.startswith(b"x-forwarded-")
    ]
