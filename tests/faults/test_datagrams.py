"""F29, F30, F31 in small: datagrams that are not what they should be.

An attacker, who has seen all traffic, sends to the engine from a port of its own.
Nothing may come back, and the session must not notice.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from lab.echo import ping
from lab.engines import EngineKind
from lab.network import Namespace
from lab.pair import PORT, Pair, tunnel_pair
from lab.process import wait_until

pytestmark = pytest.mark.root

Engines = Callable[[str], EngineKind]

ETH_P_IP = 0x0800
OUTER_HEADERS = 14 + 20 + 8  # Ethernet, IPv4, UDP
INITIATION, RESPONSE, COOKIE, DATA = 1, 2, 3, 4
SIZES = {INITIATION: 148, RESPONSE: 92, COOKIE: 64}
MAX_PAYLOAD = {4: 65_507, 6: 65_527}


@contextmanager
def wiretap(host: Namespace) -> Iterator[list[bytes]]:
    """UDP payloads that come to the engine of `host`; complete after the block."""
    seen: list[bytes] = []
    kind, number = socket.SOCK_RAW, socket.htons(ETH_P_IP)
    with host.socket(socket.AF_PACKET, kind, number) as tap:
        tap.bind(("eth0", ETH_P_IP))
        tap.setblocking(False)
        yield seen
        while True:
            try:
                frame, where = tap.recvfrom(2048)
            except BlockingIOError:
                break
            port = int.from_bytes(frame[OUTER_HEADERS - 6 : OUTER_HEADERS - 4], "big")
            if port == PORT and where[2] != socket.PACKET_OUTGOING:
                seen.append(frame[OUTER_HEADERS:])


@pytest.fixture
def pair(engine: Engines) -> Iterator[Pair]:
    with tunnel_pair(engine("wireguard-go"), engine("ours")) as made:
        yield made


@pytest.fixture
def genuine(pair: Pair) -> dict[int, bytes]:
    """One genuine message of each kind that the engine has received, by type."""
    with wiretap(pair.right.host) as seen:
        assert ping(pair.left.host, pair.right.ipv4, count=3).lost == 0
    found = {message[0]: message for message in seen}
    assert len(found[INITIATION]) == SIZES[INITIATION]
    assert len(found[DATA]) >= 128
    return found


def attack(pair: Pair, datagrams: Iterable[bytes], outside: int = 4) -> None:
    """Sends them; asserts silence, an unmoved endpoint and an unharmed session."""
    right = pair.right.engine
    before = right.peer()
    family = socket.AF_INET6 if outside == 6 else socket.AF_INET
    address = pair.right.host.ipv6 if outside == 6 else pair.right.host.ipv4
    with pair.left.host.socket(family, socket.SOCK_DGRAM) as attacker:
        for number, datagram in enumerate(datagrams):
            attacker.sendto(datagram, (address, PORT))
            if number % 32 == 31:
                time.sleep(0.001)  # so that the socket buffer does not overflow
        found = ping(pair.left.host, pair.right.ipv4, count=10, interval=0.01)
        assert found.lost == 0
        attacker.settimeout(0.3)
        with pytest.raises(TimeoutError):
            attacker.recv(2048)
    after = right.peer()
    assert after.endpoint == before.endpoint
    assert after.handshake_ns == before.handshake_ns
    # ten echo requests of 84 bytes, each padded to 96; a keepalive may come between
    assert after.rx_bytes - before.rx_bytes in (1280, 1312)


def flipped(message: bytes) -> Iterator[bytes]:
    """The message with each one of its bits changed."""
    for bit in range(len(message) * 8):
        changed = bytearray(message)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def test_an_attacker_who_knew_the_key_would_be_answered(pair: Pair) -> None:
    """The twin: the genuine initiation of a fresh handshake does get an answer."""
    left, right = pair.left, pair.right
    right.host.ip("link", "set", "eth0", "down")
    with left.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        port = listener.getsockname()[1]
        left.engine.wg(
            *("set", "wg0", "peer", right.identity.public_key),
            *("endpoint", f"127.0.0.1:{port}"),
        )
        ping(left.host, right.ipv4, count=1, wait=1)
        initiation = listener.recv(2048)
    right.host.ip("link", "set", "eth0", "up")
    for host in (left.host, right.host):  # until then what is sent is dropped
        wait_until(
            "the carrier",
            lambda h=host: "state UP" in h.ip("link", "show", "eth0"),
            timeout=10,
        )
    with left.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.settimeout(20)
        attacker.sendto(initiation, (right.host.ipv4, PORT))
        assert len(attacker.recv(2048)) == SIZES[RESPONSE]


@pytest.mark.parametrize("kind", [INITIATION, DATA], ids=["initiation", "data"])
def test_f29_every_flipped_bit_is_met_with_silence(
    pair: Pair, genuine: dict[int, bytes], kind: int
) -> None:
    attack(pair, flipped(genuine[kind]))


def test_f27_r12_replays_are_met_with_silence(
    pair: Pair, genuine: dict[int, bytes]
) -> None:
    attack(pair, [message for message in genuine.values() for _ in range(50)])


@pytest.mark.parametrize("kind", [INITIATION, DATA], ids=["initiation", "data"])
def test_r1_every_wrong_length_is_met_with_silence(
    pair: Pair, genuine: dict[int, bytes], kind: int
) -> None:
    message = genuine[kind]
    shorter = [message[:length] for length in range(len(message))]
    longer = [message + bytes(more) for more in (1, 2, 15, 16, 17, 1000)]
    attack(pair, shorter + longer)


def test_f30_random_datagrams_are_met_with_silence(pair: Pair, seed: int) -> None:
    chance = random.Random(seed)
    assert ping(pair.left.host, pair.right.ipv4, count=1).lost == 0

    def nonsense() -> Iterator[bytes]:
        for _ in range(3000):
            kind = chance.choice([0, INITIATION, RESPONSE, COOKIE, DATA, 5, 255])
            usual = SIZES.get(kind, 128)
            length = chance.choice([usual, usual, usual, chance.randrange(1500)])
            head = bytes([kind, 0, 0, 0]) if chance.random() < 0.8 else b""
            yield (head + chance.randbytes(length))[:length]

    attack(pair, nonsense())


@pytest.mark.parametrize("outside", [4, 6], ids=["ipv4", "ipv6"])
def test_f31_the_largest_datagrams_are_met_with_silence(
    pair: Pair, genuine: dict[int, bytes], outside: int
) -> None:
    size = MAX_PAYLOAD[outside]
    huge = [
        bytes([kind, 0, 0, 0]) + genuine[DATA][4:16] + bytes(length - 16)
        for kind in (0, INITIATION, RESPONSE, COOKIE, DATA)
        for length in (2048, 4097, 9000, size - 1, size)
    ]
    attack(pair, huge, outside)
