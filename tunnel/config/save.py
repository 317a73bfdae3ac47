"""Replaces configuration files: with backups, all of them or none, never half of one.

A replacement is prepared completely (backup, temporary file, fsync) before anything
is changed, so that a full disk is known in time; what remains is a rename. A process
that is killed leaves the old or the new file and perhaps a temporary one, which the
next start takes away.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tunnel.config.backups import KEEP_BACKUPS, new_backup, real, thin_out
from tunnel.errors import TunnelError

__all__ = [
    "Saving",
    "clean",
    "save",
    "sync_directory",
]

log = logging.getLogger("tunnel.config")

_LOCK_STEP: Final = 0.02  # seconds


def clean(path: Path) -> list[Path]:
    """Removes temporary files that a killed process has left; those of a process that
    is saving now stay."""
    path = real(path)
    pattern = re.compile(rf"\.{re.escape(path.name)}(\..*)?\.[0-9a-f]{{16}}\.tmp")
    try:
        with _locked(path.parent, 0):
            stale = [p for p in path.parent.iterdir() if pattern.fullmatch(p.name)]
            for leftover in stale:
                leftover.unlink(missing_ok=True)
                log.info("removed %s, left by a save that did not end", leftover)
            return stale
    except (OSError, TunnelError):  # another one is saving, or not our directory
        return []


@contextlib.contextmanager
def _locked(directory: Path, seconds: float) -> Iterator[None]:
    """One saver at a time in a directory, among all processes."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TunnelError(
                        f"{directory}: another change is being saved",
                        hint="try again in a moment",
                    ) from None
                time.sleep(_LOCK_STEP)
        yield
    finally:
        os.close(fd)


class _Replacement:
    """One file about to be replaced: a complete temporary file beside it."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.temporary = path.parent / f".{path.name[:200]}.{os.urandom(8).hex()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self.temporary, flags, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                self._take_owner(fd)
                file.write(data)
                file.flush()
                os.fsync(fd)
        except BaseException:
            self.discard()
            raise

    def _take_owner(self, fd: int) -> None:
        """The new file belongs to whom the old one belonged, with its mode."""
        try:
            old = self.path.stat()
        except FileNotFoundError:
            return
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            with contextlib.suppress(PermissionError):
                os.fchown(fd, old.st_uid, old.st_gid)
        os.fchmod(fd, old.st_mode & 0o777)

    def commit(self) -> None:
        self.temporary.rename(self.path)

    def discard(self) -> None:
        self.temporary.unlink(missing_ok=True)


class Saving:
    """Files that are replaced together. Making one prepares everything; `commit` or
    `discard` ends it. Usable from any thread, by one at a time.

    `wait` is for how many seconds another saver is waited for. Raises OSError or
    TunnelError with all files as they were.
    """

    def __init__(
        self, path: Path, *, wait: float = 5, keep: int = KEEP_BACKUPS
    ) -> None:
        """Locks the directory of `path`: what is read from now on stays as it is."""
        self._stack = contextlib.ExitStack()
        self._keep = keep
        self._replacements: list[_Replacement] = []
        self._old: dict[Path, bytes | None] = {}
        self._backups: list[Path] = []
        self._stack.enter_context(_locked(real(path).parent, wait))

    def prepare(self, contents: Mapping[Path, bytes]) -> None:
        """Backups of the old files, temporary files with the new content."""
        try:
            for path, data in contents.items():
                self._prepare(real(path), data)
        except BaseException:
            self.discard()
            raise

    def _prepare(self, path: Path, data: bytes) -> None:
        try:
            old: bytes | None = path.read_bytes()
        except FileNotFoundError:
            old = None
        if old == data:
            return
        self._old[path] = old
        if old is not None:
            self._back_up(path, old)
        self._replacements.append(_Replacement(path, data))

    def _back_up(self, path: Path, old: bytes) -> None:
        target = new_backup(path)
        copy = _Replacement(target, old)
        try:
            copy.commit()
        except BaseException:
            copy.discard()
            raise
        self._backups.append(target)
        self._stack.callback(thin_out, path, self._keep)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that get another content."""
        return tuple(self._old)

    def commit(self) -> None:
        """Puts the new files in place; on OSError all are the old ones again."""
        done: list[_Replacement] = []
        try:
            for replacement in self._replacements:
                replacement.commit()
                done.append(replacement)
        except BaseException:
            for replacement in done:
                self._put_back(replacement.path)
            self.discard()
            raise
        self._replacements.clear()
        self._backups.clear()
        self._stack.close()

    def _put_back(self, path: Path) -> None:
        old = self._old[path]
        try:
            if old is None:
                path.unlink(missing_ok=True)
            else:
                _Replacement(path, old).commit()
        except OSError as error:
            log.error("%s could not be restored, see its backup: %s", path, error)

    def settle(self) -> None:
        """After the commit: makes the renames outlast a power cut."""
        for directory in dict.fromkeys(path.parent for path in self._old):
            try:
                sync_directory(directory)
            except OSError as error:
                log.warning("%s: not yet safe from a power cut: %s", directory, error)

    def discard(self) -> None:
        """Instead of a commit; idempotent."""
        for replacement in self._replacements:
            with contextlib.suppress(OSError):
                replacement.discard()
        for backup in self._backups:  # of what stays as it is
            with contextlib.suppress(OSError):
                backup.unlink()
        self._replacements.clear()
        self._backups.clear()
        self._stack.close()


def save(path: Path, text: str | bytes, *, keep: int = KEEP_BACKUPS) -> None:
    """Replaces one file and keeps its old content as a backup."""
    data = text.encode() if isinstance(text, str) else text
    saving = Saving(path, keep=keep)
    saving.prepare({path: data})
    saving.commit()
    saving.settle()


def sync_directory(path: Path) -> None:
    """The names in it are on the disk when this returns."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
