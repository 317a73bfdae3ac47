"""The token that changes need: from the environment, from its file, or a new one."""

from __future__ import annotations

import logging
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tunnel.config.store import write_atomically
from tunnel.errors import DeviceError

__all__ = ["TOKEN_ENV", "find_token"]

log = logging.getLogger("tunnel.http")

TOKEN_ENV: Final = "TUNNEL_MANAGEMENT_TOKEN"
_TOKEN_MIN: Final = 16
_TOKEN_FILE_MAX: Final = 4096


def find_token(candidates: Iterable[Path]) -> str:
    """`TUNNEL_MANAGEMENT_TOKEN`, else the first file there is, else a new file.

    A new one is made at the first place that can be written, 0600. Raises DeviceError
    when there is none, or when others than the owner may read the file.
    """
    given = os.environ.get(TOKEN_ENV)
    if given is not None:
        return _checked(given.strip(), TOKEN_ENV)
    places = list(candidates)
    for path in places:
        token = _read(path)
        if token is not None:
            return token
    reason = "no place for it"
    for path in places:
        try:
            return _create(path)
        except OSError as error:
            reason = f"{path}: {error.strerror}"
    raise DeviceError(
        f"management: cannot create the token: {reason}",
        hint=f"set {TOKEN_ENV}, or make the directory writable",
    )


def _read(path: Path) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DeviceError(
            f"management: cannot read the token in {path}: {error.strerror}"
        ) from error
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) or mode & 0o077:
            raise DeviceError(
                f"management: {path} is not a file that only its owner can read",
                hint=f"chmod 600 {path}, or remove it to get a new token",
            )
        raw = os.read(fd, _TOKEN_FILE_MAX)
    finally:
        os.close(fd)
    return _checked(raw.decode("ascii", "replace").strip(), str(path))


def _checked(token: str, source: str) -> str:
    if len(token) >= _TOKEN_MIN and token.isascii() and token.isprintable():
        return token
    raise DeviceError(
        f"management: the token in {source} is not a good one",
        hint=f"at least {_TOKEN_MIN} printable ASCII characters, or remove it",
    )


def _create(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        write_atomically(path, f"{token}\n", exclusive=True)
    except FileExistsError:  # another process was first
        return _read(path) or _create(path)
    log.info("the management token is in %s", path)
    return token
