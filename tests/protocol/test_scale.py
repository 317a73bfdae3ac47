"""Many peers: idle ones cost nothing, and the deadline heap keeps its promises."""

from __future__ import annotations

import random

from tunnel.constants import SECOND
from tunnel.protocol.deadlines import DeadlineHeap
from tunnel.protocol.node import Node
from tunnel.protocol.types import Timing

from .simple_path import SimplePath
from .world import FixedJitter, World


class Item:
    def __init__(self) -> None:
        self.scheduled = 0
        self.deadline = 0

    def next_deadline(self) -> int:
        return self.deadline


def test_deadline_heap_against_a_linear_search(seed: int) -> None:
    """Never late; what is popped early has nothing due."""
    rng = random.Random(seed)
    heap: DeadlineHeap[Item] = DeadlineHeap()
    items = [Item() for _ in range(40)]
    now = 1
    for _ in range(5000):
        item = rng.choice(items)
        match rng.randrange(4):
            case 0 | 1:
                item.deadline = rng.choice([0, now + rng.randrange(1, 1000)])
                heap.update(item)
            case 2:
                item.deadline = 0
                heap.forget(item)
            case 3:
                now += rng.randrange(100)
                due = heap.pop_due(now)
                assert {i for i in items if 0 < i.deadline <= now} <= set(due)
                for one in due:
                    if one.deadline <= now:
                        one.deadline = 0
                    heap.update(one)
        first = min((i.deadline for i in items if i.deadline), default=None)
        early = heap.next()
        assert first is None or (early is not None and early <= first)


def test_deadline_heap_does_not_grow_with_changes() -> None:
    heap: DeadlineHeap[Item] = DeadlineHeap()
    item = Item()
    for at in range(1000, 100_000):
        item.deadline = at  # later and later: the one entry stays
        heap.update(item)
    assert len(heap) == 1


def test_ten_thousand_idle_peers_cost_nothing() -> None:
    asked = 0

    class CountingPath(SimplePath):
        def check_unanswered(self) -> int:
            nonlocal asked
            asked += 1
            return super().check_unanswered()

    world = World()
    node = Node(Timing(), FixedJitter(), world.rng.randbytes)
    node.set_private_key(world.rng.randbytes(32), world.now)
    node.up(world.now)
    for _ in range(10_000):
        path = CountingPath(
            world.timing, lambda: world.now, lambda *_: None, lambda *_: None, {}
        )
        node.add_peer(world.rng.randbytes(32), path)
    assert node.next_deadline() is None
    assert len(node._local.deadlines) == 0
    node.handle_deadline(world.now + 3600 * SECOND, world.wall)
    assert asked == 0
    assert node.to_send() == []


def test_a_finished_session_leaves_one_entry() -> None:
    world = World()
    a, b = world.pair()
    for _ in range(200):
        a.say(b)
        b.say(a)
        world.run(0.5)
    assert len(a.node._local.deadlines) <= 4
    world.run(2000)
    assert a.node.next_deadline() is None
    assert len(a.node._local.deadlines) == 0
