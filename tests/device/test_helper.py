"""Jobs beside the control thread: what waits for a name keeps nobody else waiting. The
resolver is the test's, and answers when it says so."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from queue import Queue
from typing import Any, cast

import pytest

from tunnel.helper import Helper
from tunnel.lookups import MOST_THREADS, Lookups
from tunnel.loop import ControlLoop
from tunnel.turns import (
    EVERYTHING,
    WHOLE_FILE,
    check,
    claim,
    look_up,
    run_here,
    unanswered,
)

LONG = 10  # s; only a failure waits so long


class Names:
    """As `socket.getaddrinfo`: each name waits for `answer` or `refuse`."""

    def __init__(self) -> None:
        self.asked: Queue[str] = Queue()
        self.calls: list[str] = []
        self._gates: dict[str, threading.Event] = {}
        self._wrong: set[str] = set()
        self._lock = threading.Lock()

    def _gate(self, host: str) -> threading.Event:
        with self._lock:
            return self._gates.setdefault(host, threading.Event())

    def __call__(self, host: str, *_: object, **__: object) -> list[Any]:
        self.calls.append(host)
        self.asked.put(host)
        assert self._gate(host).wait(LONG)
        if host in self._wrong:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [host]

    def answer(self, *hosts: str) -> None:
        for host in hosts:
            self._gate(host).set()

    def refuse(self, host: str) -> None:
        self._wrong.add(host)
        self.answer(host)

    def answer_all(self) -> None:
        self.answer(*self._gates)


class Loop:
    """The control thread is the test's."""

    def __init__(self) -> None:
        self.due: Queue[Callable[[], None]] = Queue()

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        self.due.put(callback)

    def turn(self) -> None:
        self.due.get(timeout=LONG)()


class Rig:
    def __init__(self) -> None:
        self.names, self.loop = Names(), Loop()
        self.lookups = Lookups(self.names)
        self.helper = Helper(cast("ControlLoop", self.loop), self.lookups)
        self.done: list[object] = []  # results in the order in which they came
        self.runs: list[str] = []

    def run(self, job: Callable[[], object]) -> None:
        def then(outcome: Future[object]) -> None:
            error = outcome.exception()
            self.done.append(outcome.result() if error is None else error)

        self.helper.run(job, then)

    def change(self, name: str, claims: Any = (), *hosts: str) -> None:
        """A job that claims, looks up and gives its name."""

        def job() -> str:
            claim(claims)
            self.runs.append(name)
            for host in hosts:
                try:
                    assert look_up(host, None) == [host]
                except OSError:
                    continue
            check()
            return name

        self.run(job)

    def barrier(self) -> None:
        """Until the thread has done, or given up, what was handed over before."""
        reached = threading.Event()
        self.helper.run(reached.set, lambda _: None)
        assert reached.wait(LONG)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.names.answer_all()
    made.helper.close()


def name_threads() -> set[threading.Thread]:
    """Those that look names up, of whomever."""
    return {one for one in threading.enumerate() if one.name == "tunnel-names"}


def ended(lookups: Lookups) -> bool:
    """Its threads are gone, or about to go without anything left to do."""
    for thread in name_threads():
        thread.join(LONG)
    return lookups.threads == 0


# --- look-ups


def test_names_are_looked_up_side_by_side_by_a_few_threads() -> None:
    names, answers = Names(), Queue[tuple[str, list[Any]]]()
    lookups = Lookups(names)
    hosts = [f"host{n}" for n in range(MOST_THREADS + 3)]
    for host in hosts + hosts:
        lookups.ask(host, lambda host, answer: answers.put((host, answer.result())))
    started = [names.asked.get(timeout=LONG) for _ in range(MOST_THREADS)]
    assert sorted(started) == sorted(hosts[:MOST_THREADS])
    assert lookups.threads == MOST_THREADS
    names.answer(hosts[3])  # the others of the first eight are dead
    for host in hosts[MOST_THREADS:]:
        assert names.asked.get(timeout=LONG) == host
        names.answer(host)
    names.answer(*hosts)
    found = [answers.get(timeout=LONG) for _ in range(2 * len(hosts))]
    assert sorted(found) == sorted((host, [host]) for host in hosts + hosts)
    assert sorted(names.calls) == sorted(hosts)  # who came second joined the first
    assert ended(lookups)


