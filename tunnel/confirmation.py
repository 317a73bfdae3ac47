"""A change on trial: it is taken back by itself unless somebody confirms it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Final

from tunnel.changes import Changes
from tunnel.config.schema import Config
from tunnel.constants import SECOND
from tunnel.errors import ApplyError, TunnelError
from tunnel.helper import Helper
from tunnel.loop import Timer
from tunnel.own_file import OwnFile, own_path
from tunnel.prepare import prepare_confirmation
from tunnel.prepared import Confirmation
from tunnel.reloads import ReloadEvent
from tunnel.waiting import Asked, Told, Waiting

__all__ = ["Trial"]

log = logging.getLogger("tunnel.manager")


HOLD: Final = 60 * SECOND  # a save that takes longer holds the time up no longer
RETRY: Final = SECOND
_LATE: Final = SECOND // 10


class Trial:
    """The one change that waits to be confirmed, if any. `read_file` makes the tunnel
    what its file says, some time later. Control thread, but for `prepare`.

    Its time runs until somebody asks for a confirmation: whoever can ask is not locked
    out. It goes on with what was left if that comes to nothing. What cannot be taken
    back at its end waits on, and is tried again every second; `refusal` says why.
    """

    def __init__(
        self,
        changes: Changes,
        file: OwnFile,
        helper: Helper,
        read_file: Callable[[], None],
    ) -> None:
        self._changes = changes
        self._loop = changes.engine.loop
        self._file = file
        self._helper = helper
        self._read_file = read_file
        self.rollbacks = 0
        self.refusal = ""
        self._taken_back: bytes | None = None  # content of the file, by the last one
        self._waiting: Waiting | None = None
        self._config: Config | None = None  # in force when the trial began
        self._timer: Timer | None = None
        self._asked: Asked | None = None

    def begin(self, waiting: Waiting, seconds: float) -> None:
        """It was applied just now, and has so long."""
        self._waiting, self._config = waiting, self._file.config
        self._start_timer(int(seconds * SECOND), self._expired)

    @property
    def left(self) -> float | None:
        """Seconds until the change is taken back; None when nothing waits."""
        return None if self._waiting is None else self._left_ns() / SECOND

    def _left_ns(self) -> int:
        if self._asked is not None:
            return self._asked.left
        if self.refusal:
            return 0
        now = self._loop.now()
        return max(0, self._timer.when - now) if self._timer is not None else 0

    def check_none(self) -> None:
        if self._waiting is not None:
            raise ApplyError(
                "another change waits to be confirmed",
                hint="tunnel confirm keeps it, tunnel rollback takes it back",
            )

    def confirm_soon(self, told: Told) -> None:
        """Keeps the change, and saves it in another thread if that was asked for:
        `told` is called when it is on the disk, or has failed and the change waits
        still. With nothing to save that is at once. Nobody needs to wait for it."""
        waiting = self._waiting
        if waiting is None or waiting.text is None:
            try:
                self.confirm()
            except TunnelError as error:
                told(error)
            else:
                told(None)
            return
        if self._asked is not None:
            self._asked.by.append(told)
            return
        asked = self._asked = Asked(self._left_ns(), [told])
        self._start_timer(HOLD, self._held_too_long)
        self._helper.run(self.prepare, partial(self._prepared, asked))

    def _prepared(self, asked: Asked, outcome: Future[Confirmation]) -> None:
        if self._asked is not asked:  # they have been told
            if outcome.exception() is None:
                outcome.result().discard()
            return
        try:
            self.confirm(outcome.result())
        except Exception as error:  # noqa: BLE001 - theirs, whatever it is
            self._waits_again(error)

    def _held_too_long(self) -> None:
        seconds = HOLD // SECOND
        message = f"nothing could be saved in {seconds} s, and the change waits still"
        hint = "see what keeps the disk of the configuration file, then confirm again"
        self._waits_again(TunnelError(message, hint=hint))

    def _waits_again(self, error: Exception) -> None:
        """The confirmation failed: the time goes on."""
        asked, self._asked = self._asked, None
        assert asked is not None
        self._start_timer(asked.left, self._expired)
        self._tell(asked, error)

    def _tell(self, asked: Asked | None, error: Exception | None) -> None:
        if asked is not None:
            asked.tell(error, self._helper)

    def _start_timer(self, delay: int, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, callback)

    def prepare(self, *, wait: float = 5) -> Confirmation:
        """All of a confirmation but its last step; any thread. Raises TunnelError, also
        when the file is another one now; if something waited, it waits still."""
        waiting = self._get()
        if waiting.text is None:
            return Confirmation(waiting)
        path = own_path(self._file.path)
        return prepare_confirmation(
            waiting, waiting.text, path, waiting.replaces, wait=wait
        )

    def confirm(self, prepared: Confirmation | None = None) -> None:
        """Keeps the change, and saves it if that was asked for. Raises TunnelError; if
        something waited, it waits still. Without `prepared` that is done here, and no
        other saver is waited for."""
        prepared = prepared or self.prepare(wait=0)
        try:
            waiting = self._get()
            if waiting is not prepared.waiting:
                raise TunnelError("another change waits by now", hint="confirm it anew")
            if prepared.saving is not None:
                self._file.commit(prepared.saving)
                if self._file.config is self._config:  # in force since the trial began
                    self._file.take_over(self._file.config, waiting.saved)
        except TunnelError:
            prepared.discard()
            raise
        asked = self._asked
        self.forget()
        log.info("the change was confirmed")
        self._tell(asked, None)

    def rollback(self, source: str = "rollback") -> ReloadEvent:
        """Takes the change back: what it changed and nothing else. Raises TunnelError;
        then it waits still. A file that came into force meanwhile stays: it is read
        again, as it may say otherwise than what was before the change. If it is the
        file itself that was on trial, reading it again makes no newer one."""
        started = time.perf_counter()
        self._get()
        try:
            return self._take_back(source, started)
        except Exception as error:
            raise self._changes.failed(error, source, started) from error

    def _take_back(self, source: str, started: float) -> ReloadEvent:
        waiting, config = self._get(), self._config
        plan = waiting.undo.take_back(self._changes.engine)
        asked = self._asked
        self.forget()
        self.rollbacks += 1
        self._taken_back = waiting.digest
        self._tell(asked, TunnelError("the change was taken back meanwhile"))
        event = self._changes.succeeded(plan, source, started)
        same = waiting.digest is not None and self._file.digest == waiting.digest
        if self._file.config is config or same:
            self._file.put_back(waiting.config)
        else:
            self._read_file()
        return event

    def check_wanted(self, digest: bytes, rollbacks: int) -> None:
        """Whether somebody who asked for a reload when there had been so many rollbacks
        is to get the content that was read then. ApplyError when it was on trial and
        has been taken back since."""
        if rollbacks != self.rollbacks and digest == self._taken_back:
            raise ApplyError(
                "the file was on trial and has been taken back meanwhile; "
                "nothing was changed",
                hint="tunnel reload applies it",
            )

    def _expired(self) -> None:
        """If this thread was busy, who came in time may not have been heard yet."""
        timer = self._timer
        if timer is not None and self._loop.now() - timer.when > _LATE:
            self._start_timer(_LATE, self._time_is_up)
        else:
            self._time_is_up()

    def _time_is_up(self) -> None:
        started = time.perf_counter()
        if not self.refusal:
            log.warning("the change was not confirmed in time and is taken back")
        try:
            self._take_back("unconfirmed", started)
        except Exception as error:  # noqa: BLE001 - recorded, the tunnel goes on
            self._start_timer(RETRY, self._time_is_up)
            reason = str(error) or type(error).__name__
            if reason != self.refusal:
                self.refusal = reason
                self._changes.failed(error, "unconfirmed", started)
                log.error("taking the change back is tried again every second")

    def _get(self) -> Waiting:
        if self._waiting is None:
            raise TunnelError("no change waits to be confirmed")
        return self._waiting

    def forget(self) -> None:
        """What waits is kept, without a word; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting = self._timer = self._config = self._asked = None
        self.refusal = ""
