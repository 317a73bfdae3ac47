"""What went wrong with a command, in words, and what to do about it."""

from __future__ import annotations

from typing import Final

from tunnel.errors import NetconfigError
from tunnel.netconfig.base import Argv, Command
from tunnel.netconfig.programs import Result

__all__ = ["as_wanted", "complaint", "failure", "line_of", "said_by"]

_GET: Final = {
    "ip": "install iproute2 (apt install iproute2)",
    "netsh": "netsh belongs to Windows: check PATH",
}
_HINTS: Final = (
    ("Operation not permitted", "run as root, or with CAP_NET_ADMIN"),
    ("requires elevation", "run it as administrator"),
    ("Cannot find device", "the interface is gone"),
    ("Device or resource busy", "another program is configuring the interface"),
)
_NO_IPV6: Final = ("IPv6 is disabled", "Permission denied", "not supported")


def complaint(command: Command, result: Result) -> str:
    """The command that failed, what it said, and what to do about it."""
    hint = _hint(command.argv, result)
    told = f"{line_of(command.argv)}: {said_by(result)}"
    return f"{told} ({hint})" if hint else told


def failure(command: Command, result: Result, left: list[str]) -> NetconfigError:
    """Of the command that failed; `left` are complaints about undoing the others."""
    message = f"cannot {command.why}: `{line_of(command.argv)}`: {said_by(result)}"
    if left:
        message += f"; these could not be undone: {'; '.join(left)}"
    return NetconfigError(message, hint=_hint(command.argv, result))


def as_wanted(result: Result, already: tuple[str, ...]) -> bool:
    heard = result.stderr.lower()
    return result.ok or any(words.lower() in heard for words in already)


def said_by(result: Result) -> str:
    return " ".join(result.stderr.split()) or f"it ended with code {result.code}"


def line_of(argv: Argv) -> str:
    return " ".join(word or '""' for word in argv)


def _hint(argv: Argv, result: Result) -> str:
    if result.code is None and "No such file" in result.stderr:
        return _GET.get(argv[0], f"install {argv[0]}")
    if "-6" in argv and any(said in result.stderr for said in _NO_IPV6):
        return "IPv6 is switched off here (net.ipv6.conf.*.disable_ipv6)"
    if "route" in argv and "File exists" in result.stderr:
        return "another interface has this route already: remove it from one of them"
    return next((hint for said, hint in _HINTS if said in result.stderr), "")
