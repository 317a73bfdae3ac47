"""Makes the tunnel what its file says: when that changes, and when somebody asks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeAlias

from tunnel.changes import Changes
from tunnel.config.reload import Attempt
from tunnel.confirmation import Trial
from tunnel.errors import TunnelError
from tunnel.own_file import OwnFile
from tunnel.prepared import Prepared
from tunnel.reloads import ReloadEvent
from tunnel.settings import Settings

__all__ = ["FileReload", "Reloaded"]

log = logging.getLogger("tunnel.manager")

Reloaded: TypeAlias = Callable[[ReloadEvent | TunnelError], None]
"""Gets what came of a reload; must not raise."""


class FileReload:
    """Used in the control thread. `apply` gets what was read, the source of the change
    and when it began (`time.perf_counter`); it applies and records it, or raises."""

    def __init__(
        self,
        changes: Changes,
        file: OwnFile,
        trial: Trial,
        settings: Settings,
        apply: Callable[[Prepared, str, float], ReloadEvent],
    ) -> None:
        self._changes = changes
        self._file = file
        self._trial = trial
        self._settings = settings
        self._apply = apply

    def soon(self, source: str, then: Reloaded | None = None) -> None:
        """Reads the file in another thread and applies it here afterwards."""
        self._settings.reloading()
        rollbacks = self._trial.rollbacks

        def was_read(read: Future[Attempt]) -> None:
            result: ReloadEvent | TunnelError
            try:
                result = self._take_over(read.result(), source, rollbacks)
            except TunnelError as error:
                result = error
            except Exception as error:  # noqa: BLE001 - recorded, the tunnel goes on
                result = self._changes.failed(error, source, time.perf_counter())
            if then is not None:
                then(result)

        try:
            self._file.read(was_read)
        except TunnelError as error:
            if then is not None:
                then(error)
            else:
                log.warning("%s: %s", source, error)

    def changed(self, attempt: Attempt) -> None:
        """The file did, and nobody asked."""
        try:
            self._take_over(attempt, "file", self._trial.rollbacks)
        except TunnelError:
            return  # recorded; what runs is kept until there is something new

    def _take_over(self, attempt: Attempt, source: str, rollbacks: int) -> ReloadEvent:
        """Applies what was read; raises TunnelError, also recorded. `rollbacks` is how
        many there had been when it was asked for."""
        started = time.perf_counter()
        try:
            self._trial.check_wanted(attempt.digest, rollbacks)
            prepared = Prepared.of(attempt)
            prepared.warn()
            return self._apply(prepared, source, started)
        except Exception as error:
            raise self._changes.failed(error, source, started) from error
