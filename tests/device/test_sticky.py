"""When and of whom the routing table is asked; the kernel's part is played here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tunnel import sticky
from tunnel.io.routes_linux import Question, Route
from tunnel.loop import ControlLoop

V4, V6 = bytes([10, 0, 0, 1]), bytes([0xFD, *bytes(14), 1])
LINK_LOCAL = bytes([0xFE, 0x80, *bytes(13), 1])
WAYS = {V4: 2, V6: 3, LINK_LOCAL: 4}  # interface by address


class FakePath:
    def __init__(self, number: int, address: bytes | None) -> None:
        self.far = bytes([192, 0, *number.to_bytes(2, "big")])
        if address is not None and len(address) == 16:
            self.far = LINK_LOCAL[:14] + number.to_bytes(2, "big")
        self.source = None if address is None else (address, WAYS[address])
        self.judged: list[bool] = []

    def source_question(self) -> object:
        return None if self.source is None else ((self.far, 9, 7), self.source)

    def judge_source(self, source: object, good: bool) -> bool:
        assert source == self.source
        self.judged.append(good)
        return not good


class FakeMonitor:
    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)

    def fileno(self) -> int:
        return self._read

    def changed(self) -> bool:
        return bool(os.read(self._read, 100))

    def notify(self) -> None:
        os.write(self._write, b"x")

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class FakeTable:
    def __init__(self) -> None:
        self.asked: list[list[Question]] = []
        self.answers: dict[bytes, Route | None] = {}

    def ask(self, questions: list[Question]) -> list[Route | None]:
        if questions:
            self.asked.append(questions)
        return [self.answers.get(q.destination, Route(2)) for q in questions]

    def close(self) -> None: ...


class Rig:
    """StickySources of a device that has `paths` and nothing else."""

    def __init__(self) -> None:
        self.loop = ControlLoop()
        self.device: Any = SimpleNamespace(
            loop=self.loop,
            live_peers={},
            pump=SimpleNamespace(on_sources=None),
            transport=SimpleNamespace(connected=None, port=51820),
            state=SimpleNamespace(fwmark=5),
        )
        self.monitor, self.table = FakeMonitor(), FakeTable()
        self.sources: Any = None

    def peers(self, *addresses: bytes | None) -> list[FakePath]:
        paths = [FakePath(n, address) for n, address in enumerate(addresses)]
        self.device.live_peers = {
            n: SimpleNamespace(path=path) for n, path in enumerate(paths)
        }
        return paths

    def run(self, milliseconds: int = 300) -> None:
        self.loop.call_later(milliseconds * 1_000_000, self.loop.stop)
        self.loop.run()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig()
    monkeypatch.setattr(sticky, "RouteMonitor", lambda: made.monitor)
    monkeypatch.setattr(sticky, "RouteTable", lambda: made.table)
    made.sources = sources = sticky.StickySources(made.device)
    yield made
    sources.close()
    sources.close()
    made.loop.close()


def test_changes_that_come_together_are_acted_on_once_in_slices(rig: Rig) -> None:
    paths = rig.peers(*[V4] * 450)
    for _ in range(3):
        rig.monitor.notify()
    rig.loop.call_later(50_000_000, rig.monitor.notify)
    rig.run()
    assert [len(questions) for questions in rig.table.asked] == [200, 200, 50]
    assert all(path.judged == [True] for path in paths)
    rig.run()
    assert len(rig.table.asked) == 3
    question = rig.table.asked[0][0]
    assert question[1:] == (V4, 7, 5, 51820, 9)


def test_a_change_meanwhile_is_not_missed(rig: Rig) -> None:
    paths = rig.peers(*[V4] * 201)
    ask = rig.table.ask

    def changed(questions: list[Question]) -> list[Route | None]:
        rig.table.ask = ask  # type: ignore[method-assign]
        rig.monitor.notify()
        return ask(questions)

    rig.table.ask = changed  # type: ignore[method-assign]
    rig.monitor.notify()
    rig.run(700)
    assert all(path.judged == [True, True] for path in paths)


def test_verdicts(rig: Rig) -> None:
    good, none, other, unknown, nothing = rig.peers(V4, V4, V4, V4, None)
    rig.table.answers = {none.far: Route(0), other.far: Route(3), unknown.far: None}
    rig.monitor.notify()
    rig.run()
    verdicts = [path.judged for path in (good, none, other, unknown, nothing)]
    assert verdicts == [[True], [False], [False], [], []]
    assert [len(questions) for questions in rig.table.asked] == [4]


def test_ipv6_addresses_have_to_be_ours_too(rig: Rig) -> None:
    ours, again, gone = rig.peers(V6, V6, LINK_LOCAL)
    rig.table.answers = {V6: Route(1, local=True), LINK_LOCAL: Route(4)}
    # of the first two on any interface, as far as there is a route
    rig.table.answers |= {ours.far: Route(8), again.far: Route(3), gone.far: Route(4)}
    rig.monitor.notify()
    rig.run()
    assert [ours.judged, again.judged, gone.judged] == [[True], [True], [False]]
    first, second = rig.table.asked
    assert set(first) == {Question(V6), Question(LINK_LOCAL, scope_id=4)}
    assert len(second) == 3


@pytest.mark.parametrize("transport", [None, SimpleNamespace(connected=(V4, 9, 0))])
def test_without_sockets_there_is_nothing_to_ask(rig: Rig, transport: object) -> None:
    (path,) = rig.peers(V4)
    rig.device.transport = transport
    rig.monitor.notify()
    rig.run()
    assert (path.judged, rig.table.asked) == ([], [])
    rig.device.transport = SimpleNamespace(connected=None, port=1)
    rig.monitor.notify()
    rig.run()
    assert path.judged == [True]


def test_learned_sources_are_judged_at_once(rig: Rig) -> None:
    good, bad, nothing = rig.peers(V4, V4, None)
    rig.table.answers = {bad.far: Route(3)}
    for at_once in (True, False):
        rig.device.pump.on_sources([good, bad, nothing], at_once)
        assert (good.judged.pop(), bad.judged.pop()) == (True, False)
        assert not good.judged + bad.judged + nothing.judged


def test_what_a_flood_of_learned_sources_costs_is_bounded(rig: Rig) -> None:
    """While the last look is not paid for, what the workers learn waits, once for each
    peer; an answer that is about to leave does not."""
    paths = rig.peers(*[V4] * 450)
    rig.device.pump.on_sources(paths, False)
    assert [len(questions) for questions in rig.table.asked] == [200]
    for _ in range(3):
        rig.device.pump.on_sources(paths[:10], False)
    assert len(rig.table.asked) == 1
    rig.device.pump.on_sources([paths[440]], True)
    assert paths[440].judged == [True]
    rig.run(1000)
    assert [len(questions) for questions in rig.table.asked] == [200, 1, 200, 60]
    assert [len(path.judged) for path in paths] == [2] * 10 + [1] * 430 + [2] + [1] * 9


def test_nobody_is_asked_after_the_end(rig: Rig) -> None:
    paths = rig.peers(*[V4] * 300)
    rig.device.pump.on_sources(paths, False)
    assert len(rig.table.asked) == 1
    rig.sources.close()
    assert rig.device.pump.on_sources is None
    rig.run()
    assert len(rig.table.asked) == 1


@pytest.mark.parametrize(
    ("address", "index", "good"),
    [
        (V4, 3, True),
        (V4, 0, True),
        (V4, 2, False),
        (V6, 2, True),
        (LINK_LOCAL, 3, True),
        (LINK_LOCAL, 2, False),
    ],
)
def test_the_interface_of_a_route(address: bytes, index: int, good: bool) -> None:
    """A rule of the kernel's module for IPv4; link-local addresses have only one."""
    assert sticky.leaves_by(Route(3), (address, index)) is good
    assert not sticky.leaves_by(Route(0), (address, index))
