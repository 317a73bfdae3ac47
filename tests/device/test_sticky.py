"""When and of whom the routing table is asked; the kernel's part is played here."""

from __future__ import annotations

import errno
import os
import select
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tunnel import sticky
from tunnel.constants import MILLISECOND, SECOND
from tunnel.io.routes_linux import Question, Route
from tunnel.timer_queue import Timer, TimerQueue

OTHER_V4 = bytes([10, 0, 9, 1])
V4, V6 = bytes([10, 0, 0, 1]), bytes([0xFD, *bytes(14), 1])
LINK_LOCAL = bytes([0xFE, 0x80, *bytes(13), 1])
WAYS = {V4: 2, V6: 3, LINK_LOCAL: 4}  # interface by address


class FakePath:
    def __init__(self, number: int, address: bytes | None) -> None:
        self.far = bytes([192, 0, *number.to_bytes(2, "big")])
        if address is not None and len(address) == 16:
            self.far = LINK_LOCAL[:14] + number.to_bytes(2, "big")
        self.source = None if address is None else (address, WAYS[address])
        self.refused: tuple[bytes, int] | None = None
        self.judged: list[bool] = []
        self.refused_judged: list[bool] = []

    def source_questions(self) -> list[tuple[object, tuple[bytes, int]]]:
        sources = (self.source, self.refused)
        return [((self.far, 9, 7), source) for source in sources if source]

    def judge_source(self, source: object, good: bool) -> bool:
        assert source in (self.source, self.refused)
        judged = self.judged if source == self.source else self.refused_judged
        judged.append(good)
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


class FakeLoop:
    """The control loop of one descriptor; time passes when the test says so."""

    def __init__(self) -> None:
        self.time = SECOND
        self._timers = TimerQueue()
        self._soon: deque[Callable[[], None]] = deque()
        self._reader: tuple[int, Callable[[], None]] | None = None

    def now(self) -> int:
        return self.time

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        timer = Timer(when, callback)
        self._timers.add(timer)
        return timer

    def call_later(self, delay: int, callback: Callable[[], None]) -> Timer:
        return self.call_at(self.time + delay, callback)

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self._reader = fd, callback

    def remove_reader(self, fd: int) -> None:
        assert self._reader is not None
        assert self._reader[0] == fd
        self._reader = None

    def run(self, duration: int) -> None:
        end = self.time + duration
        while self._read() or self._run_soon() or self._run_timers(end):
            pass
        self.time = max(self.time, end)

    def _read(self) -> bool:
        if self._reader is None or not select.select([self._reader[0]], [], [], 0)[0]:
            return False
        self._reader[1]()
        return True

    def _run_soon(self) -> bool:
        if not self._soon:
            return False
        self._soon.popleft()()
        return True

    def _run_timers(self, end: int) -> bool:
        when = self._timers.next()
        if when is None or when > end:
            return False
        self.time = max(self.time, when)
        for timer in self._timers.take_due(self.time):
            timer.run()
        return True


class FakeTable:
    """Each look takes a millisecond."""

    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop
        self.asked: list[list[Question]] = []
        self.answers: dict[bytes, Route | None] = {}

    def ask(self, questions: list[Question]) -> list[Route | None]:
        if questions:
            self._loop.time += MILLISECOND
            self.asked.append(questions)
        return [self.answers.get(q.destination, Route(2)) for q in questions]

    def close(self) -> None: ...


class Rig:
    """StickySources of a device that has `paths` and nothing else."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.device: Any = SimpleNamespace(
            loop=self.loop,
            live_peers={},
            pump=SimpleNamespace(on_sources=None),
            transport=SimpleNamespace(connected=None, port=51820),
            state=SimpleNamespace(fwmark=5),
        )
        self.monitor, self.table = FakeMonitor(), FakeTable(self.loop)
        self.sources: Any = None

    def peers(self, *addresses: bytes | None) -> list[FakePath]:
        paths = [FakePath(n, address) for n, address in enumerate(addresses)]
        self.device.live_peers = {
            n: SimpleNamespace(path=path) for n, path in enumerate(paths)
        }
        return paths

    def run(self, milliseconds: int = 300) -> None:
        self.loop.run(milliseconds * MILLISECOND)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig()
    monkeypatch.setattr(sticky, "RouteMonitor", lambda: made.monitor)
    monkeypatch.setattr(sticky, "RouteTable", lambda: made.table)
    made.sources = sources = sticky.StickySources(made.device)
    yield made
    sources.close()
    sources.close()


def test_changes_that_come_together_are_acted_on_once_in_slices(rig: Rig) -> None:
    paths = rig.peers(*[V4] * 450)
    for _ in range(3):
        rig.monitor.notify()
    rig.loop.call_later(50 * MILLISECOND, rig.monitor.notify)
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
    good, not_ours, other, unknown, nothing = rig.peers(V4, V4, V4, V4, None)
    rig.table.answers = {
        not_ours.far: Route(0, error=errno.EINVAL),
        other.far: Route(3),
        unknown.far: None,
    }
    rig.monitor.notify()
    rig.run()
    verdicts = [path.judged for path in (good, not_ours, other, unknown, nothing)]
    assert verdicts == [[True], [False], [False], [], []]
    assert [len(questions) for questions in rig.table.asked] == [4]


@pytest.mark.parametrize("name", ["ENETUNREACH", "EHOSTUNREACH", "EACCES", "ENODEV"])
def test_without_a_route_there_is_no_verdict(rig: Rig, name: str) -> None:
    """The address may be right when the route is back; the kernel's module keeps it."""
    (path,) = rig.peers(V4)
    nowhere = Route(0, error=getattr(errno, name))
    for ours in (Route(1, local=True), None):
        rig.table.answers = {path.far: nowhere, V4: ours}
        rig.monitor.notify()
        rig.run()
        assert path.judged == []
    assert rig.table.asked[1] == [Question(V4)]
    rig.table.answers = {}
    rig.monitor.notify()
    rig.run()
    assert path.judged == [True]


