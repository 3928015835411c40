"""An independent, strict reading of HTTP/1.1 requests, for comparison; written for clarity.

It reads one connection's bytes as a careful server would, from RFC 9112 alone, and shares no
code with the forwarder: line by line, field by field, and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
HEX = frozenset(b"0123456789abcdefABCDEF")
DIGITS = frozenset(b"0123456789")


class Refused(Exception):
    """What is no request; nothing after it is one either."""


class Incomplete(Exception):
    """What may yet become a request."""


@dataclass(frozen=True)
class Request:
    """One request: what must be the same wherever it is read."""

    method: bytes
    target: bytes
    host: bytes
    body: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def line(self) -> bytes:
        """One line without its CRLF; a CR or LF by itself is refused."""
        for index in range(self.at, len(self.data)):
            byte = self.data[index]
            if byte == 0x0A:
                raise Refused("LF without CR")
            if byte == 0x0D:
                if index + 1 == len(self.data):
                    raise Incomplete
                if self.data[index + 1] != 0x0A:
                    raise Refused("CR without LF")
                line, self.at = self.data[self.at : index], index + 2
                return line
        raise Incomplete

    def exactly(self, size: int) -> bytes:
        if len(self.data) - self.at < size:
            raise Incomplete
        self.at += size
        return self.data[self.at - size : self.at]


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or not TCHAR.issuperset(name):
        raise Refused(f"no header line: {line!r}")
    if any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in value):
        raise Refused("a control character")
    return name.lower(), value.strip(b" \t")


def _fields(reader: _Reader) -> list[tuple[bytes, bytes]]:
    found = []
    while line := reader.line():
        found.append(_field(line))
    return found


def _chunks(reader: _Reader) -> bytes:
    body = b""
    while True:
        size, _, extension = reader.line().partition(b";")
        if not size or not HEX.issuperset(size) or len(size) > 15:
            raise Refused("a bad chunk size")
        if any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in extension):
            raise Refused("a control character")
        if int(size, 16) == 0:
            _fields(reader)
            return body
        body += reader.exactly(int(size, 16))
        if reader.exactly(2) != b"\r\n":
            raise Refused("a chunk is longer than it says")


def _origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    for scheme in (b"http://", b"https://"):
        if target.lower().startswith(scheme + host.lower()):
            path = target[len(scheme + host) :]
            if host and path[:1] in (b"", b"/", b"?"):
                return path if path.startswith(b"/") else b"/" + path
    raise Refused(f"no target: {target!r}")


def _request(reader: _Reader) -> Request:
    while (line := reader.line()) == b"":
        pass
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Refused(f"no request line: {line!r}")
    method, target, version = parts
    if not method or not TCHAR.issuperset(method):
        raise Refused("no method")
    if any(byte <= 0x20 or byte in b"\x7f#" for byte in target):
        raise Refused("no target")
    fields = _fields(reader)

    def values(name: bytes) -> list[bytes]:
        return [value for each, value in fields if each == name]

    hosts, lengths, codings = map(values, (b"host", b"content-length", b"transfer-encoding"))
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise Refused("not one Host")
    host = hosts[0] if hosts else b""
    target = _origin_form(method, target, host)
    if codings:
        if lengths or version == b"HTTP/1.0" or [c.lower() for c in codings] != [b"chunked"]:
            raise Refused("two framings")
        body = _chunks(reader)
    elif lengths:
        if len(lengths) > 1 or not lengths[0] or not DIGITS.issuperset(lengths[0]):
            raise Refused("two lengths")
        body = reader.exactly(int(lengths[0]))
    else:
        body = b""
    return Request(method, target, host, body, tuple(fields))


def requests_in(data: bytes) -> tuple[list[Request], str]:
    """The whole requests in ``data``, and what comes after: "end", "incomplete" or "refused"."""
    reader, found = _Reader(data), []
    while reader.at < len(data):
        try:
            found.append(_request(reader))
        except Incomplete:
            return found, "incomplete"
        except Refused:
            return found, "refused"
    return found, "end"
