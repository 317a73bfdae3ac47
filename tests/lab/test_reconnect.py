"""The measure of ten thousand peers that come back: its players and its arithmetic."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from lab.echo import echo_request
from lab.engines import ENGINES
from lab.process import LabError
from side_by_side import clients, outage, reconnect, storm
from side_by_side.clients import Client, make_clients
from side_by_side.storm import Storm

from tests.protocol.simple_path import SimplePath
from tunnel.constants import HANDSHAKE_UNDER_LOAD, SECOND
from tunnel.protocol.node import Node
from tunnel.protocol.noise import Identity
from tunnel.protocol.path import PathEvent
from tunnel.protocol.primitives import HandshakeError
from tunnel.protocol.types import Timing

CLIENTS = 4  # of one address, which is let through five times


class Server:
    """A node behind a socket, which is under load until it has sent `cookies`, and
    takes no notice of the first `deaf` messages."""

    def __init__(self, clients: int, *, cookies: int = 0, deaf: int = 0) -> None:
        key = os.urandom(32)
        self.now = SECOND
        self.node = Node(Timing(), random.Random(1), os.urandom)
        self.node.set_private_key(key, 0)
        assert self.node.public_key is not None
        self.clients = make_clients(clients, self.node.public_key)
        for client in self.clients:
            path = SimplePath(
                Timing(), lambda: self.now, lambda *_: None, lambda *_: None, {}
            )
            self.node.add_peer(client.caller.identity.public, path)
            client.control = []  # all from 127.0.0.1
        self.node.up(self.now)
        self._cookies, self._deaf = cookies, deaf
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(0.05)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while not self.done.is_set():
            try:
                data, (host, port) = self.sock.recvfrom(2048)
            except TimeoutError:
                continue
            if self._deaf > 0:
                self._deaf -= 1
                continue
            self.now = SECOND + time.monotonic_ns()
            under_load = self.node.counters["cookie.sent"] < self._cookies
            self.node.receive(
                data,
                (socket.inet_aton(host), port, 0),
                None,
                self.now,
                time.time_ns(),
                queued=HANDSHAKE_UNDER_LOAD if under_load else 0,
            )
            for datagram in self.node.to_send():
                self.sock.sendto(datagram.data, (host, port))

    def close(self) -> None:
        self.done.set()
        self.thread.join()
        self.sock.close()

    def storm(self) -> Storm:
        host: Any = SimpleNamespace(ip=lambda *_: "", socket=socket.socket)
        assert self.node.public_key is not None
        return Storm(self.clients, self.sock.getsockname(), self.node.public_key, host)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "RETRY_S", 0.2)
    monkeypatch.setattr(storm, "RETRY_JITTER_S", 0.01)
    monkeypatch.setattr(clients, "PORT", 0)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for server in made:
        server.close()


def test_everybody_is_answered_at_the_first_call(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storm, "RETRY_S", 60)
    servers.append(Server(CLIENTS))
    found = servers[0].storm()
    assert found.run(30) < 30
    assert (found.answered, found.calls, found.cookies) == (CLIENTS, CLIENTS, 0)
    assert found.nearly > 0
    for receiver, keys in found.sessions():
        assert 0 < receiver < 1 << 32
        assert len(keys.send) == 32
    found.close()


def test_a_cookie_is_used_at_the_next_call(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storm, "RETRY_S", 1.5)  # a call too many is an answer too many
    servers.append(Server(CLIENTS, cookies=CLIENTS))
    found = servers[0].storm()
    found.run(30)
    assert (found.answered, found.cookies) == (CLIENTS, CLIENTS)
    assert found.calls >= 2 * CLIENTS
    assert servers[0].node.counters["response.sent"] == CLIENTS
    found.sessions()
    found.close()


def test_the_third_call_is_a_new_initiation(
    servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.append(Server(1, deaf=2))
    before = servers[0].clients[0].caller.initiation
    found = servers[0].storm()
    send = Storm._send

    def last_is_third(self: Storm, client: Client, message: bytes) -> None:
        if self.calls == 2:
            monkeypatch.setattr(storm, "RETRY_S", 60)
        send(self, client, message)

    monkeypatch.setattr(Storm, "_send", last_is_third)
    found.run(30)
    assert (found.answered, found.calls) == (1, 3)
    assert servers[0].clients[0].caller.initiation != before
    found.sessions()
    found.close()


def test_nobody_answers_and_it_ends(servers: list[Server]) -> None:
    servers.append(Server(1, deaf=99))
    found = servers[0].storm()
    assert found.run(0.3) == 0
    assert found.answered == 0
    found.close()


def test_a_forged_response_is_told(servers: list[Server]) -> None:
    servers.append(Server(1))
    found = servers[0].storm()
    found.run(30)
    caller = found.clients[0].caller
    caller.response = (
        caller.response[:-33]
        + bytes([caller.response[-33] ^ 1])
        + (caller.response[-32:])
    )
    with pytest.raises(HandshakeError):
        found.sessions()
    found.close()


def test_an_echo_request_is_one_that_a_kernel_answers() -> None:
    packet = echo_request("10.64.0.9", "10.77.0.1")
    assert len(packet) % 16 == 0
    for part in (packet[:20], packet[20:28]):
        words = [
            int.from_bytes(part[at : at + 2], "big") for at in range(0, len(part), 2)
        ]
        total = sum(words)
        assert (total & 0xFFFF) + (total >> 16) == 0xFFFF  # with its own checksum in it
    assert packet[2:4] == (28).to_bytes(2, "big")
    assert packet[12:16] == socket.inet_aton("10.64.0.9")


def test_rates_and_gaps_of_samples() -> None:
    samples = [(0.0, 0), (1.0, 100), (2.0, 100), (3.0, 100), (4.0, 400), (5.0, 400)]
    assert reconnect.rate_between(samples, 0, 4) == 100
    assert reconnect.rate_between(samples, 0.5, 3.5) == 0
    assert reconnect.longest_gap(samples, 0, 4) == 3
    assert reconnect.longest_gap(samples, 4, 9) == 5  # nothing more ever came
    with pytest.raises(LabError, match="too rarely"):
        reconnect.rate_between(samples, 0.1, 0.9)


def test_most_at_once_counts_what_lies_together(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        times = [rng.randrange(50) / 8 for _ in range(rng.randrange(1, 30))]
        width = rng.choice([0.0, 0.5, 2.0])
        by_hand = max(sum(at <= t <= at + width for t in times) for at in times)
        assert outage.most_at_once(times, width) == by_hand


def test_what_responders_answer_is_a_response() -> None:
    private, theirs = os.urandom(32), Identity(os.urandom(32))
    node = Node(Timing(), random.Random(1), os.urandom)
    node.set_private_key(private, SECOND)
    assert node.public_key is not None
    path = SimplePath(Timing(), lambda: SECOND, lambda *_: None, lambda *_: None, {})
    path.set_endpoint((bytes(4), 1, 0))
    peer = node.add_peer(theirs.public, path)
    assert peer is not None
    node.up(SECOND)
    node.path_event(peer, PathEvent.NEEDS_SESSION, SECOND, time.time_ns())
    (sent,) = node.to_send()
    answer = outage.response(theirs, node.public_key, sent.data)
    node.receive(answer, (bytes(4), 1, 0), None, SECOND, time.time_ns(), queued=0)
    assert node.counters["response.received"] == 1


@pytest.mark.root
def test_ours_calls_again_those_that_were_away(
    require_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(outage, "RAMP_S", 0.2)
    monkeypatch.setattr(outage, "BEFORE_S", 2.0)
    monkeypatch.setattr(outage, "AWAY_S", 1.0)
    kind = ENGINES["ours"].find()
    assert kind is not None
    found = outage.outage(kind, 40)
    assert found["outage.called"] == found["outage.heard"] == 100
    assert found["outage.spread"] > 0


@pytest.mark.root
def test_ours_takes_back_everybody(
    require_root: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(reconnect, "RAMP_S", 0.2)
    monkeypatch.setattr(reconnect, "BEFORE_S", 2.0)
    kind = ENGINES["ours"].find()
    assert kind is not None
    found = reconnect.reconnect(kind, 60)
    assert found["reconnect.answered"] == found["reconnect.echoed"] == 100
    assert found["reconnect.before"] > 0
