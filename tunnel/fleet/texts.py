"""What is asked of a file that peers are merged into, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunnel.config.identity import public_key
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.fleet.partial import PartialSet
from tunnel.state.merge import PartialPeer, who
from tunnel.state.model import DeviceState, PeerState

__all__ = ["FileText", "MergeFile", "check_says", "own_key_of"]


@dataclass(frozen=True, slots=True)
class FileText:
    """One file before and after; the `shown` texts hold no secrets."""

    path: Path
    old: str | None
    new: str
    old_shown: str
    new_shown: str


class MergeFile(Protocol):
    """A file with peers."""

    state: DeviceState
    own_key: bytes | None

    def complete(self, partial: PartialSet) -> tuple[PartialPeer, ...]:
        """The partial peers with what this file says about all of its peers."""

    def texts(self, merged: DeviceState, partial: PartialSet, /) -> list[FileText]:
        """The texts that say `merged`; only of files that change."""


def own_key_of(state: DeviceState) -> bytes | None:
    """The public key of the end that a state describes."""
    secret = state.private_key
    return public_key(secret.reveal()) if secret is not None else None


def check_says(
    path: Path, merged: DeviceState, said: Mapping[bytes, PeerState]
) -> None:
    """The texts must say what the merge decided."""
    wrong = [
        ConfigProblem(
            who(merged.peers.get(key) or said[key]),
            0,
            "this file cannot say what the merge makes of it",
            "write this peer into the file yourself",
        )
        for key in {**merged.peers, **said}
        if merged.peers.get(key) != said.get(key)
    ]
    if wrong:
        raise ConfigError(str(path), wrong)
