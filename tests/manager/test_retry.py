"""A file that was refused only because a name had no address just then is not done
with: it is looked at again by itself. The resolver, and the timers, are the test's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunnel.config import watch
from tunnel.config.reload import Attempt, Source
from tunnel.constants import SECOND
from tunnel.follow import RETRY, RETRY_MOST, Follower

from .rig import End, Json, eventually, new_key
from .test_early import facts, guest, names
from .test_follow import Held, Timers


class Names:
    """As `socket.getaddrinfo`; what is not in `table` has no address."""

    def __init__(self) -> None:
        self.table: dict[str, str] = {}

    def __call__(self, host: str, *_: object, **__: object) -> list[Any]:
        if host not in self.table:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        address = (self.table[host], 0)
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", address)]


class Followed:
    """A follower of a file that holds the peers `fired` and `a` (at a.example)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names = Names()
        self.names.table["a.example"] = "192.0.2.1"
        self.peers = [guest("fired"), guest("a", endpoint="a.example:5")]
        self.write(*self.peers)
        first = Source(path, resolve=self.names).attempt()
        assert first.config is not None
        assert first.desired is not None
        self.config, self.running = first.config, first.desired.peers
        self.news: list[Attempt] = []
        self.loop = Timers()
        self.helper = Held(self.loop)
        self.follower = Follower(
            self.loop, self.helper, path, first.config, first.digest,
            self.news.append, lambda: self.running, lambda: self.config, self.names,
        )  # fmt: skip
        self.follower.start()
        self.elapse(watch.SETTLE)

    def write(self, *peers: Json) -> None:
        self.path.write_text(facts(*peers))

    def save(self, *peers: Json) -> None:
        """A save that is noticed."""
        self.write(*peers)
        watcher = self.follower._watcher
        assert watcher is not None
        watcher.hint()
        self.elapse(watch.SETTLE)

    def elapse(self, delay: int) -> None:
        self.loop.elapse(delay)
        self.helper.work()

    @property
    def retries(self) -> list[int]:
        delays = self.loop.delays
        return [d for d in delays if d not in (watch.POLL, watch.SETTLE)]

    def close(self) -> None:
        self.follower.close()
        self.loop.close()


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    monkeypatch.setattr(watch, "POLL", 3600 * SECOND)
    made = Followed(tmp_path / "config.json")
    yield made
    made.close()


def test_a_removal_is_not_held_up_by_a_name_that_was_there_before(
    followed: Followed,
) -> None:
    followed.names.table.clear()
    followed.save(followed.peers[1])
    (news,) = followed.news
    assert names(news) == ["a"]
    assert news.desired is not None
    (left,) = news.desired.peers.values()
    assert left is followed.running[left.public_key]
    assert len(news.kept) == 1
    assert followed.retries == []


def test_a_refused_file_is_looked_at_again_until_it_is_right(
    followed: Followed,
) -> None:
    new = guest("new", endpoint="new.example:5")
    followed.save(new)
    assert [each.temporary for each in followed.news] == [True]
    waited = []
    for _ in range(6):
        (delay,) = followed.retries
        waited.append(delay // SECOND)
        followed.elapse(delay)
    assert waited == [5, 10, 20, 40, 60, 60]
    assert len(followed.news) == 1  # and is called wrong only once
    followed.names.table["new.example"] = "192.0.2.9"
    followed.elapse(RETRY_MOST)
    assert names(followed.news[1]) == ["new"]
    assert followed.retries == []
    assert len(followed.news) == 2


def test_other_content_is_looked_at_at_once_and_starts_over(
    followed: Followed,
) -> None:
    followed.save(guest("new", endpoint="new.example:5"))
    followed.elapse(RETRY)
    assert followed.retries == [2 * RETRY]
    followed.save(guest("newer", endpoint="new.example:5"))
    assert len(followed.news) == 2
    assert followed.retries == [RETRY]
    followed.save(*followed.peers)  # what is in force
    assert len(followed.news) == 2
    assert followed.retries == []


def test_a_wrong_file_is_not_looked_at_again(followed: Followed) -> None:
    followed.save(guest("wrong", allowedIPs=["nowhere"]))
    followed.elapse(watch.SETTLE)  # once more, as it might have been half written
    assert [each.temporary for each in followed.news] == [False]
    assert followed.retries == []


def test_who_asks_for_it_is_told_and_it_is_tried_again_all_the_same(
    followed: Followed,
) -> None:
    followed.write(guest("new", endpoint="new.example:5"))
    told: list[Attempt] = []
    followed.follower.read(lambda outcome: told.append(outcome.result()))
    followed.helper.work()
    assert told[0].temporary
    assert followed.retries == [RETRY]
    followed.names.table["new.example"] = "192.0.2.9"
    followed.elapse(RETRY)
    assert [names(each) for each in followed.news] == [["new"]]
    followed.close()
    assert followed.retries == []


def test_an_edit_that_is_saved_meanwhile_does_not_make_it_old(one: End) -> None:
    """The file is edited, not taken for the one that is in force."""
    resolver = Names()
    follower = one.served.manager.file._follower
    assert follower is not None
    follower._source._resolve = resolver
    far = one.facts["peers"][0]
    one.write(one.with_peers({"name": "new", "publicKey": new_key(),
                              "endpoint": "new.example:5"}))  # fmt: skip
    eventually(lambda: one.events("file"))
    assert "cannot resolve new.example" in one.events("file")[0].error
    edit = {"action": "add", "peer": "edit", "fields": {"publicKey": new_key()}}
    one.control("edit", edits=[edit], save=True)
    assert one.peer_names() == [far["name"], "edit"]
    resolver.table["new.example"] = "192.0.2.9"
    one.path.write_bytes(one.path.read_bytes())  # the same content: not done with yet
    eventually(lambda: sorted(one.peer_names()) == ["edit", "far", "new"])