def test_threads_start_again_after_they_ended() -> None:
    names, answers = Names(), Queue[list[Any]]()
    lookups = Lookups(names)
    for host in ("a", "b"):
        names.answer(host)
        lookups.ask(host, lambda _, answer: answers.put(answer.result()))
        assert answers.get(timeout=LONG) == [host]
        assert ended(lookups)


def test_without_another_thread_names_are_looked_up_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names, found = Names(), list[object]()
    lookups = Lookups(names)
    names.refuse("a")
    monkeypatch.setattr(threading.Thread, "start", start)
    lookups.ask("a", lambda _, answer: found.append(answer.exception()))
    assert [type(error) for error in found] == [socket.gaierror]
    assert lookups.threads == 0


# --- jobs that need names


def test_a_dead_name_holds_up_no_other_job(rig: Rig) -> None:
    rig.change("dead", ["a"], "dead.example")
    assert rig.names.asked.get(timeout=LONG) == "dead.example"
    rig.change("none", ["b"])
    rig.loop.turn()
    rig.change("good", ["c"], "good.example")
    rig.names.answer("good.example")
    rig.loop.turn()
    assert rig.done == ["none", "good"]
    rig.names.answer("dead.example")
    rig.loop.turn()
    assert rig.done == ["none", "good", "dead"]


def test_the_names_of_one_job_are_looked_up_together(rig: Rig) -> None:
    hosts = ["a.example", "b.example", "c.example"]
    rig.change("all", ["p"], *hosts)
    assert {rig.names.asked.get(timeout=LONG) for _ in hosts} == set(hosts)
    rig.names.refuse("b.example")
    rig.names.answer("a.example", "c.example")
    rig.loop.turn()
    assert (rig.done, rig.runs) == (["all"], ["all"] * 2)


def test_a_name_without_an_address_is_the_job_s_own_error(rig: Rig) -> None:
    rig.run(lambda: look_up("wrong.example"))
    rig.names.refuse("wrong.example")
    rig.loop.turn()
    assert isinstance(rig.done[0], socket.gaierror)
    assert rig.done[0].strerror == "try again"


def test_what_a_job_made_of_names_without_answers_is_thrown_away(rig: Rig) -> None:
    """Also when it does not mind."""
    seen: list[bool] = []

    def job() -> object:
        try:
            return look_up("a.example")
        except OSError:
            return "nothing"
        finally:
            seen.append(unanswered())

    rig.run(job)
    rig.names.answer("a.example")
    rig.loop.turn()
    assert (rig.done, seen) == ([["a.example"]], [True, False])


def test_each_job_looks_names_up_anew(rig: Rig) -> None:
    rig.names.answer("a.example")
    for name in ("one", "two"):
        rig.change(name, ["p"], "a.example")
        rig.loop.turn()
        assert ended(rig.lookups)
    assert rig.names.calls == ["a.example"] * 2


def test_elsewhere_names_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: [given])
    claim(EVERYTHING, ["a.example"])
    check()
    assert look_up("a.example", None) == [("a.example", None)]
    assert not unanswered()


def test_a_thread_of_its_own_waits_for_names_that_are_looked_up_together() -> None:
    names, asked = Names(), Queue[object]()
    hosts = ["a.example", "b.example"]

    def job() -> list[Any]:
        found, missing = [], 0
        for host in hosts:
            try:
                found += look_up(host, None)
            except OSError:
                missing += 1
        if missing:
            raise ValueError("refused")
        return found

    def run() -> None:
        asked.put(run_here(job, Lookups(names)))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert {names.asked.get(timeout=LONG) for _ in hosts} == set(hosts)
    names.answer(*hosts)
    assert asked.get(timeout=LONG) == hosts
    thread.join(LONG)
    names.refuse("b.example")
    with pytest.raises(ValueError, match="refused"):
        run_here(job, Lookups(names))


# --- the order of changes


