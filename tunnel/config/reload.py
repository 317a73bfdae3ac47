"""Reads a configuration again, if there is something new in its files.

What is new is a matter of content; `watch.py` says when it is worth looking.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunnel.config.addresses import Resolver
from tunnel.config.desired import desired_state
from tunnel.config.schema import Config
from tunnel.config.secrets import read_small
from tunnel.config.store import load_config, parse_config
from tunnel.config.syntax import MAX_DOCUMENT
from tunnel.errors import ConfigError, ConfigProblem, TunnelError
from tunnel.state.model import DeviceState, PeerState

__all__ = ["Attempt", "Source"]

_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Attempt:
    """One reading. `digest` is of the content read. Either `config` and `desired` are
    there, or `error`, or the content was `seen` before. `kept` are the names without
    an address whose peers keep the endpoint that they have."""

    digest: bytes
    config: Config | None = None
    desired: DeviceState | None = None
    error: TunnelError | None = None
    seen: bool = False
    kept: tuple[ConfigProblem, ...] = ()

    @property
    def temporary(self) -> bool:
        """Refused, but the same content may be right a moment later."""
        return isinstance(self.error, ConfigError) and self.error.temporary


class Source:
    """A configuration file and the files it names. Not for two threads at once.

    `running` says which peers are in force; those that stay as they are become the
    same objects in what is read (see `desired_state`). `like` is a configuration that
    was read before, or None; after it, the last right one is (see `parse_config`).
    `before` returns the configuration under which the `running` peers run.
    """

    def __init__(
        self,
        path: Path,
        files: Iterable[Path] = (),
        running: Callable[[], Mapping[bytes, PeerState]] = dict,
        like: Config | None = None,
        before: Callable[[], Config | None] = lambda: None,
        resolve: Resolver = socket.getaddrinfo,
    ) -> None:
        self.path = path.absolute()
        self.files = tuple(files)
        self._running = running
        self._like = like
        self._before = before
        self._resolve = resolve
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
                return self._understood(digest, config)
            except TunnelError as error:
                refused = Attempt(digest, error=error)
                files = error.files if isinstance(error, ConfigError) else ()
                if set(files) <= set(self.files):
                    return refused
                # the files that have to be mended belong to its digest as well
                self.files = tuple(dict.fromkeys((*self.files, *files)))
                seen, config = None, None
        return self._understood(digest, config) if config else refused

    def _parse(self, raw: bytes, create: bool) -> Config:
        if raw.startswith(_NO_FILE):
            return load_config(self.path, create=create)  # says what is wrong
        base, like = self.path.parent, self._like
        self._like = parse_config(
            raw, str(self.path), base=base, create=create, like=like
        )
        return self._like

    def _understood(self, digest: bytes, config: Config) -> Attempt:
        kept: list[ConfigProblem] = []
        desired = desired_state(
            config, self._resolve, self._running(), self._before(), kept
        )
        return Attempt(digest, config, desired, kept=tuple(kept))


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
