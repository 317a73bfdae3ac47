"""The configuration that is in force, and the file that holds it.

A tunnel may have no file: then there is nothing to follow, to read or to save.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from tunnel.config.reload import Attempt
from tunnel.config.save import Saving
from tunnel.config.schema import Config
from tunnel.errors import ApplyError, TunnelError
from tunnel.follow import Follower
from tunnel.helper import Helper
from tunnel.loop import ControlLoop
from tunnel.state.model import PeerState

__all__ = ["OwnFile", "own_path", "unsaved"]

log = logging.getLogger("tunnel.manager")


class OwnFile:
    """`config` is what was taken over last. Used in the control thread.

    `digest` says of which content `config` is (see `config.reload.Source`), None of no
    content that the file is known to hold. `changed`
    and `running` are those of `Follower`.
    """

    def __init__(
        self,
        loop: ControlLoop,
        helper: Helper,
        path: Path | None,
        config: Config,
        digest: bytes | None,
        changed: Callable[[Attempt], None],
        running: Callable[[], Mapping[bytes, PeerState]],
    ) -> None:
        self.path = path.absolute() if path is not None else None
        self.config = config
        self.digest = digest
        self._helper = helper
        self._follower: Follower | None = None
        if self.path is not None:
            self._follower = Follower(
                loop, helper, self.path, config, digest, changed, running,
                lambda: self.config,
            )  # fmt: skip

    def follow(self) -> None:
        """From now on `changed` is called."""
        if self._follower is not None:
            self._follower.start()

    def close(self) -> None:
        """Follows it no longer; idempotent."""
        if self._follower is not None:
            self._follower.close()

    @property
    def seen(self) -> bytes | None:
        """Digest of the content that was read last, and is done with. Any thread."""
        return self._follower.seen if self._follower is not None else None

    def read(self, then: Callable[[Future[Attempt]], None]) -> None:
        """Reads it in the helper's thread, and calls `then`, which must not raise,
        here. TunnelError when there is no file."""
        if self._follower is None:
            raise TunnelError("this tunnel has no configuration file")
        self._follower.read(then)

    def take_over(self, config: Config, digest: bytes | None) -> None:
        """It is in force now; with `digest` the file holds it."""
        self.config, self.digest = config, digest
        if digest is not None and self._follower is not None:
            self._follower.adopt(config, digest)

    def put_back(self, config: Config) -> None:
        """It is in force again, whatever the file holds."""
        self.config, self.digest = config, None

    def commit(self, saving: Saving) -> None:
        """The last step of a save that was prepared. TunnelError when it fails."""
        try:
            saving.commit()
        except OSError as error:
            raise unsaved(own_path(self.path), error) from error
        if self._follower is not None:
            self._follower.saved()
        self._helper.run(saving.settle, _log_unsettled)


def own_path(path: Path | None) -> Path:
    """The tunnel's configuration file; TunnelError when it has none."""
    if path is None:
        raise TunnelError(
            "this tunnel has no configuration file", hint="give one to tunnel up"
        )
    return path


def unsaved(path: Path, error: OSError) -> TunnelError:
    reason = error.strerror or str(error)
    return ApplyError(f"nothing was changed: {path} cannot be saved: {reason}")


def _log_unsettled(outcome: Future[None]) -> None:
    """For what follows the last step of a save, and did not work."""
    error = outcome.exception()
    if error is not None:
        log.error("finishing a save failed", exc_info=error)
