"""Refusals as RFC 9457 problem documents. No input is echoed here, and no key or token
in the problems that come from elsewhere, so that a secret in a rejected request does
not come back in the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from tunnel.errors import (
    ApplyError,
    ConfigError,
    ConfigProblem,
    DeviceError,
    NeedsRestart,
    NetconfigError,
    NotPermitted,
    NotSupported,
    PlanStale,
    TunnelError,
)

__all__ = ["MEDIA_TYPE", "PROBLEM_SCHEMA", "Refusal", "refusal_of"]

MEDIA_TYPE: Final = "application/problem+json"

_TEXT: Final = {"type": "string"}
PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "RFC 9457. `code` is for programs, `detail` and `hint` for people.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "success"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": _TEXT,
        "hint": _TEXT,
        "success": {"type": "boolean", "const": False},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {
                    "path": _TEXT,
                    "line": {"type": "integer"},
                    "message": _TEXT,
                    "hint": _TEXT,
                },
            },
        },
    },
}


@dataclass(eq=False)
class Refusal(Exception):
    """An answer that is not the one that was asked for.

    `code` is a stable word for programs; `problems` are the single findings when
    there can be several of them.
    """

    status: int
    code: str
    detail: str
    hint: str = ""
    problems: Sequence[ConfigProblem] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The problem document."""
        document: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "success": False,
        }
        if self.hint:
            document["hint"] = self.hint
        if self.problems:
            document["problems"] = [
                {"path": p.path, "line": p.line, "message": p.message, "hint": p.hint}
                for p in self.problems
            ]
        return json.dumps(document).encode()

    def all_headers(self) -> dict[str, str]:
        """Those of the answer, apart from its length."""
        own = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
        return own | dict(self.headers)


# The first that fits; subclasses before their bases.
_KINDS: Final[tuple[tuple[type[TunnelError], int, str], ...]] = (
    (ConfigError, 422, "config-invalid"),
    (NeedsRestart, 409, "needs-restart"),
    (PlanStale, 409, "plan-stale"),
    (ApplyError, 409, "not-applied"),
    (NetconfigError, 409, "network-refused"),
    (DeviceError, 409, "device-refused"),
    (NotPermitted, 403, "not-permitted"),
    (NotSupported, 409, "not-supported"),
    (TunnelError, 409, "refused"),
)


def refusal_of(error: TunnelError) -> Refusal:
    """What a refusal of the tunnel is in HTTP."""
    problems: Sequence[ConfigProblem] = ()
    detail = error.message
    if isinstance(error, ConfigError):
        problems = error.problems
        detail = detail.partition("\n")[0]
    for kind, status, code in _KINDS:
        if isinstance(error, kind):
            return Refusal(status, code, detail, error.hint, problems)
    raise AssertionError("every TunnelError has a row")
