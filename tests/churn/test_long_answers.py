"""A long answer whose beginning goes out early is the same answer, in its order."""

from __future__ import annotations

from contextlib import closing

from tunnel.api.uapi import UapiSession
from tunnel.engine import Engine
from tunnel.state.model import InterfaceState

PEERS = 1000


def test_an_answer_in_pieces_is_the_whole_answer() -> None:
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    with closing(engine):
        engine.start()
        lines = ["set=1", f"private_key={'08' * 31}48"]
        for number in range(1, PEERS + 1):
            lines.append(f"public_key={number:064x}")
            lines.append(f"allowed_ip=10.0.{number >> 8}.{number & 255}/32")
        plain = UapiSession(engine.device)
        assert plain.feed("\n".join([*lines, "", ""]).encode()) == b"errno=0\n\n"
        early: list[bytes] = []
        pieces = UapiSession(engine.device, early=early.append)
        asked = b"set=1\n\nget=1\n\nset=1\nfwmark=x\n\nget=1\n\nget=1\nbad\n\n"
        whole = plain.feed(asked)
        rest = pieces.feed(asked)
    assert whole.count(b"public_key=") == 2 * PEERS
    assert b"".join([*early, rest]) == whole
    assert len(early) > 4
    assert len(rest) < len(whole) // 4
