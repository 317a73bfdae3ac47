"""What a storm of changes leaves behind in the control thread is bounded."""

from __future__ import annotations

import gc
import weakref
from contextlib import closing

from tunnel.api.uapi import UapiSession
from tunnel.engine import Engine
from tunnel.loop import ControlLoop
from tunnel.protocol.deadlines import DeadlineHeap
from tunnel.state.model import InterfaceState

HOUR = 3600 * 1_000_000_000


class Item:
    """Something with a deadline, and a weak reference to it."""

    def __init__(self, at: int) -> None:
        self.scheduled = 0
        self.at = at

    def next_deadline(self) -> int:
        return self.at


def test_cancelled_timers_do_not_wait_for_their_time() -> None:
    with closing(ControlLoop()) as loop:
        ran: list[int] = []
        kept = [loop.call_later(n, lambda n=n: ran.append(n)) for n in range(1, 101)]
        for _ in range(10_000):
            loop.call_later(HOUR, lambda: ran.append(0)).cancel()
        assert len(loop._timers) < 500
        loop.call_later(1_000_000, loop.stop)
        loop.run()
        assert ran == list(range(1, 101))
        assert all(timer.cancelled for timer in kept)


def test_deadlines_of_forgotten_peers_do_not_keep_them() -> None:
    heap: DeadlineHeap[Item] = DeadlineHeap()
    kept = [Item(HOUR + n) for n in range(100)]
    for item in kept:
        heap.update(item)
    early = None
    for n in range(10_000):
        item = Item(2 * HOUR + n)
        heap.update(item)
        heap.forget(item)
        early = early or weakref.ref(item)
    del item
    gc.collect()
    assert early is not None
    assert early() is None
    assert len(heap) < 500
    assert heap.pop_due(2 * HOUR) == kept
    assert heap.next() is None


def test_changes_leave_no_reference_cycles() -> None:
    """Each would hold a whole state until the garbage collector comes by."""
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    with closing(engine):
        engine.start()
        session = UapiSession(engine.device)
        session.feed(f"set=1\nprivate_key={'08' * 31}48\n\n".encode())

        def rounds(count: int) -> int:
            for number in range(count):
                key = f"{number:04x}" + "11" * 30
                for line in (
                    "endpoint=127.0.0.1:9\nallowed_ip=10.0.0.0/8",
                    "persistent_keepalive_interval=25",
                    f"preshared_key={'22' * 32}",
                    "endpoint=127.0.0.1:8",
                    "remove=true",
                ):
                    request = f"set=1\npublic_key={key}\n{line}\n\n"
                    assert session.feed(request.encode()) == b"errno=0\n\n"
            engine.device.pump.settle()
            engine.device.pump.drain()
            return len(gc.get_objects())

        rounds(20)
        gc.collect()
        gc.disable()
        try:
            before = rounds(20)
            assert rounds(100) <= before + 20
        finally:
            gc.enable()