def test_two_changes_of_the_same_take_effect_in_their_order(rig: Rig) -> None:
    rig.change("first", ["p", "q"], "dead.example")
    rig.change("second", ["q"])
    rig.change("third", ["q", "r"])
    rig.change("other", ["s"])
    rig.loop.turn()
    assert rig.done == ["other"]
    assert rig.runs == ["first", "other"]  # nor do they look at what is about to change
    rig.names.answer("dead.example")
    rig.loop.turn()
    rig.barrier()
    assert rig.runs[2:] == ["first", "second"]  # which has not taken effect yet
    while len(rig.done) < 4:
        rig.loop.turn()
    assert rig.done == ["other", "first", "second", "third"]


def test_a_change_that_waits_its_turn_has_its_names_meanwhile(rig: Rig) -> None:
    rig.change("first", ["p"], "dead.example")
    assert rig.names.asked.get(timeout=LONG) == "dead.example"
    rig.run(lambda: claim(["p"], ["a.example"]))
    assert rig.names.asked.get(timeout=LONG) == "a.example"


@pytest.mark.parametrize(
    ("earlier", "later", "waits"),
    [
        (["p"], EVERYTHING, True),
        (EVERYTHING, ["p"], True),
        (EVERYTHING, EVERYTHING, True),
        (WHOLE_FILE, WHOLE_FILE, True),
        (WHOLE_FILE, EVERYTHING, True),
        (WHOLE_FILE, ["p"], False),
        (EVERYTHING, [], False),
        (["p"], ["q"], False),
    ],
)
def test_who_waits_for_whom(rig: Rig, earlier: Any, later: Any, waits: bool) -> None:
    rig.change("earlier", earlier, "dead.example")
    rig.change("later", later)
    rig.barrier()
    assert rig.runs == ["earlier"] + ["later"] * (not waits)


def test_a_change_that_fails_is_waited_for_no_longer(rig: Rig) -> None:
    def fail() -> None:
        claim(["p"], ["dead.example"])
        raise ValueError("no")

    rig.run(fail)
    rig.change("later", ["p"])
    rig.barrier()
    rig.names.answer("dead.example")
    while len(rig.done) < 2:
        rig.loop.turn()
    assert isinstance(rig.done[0], ValueError)
    assert rig.done[1] == "later"


def test_random_changes_against_their_order(seed: int) -> None:
    """Whatever name is answered when: of two with something in common the earlier one
    takes effect first, and all of them do."""
    rng, rig = random.Random(seed), Rig()
    claims, hosts = [], [f"h{n}" for n in range(6)]
    for number in range(200):
        some = EVERYTHING if rng.random() < 0.02 else frozenset(
            rng.sample("abcdefghijkl", rng.randint(0, 2))
        )  # fmt: skip
        claims.append(some)
        rig.change(str(number), some, *rng.sample(hosts, rng.randint(0, 2)))
        if rng.random() < 0.3:
            rig.names.answer(rng.choice(hosts[: 1 + number // 40]))
    rig.names.answer(*hosts)
    while len(rig.done) < len(claims):
        rig.loop.turn()
    order = [int(cast("str", name)) for name in rig.done]
    assert sorted(order) == list(range(len(claims)))
    at = {number: place for place, number in enumerate(order)}
    for later, mine in enumerate(claims):
        for earlier, theirs in enumerate(claims[:later]):
            both = mine and theirs
            if both and (mine & theirs or EVERYTHING in (mine, theirs)):
                assert at[earlier] < at[later], f"seed {seed}"
    rig.helper.close()


# --- the end


def test_after_the_end_nothing_follows_and_nobody_waits_for_a_name(rig: Rig) -> None:
    others = name_threads()  # of a test before this one, just ending
    rig.change("waits", ["p"], "dead.example")
    assert rig.names.asked.get(timeout=LONG) == "dead.example"
    rig.change("behind", ["p"])
    rig.barrier()
    rig.helper.close()
    rig.helper.close()
    worker = rig.helper._thread
    assert worker is not None
    worker.join(LONG)
    assert not worker.is_alive()
    (thread,) = name_threads() - others
    assert thread.daemon  # the process may end meanwhile
    rig.names.answer("dead.example")
    thread.join(LONG)
    rig.helper.run(partial(rig.runs.append, "late"), lambda _: None)
    while not rig.loop.due.empty():
        rig.loop.turn()
    assert (rig.done, rig.runs) == ([], ["waits"])
