"""Two devices over 127.0.0.1: packets, and what changes do to them."""

from __future__ import annotations

import errno
import gc
import os
import socket
import threading
import time
import weakref
from dataclasses import replace

import pytest

from tunnel.engine import Engine
from tunnel.errors import DeviceError
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import InterfaceState, PeerState, Secret, clamp

from .rig import Running, connect, free_port, host, number_of, packet, ping

STAMP = 0.05  # R11, R13: initiations closer together than 17 and 20 ms are refused


def test_two_devices_exchange_packets() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        status = a.call(lambda e: e.device.status())
        (peer,) = status.peers
        assert peer.connected(time.time_ns())
        assert peer.endpoint == (bytes([127, 0, 0, 1]), b.port, 0)
        assert peer.rx_bytes > 0
        assert peer.tx_bytes > 0
        assert status.public_key == a.public
        assert status.peer("peer2") == peer
        assert a.secret.reveal().hex() not in repr(status)


def test_f19_the_same_again_changes_nothing() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        _all_counted(a, b)
        before = a.call(lambda e: e.device.status())
        assert a.change().empty
        after = a.call(lambda e: e.device.status())
        assert after.generation == before.generation
        assert after.peers == before.peers
        assert a.handshakes() == 1


def _all_counted(a: Running, b: Running) -> None:
    """What one of them sent has reached the other, also a ping that was sent anew."""
    for one, far in ((a, b), (b, a)):
        for _ in range(1000):
            (sent,) = one.call(lambda e: e.device.status().peers)
            (got,) = far.call(lambda e: e.device.status().peers)
            if sent.tx_bytes == got.rx_bytes:
                break
            time.sleep(0.01)
        else:
            raise AssertionError(f"{sent.tx_bytes} sent, {got.rx_bytes} received")


def test_no_packet_is_lost_while_everything_around_changes() -> None:
    """Peers come and go, prefixes, keepalive, names and ports change: lost 0 of N."""
    total = 4000
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b, number=PING)
        flow, changes = Flow(a, b), 0
        while not flow.over and (flow.sent < total or changes < 24):
            _change_everything_around(a, b, changes)
            changes += 4
        flow.end()
        assert len(flow.arrived) - flow.sent == 0
        assert set(flow.arrived) == set(range(flow.sent))
        assert a.handshakes() == 1


PING = 1 << 40  # number of the packet that makes the session
WINDOW = 500  # packets under way, which find room even if nobody reads for a while


class Flow:
    """Numbered packets from one end to the other, until `end` or one is missing."""

    def __init__(self, one: Running, far: Running) -> None:
        self._one, self._far = one, far
        self._stop = threading.Event()
        self.sent = 0
        self.arrived: list[int] = []
        self._sender = threading.Thread(target=self._send)
        self._receiver = threading.Thread(target=self._receive)
        self._sender.start()
        self._receiver.start()

    @property
    def over(self) -> bool:
        return self._stop.is_set()

    def _send(self) -> None:
        while not self.over:
            for _ in range(min(20, WINDOW + len(self.arrived) - self.sent)):
                self._one.packets.send(packet(1, 2, self.sent))
                self.sent += 1
            time.sleep(0.005)

    def _receive(self) -> None:
        quiet = 0
        while quiet < 50 and (self._sender.is_alive() or len(self.arrived) < self.sent):
            try:
                number = number_of(self._far.packets.recv(0.1))
            except TimeoutError:
                quiet += 1
                continue
            quiet = 0
            if number != PING:
                self.arrived.append(number)
        self._stop.set()

    def end(self) -> None:
        self._stop.set()
        self._sender.join()
        self._receiver.join()


def _change_everything_around(a: Running, b: Running, number: int) -> None:
    """Four changes, other ones for each number."""
    guest = PeerState(b"\7" * 32, allowed_ips=(host(77),))
    other = a.peer(b, allowed_ips=(host(2), host(100 + number % 50)))
    a.add(replace(other, keepalive=number % 3, name=f"n{number}"), guest)
    a.remove(guest.public_key)
    a.change(listen_port=free_port() if number % 8 == 0 else a.port)
    b.add(b.peer(a, keepalive=number % 2))


