"""What is fed nonsense, and what nonsense: each target takes one made-up input."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastpath.rig import Rig, ipv4
from uapi.fake import FakeDevice

from tunnel.api.uapi import UapiSession
from tunnel.config.store import parse_config
from tunnel.errors import ConfigError

__all__ = ["TARGETS", "Target", "mutate"]

Target = Callable[[random.Random], None]

CONFIG = (Path(__file__).resolve().parents[2] / "config.json").read_bytes()
UAPI = (
    b"set=1\nprivate_key=" + b"a8" * 32 + b"\nlisten_port=7\nfwmark=0x10\n"
    b"replace_peers=true\npublic_key=" + b"b7" * 32 + b"\npreshared_key=" + b"c1" * 32
    + b"\nendpoint=[fe80::1%2]:51820\npersistent_keepalive_interval=25\n"
    b"replace_allowed_ips=true\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/64\n\nget=1\n\n"
)  # fmt: skip
WORDS = (
    b"\0", b"\xff", b"\n", b"\n\n", b"=", b'"', b"{", b"[", b"]", b",", b"-1", b"1e999",
    b"65536", b"4294967296", b"null", b"true", b"/33", b"/129", b"\xe2\x98\x83",
    b"a" * 300,
)  # fmt: skip


def mutate(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut out, doubled, or replaced by something unpleasant."""
    made = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(5):
            case 0:
                made[at:at] = rng.choice(WORDS)
            case 1:
                del made[at : at + rng.randrange(1, 20)]
            case 2:
                made[at:at] = made[at : at + rng.randrange(1, 40)]
            case 3 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case _:
                del made[at:]
        if not made:
            break
    return bytes(made)


def config(rng: random.Random) -> None:
    """ConfigError or a configuration, nothing else."""
    text = mutate(rng, CONFIG)
    with contextlib.suppress(ConfigError):
        parse_config(text, "fuzz", create=False)


def uapi(rng: random.Random) -> None:
    """Answers end in errno; a refused set changes nothing."""
    device = FakeDevice()
    session = UapiSession(device)
    stream = mutate(rng, UAPI)
    while stream and not session.closing:
        cut = rng.randrange(1, len(stream) + 1)
        before = device.state
        answer = session.feed(stream[:cut])
        stream = stream[cut:]
        if answer:
            assert answer.endswith(b"\n\n")
        if answer and b"errno=0" not in answer:
            assert device.state == before


class Wire:
    """One pump for all inputs: it must survive them, and carry the next good packet."""

    def __init__(self) -> None:
        self.rig = Rig(public_key=bytes(range(32)))
        self.path, self.end, _ = self.rig.session("10.0.0.2/32", "fd00::/64")
        self.number = 0

    def datagram(self, rng: random.Random) -> None:
        inner = mutate(rng, ipv4("10.0.0.2", "10.0.0.1", rng.randbytes(40)))
        sealed = self.end.seal(inner)
        self.end.send(mutate(rng, sealed) if rng.random() < 0.7 else sealed)
        kind = rng.randrange(6)
        self.end.send(mutate(rng, struct.pack("<I", kind) + rng.randbytes(144)))
        self.check()

    def from_tun(self, rng: random.Random) -> None:
        vnet = bytes(10) if rng.random() < 0.5 else rng.randbytes(10)
        self.rig.write(mutate(rng, ipv4("10.0.0.1", "10.0.0.2", bytes(60))), vnet)
        self.check()

    def check(self) -> None:
        self.number += 1
        mark = b"good" + struct.pack(">Q", self.number)
        packet = ipv4("10.0.0.2", "10.0.0.1", mark)
        self.end.send(self.end.seal(packet))
        while self.rig.read() != packet:
            pass
        self.rig.write(ipv4("10.0.0.1", "10.0.0.2", mark))
        while mark not in self.end.receive()[1]:
            pass
        self.rig.drain()
        self.rig.events.clear()
        self.rig.handshakes.clear()


_wires: list[Wire] = []


def _wire() -> Wire:
    if not _wires:
        _wires.append(Wire())
    return _wires[0]


def close() -> None:
    """Ends the pump that the packet targets share."""
    while _wires:
        _wires.pop().rig.__exit__()


TARGETS: dict[str, Target] = {
    "config": config,
    "uapi": uapi,
    "datagram": lambda rng: _wire().datagram(rng),
    "tun": lambda rng: _wire().from_tun(rng),
}

assert json.loads(CONFIG)
