"""A change on trial: the way back, what is to be saved, and who asked to keep it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from tunnel.config.schema import Config
from tunnel.helper import Helper
from tunnel.rollback import Undo

__all__ = ["Asked", "Told", "Waiting"]

Told: TypeAlias = Callable[[Exception | None], None]
"""Gets None for a change that is confirmed, or why it is not; must not raise."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """`undo` takes back what was applied, `config` was in force before it, `text` is
    to be saved when it is confirmed, if the file still holds what `replaces` names.
    `digest`: of what the tunnel's own file held, if that is what is on trial; `saved`:
    of what the files hold with `text`."""

    undo: Undo
    config: Config
    text: bytes | None
    replaces: bytes | None = None
    digest: bytes | None = None
    saved: bytes | None = None


@dataclass(slots=True, eq=False)
class Asked:
    """A confirmation that is being prepared: who asked for it, and the time (ns) that
    was left when the first of them did."""

    left: int
    by: list[Told]

    def tell(self, error: Exception | None, helper: Helper) -> None:
        """What came of it. Of a success they hear behind the job that makes the save
        outlast a power cut."""
        for told in self.by:
            if error is not None:
                told(error)
            else:
                helper.run(lambda: None, partial(_tell_success, told))


def _tell_success(told: Told, _: Future[None]) -> None:
    told(None)
