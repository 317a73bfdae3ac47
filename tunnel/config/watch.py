"""Says, in the control thread, that files of a configuration may have changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from tunnel.constants import MILLISECOND, SECOND
from tunnel.io.inotify_linux import IN_DONE, IN_MODIFY, Inotify
from tunnel.loop import ControlLoop, Timer

__all__ = ["POLL", "SETTLE", "SETTLE_MOST", "Watcher"]

SETTLE: Final = 100 * MILLISECOND  # after the first sign of a change
SETTLE_MOST: Final = 500 * MILLISECOND  # while a writer keeps the file open
POLL: Final = 5 * SECOND


class Watcher:
    """Calls `changed` in the control thread when a watched file may have changed.

    Directories are watched, because a rename replaces the file; a flurry of events
    becomes one call. `early` is called with the events of a flurry, whenever no writer
    has a file open: it may be worth reading already. `poll` is called now and then,
    for file systems that tell nothing.
    """

    def __init__(
        self,
        loop: ControlLoop,
        changed: Callable[[], None],
        poll: Callable[[], None],
        early: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._poll = poll
        self._early = early
        self._inotify = Inotify.open()
        if self._inotify is not None:
            loop.add_reader(self._inotify.fd, self._on_events)
        self._paths: tuple[Path, ...] = ()
        self._timer: Timer | None = None
        self._first = 0  # when the first event of this flurry came
        self._open: set[tuple[int, bytes]] = set()  # written to and not closed yet
        self._poller = loop.call_later(POLL, self._on_poll)

    def watch(self, paths: Iterable[Path]) -> None:
        """From now on these files, and directories, with all they hold."""
        self._paths = tuple(paths)
        if self._inotify is not None:
            self._inotify.watch(_places(self._paths))

    def hint(self) -> None:
        """Something may have changed: look after the usual delay."""
        if self._timer is None:
            self._first = self._loop.now()
            self._timer = self._loop.call_later(SETTLE, self._settled)

    def _on_events(self) -> None:
        assert self._inotify is not None
        events = self._inotify.read()
        for watch, mask, name in events:
            if mask & IN_MODIFY:
                self._open.add((watch, name))
            elif mask & IN_DONE:
                self._open.discard((watch, name))
            self.hint()
        if events and not self._open:
            self._early()

    def _settled(self) -> None:
        waited = self._loop.now() - self._first
        if self._open and waited < SETTLE_MOST:
            self._timer = self._loop.call_later(SETTLE, self._settled)
            return
        self._timer = None
        self._open.clear()
        self._changed()

    def _on_poll(self) -> None:
        self._poller = self._loop.call_later(POLL, self._on_poll)
        if self._inotify is not None:
            self._inotify.watch(_places(self._paths))
        self._poll()

    def close(self) -> None:
        """Idempotent."""
        self._poller.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fd)
            os.close(self._inotify.fd)
            self._inotify = None


def _places(paths: Iterable[Path]) -> dict[Path, set[bytes] | None]:
    """Directory -> names in it that matter; None: all of them, because a link or a
    pattern leads there."""
    places: dict[Path, set[bytes] | None] = {}

    def add(directory: Path, name: bytes | None) -> None:
        names = places.setdefault(directory, set())
        if name is None or names is None:
            places[directory] = None
        else:
            names.add(name)

    for path in paths:
        with contextlib.suppress(OSError, RuntimeError):
            if path.is_dir():
                add(path, None)
            elif path.resolve() == path:
                add(path.parent, os.fsencode(path.name))
            else:  # where the link is, and where the file is
                add(path.parent, None)
                add(path.resolve().parent, None)
    return places
