"""The keypair slots against the kernel's text, and the limits of one session."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tunnel.constants import (
    REJECT_AFTER_MESSAGES,
    REKEY_AFTER_MESSAGES,
    SECOND,
)
from tunnel.protocol.session import Session, Slots
from tunnel.protocol.types import Timing

from .scripted import alone
from .simple_path import SimpleKeypair


def session(index: int = 0, *, initiator: bool = True, created: int = 0) -> Session:
    keypair = SimpleKeypair(index, 0, b"", b"", created, initiator, not initiator)
    return Session(keypair)


@dataclass
class KernelSlots:
    """noise.c add_new_keypair and wg_noise_received_with_keypair, line by line."""

    previous: Session | None = None
    current: Session | None = None
    next: Session | None = None

    def add(self, new: Session) -> set[Session | None]:
        previous, current, next_ = self.previous, self.current, self.next
        put: set[Session | None] = set()
        if new.keypair.initiator:
            if next_:
                self.next = None
                self.previous = next_
                put.add(current)
            else:
                self.previous = current
            put.add(previous)
            self.current = new
        else:
            self.next = new
            put.add(next_)
            self.previous = None
            put.add(previous)
        return put - {None}

    def received(self, with_: Session | None) -> set[Session | None]:
        if with_ is None or with_ is not self.next:
            return set()
        old = self.previous
        self.previous = self.current
        self.current = with_
        self.next = None
        return {old} - {None}


def test_r22_slots_rotate_as_in_the_kernel(seed: int) -> None:
    rng = random.Random(seed)
    slots, kernel = Slots(), KernelSlots()
    for index in range(3000):
        match rng.randrange(4):
            case 0:
                new = session(index)
                assert set(slots.add_initiated(new)) == kernel.add(new)
            case 1:
                new = session(index, initiator=False)
                assert set(slots.add_responded(new)) == kernel.add(new)
            case 2 if slots.next is not None:
                assert set(slots.confirm()) == kernel.received(kernel.next)
            case 3 if rng.random() < 0.05:
                held = {kernel.previous, kernel.current, kernel.next} - {None}
                assert set(slots.clear()) == held
                kernel = KernelSlots()
        assert (slots.previous, slots.current, slots.next) == (
            kernel.previous,
            kernel.current,
            kernel.next,
        )


def test_r22_dropped_sessions_leave_the_packet_path() -> None:
    world, host, far = alone()
    for _ in range(12):
        world.run(1)
        if world.rng.random() < 0.5:
            far.confirmed()
        else:
            far.handshake()
        slots = far.peer.slots
        held = {
            s.keypair.local_index
            for s in (slots.previous, slots.current, slots.next)
            if s
        }
        assert set(host.keypairs) == held
        assert host.node.indices == len(held)


@pytest.mark.parametrize(
    ("age", "can_send"), [(0, True), (179, True), (180, False), (999, False)]
)
def test_r27_no_sending_after_180_s(age: int, can_send: bool) -> None:
    assert session().can_send(age * SECOND, Timing()) is can_send


def test_r28_no_sending_past_the_last_counter() -> None:
    last = session()
    last.keypair.send_counter = REJECT_AFTER_MESSAGES - 1
    assert last.can_send(0, Timing())
    last.keypair.send_counter += 1
    assert not last.can_send(0, Timing())


def test_r28_a_worn_out_session_is_replaced() -> None:
    world, host, far = alone()
    far.confirmed()
    world.run(20)
    host.kinds()
    current = far.path.sending
    assert current is not None
    current.send_counter = REJECT_AFTER_MESSAGES
    far.path.send(b"waits")
    host.drain()
    far.answer()
    assert host.kinds() == ["initiation", "data"]


def test_r25_after_2_60_messages_either_side_rekeys() -> None:
    world, host, far = alone()
    far.confirmed()
    world.run(20)
    host.kinds()
    current = far.path.sending
    assert current is not None
    assert not current.initiator
    current.send_counter = REKEY_AFTER_MESSAGES
    far.path.send(b"last quiet one")
    host.drain()
    assert host.kinds() == ["data", "initiation"]


@pytest.mark.parametrize(("age", "initiates"), [(119, False), (120, True)])
def test_r25_the_initiator_rekeys_after_120_s(age: int, initiates: bool) -> None:
    world, host, far = alone()
    far.path.send(b"first")
    host.drain()
    far.answer()
    world.run(1)
    far.send_data(far.current_index())
    world.run(age - 1)
    host.kinds()
    far.path.send(b"x")
    host.drain()
    assert host.kinds() == ["data"] + ["initiation"] * initiates


def test_r25_rekeying_waits_for_an_event_of_this_session() -> None:
    """A late REKEY or LAST_MINUTE about a session that was replaced is ignored."""
    world, host, far = alone()
    far.confirmed()
    world.run(20)
    host.kinds()
    host.node.path_event(far.peer, 2 | 4, world.now, world.wall)
    host.drain()
    assert host.kinds() == []


@pytest.mark.parametrize(("age", "initiates"), [(164, False), (166, True)])
def test_r26_the_initiator_rekeys_once_when_it_receives_late(
    age: int, initiates: bool
) -> None:
    world, host, far = alone()
    far.peer.initiate(world.now, world.wall)
    host.drain()
    far.answer()
    index = far.current_index()
    world.run(age)
    host.kinds()
    far.send_data(index)
    far.send_data(index)
    assert host.kinds() == ["initiation"] * initiates


def test_sessions_do_not_show_their_keys() -> None:
    assert repr(session(0xABC)) == "<Session 00000abc>"
