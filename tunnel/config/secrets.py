"""Finds the values of secrets: inline, from a file or from the environment.

Nothing is written while a configuration is being checked. Files to create are only
remembered, and made by `create_pending` once everything else was found correct.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found
from tunnel.config.schema import SecretRef

__all__ = ["Surroundings", "create_pending", "read_small"]

_SECRET_LIMIT: Final = 4096  # bytes
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def read_small(path: Path, limit: int) -> bytes:
    """A regular file of at most `limit` bytes; `OSError` says why not.

    Opened without blocking, so that a pipe in its place cannot stop a reload.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError("not a regular file")
    with os.fdopen(fd, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"larger than {limit} bytes")
    return data


@dataclass(slots=True)
class Surroundings:
    """Where a configuration lives: its directory, the environment, what it read.

    `files` are all files that took part (and directories of patterns), in order, to
    be watched for changes. `pending` are the files to create: path -> content.
    `overlay` holds what files of peers are about to contain.
    """

    base: Path
    environ: Mapping[str, str]
    files: dict[Path, None] = field(default_factory=dict)
    pending: dict[Path, str] = field(default_factory=dict, repr=False)
    overlay: Mapping[Path, bytes] = field(default_factory=dict, repr=False)

    def resolve(self, path: str) -> Path:
        """`path` seen from the directory of the configuration."""
        return self.base / Path(path).expanduser()

    def secret(
        self,
        source: str | SecretRef,
        at: JsonPath,
        found: Found,
        generate: Callable[[], str],
    ) -> str | None:
        """The text of a secret, or None with the reason in `found`."""
        if isinstance(source, str):
            return source
        if (source.file is None) == (source.env is None):
            found.add(at, 'needs either "file" or "env"', 'write {"file": path}')
            return None
        if source.env is not None:
            return self._from_environment(source, at, found)
        return self._from_file(source, at, found, generate)

    def _from_environment(
        self, source: SecretRef, at: JsonPath, found: Found
    ) -> str | None:
        name = source.env or ""
        if source.create:
            found.add((*at, "create"), "an environment variable cannot be created", "")
        elif not _ENV_NAME.fullmatch(name):
            found.add((*at, "env"), "not the name of an environment variable", "")
        elif not self.environ.get(name):
            found.add(
                (*at, "env"), "the environment variable is not set", "export it first"
            )
        else:
            return self.environ[name].strip()
        return None

    def _from_file(
        self, source: SecretRef, at: JsonPath, found: Found, generate: Callable[[], str]
    ) -> str | None:
        at = (*at, "file")
        try:
            path = self.resolve(source.file or "")
            if path in self.pending:
                return self.pending[path]
            self.files[path] = None
            return read_small(path, _SECRET_LIMIT).decode("utf-8").strip()
        except FileNotFoundError:
            if source.create:
                self.pending[path] = generate()
                return self.pending[path]
            reason, hint = "there is no such file", 'add "create": true to make it'
        except OSError as error:
            reason, hint = error.strerror or str(error), "mend the file or the path"
        except (ValueError, RuntimeError):
            reason, hint = "not a path to a UTF-8 file", ""
        found.add(at, f"cannot read the secret: {reason}", hint)
        return None


def create_pending(where: Surroundings) -> bool:
    """Write the remembered files, 0600, never over an existing one.

    False when another process made one of them meanwhile: the configuration has to be
    read again then. `OSError` when one cannot be written; those already made stay,
    the next attempt reads them.
    """
    from tunnel.config.store import write_atomically

    fresh = True
    for path, text in where.pending.items():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            write_atomically(path, f"{text}\n", exclusive=True)
        except FileExistsError:
            fresh = False
    return fresh
