"""Ports of tests: those of two processes never meet, and none is given that is in use."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from harness.ports import LANE, Lane


def test_two_lanes_have_no_port_in_common() -> None:
    with closing(Lane()) as one, closing(Lane()) as other:
        assert not set(one.ports) & set(other.ports)


def test_a_port_comes_back_only_after_all_others_and_never_while_it_is_used() -> None:
    with closing(Lane()) as lane, socket.socket() as user:
        first = lane.free_ports(1)[0]
        user.bind(("127.0.0.1", first))
        user.listen()
        found = lane.free_ports(LANE // 2) + lane.free_ports(LANE // 4)
        assert len(found) == len(set(found))
        assert first not in found
        assert first not in lane.free_ports(LANE // 2)
        with pytest.raises(RuntimeError, match=f"not {LANE} free ports"):
            lane.free_ports(LANE)
