"""Heads of messages from lines."""

from __future__ import annotations

from jupyterhub_junction.forwarder.http11 import RequestHead, ResponseHead


def request(*lines: str, first: str = "GET /a?b=c HTTP/1.1", host: bool = True) -> RequestHead:
    fields = ("Host: hub.example:8000", *lines) if host else lines
    return RequestHead("".join(f"{line}\r\n" for line in (first, *fields)).encode("latin-1"))


def response(*lines: str, first: str = "HTTP/1.1 200 OK") -> ResponseHead:
    return ResponseHead("".join(f"{line}\r\n" for line in (first, *lines)).encode("latin-1"))
