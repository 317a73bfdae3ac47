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
from tunnel.loop import ControlLoop

from .test_early import facts, guest, names


class Held(Helper):
    """A helper that does its work when the test says so."""

    def __init__(self, loop: ControlLoop) -> None:
        super().__init__(loop)
        self.held: list[tuple[Callable[[], Any], Callable[[Future[Any]], None]]] = []

    def run(self, job: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        self.held.append((job, then))

    def work(self) -> None:
        for job, then in self.held:
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
