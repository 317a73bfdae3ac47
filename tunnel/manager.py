"""What a running `tunnel up` can be told: every door asks here.

A door hands over what `prepare.py` made ready, in another thread (`background`), of a
configuration or of edits; it becomes a plan, one change of the engine and one event of
the history. All methods run in the control thread but for `prepare_own` and
`prepare_edits`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tunnel.changes import Changes
from tunnel.config.reload import Attempt
from tunnel.config.schema import Config
from tunnel.confirmation import Trial
from tunnel.engine import Engine
from tunnel.errors import PlanStale, TunnelError
from tunnel.file_reload import FileReload, Reloaded
from tunnel.helper import Helper
from tunnel.own_file import OwnFile
from tunnel.peer_edits import PeerEdit
from tunnel.prepare import prepare_edits, prepare_file
from tunnel.prepared import Prepared, PreparedEdits
from tunnel.reloads import ReloadEvent
from tunnel.report import state_json
from tunnel.rollback import Undo
from tunnel.settings import Settings
from tunnel.state.merge import merge
from tunnel.state.model import DeviceState
from tunnel.state.plan import Plan
from tunnel.waiting import Waiting

__all__ = ["Manager", "PeerEdit"]

T = TypeVar("T")


class Manager(Changes):
    """Stands between the doors and one engine. `path` is the configuration file, or
    None when there is none; `config` is what was read from it, `digest` says of which
    content (see `config.reload.Source`)."""

    def __init__(
        self,
        engine: Engine,
        *,
        path: Path | None,
        config: Config,
        digest: bytes | None = None,
    ) -> None:
        super().__init__(engine)
        device = engine.device
        self._helper = Helper(engine.loop)
        self.file = OwnFile(
            engine.loop,
            self._helper,
            path,
            config,
            digest,
            self._file_changed,
            lambda: device.observe().peers,
        )
        self.trial = Trial(
            self, self.file, self._helper, lambda: self.reload_soon("file")
        )
        self.settings = Settings(device)
        self._reload = FileReload(
            self, self.file, self.trial, self.settings, self._carry_out_whole
        )

    def watch(self) -> None:
        """From now on a changed file is applied by itself."""
        self.file.follow()

    def close(self) -> None:
        """Stops watching; idempotent."""
        self.trial.forget()
        self._helper.close()
        self.file.close()

    def background(
        self, job: Callable[[], T], then: Callable[[Future[T]], None]
    ) -> None:
        """Runs `job` in another thread and `then`, which must not raise, here."""
        self._helper.run(job, then)

    # --- looking

    def plan_for(self, desired: DeviceState, *, prune: bool = True) -> Plan:
        """What applying it would do. Without `prune` peers that it does not have are
        left alone."""
        return self.engine.plan(self.target(desired, prune=prune))

    def target(self, desired: DeviceState, *, prune: bool) -> DeviceState:
        """Where a desired state leads: without `prune`, running peers stay."""
        if prune:
            return desired
        device = self.engine.device
        base = replace(desired, peers=device.observe().peers)
        own_key = device.public_key_of(desired.private_key)
        return merge(base, desired.peers, own_key=own_key)

    def state(self) -> dict[str, object]:
        """Everything but secrets, as JSON values."""
        status = self.engine.device.status()
        return state_json(
            status, self.trial.left, self.file.path, self.history, self.trial.refusal
        )

    # --- changing

    def apply(
        self,
        prepared: Prepared,
        *,
        source: str,
        prune: bool = True,
        confirm_within: float | None = None,
        expect: str = "",
    ) -> ReloadEvent:
        """Applies all of it or nothing, and records it.

        With `confirm_within` (seconds) it is taken back unless it is confirmed in time
        (see `trial`), and saved only then. `expect` is the hash of the plan that was
        agreed to. Raises TunnelError, also recorded.
        """
        started = time.perf_counter()
        before = self.file.config
        try:
            self.trial.check_none()
            plan = self.plan_for(prepared.desired, prune=prune)
            _check_hash(plan, expect)
            prepared.warn()
            undo = Undo.of(plan, self.engine.device)
            event = self._carry_out(undo, source, started, prepared)
        except Exception as error:
            prepared.discard()
            raise self.failed(error, source, started) from error
        text = prepared.text
        # of nothing there is nothing to confirm
        if confirm_within is not None and (text is not None or not plan.empty):
            waiting = Waiting(
                undo, before, text, prepared.replaces, prepared.digest, prepared.saved
            )
            self.trial.begin(waiting, confirm_within)
        return event

    def edit_peers(
        self,
        prepared: PreparedEdits,
        *,
        source: str,
        dry_run: bool = False,
        expect: str = "",
    ) -> tuple[Plan, ReloadEvent | None]:
        """Changes single peers; the others are not touched. Raises TunnelError, also
        recorded."""
        started = time.perf_counter()
        try:
            plan = prepared.plan(self.engine.device)
            _check_hash(plan, expect)
            if dry_run:
                prepared.discard()
                return plan, None
            self.trial.check_none()
            if self.file.seen not in (None, prepared.replaces):
                # the file has news, which stay to be taken over, with the edits in them
                prepared = replace(prepared, config=None)
            undo = Undo.of(plan, self.engine.device)
            return plan, self._carry_out(undo, source, started, prepared)
        except Exception as error:
            prepared.discard()
            if dry_run and isinstance(error, TunnelError):
                raise
            raise self.failed(error, source, started) from error

    def prepare_own(self) -> Prepared:
        """What the tunnel's own file says now. In any thread."""
        known = self.engine.device.observe().peers
        return prepare_file(self.file.path, self.file.config, known)

    def prepare_edits(
        self, edits: Sequence[PeerEdit], *, save: bool = False
    ) -> PreparedEdits:
        """In any thread."""
        state = self.engine.device.observe()  # immutable, replaced as a whole
        file = self.file
        return prepare_edits(edits, state, file.config, file.path, save=save)

    def _carry_out(
        self,
        undo: Undo,
        source: str,
        started: float,
        prepared: Prepared | PreparedEdits,
    ) -> ReloadEvent:
        """The change and then the file; if the file fails, the change goes back."""
        self.engine.apply(undo.plan)
        if prepared.saving is not None:
            try:
                self.file.commit(prepared.saving)
            except TunnelError as error:
                undo.take_back_unsaved(self.engine, error)
                raise
        old = [self.file.config]
        if prepared.config is not None:
            self.file.take_over(prepared.config, prepared.digest)
        event = self.succeeded(undo.plan, source, started)
        if old[0] is not self.file.config:
            self._helper.free(old)  # last: it keeps the interpreter busy
        return event

    def _carry_out_whole(
        self, prepared: Prepared, source: str, started: float
    ) -> ReloadEvent:
        undo = Undo.of(self.plan_for(prepared.desired), self.engine.device)
        return self._carry_out(undo, source, started, prepared)

    # --- the file

    def reload_soon(self, source: str, then: Reloaded | None = None) -> None:
        """Reads the file in another thread and applies it here afterwards; `then`
        gets the event or the error."""
        self._reload.soon(source, then)

    def _file_changed(self, attempt: Attempt) -> None:
        self._reload.changed(attempt)


def _check_hash(plan: Plan, expect: str) -> None:
    if expect and not (len(expect) >= 8 and plan.hash.startswith(expect)):
        raise PlanStale(
            "the plan is no longer the one that was agreed to",
            hint="look at the new one with: tunnel plan",
        )
