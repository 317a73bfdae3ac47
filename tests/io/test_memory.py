"""Devices and transports in memory behave like the real ones."""

from __future__ import annotations

import os
import select
import threading

import pytest
from lab.held import open_descriptors

from tunnel.errors import DeviceError
from tunnel.io.base import SendResult
from tunnel.io.memory import memory_tun, memory_udp

A = (bytes([10, 0, 0, 1]), 1000, 0)
B = (bytes([10, 0, 0, 2]), 2000, 0)


def test_packets_carry_an_empty_virtio_header_inside_only() -> None:
    tun, user = memory_tun("demo", 1380)
    assert (tun.name, tun.mtu, tun.vnet_header, tun.alive) == ("demo", 1380, True, True)
    for size in (1, 20, 1500, 65535):
        packet = os.urandom(size)
        user.send(packet)
        assert os.read(tun.fileno(), 65545) == bytes(10) + packet
        os.write(tun.fileno(), bytes(10) + packet)
        assert user.recv(1) == packet
    with pytest.raises(BlockingIOError):
        os.read(tun.fileno(), 65545)
    tun.set_mtu(1300)
    assert tun.mtu == 1300
    with pytest.raises(ValueError, match="65535"):
        user.send(bytes(65536))
    tun.close()
    user.close()


def test_waiting_ends_in_time() -> None:
    tun, user = memory_tun()
    with pytest.raises(TimeoutError):
        user.recv(0.01)
    with pytest.raises(TimeoutError):
        for _ in range(100_000):
            user.send(bytes(1400), 0.01)
    tun.close()
    user.close()


def test_a_full_queue_makes_the_sender_wait() -> None:
    """All of it arrives, in order: nothing is dropped between user and engine."""
    tun, user = memory_tun()
    count = 5000

    def feed() -> None:
        for number in range(count):
            user.send(number.to_bytes(4, "big") * 300, 10)

    feeder = threading.Thread(target=feed)
    feeder.start()
    for number in range(count):
        select.select([tun], [], [], 10)
        data = os.read(tun.fileno(), 65545)
        assert data[10:14] == number.to_bytes(4, "big")
    feeder.join()
    tun.close()
    user.close()


def test_the_user_closing_is_a_deleted_interface() -> None:
    tun, user = memory_tun()
    user.close()
    assert not tun.alive
    assert os.read(tun.fileno(), 65545) == b""
    with pytest.raises(BrokenPipeError):
        os.write(tun.fileno(), bytes(30))
    tun.close()


def test_the_engine_closing_ends_the_user() -> None:
    tun, user = memory_tun()
    waiting: list[object] = []

    def wait() -> None:
        try:
            waiting.append(user.recv(10))
        except DeviceError as error:
            waiting.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    tun.close()
    tun.close()
    waiter.join(10)
    assert isinstance(waiting[0], DeviceError)
    with pytest.raises(DeviceError, match="closed"):
        user.send(bytes(20))
    with pytest.raises(DeviceError, match="closed"):
        tun.fileno()
    assert not tun.alive
    user.close()


def test_transports_reach_each_other_and_nobody_else() -> None:
    one, two = memory_udp(A, B)
    assert (one.connected, two.connected) == (B, A)
    assert (one.port, two.port) == (1000, 2000)
    assert (one.fileno6, two.fileno6) == (-1, -1)
    assert one.send(b"hello", B, (A[0], 0), 0x88) is SendResult.SENT
    assert os.read(two.fileno4, 2048) == b"hello"
    assert two.send(b"back", A) is SendResult.SENT
    assert os.read(one.fileno4, 2048) == b"back"
    assert one.send(b"hello", A) is SendResult.DROPPED
    assert one.errors == {"EHOSTUNREACH": 1}
    one.set_fwmark(1)
    one.close()
    one.close()
    assert one.send(b"x", B) is SendResult.NO_SOCKET
    assert two.send(b"x", A) is SendResult.DROPPED
    with pytest.raises(BlockingIOError):  # no end of file
        os.read(two.fileno4, 2048)
    two.close()


def test_a_full_transport_says_so() -> None:
    one, two = memory_udp(A, B)
    results = [one.send(bytes(1400), B) for _ in range(20_000)]
    assert results[0] is SendResult.SENT
    assert results[-1] is SendResult.NO_ROOM
    assert one.errors["EAGAIN"] == results.count(SendResult.NO_ROOM)
    one.close()
    two.close()


def test_nothing_stays_open() -> None:
    before = open_descriptors()
    for _ in range(50):
        for thing in (*memory_tun(), *memory_udp(A, B)):
            thing.close()
    assert open_descriptors() == before
