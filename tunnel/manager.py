"""What a running `tunnel up` can be told: every door asks here.

A door hands over what `prepare.py` made ready, in another thread (`background`), of a
configuration or of edits; it becomes a plan, one change of the engine and one event of
the history. All methods run in the control thread but for `prepare_own` and
`prepare_edits`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tunnel.changes import Changes
from tunnel.config.reload import Attempt
from tunnel.config.schema import Config
from tunnel.confirmation import Trial, Waiting
from tunnel.engine import Engine
from tunnel.errors import ConfigProblem, PlanStale, TunnelError
from tunnel.helper import Helper
from tunnel.own_file import OwnFile
from tunnel.peer_edits import PeerEdit, desired_after
from tunnel.prepare import Prepared, PreparedEdits, prepare_edits, prepare_file
from tunnel.reloads import ReloadEvent
from tunnel.report import state_json
from tunnel.rollback import Undo
from tunnel.settings import Settings
from tunnel.state.merge import merge
from tunnel.state.model import DeviceState
from tunnel.state.plan import Plan, diff

__all__ = ["Manager", "PeerEdit"]

log = logging.getLogger("tunnel.manager")

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
            _warn_of(prepared.kept)
            undo = Undo.of(plan, self.engine.device)
            event = self._carry_out(undo, source, started, prepared)
        except Exception as error:
            prepared.discard()
            raise self.failed(error, source, started) from error
        text = prepared.text
        # of nothing there is nothing to confirm
        if confirm_within is not None and (text is not None or not plan.empty):
            waiting = Waiting(undo, before, text, prepared.replaces, prepared.digest)
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
            plan = self._plan_edits(prepared)
            _check_hash(plan, expect)
            if dry_run:
                prepared.discard()
                return plan, None
            self.trial.check_none()
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
        return prepare_edits(
            edits, state, file.config, file.path, save=save, seen=file.seen
        )

    def _plan_edits(self, prepared: PreparedEdits) -> Plan:
        device = self.engine.device
        return diff(
            device.observe(),
            desired_after(device.observe(), prepared.edits),
            generation=device.generation,
            only=tuple(dict.fromkeys(edit.key for edit in prepared.edits)),
        )

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

    # --- the file

    def reload_soon(
        self,
        source: str,
        then: Callable[[ReloadEvent | TunnelError], None] | None = None,
    ) -> None:
        """Reads the file in another thread and applies it here afterwards; `then`
        gets the event or the error."""
        self.settings.reloading()
        rollbacks = self.trial.rollbacks

        def was_read(read: Future[Attempt]) -> None:
            result: ReloadEvent | TunnelError
            try:
                result = self._take_over(read.result(), source, rollbacks)
            except TunnelError as error:
                result = error
            except Exception as error:  # noqa: BLE001 - recorded, the tunnel goes on
                result = self.failed(error, source, time.perf_counter())
            if then is not None:
                then(result)

        try:
            self.file.read(was_read)
        except TunnelError as error:
            if then is not None:
                then(error)
            else:
                log.warning("%s: %s", source, error)

    def _file_changed(self, attempt: Attempt) -> None:
        try:
            self._take_over(attempt, "file", self.trial.rollbacks)
        except TunnelError:
            return  # recorded; what runs is kept until there is something new

    def _take_over(self, attempt: Attempt, source: str, rollbacks: int) -> ReloadEvent:
        """Applies what was read; raises TunnelError, also recorded. `rollbacks` is how
        many there had been when it was asked for."""
        started = time.perf_counter()
        try:
            self.trial.check_wanted(attempt.digest, rollbacks)
            if attempt.error is not None:
                raise attempt.error
            assert attempt.desired is not None
            _warn_of(attempt.kept)
            plan = self.plan_for(attempt.desired)
            prepared = Prepared(attempt.desired, attempt.config, digest=attempt.digest)
            undo = Undo.of(plan, self.engine.device)
            return self._carry_out(undo, source, started, prepared)
        except Exception as error:
            raise self.failed(error, source, started) from error

    # --- the record

    def uapi_applied(self, plan: Plan, error: Exception | None) -> None:
        """For the UAPI: a `set` has been applied, or refused with `error`."""
        if error is not None:
            self.failed(error, "uapi", time.perf_counter())
        elif not plan.empty:
            self.succeeded(plan, "uapi", time.perf_counter())


def _warn_of(kept: Sequence[ConfigProblem]) -> None:
    """One line, however many they are."""
    if kept:
        more = f" (and {len(kept) - 1} more)" if len(kept) > 1 else ""
        first = f"{kept[0].path}: {kept[0].message}{more}"
        log.warning("%s; the present endpoint is kept", first)


def _check_hash(plan: Plan, expect: str) -> None:
    if expect and not (len(expect) >= 8 and plan.hash.startswith(expect)):
        raise PlanStale(
            "the plan is no longer the one that was agreed to",
            hint="look at the new one with: tunnel plan",
        )
