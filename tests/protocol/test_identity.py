"""Our key, our peers, up and down: what each change does to sessions."""

from __future__ import annotations

import base64
import logging
import pprint
import subprocess
import sys

import pytest

from tunnel._fastpath.symmetric import SymmetricState
from tunnel._fastpath.x25519 import SharedSecret
from tunnel.protocol import noise
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import clamp

from .scripted import alone
from .world import World


def connected() -> tuple[World, list]:  # type: ignore[type-arg]
    world = World()
    a, b = world.pair()
    a.say(b)
    world.run(1)
    b.say(a)
    world.run(10)
    for host, other in ((a, b), (b, a)):
        host.kinds()
        host.heard(other)
    return world, [a, b]


# --- R67, R68, R69


def test_r67_the_same_key_again_changes_nothing() -> None:
    world, (a, b) = connected()
    deadline, current = a.node.next_deadline(), a.peer(b).slots.current
    loose = bytearray(a.private)
    loose[0] ^= 7  # bits that clamping ignores (R68)
    loose[31] |= 128
    for key in (a.private, bytes(loose)):
        assert a.node.set_private_key(key, world.now) is None
        assert a.node.next_deadline() == deadline
        assert a.peer(b).slots.current is current
    a.say(b, b"still")
    world.run(1)
    assert b.heard(a) == [b"still"]
    assert a.kinds() == ["data"]


def test_r67_another_key_receives_on_the_old_session_and_handshakes_at_once() -> None:
    world, (a, b) = connected()
    a.say(b)  # a handshake of ours was just sent, too
    world.run(6)
    a.peer(b).initiate(world.now, world.wall)
    a.drain()
    a.private = world.rng.randbytes(32)
    a.node.set_private_key(a.private, world.now)
    a.kinds()
    (old,) = b.node.peers.values()
    old.path.send(b"under the old key")
    b.drain()
    world.run(0.5)
    assert a.heard(b) == [b"under the old key"]
    assert a.kinds() == []
    b.add(a)
    a.say(b, b"under the new key")
    assert a.kinds() == ["initiation"]
    world.run(1)
    assert b.heard(a) == [b"under the new key"]


def test_r67_static_static_is_computed_again() -> None:
    world, host, far = alone()
    far.handshake()
    host.kinds()
    host.node.set_private_key(world.rng.randbytes(32), world.now)
    far.jar = type(far.jar)(host.public)
    world.run(1)
    far.confirmed()
    assert host.kinds() == ["response"]


def test_r67_mac1_and_cookies_follow_the_key() -> None:
    world, host, far = alone()
    before = far.initiation()
    host.node.set_private_key(world.rng.randbytes(32), world.now)
    far.send(before)
    assert host.node.counters["handshake.bad_mac1"] == 1


def test_r67_a_peer_that_has_our_new_key_is_removed() -> None:
    world = World()
    a, b, c = world.host(), world.host(), world.host()
    doomed = a.add(b)
    a.add(c)
    a.say(b)
    assert a.node.indices == 1
    assert a.node.set_private_key(b.private, world.now) is doomed
    assert list(a.node.peers) == [c.public]
    assert a.node.indices == 0
    assert doomed.removed


def test_r67_a_first_key_sends_what_waited() -> None:
    world = World()
    a, b = world.host(), world.host()
    b.add(a)
    a.node.set_private_key(None, world.now)
    a.add(b)
    a.say(b, b"waited")
    world.run(1)
    assert a.kinds() == []
    a.node.set_private_key(a.private, world.now)
    a.drain()
    world.run(1)
    assert b.heard(a) == [b"waited"]


def test_r68_clamping_and_unset() -> None:
    raw = bytes([255]) * 32
    assert clamp(raw) == b"\xf8" + raw[1:-1] + b"\x7f"
    assert PrivateKey(raw).same_as(clamp(raw))
    assert PrivateKey(raw).public == PrivateKey(clamp(raw)).public
    world, host, _far = alone()
    host.node.set_private_key(bytes(32), world.now)
    assert host.node.public_key is None


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_have_32_bytes(size: int) -> None:
    world, host, far = alone()
    key = bytes([7]) * size
    with pytest.raises(ValueError, match="32"):
        host.node.set_private_key(key, world.now)
    with pytest.raises(ValueError, match="32"):
        host.node.add_peer(key, host.new_path())
    with pytest.raises(ValueError, match="32"):
        far.peer.set_preshared_key(key)


