"""Reads a configuration again when its files change.

`Source` is the file together with all that it names: it knows by content whether
there is something new, and reads it in whatever thread it is called. `Watcher` says,
in the control thread, that something may have changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunnel.config.desired import desired_state
from tunnel.config.schema import Config
from tunnel.config.secrets import read_small
from tunnel.config.store import load_config, parse_config
from tunnel.config.syntax import MAX_DOCUMENT
from tunnel.constants import MILLISECOND, SECOND
from tunnel.errors import ConfigError, TunnelError
from tunnel.loop import ControlLoop, Timer
from tunnel.state.model import DeviceState, PeerState

__all__ = ["Attempt", "Source", "Watcher"]

log = logging.getLogger("tunnel.config")

SETTLE: Final = 100 * MILLISECOND  # after the first sign of a change
SETTLE_MOST: Final = 500 * MILLISECOND  # while a writer keeps the file open
POLL: Final = 5 * SECOND
_ATTEMPTS: Final = 3

# <sys/inotify.h>
_IN_MODIFY: Final = 0x2
_IN_CLOSE_WRITE: Final = 0x8
_IN_MOVED_FROM: Final = 0x40
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800
_IN_Q_OVERFLOW: Final = 0x4000
_IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x01000000
_WANTED: Final = (
    _IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE
    | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
)  # fmt: skip
_EVENT: Final = struct.Struct("@iIII")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One reading. `digest` is of the content read. Either `config` and `desired` are
    there, or `error`, or the content was `seen` before."""

    digest: bytes
    config: Config | None = None
    desired: DeviceState | None = None
    error: TunnelError | None = None
    seen: bool = False


class Source:
    """A configuration file and the files it names. Not for two threads at once.

    `running` says which peers are in force; those that stay as they are become the
    same objects in what is read (see `desired_state`). `like` is a configuration that
    was read before, or None; after it, the last right one is (see `parse_config`).
    """

    def __init__(
        self,
        path: Path,
        files: Iterable[Path] = (),
        running: Callable[[], Mapping[bytes, PeerState]] = dict,
        like: Config | None = None,
    ) -> None:
        self.path = path.absolute()
        self.files = tuple(files)
        self._running = running
        self._like = like
        self._ready: Attempt | None = None

    def digest(self, overlay: Mapping[Path, bytes] | None = None) -> bytes:
        """Names the content of all files, or what it will be with `overlay`."""
        overlay = overlay or {}
        raw = overlay.get(self.path)
        return self._digest(_content(self.path) if raw is None else raw, overlay)

    def _digest(self, raw: bytes, overlay: Mapping[Path, bytes]) -> bytes:
        whole = hashlib.sha256(hashlib.sha256(raw).digest())
        for path in self.files:
            content = overlay.get(path)
            whole.update(os.fsencode(path) + b"\0")
            content = _content(path) if content is None else content
            whole.update(hashlib.sha256(content).digest())
        return whole.digest()

    def signature(self) -> tuple[object, ...]:
        """Changes when a file was replaced or written to; cheap."""
        found: list[object] = []
        for path in (self.path, *self.files):
            try:
                stat = path.stat()
            except OSError as error:
                found.append(error.errno)
            else:
                found += [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]
        return tuple(found)

    def attempt(self, seen: bytes | None = None) -> Attempt:
        """Reads and understands everything, unless the content is the one `seen`.

        What was read is never newer than its digest: whatever is written while this
        runs has another one, and is read next time.
        """
        self._ready = None
        return self._attempt(seen, None)

    def prepare(self, seen: bytes | None = None) -> bool:
        """Reads ahead of `settled`, while the content may still change; whether there
        was something to understand. Creates no file, and keeps only what is right."""
        ready, self._ready = self._ready, None
        attempt = self._attempt(seen, ready, create=False)
        config = attempt.config
        if config is not None and not config.facts.pending:
            self._ready = attempt
        return not attempt.seen and attempt is not ready

    def settled(self, seen: bytes | None = None) -> Attempt:
        """As `attempt`, but what `prepare` read is taken if it is the content still."""
        ready, self._ready = self._ready, None
        return self._attempt(seen, ready)

    def _attempt(
        self, seen: bytes | None, ready: Attempt | None, *, create: bool = True
    ) -> Attempt:
        for _ in range(_ATTEMPTS):
            raw = _content(self.path)
            digest = self._digest(raw, {})
            if digest == seen:
                return Attempt(digest, seen=True)
            if ready is not None and digest == ready.digest:
                return ready
            try:
                config = self._parse(raw, create)
                files = config.facts.files
                if set(files) != set(self.files):
                    self.files = files  # now its digest can be taken before reading
                    seen = None
                    continue
                return Attempt(digest, config, self._desired(config))
            except TunnelError as error:
                refused = Attempt(digest, error=error)
                files = error.files if isinstance(error, ConfigError) else ()
                if set(files) <= set(self.files):
                    return refused
                # the files that have to be mended belong to its digest as well
                self.files = tuple(dict.fromkeys((*self.files, *files)))
                seen, config = None, None
        return Attempt(digest, config, self._desired(config)) if config else refused

    def _parse(self, raw: bytes, create: bool) -> Config:
        if raw.startswith(_NO_FILE):
            return load_config(self.path, create=create)  # says what is wrong
        base, like = self.path.parent, self._like
        self._like = parse_config(
            raw, str(self.path), base=base, create=create, like=like
        )
        return self._like

    def _desired(self, config: Config) -> DeviceState:
        return desired_state(config, known=self._running())


