"""F1, F2: an end is killed (kill -9) and started again under one-way traffic."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from lab.echo import ping
from lab.engines import EngineKind
from lab.pair import End, Pair, tunnel_pair
from lab.process import wait_until
from lab.traffic import Receiver, Sender

pytestmark = pytest.mark.root

Engines = Callable[[str], EngineKind]

KILLS = 5
INITIATOR_BACK_S = 1.0
RESPONDER_BACK_S = 15.4  # R33: 10 + 5 s, up to 0.333 s of jitter, the round trip


def restarted(end: End) -> int:
    """Kills and starts it; the time (CLOCK_MONOTONIC, ns) at which it answered."""
    end.engine.kill()
    assert end.engine.socket_path.exists()  # stale: the new process has to replace it
    end.engine.restart()
    answered = time.monotonic_ns()
    end.configure()
    return answered


def one_way(pair: Pair, seconds: int) -> tuple[Receiver, Sender]:
    assert ping(pair.left.host, pair.right.ipv4, count=2).lost == 0
    receiver = Receiver(pair.right.host, trace=True)
    sender = Sender(
        pair.left.host,
        source=pair.left.ipv4,
        to=pair.right.ipv4,
        rate=200,
        count=200 * seconds,
    )
    return receiver, sender


def in_session(end: End) -> None:
    """Waits for the handshake of a new process, and for packets after it."""
    wait_until(
        "the handshake with the new process",
        lambda: end.engine.peer().handshake_ns > 0,
        timeout=RESPONDER_BACK_S + 5,
    )
    time.sleep(0.3)


@pytest.mark.parametrize("survivor", ["wireguard-go", "ours"])
def test_f1_r12_a_killed_initiator_is_back_in_a_second(
    engine: Engines, survivor: str
) -> None:
    with tunnel_pair(engine("ours"), engine(survivor)) as pair:
        receiver, sender = one_way(pair, 60)
        starts = []
        for _ in range(KILLS):
            starts.append(restarted(pair.left))
            in_session(pair.left)
        sender.finish(early=True)
        arrivals = receiver.finish()[1].arrivals_ns
        for start in starts:
            back = next((each for each in arrivals if each > start), None)
            assert back is not None
            assert (back - start) / 1e9 <= INITIATOR_BACK_S


@pytest.mark.parametrize(
    ("initiator", "responder"),
    [("wireguard-go", "ours"), ("ours", "wireguard-go")],
    ids=["ours-is-killed", "ours-notices"],
)
def test_f2_r33_a_killed_responder_is_found_again(
    engine: Engines, initiator: str, responder: str
) -> None:
    with tunnel_pair(engine(initiator), engine(responder)) as pair:
        receiver, sender = one_way(pair, 60)
        start = restarted(pair.right)
        in_session(pair.right)
        sender.finish(early=True)
        arrivals = receiver.finish()[1].arrivals_ns
        back = next((each for each in arrivals if each > start), None)
        assert back is not None
        assert (back - start) / 1e9 <= RESPONDER_BACK_S
