"""The follower of a file, whose helper works when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tunnel.config import watch
from tunnel.config.reload import Attempt, Source
from tunnel.follow import Follower
from tunnel.helper import Helper
from tunnel.loop import ControlLoop, Timer

from .test_early import facts, guest, names


class Timers(ControlLoop):
    """A loop whose timers run when the test says so; `delays` are those that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[int, Timer]] = []

    def call_later(self, delay: int, callback: Callable[[], None]) -> Timer:
        timer = Timer(self.now() + delay, callback)
        self.waiting.append((delay, timer))
        return timer

    @property
    def delays(self) -> list[int]:
        return [delay for delay, timer in self.waiting if not timer.cancelled]

    def elapse(self, delay: int) -> None:
        """Runs the timers that were set for so long."""
        for each, timer in list(self.waiting):
            if each == delay:
                timer.run()


class Held(Helper):
    """A helper that does its work when the test says so."""

    def __init__(self, loop: ControlLoop) -> None:
        super().__init__(loop)
        self.held: list[tuple[Callable[[], Any], Callable[[Future[Any]], None]]] = []

    def run(self, job: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        self.held.append((job, then))

    def work(self) -> None:
        held, self.held = self.held, []
        for job, then in held:
            outcome: Future[Any] = Future()
            outcome.set_result(job())
            then(outcome)


@pytest.mark.parametrize("adopted", [False, True])
def test_what_was_saved_while_a_look_was_under_way_is_no_news(
    tmp_path: Path, adopted: bool
) -> None:
    path = tmp_path / "config.json"
    path.write_text(facts(guest("a")))
    first = Source(path).attempt()
    assert first.config is not None
    path.write_text(facts(guest("b")))
    news: list[Attempt] = []
    loop = ControlLoop()
    helper = Held(loop)
    follower = Follower(loop, helper, path, first.config, first.digest, news.append)
    try:
        follower.start()
        loop.call_later(2 * watch.SETTLE, loop.stop)
        loop.run()
        assert len(helper.held) == 1  # the look, for what is not the first content
        if adopted:
            second = Source(path).attempt()
            assert second.config is not None
            follower.adopt(second.config, second.digest)
        helper.work()
        assert [names(each) for each in news] == ([] if adopted else [["b"]])
    finally:
        follower.close()
        loop.close()


def later(path: Path, *guests: str) -> Attempt:
    """What a save of our own leaves behind, as read after it."""
    path.write_text(facts(*map(guest, guests)))
    attempt = Source(path).attempt()
    assert attempt.config is not None
    return attempt


@pytest.mark.parametrize("asked", [False, True])
def test_what_was_read_before_a_save_of_our_own_is_read_again(
    tmp_path: Path, asked: bool
) -> None:
    """The content of an editor is read; before that is taken over, an edit that was
    made of the same content is committed: it must not go away again."""
    path = tmp_path / "config.json"
    first = later(path, "a")
    assert first.config is not None
    later(path, "a", "by the editor")
    news: list[Attempt] = []
    loop = Timers()
    helper = Held(loop)
    follower = Follower(loop, helper, path, first.config, first.digest, news.append)
    try:
        follower.start()
        if asked:
            follower.read(lambda outcome: news.append(outcome.result()))
        else:
            loop.elapse(watch.SETTLE)
        ((job, then),), helper.held = helper.held, []
        outcome: Future[Any] = Future()
        outcome.set_result(job())
        later(path, "a", "by the editor", "by the edit")
        follower.saved()
        then(outcome)
        assert news == []
        loop.elapse(watch.SETTLE)
        helper.work()
        assert [names(each) for each in news] == [["a", "by the editor", "by the edit"]]
    finally:
        follower.close()
        loop.close()


@pytest.mark.parametrize("mended", [True, False])
def test_what_is_wrong_when_somebody_asks_is_read_a_second_time(
    tmp_path: Path, mended: bool
) -> None:
    """SIGHUP may come while the file is being written in place."""
    path = tmp_path / "config.json"
    first = later(path, "a")
    assert first.config is not None
    path.write_text("")
    told: list[Attempt] = []
    loop = Timers()
    helper = Held(loop)
    follower = Follower(loop, helper, path, first.config, first.digest, lambda _: None)
    try:
        follower.read(lambda outcome: told.append(outcome.result()))
        helper.work()
        assert told == []
        if mended:
            path.write_text(facts(guest("b")))
        loop.elapse(watch.SETTLE)
        helper.work()
        (attempt,) = told
        assert (attempt.error is None) == mended
        assert follower.seen == attempt.digest
        if mended:
            assert names(attempt) == ["b"]
    finally:
        follower.close()
        loop.close()
