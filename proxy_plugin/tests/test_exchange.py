"""An exchange by itself; with real sockets it is tested in ``test_forwarder``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.heads import request

from jupyterhub_junction.forwarder.exchange import Exchange
from jupyterhub_junction.forwarder.limits import Limits


class Counted(bytes):
    """Counts the bytes that are copied to slice it; slices of it count on."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if not isinstance(part, bytes):
            return part
        Counted.copied += len(part)
        return Counted(part)


def test_many_interim_responses_in_one_read_are_copied_once() -> None:
    written: list[bytes] = []
    client = SimpleNamespace(registry=SimpleNamespace(limits=Limits()), write=written.append)
    exchange = Exchange(SimpleNamespace(), client, request())  # type: ignore[arg-type]
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    data = Counted(interim * 5000 + b"HTTP/1.1 20")
    Counted.copied = 0
    exchange.response_data(data)
    assert written == [interim] * 5000
    assert Counted.copied <= 2 * len(data)
    assert exchange._held == b"HTTP/1.1 20"
