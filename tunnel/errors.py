"""The error tree of the package and the reasons for which a packet is dropped.

Raised errors are for people and programs that configure a tunnel. Nothing here is
raised per packet: drops are counted under a `DropReason`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "ApplyError",
    "ConfigError",
    "ConfigProblem",
    "DeviceError",
    "DropReason",
    "NeedsRestart",
    "NetconfigError",
    "NotPermitted",
    "NotSupported",
    "PlanStale",
    "TunnelError",
    "UapiError",
]


class TunnelError(Exception):
    """Base of everything this package raises on purpose.

    `exit_code` is what the command line returns; `hint` says how to mend it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong with a configuration.

    `path` is a JSON path such as `peers[3].allowedIPs[0]`, `line` is 1-based (0 when
    unknown), `message` says what is wrong and `hint` what to write instead. None of
    them ever holds a secret's value.
    """

    path: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        text = f"{where}{self.path}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(TunnelError):
    """A configuration that was refused as a whole, with every problem found in it.

    `files` are those that were read, or looked for: mending one of them may help.
    `temporary`: the same files may be right later, when their names have addresses.
    """

    def __init__(
        self,
        source: str,
        problems: list[ConfigProblem],
        files: tuple[Path, ...] = (),
        *,
        temporary: bool = False,
    ) -> None:
        count = len(problems)
        head = f"{source}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {p}" for p in problems)]))
        self.source = source
        self.problems = problems
        self.files = files
        self.temporary = temporary


class ApplyError(TunnelError):
    """A plan could not be applied; the running state is what it was before."""


class PlanStale(ApplyError):
    """The plan was computed against a state that is no longer the running one."""


class NeedsRestart(ApplyError):
    """The plan holds a change that a running tunnel cannot make."""

    exit_code = 4


class NotSaved(TunnelError):
    """A change runs, but could neither be saved nor taken back."""


class DeviceError(TunnelError):
    """A tunnel device or its sockets failed."""


class NetconfigError(TunnelError):
    """A command that configures the operating system's interface failed."""


class NotPermitted(TunnelError):
    """The process lacks a right it needs (usually CAP_NET_ADMIN)."""

    exit_code = 3


class NotSupported(TunnelError):
    """This system cannot do it, or not yet."""

    exit_code = 3


class UapiError(TunnelError):
    """A WireGuard UAPI request was refused; `errno` is the positive code sent back."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


class DropReason(IntEnum):
    """Why a packet went no further; mirrors `enum drop_reason` in packet.h."""

    NONE = 0
    TX_MALFORMED = 1
    TX_VNET_HEADER = 2
    TX_NO_ROUTE = 3
    TX_NO_ENDPOINT = 4
    TX_STAGED_FULL = 5
    TX_PURGED = 6
    TX_NO_MEMORY = 7
    TX_SOCKET = 8
    TX_NO_SOCKET = 9
    TX_PEER_GONE = 10
    RX_TRUNCATED = 11
    RX_LENGTH = 12
    RX_TYPE = 13
    RX_MAC1 = 14
    RX_HANDSHAKE_FULL = 15
    RX_NO_KEY = 16
    RX_INDEX = 17
    RX_EXPIRED = 18
    RX_COUNTER = 19
    RX_AUTH = 20
    RX_REPLAY = 21
    RX_TOO_OLD = 22
    RX_MALFORMED = 23
    RX_SOURCE = 24
    RX_TUN = 25
    TX_ISOLATED = 26
    TX_LANE_FULL = 27
    RX_LANE_FULL = 28