def test_r70_a_preshared_key_is_for_the_next_handshake() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        psk = Secret(os.urandom(32))
        a.add(a.peer(b, preshared_key=psk))
        ping(a, b, 2)
        b.add(b.peer(a, preshared_key=psk))
        ping(a, b, 3)
        assert a.handshakes() == 1


def test_r67_a_new_private_key_makes_a_new_session_within_a_second() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        a.secret = Secret(clamp(os.urandom(32)))
        a.public = PrivateKey(a.secret.reveal()).public
        b.change(peers={a.public: b.peer(a)})
        plan = a.change(private_key=a.secret)
        assert [action.session.value for action in plan.actions] == ["new handshake"]
        ping(a, b, 2, timeout=1)
        assert a.handshakes() == 2


def test_r69_our_own_key_among_the_peers_is_ignored() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        plan = a.add(PeerState(a.public, allowed_ips=(host(2),)))
        assert plan.empty
        ping(a, b)


def test_a_new_listen_port_is_bound_before_the_old_one_closes() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        old, new = a.port, free_port()
        a.change(listen_port=new)
        assert a.port == new
        ping(a, b, 2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", old))
        assert b.call(lambda e: e.device.live(a.public).endpoint)[1] == new
        assert a.handshakes() == 1


def test_f46_a_taken_port_is_refused_and_nothing_has_changed() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        before, port = a.call(lambda e: e.device.observe()), a.port
        with pytest.raises(DeviceError, match="bind UDP port") as caught:
            a.change(listen_port=b.port, peers={})
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EADDRINUSE
        assert a.call(lambda e: e.device.observe()) is before
        assert a.port == port
        ping(a, b)


def test_a_removed_peer_is_gone_and_can_come_back() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        kept = a.state.peers[b.public]
        a.remove(b.public)
        assert a.call(lambda e: e.device.node.indices) == 0
        assert a.call(lambda e: e.device.live(b.public).endpoint) is None
        time.sleep(STAMP)
        a.add(kept)
        ping(a, b, 2)


def test_a_disabled_peer_is_only_written_down() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        a.add(a.peer(b, enabled=False))
        assert a.call(lambda e: list(e.device.node.peers)) == []
        (peer,) = a.call(lambda e: e.device.status().peers)
        assert not peer.enabled
        time.sleep(STAMP)
        a.add(a.peer(b))
        ping(a, b, 2)


def test_a_configured_endpoint_does_not_undo_roaming() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        b.change(listen_port=free_port())
        ping(b, a, 2)
        moved = (bytes([127, 0, 0, 1]), b.port, 0)
        assert a.call(lambda e: e.device.live(b.public).endpoint) == moved
        before = a.state.peers[b.public]
        assert before.endpoint != moved
        a.add(replace(before, keepalive=25, name="other"))
        assert a.call(lambda e: e.device.live(b.public).endpoint) == moved


def test_r75_down_ends_sessions_and_up_uses_the_same_port() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        port = a.port
        a.call(lambda e: e.device.set_up(False))
        assert a.call(lambda e: e.device.transport) is None
        assert a.port == port
        time.sleep(STAMP)
        a.call(lambda e: e.device.set_up(True))
        assert a.port == port
        ping(a, b, 2)
        assert a.handshakes() == 2


def test_f11_without_its_interface_a_tunnel_ends_with_the_reason() -> None:
    with Running(1) as a:
        a.packets.close()
        assert a.ended(1)
        assert isinstance(a.failure, DeviceError)
        assert "TUN" in str(a.failure)


def test_f12_an_error_in_the_control_thread_ends_the_tunnel() -> None:
    def boom() -> None:
        raise ZeroDivisionError

    with Running(1) as a:
        a.call(lambda e: e.loop.call_later(1, boom))
        assert a.ended(1)
        assert isinstance(a.failure, DeviceError)
        assert isinstance(a.failure.__cause__, ZeroDivisionError)


def test_nobody_keeps_a_closed_device() -> None:
    """Its keys are wiped when it goes, which is not left to the garbage collector."""
    gc.disable()
    try:
        engine = Engine(InterfaceState(kind="loopback", name="memory"))
        engine.start()
        device = weakref.ref(engine.device)
        engine.close()
        del engine
        assert device() is None
    finally:
        gc.enable()
