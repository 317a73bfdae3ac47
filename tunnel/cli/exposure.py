"""Files with secrets that every user of the machine can read, as wg-quick warns of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunnel.config.fragments import fragment_paths

if TYPE_CHECKING:
    from tunnel.config.schema import Config

__all__ = ["exposed"]

_INLINE: Final = re.compile(rb'"(privateKey|psk|presharedKey)"\s*:\s*"')
_OTHERS: Final = 0o007


def exposed(path: Path, config: Config) -> list[str]:
    """A warning for each file that holds a secret of the configuration at `path` and
    that others may open."""
    base = path.absolute().parent
    peers = fragment_paths(config, base)
    open_text = config.access.blocklist
    public = {base / open_text} if open_text else set()
    secret = [file for file in config.facts.files if file not in {*peers, *public}]
    found = [file for file in secret if _open_to_all(file)]
    found += [f for f in (path, *peers) if _open_to_all(f) and _has_secret(f)]
    return [
        f"{file} holds a secret and everybody can read it (chmod 600)" for file in found
    ]


def _open_to_all(path: Path) -> bool:
    try:
        return path.is_file() and bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def _has_secret(path: Path) -> bool:
    try:
        return _INLINE.search(path.read_bytes()) is not None
    except OSError:
        return False