_NO_FILE: Final = b"\0\0"  # what stands for the content of anything else


def _content(path: Path) -> bytes:
    """What a file holds, or the names in a directory; never fails."""
    try:
        return read_small(path, MAX_DOCUMENT)
    except (OSError, ValueError) as error:
        reason = str(error)
    with contextlib.suppress(OSError, ValueError):
        names = sorted(entry.name for entry in path.iterdir())
        return _NO_FILE + b"directory " + repr(names).encode()
    return _NO_FILE + b"unreadable " + reason.encode()


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
        self._inotify = _Inotify.open()
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
            if mask & _IN_MODIFY:
                self._open.add((watch, name))
            elif mask & (_IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE | _IN_MOVED_FROM):
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


class _Inotify:
    """inotify(7) through the C library."""

    def __init__(self, libc: ctypes.CDLL, fd: int) -> None:
        self._libc = libc
        self.fd = fd
        self._names: dict[int, set[bytes] | None] = {}

    @classmethod
    def open(cls) -> _Inotify | None:
        """None when the system has no more of them; polling has to do then."""
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            reason = os.strerror(ctypes.get_errno())
            log.warning("no inotify (%s): changed files are noticed in 5 s", reason)
            return None
        return cls(libc, fd)

    def watch(self, places: Mapping[Path, set[bytes] | None]) -> None:
        """These directories and no others; those that do not exist are left out."""
        names: dict[int, set[bytes] | None] = {}
        for directory, wanted in places.items():
            number = self._libc.inotify_add_watch(
                self.fd, os.fsencode(directory), _WANTED
            )
            if number >= 0:
                known = names.get(number, set())
                both = None if known is None or wanted is None else known | wanted
                names[number] = both
            elif ctypes.get_errno() == errno.ENOSPC:
                log.warning("%s: too many inotify watches, it is polled", directory)
        for number in self._names.keys() - names.keys():
            self._libc.inotify_rm_watch(self.fd, number)
        self._names = names

    def read(self) -> list[tuple[int, int, bytes]]:
        """(watch, mask, name) of events that matter."""
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return []
        events, at = [], 0
        while at < len(data):
            number, mask, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size + size
            name = data[at - size : at].rstrip(b"\0")
            if mask & _IN_IGNORED:
                self._names.pop(number, None)
                continue
            wanted = self._names.get(number, set())
            if mask & _IN_Q_OVERFLOW or wanted is None or not name or name in wanted:
                events.append((number, mask, name))
        return events
