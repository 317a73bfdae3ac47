"""What a request on the control socket names.

A configuration is given by `file` (a path that this process reads), or by `text` with
`base` (where its relative paths start) and `source` (its name in errors), or it is the
tunnel's own file. Secrets are taken, never given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunnel.config.secrets import read_small
from tunnel.config.syntax import MAX_DOCUMENT
from tunnel.errors import TunnelError
from tunnel.manager import Manager
from tunnel.own_file import own_path
from tunnel.peer_edits import ACTIONS, PeerEdit
from tunnel.prepare import prepare_save, prepare_text
from tunnel.prepared import Prepared

__all__ = ["Request", "confirm_within", "peer_edit", "prepare_request"]

Request = Mapping[str, Any]
_CONFIRM_MOST = 86400  # seconds


def prepare_request(manager: Manager, request: Request) -> Prepared:
    """The configuration that a request names. In the helper's thread."""
    text, source = request.get("text"), str(request.get("source") or "<text>")
    if request.get("file"):
        path = Path(str(request["file"]))
        try:
            raw = read_small(path, MAX_DOCUMENT)
        except OSError as error:
            raise TunnelError(f"{path}: {error.strerror or error}") from error
        source, base = str(path), path.parent
    elif text is not None:
        raw = str(text).encode(errors="surrogateescape")
        base = Path(str(request.get("base") or "/"))
    else:
        return manager.prepare_own()
    known, like = manager.engine.device.observe().peers, manager.file.config
    if request.get("save"):
        later, own = request.get("confirm") is not None, own_path(manager.file.path)
        return prepare_save(raw, source, own, later=later, like=like, known=known)
    create = request.get("do") == "apply"
    return prepare_text(raw, source, base, create=create, like=like, known=known)


def confirm_within(value: Any) -> float | None:
    """Seconds. None of no seconds: the change would be gone before it is answered."""
    if value is None or 0 < float(value) <= _CONFIRM_MOST:
        return None if value is None else float(value)
    raise TunnelError(
        f"not a time to confirm in: {float(value):g} s",
        hint="give more than 0 and at most 24 hours",
    )


def peer_edit(item: Any) -> PeerEdit:
    if not isinstance(item, dict) or item.get("action") not in ACTIONS:
        raise TunnelError("not an edit of a peer")
    fields = item.get("fields") or {}
    if not isinstance(fields, dict):
        raise TunnelError("not an edit of a peer")
    return PeerEdit(item["action"], str(item.get("peer") or ""), fields)