def test_r69_a_peer_with_our_own_key_is_ignored() -> None:
    _world, host, _far = alone()
    count = len(host.node.peers)
    assert host.node.add_peer(host.public, host.new_path()) is None
    assert len(host.node.peers) == count


def test_a_peer_is_added_once() -> None:
    _world, host, far = alone()
    with pytest.raises(ValueError, match="already"):
        host.node.add_peer(far.peer.public_key, host.new_path())


# --- R75, R76


def test_r75_down_forgets_and_up_starts_over() -> None:
    world, (a, b) = connected()
    a.node.down(world.now)
    assert a.keypairs == {}
    assert a.node.indices == 0
    assert a.node.next_deadline() is None
    a.say(b, b"waits")
    world.run(60)
    assert a.kinds() == []
    b.say(a)
    world.run(60)
    a.node.up(world.now)
    a.drain()
    world.run(7)  # its first initiation crosses with one of the other end
    assert b.heard(a) == [b"waits"]


def test_r75_down_purges_and_up_allows_a_handshake_at_once() -> None:
    world, host, far = alone()
    far.path.send(b"old")
    host.drain()
    host.node.down(world.now)
    assert far.path.staged == 0
    host.node.up(world.now)
    far.path.send(b"new")
    host.drain()
    assert host.kinds() == ["initiation", "initiation"]


def test_r75_after_up_the_lazy_timers_are_told_again() -> None:
    world, host, far = alone()
    far.confirmed()
    far.path.send(b"unanswered")
    host.drain()
    host.node.down(world.now)
    host.node.up(world.now)
    world.run(1)
    keypair = far.confirmed()
    host.kinds()
    far.path.send(b"unanswered")
    host.drain()
    world.run(15.1)
    assert host.kinds() == ["data", "initiation"]
    far.send(keypair.seal(b"data"))
    world.run(4.8)
    assert "keepalive" not in host.kinds()


def test_r76_a_removed_peer_is_gone_everywhere() -> None:
    world, (a, b) = connected()
    peer = a.peer(b)
    a.say(b)
    world.run(10)
    peer.initiate(world.now, world.wall)
    a.drain()
    b.sent.clear()
    b.say(a)
    late = [*b.sent]
    assert a.node.remove_peer(b.public, world.now) is peer
    assert a.node.remove_peer(b.public, world.now) is None
    assert a.node.indices == 0
    assert a.keypairs == {}
    assert a.node.next_deadline() is None
    world.run(30)
    a.kinds()
    for packet in late:
        a.hear(packet.data, packet.src)
    a.node.path_event(peer, 127, world.now, world.wall)
    a.node.handle_deadline(world.now + 10**12, world.wall)
    assert a.node.to_send() == []
    assert a.kinds() == []


# --- R77, R79


def test_r77_r79_nothing_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world, host, far = alone()
    psk = b"\x5a" * 32
    far.psk = psk
    far.peer.set_preshared_key(psk)
    far.confirmed()
    world.run(6)
    far.peer.initiate(world.now, world.wall)
    identity = noise.Identity(host.private)
    session = far.peer.slots.current
    assert session is not None
    things = [
        host.node,
        far.peer,
        far.peer.handshake,
        far.peer.handshake._initiated,
        far.peer.handshake.remote,
        far.peer.handshake.jar,
        identity,
        identity.private,
        far.peer.slots,
        session,
        noise.SessionKeys(psk, psk),
        noise.Consumed(far.remote, psk, psk, SymmetricState(psk, psk)),
        SharedSecret(psk),
        PrivateKey(psk),
        host.node._local,
    ]
    text = pprint.pformat(things) + caplog.text
    for secret in (psk, host.private, far.path.sending.send_key):  # type: ignore[union-attr]
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
        assert base64.b64encode(secret).decode() not in text


def test_the_heavy_libraries_are_not_loaded_for_nothing() -> None:
    """Neither without a key nor, where our own curve runs, with one. A child process,
    because this one has loaded them by now."""
    code = """
import random, sys
from tunnel._fastpath.x25519 import kernel_name
from tunnel.protocol.node import Node
from tunnel.protocol.types import Timing
node = Node(Timing(), random.Random(1), random.Random(1).randbytes)
node.up(1)
node.receive(bytes(148), (bytes(4), 1, 0), None, 1, 1, queued=0)
assert node.counters["handshake.not_ready"] == 1
if kernel_name() != "library":
    node.set_private_key(bytes(range(32)), 1)
    node.receive(bytes(148), (bytes(4), 1, 0), None, 1, 1, queued=0)
print(*(name for name in ("cryptography", "nacl") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
