"""Earlier contents of a file, kept beside it; the name of each says of when it is."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tunnel.errors import TunnelError

__all__ = [
    "KEEP_BACKUPS",
    "Backup",
    "backups",
    "find_backup",
    "new_backup",
    "real",
    "thin_out",
]

KEEP_BACKUPS: Final = 10
_STAMP: Final = "%Y%m%dT%H%M%S.%fZ"
_TICK: Final = timedelta(microseconds=1)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Backup:
    """An earlier content of a file; `when` is UTC."""

    path: Path
    when: datetime
    size: int

    @property
    def name(self) -> str:
        return self.path.name


def real(path: Path) -> Path:
    """Where the file itself is: a symbolic link keeps pointing to it. OSError when it
    points to itself, or nobody can look."""
    linked = False
    with contextlib.suppress(FileNotFoundError):
        linked = stat.S_ISLNK(path.lstat().st_mode)
        path.stat()  # finds loops, which `resolve` of Python 3.13 takes as they are
    return path.resolve() if linked else path.absolute()


def backups(path: Path) -> list[Backup]:
    """The backups beside a file, newest first. OSError when nobody can look there."""
    path = real(path)
    pattern = re.compile(re.escape(path.name) + r"\.(\d{8}T\d{6}\.\d{6}Z)\.backup")
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(path.parent) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if not match or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(ValueError):  # no time: somebody else's file
                when = datetime.fromisoformat(match[1])
                size = entry.stat(follow_symlinks=False).st_size
                found.append(Backup(Path(entry.path), when, size))
    return sorted(found, key=lambda backup: backup.when, reverse=True)


def find_backup(path: Path, name: str = "") -> Backup:
    """The newest backup, or the one whose name is, or whose time starts with, `name`.
    TunnelError when there is none, or more than one."""
    try:
        known = backups(path)
    except OSError as error:
        raise TunnelError(f"{path}: {error.strerror or error}") from error
    matching = [b for b in known if not name or b.name == name]
    matching = matching or [
        b for b in known if b.name.removeprefix(real(path).name + ".").startswith(name)
    ]
    if not matching or (name and len(matching) > 1):
        what = f"{len(matching)} backups" if matching else "no backup"
        raise TunnelError(
            f"{path}: {what} of that name" if name else f"{path}: no backup",
            hint=f"list them with: tunnel backups -c {path}",
        )
    return matching[0]


def new_backup(path: Path) -> Path:
    """Where the content that `path` has now is to be kept: as the newest of all, also
    when the clock was set back since."""
    taken = (b.when for b in backups(path) if b.when < _LAST)  # none comes behind that
    when = max([datetime.now(UTC), *(found + _TICK for found in taken)])
    return path.with_name(f"{path.name}.{when.strftime(_STAMP)}.backup")


def thin_out(path: Path, keep: int) -> None:
    """Removes the oldest, as far as that is possible; one always stays."""
    for backup in backups(path)[max(keep, 1) :]:
        with contextlib.suppress(OSError):
            backup.path.unlink()
