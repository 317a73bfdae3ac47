"""Loads configurations and writes files so that a crash leaves the old or the new.

Loading refuses as a whole: one `ConfigError` holds every problem, and nothing was
created or changed. Only a configuration without a problem may create the secret files
it asks for.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from tunnel.config.checks import understand
from tunnel.config.documents import read_document
from tunnel.config.facts import Facts
from tunnel.config.fragments import read_fragments
from tunnel.config.peers import all_differ
from tunnel.config.problems import Found
from tunnel.config.save import sync_directory
from tunnel.config.schema import Config
from tunnel.config.secrets import Surroundings, create_pending
from tunnel.config.syntax import MAX_DOCUMENT, decode
from tunnel.errors import ConfigError, ConfigProblem

__all__ = ["load_config", "parse_config", "write_atomically"]

_CREATE_ATTEMPTS: Final = 3


def load_config(path: str | Path, *, create: bool = True) -> Config:
    """The configuration in a file, or on standard input for "-".

    Relative paths inside it start at its directory (the current one for "-"). With
    `create` off, files that `"create": true` asks for are not made: the secrets are
    then fresh ones of this call. Raises `ConfigError` and nothing else.
    """
    source = str(path)
    try:
        if source == "-":
            raw = _read_all(sys.stdin.buffer)
            base = Path.cwd()
        else:
            with Path(path).open("rb") as file:
                raw = _read_all(file)
            base = Path(path).absolute().parent
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    else:
        return parse_config(raw, source, base=base, create=create)
    hint = "give the path of a config.json"
    raise _refused(source, f"cannot read it: {reason}", hint)


def parse_config(
    text: str | bytes,
    source: str = "<text>",
    *,
    base: Path | None = None,
    create: bool = True,
    overlay: Mapping[Path, bytes] | None = None,
    like: Config | None = None,
) -> Config:
    """The configuration in a text; `source` names it in errors, `base` is where
    relative paths start. `overlay` is the content that files of peers are about to
    have. `like` is one that was loaded before: where the text is the same, its peers
    are taken over, which changes nothing but the time. Otherwise as `load_config`."""
    for _ in range(_CREATE_ATTEMPTS):
        with _collector_paused():
            config, where = _build(text, source, base or Path.cwd(), overlay, like)
        if not create or not where.pending:
            return config
        try:
            if create_pending(where):
                return config
        except OSError as error:
            reason = error.strerror or str(error)
            break
    else:
        reason = "another process keeps changing it"
    raise _refused(
        source,
        f"cannot create a file that it asks for: {reason}",
        'make the file yourself, or the directory of each "create" writable',
    )


def _read_all(file: IO[bytes]) -> bytes:
    raw = file.read(MAX_DOCUMENT + 1)
    if len(raw) > MAX_DOCUMENT:
        raise ValueError(f"larger than {MAX_DOCUMENT >> 20} MiB")
    return raw


def _refused(source: str, message: str, hint: str) -> ConfigError:
    return ConfigError(source, [ConfigProblem("$", 0, message, hint)])


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """No cycle collection meanwhile: it would walk ten thousand growing peers again
    and again, which is a third of the time of loading them."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _build(
    text: str | bytes,
    source: str,
    base: Path,
    overlay: Mapping[Path, bytes] | None,
    like: Config | None,
) -> tuple[Config, Surroundings]:
    """The configuration and what was read for it. A problem beside peers that were
    taken over is not looked into: reading all of it says what to say."""
    for known in (like, None) if like is not None else (None,):
        where = Surroundings(base, os.environ, overlay=overlay or {})
        config, documents = _understood(text, where, known.facts if known else None)
        problems = [problem for part in documents for problem in part.problems()]
        if config is not None and not problems:
            return config, where
    raise ConfigError(source, problems, tuple(where.files))


def _understood(
    text: str | bytes, where: Surroundings, known: Facts | None
) -> tuple[Config | None, list[Found]]:
    """Parse, check the shape, read the other files, check the meaning. None as well
    when peers that were taken over are in the way of a new one."""
    found = Found()
    decoded = decode(text, found) if isinstance(text, bytes) else text
    if decoded is None:
        return None, [found]
    found.text = decoded
    before = known.documents if known is not None else ()
    read = read_document(Config, found, known=before[0] if before else None)
    if read is None:
        return None, [found]
    config, document = read
    more, problems = read_fragments(config, found, where, before[1:])
    facts = understand(config, [document, *more], where, known)
    problems.insert(0, found)
    if known is not None and not all_differ(facts.peers):
        return None, problems
    config._facts = facts
    return config, problems


def write_atomically(
    path: str | Path,
    data: str | bytes,
    mode: int = 0o600,
    *,
    exclusive: bool = False,
) -> None:
    """Replace a file at once: readers see the old content or the new one.

    The data is on the disk when this returns. `mode` is exact, whatever the umask. A
    symbolic link is followed, so that the file it points to is replaced. With
    `exclusive` an existing file stays and `FileExistsError` is raised. On failure the
    temporary file is gone and the old file untouched.
    """
    target = Path(path)
    if not exclusive and target.is_symlink():
        target = target.resolve()
    raw = data.encode() if isinstance(data, str) else data
    temporary = target.parent / f".{target.name[:200]}.{os.urandom(8).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(raw)
            file.flush()
            os.fsync(fd)
        if exclusive:
            _link(temporary, target)
        else:
            temporary.rename(target)
            temporary = target
    finally:
        if temporary is not target:
            temporary.unlink(missing_ok=True)
    sync_directory(target.parent)


def _link(temporary: Path, target: Path) -> None:
    """Give the file its name unless that is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links: the check and the rename are two steps.
        if target.exists() or target.is_symlink():
            raise FileExistsError(target) from None
        temporary.rename(target)