def test_without_a_route_an_address_that_is_not_ours_is_bad(rig: Rig) -> None:
    gone, away = rig.peers(V4, V4)
    nowhere = Route(0, error=errno.ENETUNREACH)
    for ours in (nowhere, Route(2)):
        rig.table.answers = {gone.far: nowhere, away.far: nowhere, V4: ours}
        rig.monitor.notify()
        rig.run()
    assert gone.judged == away.judged == [False, False]
    assert [len(questions) for questions in rig.table.asked] == [2, 1] * 2


def test_of_ipv6_it_matters_only_whether_the_address_is_ours(rig: Rig) -> None:
    ours, again, gone = rig.peers(V6, V6, LINK_LOCAL)
    nowhere = Route(0, error=errno.ENETUNREACH)
    rig.table.answers = {V6: Route(1, local=True), LINK_LOCAL: Route(4)}
    rig.table.answers |= dict.fromkeys((ours.far, again.far, gone.far), nowhere)
    rig.monitor.notify()
    rig.run()
    assert [ours.judged, again.judged, gone.judged] == [[True], [True], [False]]
    (asked,) = rig.table.asked
    assert set(asked) == {Question(V6), Question(LINK_LOCAL, scope_id=4)}
    # the answer to another question: the address is on no interface
    rig.table.answers = {V6: nowhere, LINK_LOCAL: Route(4, local=True)}
    rig.monitor.notify()
    rig.run()
    assert [ours.judged[1:], gone.judged[1:]] == [[False], [True]]
    rig.table.answers = {V6: None, LINK_LOCAL: None}
    rig.monitor.notify()
    rig.run()
    assert (len(ours.judged), len(gone.judged)) == (2, 2)


def test_a_refused_source_is_asked_about_beside_the_remembered_one(rig: Rig) -> None:
    """After a change of rules both can be right."""
    (path,) = rig.peers(V4)
    path.refused = OTHER_V4, 2
    rig.monitor.notify()
    rig.run()
    assert (path.judged, path.refused_judged) == ([True], [True])
    assert [question.source for question in rig.table.asked[0]] == [V4, OTHER_V4]


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
    assert [len(questions) for questions in rig.table.asked] == [200, 1, 200, 50, 10]
    assert [len(path.judged) for path in paths] == [2] * 10 + [1] * 430 + [2] + [1] * 9


def test_a_peer_with_two_ways_is_looked_at_now_and_then(rig: Rig) -> None:
    """It has another source with each packet, and a worker tells of the next one as
    soon as this one was asked about."""
    flips, other = rig.peers(V4, V4)
    looks = 0
    questions = flips.source_questions

    def told_again() -> list[tuple[object, tuple[bytes, int]]]:
        nonlocal looks
        looks += 1
        told = lambda: rig.device.pump.on_sources([flips], False)  # noqa: E731
        rig.loop.call_soon_threadsafe(told)
        return questions()

    flips.source_questions = told_again  # type: ignore[method-assign]
    rig.device.pump.on_sources([flips], False)
    rig.device.pump.on_sources([other], False)  # has not to wait for that one
    rig.run(900)
    assert other.judged == [True]
    assert 2 <= looks <= 5


def test_nobody_is_asked_after_the_end(rig: Rig) -> None:
    paths = rig.peers(*[V4] * 300)
    rig.device.pump.on_sources(paths, False)
    assert len(rig.table.asked) == 1
    rig.sources.close()
    assert rig.device.pump.on_sources is None
    rig.run()
    assert len(rig.table.asked) == 1


@pytest.mark.parametrize(("index", "good"), [(3, True), (0, True), (2, False)])
def test_the_interface_of_a_route(index: int, good: bool) -> None:
    """A rule of the kernel's module for IPv4."""
    assert sticky.suits(Route(3), (V4, index)) is good
    assert sticky.suits(Route(0, error=errno.EINVAL), (V4, index)) is False
    assert sticky.suits(Route(0, error=errno.ENETUNREACH), (V4, index)) is None
    assert sticky.suits(Route(0), (V4, index)) is None
    assert sticky.suits(None, (V4, index)) is None
