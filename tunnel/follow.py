"""Follows the configuration file: reads it in another thread whenever it changes.

Knows which content was read last, good or bad, so that nothing is read twice and a
failure is not repeated until there is something new; but a name without an address
may have one later, so that content is looked at again. Understanding the content begins
with the first sign of a change, while the watcher waits for the last one; it counts
only if the content is still the same then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final

from tunnel.config.addresses import Resolver
from tunnel.config.reload import Attempt, Source
from tunnel.config.save import clean
from tunnel.config.schema import Config
from tunnel.config.watch import SETTLE, Watcher
from tunnel.constants import SECOND
from tunnel.helper import Helper
from tunnel.loop import ControlLoop, Timer
from tunnel.state.model import PeerState
from tunnel.turns import WHOLE_FILE, claim, look_up, unanswered

__all__ = ["RETRY", "RETRY_MOST", "Follower"]

log = logging.getLogger("tunnel.manager")

# Of one flurry of events, before it is over: so much is read, or understood, at most.
_EARLY: Final = 8
_UNDERSTOOD: Final = 4

RETRY: Final = 5 * SECOND  # until content with names without addresses is read again
RETRY_MOST: Final = 60 * SECOND  # as the time in between doubles


def _wrong(attempt: Attempt) -> bool:
    """What only other content can mend."""
    return attempt.error is not None and not attempt.temporary


class Follower:
    """Calls `changed` with every new attempt at the file that nobody asked for.

    `seen` is the digest of the content that is in force, `running` returns the peers
    that are, and `before` the configuration that they are from, in any thread.
    """

    def __init__(
        self,
        loop: ControlLoop,
        helper: Helper,
        path: Path,
        config: Config,
        seen: bytes | None,
        changed: Callable[[Attempt], None],
        running: Callable[[], Mapping[bytes, PeerState]] = dict,
        before: Callable[[], Config | None] = lambda: None,
        resolve: Resolver = look_up,
    ) -> None:
        self._loop = loop
        self._helper = helper
        files = config.facts.files
        self._source = Source(path, files, running, config, before, resolve)
        self._seen = seen
        self._changed = changed
        self._doubted: bytes | None = None  # wrong, but perhaps half written
        self._pending: bytes | None = None  # to be looked at again, and in what time
        self._delay = RETRY
        self._timer: Timer | None = None
        self._saves = 0  # how many of our own were committed
        self._signature: tuple[object, ...] = ()
        self._watcher: Watcher | None = None
        self._reading = 0
        self._preparing = False
        self._again = False  # there were signs since the preparation began
        self._left = _EARLY

    def start(self) -> None:
        """Takes away what a killed save left behind, then watches."""
        clean(self._source.path)
        self._watcher = Watcher(self._loop, self._look, self._poll, self._early)
        self._watch_files()
        self._watcher.hint()  # for what happened until now

    def close(self) -> None:
        self._no_retry()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    def saved(self) -> None:
        """A save of our own was committed just now: what is being read may be older."""
        self._saves += 1

    def adopt(self, config: Config, digest: bytes) -> None:
        """The files hold this now, and it is in force."""
        self._seen = digest
        self._no_retry()
        self._source.files = config.facts.files
        self._watch_files()

    @property
    def seen(self) -> bytes | None:
        """Digest of the content that was read last, and is done with. Any thread."""
        return self._seen

    def _watch_files(self) -> None:
        if self._watcher is not None:
            self._watcher.watch((self._source.path, *self._source.files))

    def read(
        self, then: Callable[[Future[Attempt]], None], *, doubtful: bool = True
    ) -> None:
        """Reads in the helper thread, whatever was seen before; `then` is called with
        the attempt in the control thread and must not raise. With `doubtful`, what is
        wrong may be half written: it is read a second time."""

        saves = self._saves

        def done(outcome: Future[Attempt]) -> None:
            self._reading -= 1
            if saves != self._saves:
                self.read(then)  # what was read lacks what was saved meanwhile
                return
            if outcome.exception() is None:
                if doubtful and _wrong(outcome.result()):
                    again = partial(self.read, then, doubtful=False)
                    self._loop.call_later(SETTLE, again)
                    return
                self._note(outcome.result())
            then(outcome)

        self._reading += 1
        self._helper.run(self._read, done)

    def _read(self) -> Attempt:
        claim(WHOLE_FILE)
        return self._source.attempt()

    def _note(self, attempt: Attempt) -> None:
        if attempt.temporary:
            self._retry_later(attempt.digest)
        else:
            self._seen = attempt.digest
            self._no_retry()
        self._watch_files()

    def _retry_later(self, digest: bytes) -> None:
        """Looks again after a while, even if no file changes; other content starts
        with the shortest time anew."""
        again = digest == self._pending
        delay = min(2 * self._delay, RETRY_MOST) if again else RETRY
        self._no_retry()
        self._pending, self._delay = digest, delay
        if self._watcher is not None:
            self._timer = self._loop.call_later(delay, self._look)

    def _no_retry(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._pending = None

    def _early(self) -> None:
        """Something is happening to the files: begins before it is over, so that
        `_look` finds the work done. One job at a time, and few of them."""
        if self._preparing:
            self._again = True
        elif self._left > 0 and not self._reading:
            seen = self._seen
            self._preparing, self._again = True, False
            self._helper.run(lambda: self._read_ahead(seen), self._prepared)

    def _read_ahead(self, seen: bytes | None) -> bool:
        understood = self._source.prepare(seen)
        if unanswered():
            self._source.settled(seen)  # takes what was understood without addresses
        return understood

    def _prepared(self, outcome: Future[bool]) -> None:
        """A failure is left to `_look`, which meets it again."""
        self._preparing = False
        understood = outcome.exception() is None and outcome.result()
        self._left -= _UNDERSTOOD if understood else 1
        if self._again and self._watcher is not None:
            self._early()

    def _look(self) -> None:
        """Something happened to the files: is the content another one?"""
        self._left, self._again = _EARLY, False
        if self._reading:
            if self._watcher is not None:
                self._watcher.hint()
            return
        seen, saves = self._seen, self._saves
        self._reading += 1
        self._helper.run(
            lambda: self._read_settled(seen), lambda read: self._looked(read, saves)
        )

    def _read_settled(self, seen: bytes | None) -> Attempt:
        claim(WHOLE_FILE)
        return self._source.settled(seen)

    def _looked(self, outcome: Future[Attempt], saves: int) -> None:
        self._reading -= 1
        if self._watcher is None:
            return
        if saves != self._saves:
            self._watcher.hint()  # what was read lacks what was saved meanwhile
            return
        if outcome.exception() is not None:
            log.error("reading the configuration failed", exc_info=outcome.exception())
            return
        attempt = outcome.result()
        if attempt.seen or attempt.digest == self._seen:  # adopted meanwhile
            self._no_retry()
            return
        if _wrong(attempt) and attempt.digest != self._doubted:
            self._doubted = attempt.digest
            self._watcher.hint()  # an error that stays is one, see again in a moment
            return
        told = attempt.temporary and attempt.digest == self._pending
        self._note(attempt)
        if not told:
            self._changed(attempt)

    def _poll(self) -> None:
        """For file systems without events: looks closer if the files look different."""
        if not self._reading:
            self._helper.run(self._source.signature, self._polled)

    def _polled(self, outcome: Future[tuple[object, ...]]) -> None:
        if outcome.exception() is None and outcome.result() != self._signature:
            self._signature = outcome.result()
            self._look()
