"""What is ready to be applied, or kept: made in any thread, used in the control thread.

One that is not used must be discarded, or another save of the file waits for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from tunnel.config.reload import Attempt
from tunnel.config.save import Saving
from tunnel.config.schema import Config
from tunnel.device import Device
from tunnel.errors import ConfigProblem
from tunnel.peer_edits import Understood, desired_after
from tunnel.state.model import DeviceState
from tunnel.state.plan import Plan, diff

__all__ = ["Confirmation", "Prepared", "PreparedEdits"]

log = logging.getLogger("tunnel.manager")


class _Saves:
    """With `saving`, the tunnel's own file has its new text but for the last step."""

    __slots__ = ()
    saving: Saving | None

    def discard(self) -> None:
        if self.saving is not None:
            self.saving.discard()


@dataclass(frozen=True, slots=True)
class Prepared(_Saves):
    """A configuration ready to be applied. With `saving`, the tunnel's own file gets
    its text at the same time; `text` is for a save at a later confirmation, in the
    place of what `replaces` names. `digest` names what the files hold then, `saved`
    what they hold when `text` is saved; `kept` is as in `Attempt`. One that is not
    applied must be discarded."""

    desired: DeviceState
    config: Config | None = None
    saving: Saving | None = None
    text: bytes | None = None
    digest: bytes | None = None
    replaces: bytes | None = None
    saved: bytes | None = None
    kept: tuple[ConfigProblem, ...] = ()

    @classmethod
    def of(cls, attempt: Attempt) -> Prepared:
        """What was read of the tunnel's own file; raises what was wrong with it."""
        if attempt.error is not None:
            raise attempt.error
        assert attempt.desired is not None
        return cls(
            attempt.desired, attempt.config, digest=attempt.digest, kept=attempt.kept
        )

    @property
    def warnings(self) -> list[str]:
        """What is to be said of it to whoever asked for it."""
        return [
            f"{problem.path}: {problem.message}; the present endpoint is kept"
            for problem in self.kept
        ]

    def warn(self) -> None:
        """One line, however many they are."""
        if self.kept:
            more = f" (and {len(self.kept) - 1} more)" if len(self.kept) > 1 else ""
            first = f"{self.kept[0].path}: {self.kept[0].message}{more}"
            log.warning("%s; the present endpoint is kept", first)


@dataclass(frozen=True, slots=True)
class PreparedEdits(_Saves):
    """Edits of peers ready to be applied, and saved with `saving`: the files hold
    `config` then, which has the name `digest`, instead of what `replaces` names."""

    edits: tuple[Understood, ...]
    config: Config | None = None
    saving: Saving | None = None
    digest: bytes | None = None
    replaces: bytes | None = None

    def plan(self, device: Device) -> Plan:
        """What they change of what runs now."""
        return diff(
            device.observe(),
            desired_after(device.observe(), self.edits),
            generation=device.generation,
            only=tuple(dict.fromkeys(edit.key for edit in self.edits)),
        )


@dataclass(frozen=True, slots=True)
class Confirmation(_Saves):
    """The end of the trial of `waiting`, ready: `saving` holds what is to be saved."""

    waiting: object
    saving: Saving | None = None
