"""What a running `tunnel up` can be told: every door asks here.

A door hands over a configuration or an edit; it becomes a desired state, a plan, one
change of the engine and one event of the history. All methods run in the control
thread. What takes long is in `prepare.py` and runs elsewhere, with `background`; the
methods that do it here all the same say so.
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
from tunnel.config.save import save
from tunnel.config.schema import Config
from tunnel.confirmation import Unconfirmed, Waiting, without_plan
from tunnel.engine import Engine
from tunnel.errors import PlanStale, TunnelError
from tunnel.follow import Follower
from tunnel.helper import Helper
from tunnel.peer_edits import PeerEdit, desired_after
from tunnel.prepare import (
    Prepared,
    PreparedEdits,
    log_unsettled,
    own_path,
    prepare_config,
    prepare_edits,
    prepare_file,
    unsaved,
)
from tunnel.reloads import ReloadEvent
from tunnel.report import device_json, peers_json
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
        self.path = path.absolute() if path is not None else None
        self.config = config
        self._helper = Helper(engine.loop)
        self._follower: Follower | None = None
        if self.path is not None:
            changed, peers = self._file_changed, lambda: engine.device.observe().peers
            self._follower = Follower(
                engine.loop, self._helper, self.path, config, digest, changed, peers
            )
        self._unconfirmed = Unconfirmed(engine.loop, self._not_confirmed)
        self._listeners: dict[str, list[Callable[[object], None]]] = {}
        engine.device.on_settings = self._on_settings

    def watch(self) -> None:
        """From now on a changed file is applied by itself."""
        if self._follower is not None:
            self._follower.start()

    def close(self) -> None:
        """Stops watching; idempotent."""
        self._unconfirmed.forget()
        self._helper.close()
        if self._follower is not None:
            self._follower.close()

    def background(
        self, job: Callable[[], T], then: Callable[[Future[T]], None]
    ) -> None:
        """Runs `job` in another thread and `then`, which must not raise, here."""
        self._helper.run(job, then)

    # --- looking

    def plan(self, config: Config | None = None, *, prune: bool = True) -> Plan:
        """What applying `config` (None: the file, read anew) would do. Without `prune`
        peers that it does not have are left alone. Reads and resolves here."""
        return self.plan_for(self._prepared(config).desired, prune=prune)

    def plan_for(self, desired: DeviceState, *, prune: bool = True) -> Plan:
        """The same for a desired state that is there already."""
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
        status, left = self.engine.device.status(), self.pending_confirmation
        return {
            "device": {
                **device_json(status),
                "config_file": str(self.path) if self.path else None,
                "pending_confirmation": None if left is None else round(left, 3),
            },
            "peers": peers_json(status),
            "counters": dict(status.counters),
            "reloads": [event.json() for event in self.history],
        }

    def setting(self, name: str) -> object:
        """A named setting as it is in force (`config.desired.SETTINGS`, `log_level`);
        None for one that is not set."""
        state = self.engine.device.observe()
        if name == "log_level":
            return state.log_level
        return dict(state.settings).get(name)

    def on_setting(self, name: str, callback: Callable[[object], None]) -> None:
        """Calls back, after each change of the setting, with its new value."""
        self._listeners.setdefault(name, []).append(callback)

    def _on_settings(self, values: dict[str, object]) -> None:
        for name, value in values.items():
            for callback in self._listeners.get(name, ()):
                try:
                    callback(value)
                except Exception:
                    log.exception("taking over %s failed", name)

    # --- changing

    def apply(
        self,
        change: Config | Plan | Prepared | None,
        *,
        source: str,
        prune: bool = True,
        confirm_within: float | None = None,
        save: bool = False,
        expect: str = "",
    ) -> ReloadEvent:
        """Applies all of it or nothing, and records it.

        None is the tunnel's own file, read here. With `confirm_within` (seconds) it is
        taken back unless `confirm` is called in time, and saved only then. `expect` is
        the hash of the plan that was agreed to. Raises TunnelError, also recorded.
        """
        started = time.perf_counter()
        prepared = None
        try:
            self._unconfirmed.check_none()
            if isinstance(change, Plan):
                plan = change
            else:
                later = confirm_within is not None
                prepared = self._prepared(change, save=save, later=later)
                plan = self.plan_for(prepared.desired, prune=prune)
            _check_hash(plan, expect)
            before = self.config
            event = self._carry_out(plan, source, started, prepared)
        except Exception as error:
            if prepared is not None:
                prepared.discard()
            raise self._failed(error, source, started) from error
        if confirm_within is not None:
            text = prepared.text if prepared is not None else None
            if text is not None or not plan.empty:  # else there is nothing to confirm
                self._unconfirmed.put(Waiting(plan, before, text), confirm_within)
        return event

    def _prepared(
        self,
        change: Config | Prepared | None,
        *,
        save: bool = False,
        later: bool = False,
    ) -> Prepared:
        """What is not prepared yet, prepared here."""
        if isinstance(change, Prepared):
            return change
        if change is None:
            return prepare_file(self.path, self.config)
        path = own_path(self.path) if save else None
        return prepare_config(change, path, later=later)

    def edit_peers(
        self,
        edits: Sequence[PeerEdit] | PreparedEdits,
        *,
        source: str,
        save: bool = False,
        dry_run: bool = False,
        expect: str = "",
    ) -> tuple[Plan, ReloadEvent | None]:
        """Changes single peers; the others are not touched. Raises TunnelError, also
        recorded. Edits that are not prepared are prepared here."""
        started = time.perf_counter()
        prepared = None
        try:
            if isinstance(edits, PreparedEdits):
                prepared = edits
            else:
                prepared = self.prepare_edits(edits, save=save and not dry_run, wait=0)
            plan = self._plan_edits(prepared)
            _check_hash(plan, expect)
            if dry_run:
                prepared.discard()
                return plan, None
            self._unconfirmed.check_none()
            return plan, self._carry_out(plan, source, started, prepared)
        except Exception as error:
            if prepared is not None:
                prepared.discard()
            if dry_run and isinstance(error, TunnelError):
                raise
            raise self._failed(error, source, started) from error

    def prepare_edits(
        self, edits: Sequence[PeerEdit], *, save: bool = False, wait: float = 5
    ) -> PreparedEdits:
        """In any thread; `wait` for so many seconds while another change is saved."""
        state = self.engine.device.observe()  # immutable, replaced as a whole
        seen = self._follower.seen if self._follower is not None else None
        return prepare_edits(
            edits, state, self.config, self.path, save=save, wait=wait, seen=seen
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
        plan: Plan,
        source: str,
        started: float,
        prepared: Prepared | PreparedEdits | None,
    ) -> ReloadEvent:
        """The change and then the file; if the file fails, the change goes back."""
        self.engine.apply(plan)
        if prepared is not None and prepared.saving is not None:
            try:
                prepared.saving.commit()
            except OSError as error:
                self._take_back(plan)
                raise unsaved(own_path(self.path), error) from error
            self._helper.run(prepared.saving.settle, log_unsettled)
        old = [self.config]
        if prepared is not None and prepared.config is not None:
            self.config = prepared.config
            if prepared.digest is not None and self._follower is not None:
                self._follower.adopt(prepared.config, prepared.digest)
        event = self._succeeded(plan, source, started)
        if old[0] is not self.config:
            self._helper.free(old)  # last: it keeps the interpreter busy
        return event

    # --- the file

    def reload(self, source: str) -> ReloadEvent:
        """Reads the file and applies it, all of it here; see `reload_soon`."""
        return self.apply(None, source=source)

    def reload_soon(
        self,
        source: str,
        then: Callable[[ReloadEvent | TunnelError], None] | None = None,
    ) -> None:
        """Reads the file in another thread and applies it here afterwards; `then`
        gets the event or the error."""

        def was_read(read: Future[Attempt]) -> None:
            result: ReloadEvent | TunnelError
            try:
                result = self._take_over(read.result(), source)
            except TunnelError as error:
                result = error
            except Exception as error:  # noqa: BLE001 - recorded, the tunnel goes on
                result = self._failed(error, source, time.perf_counter())
            if then is not None:
                then(result)

        if self._follower is not None:
            self._follower.read(was_read)
        elif then is not None:
            then(TunnelError("this tunnel has no configuration file"))
        else:
            log.warning("%s: this tunnel has no configuration file to read", source)

    def _file_changed(self, attempt: Attempt) -> None:
        try:
            self._take_over(attempt, "file")
        except TunnelError:
            return  # recorded; what runs is kept until the file changes again

    def _take_over(self, attempt: Attempt, source: str) -> ReloadEvent:
        """Applies what was read; raises TunnelError, also recorded."""
        started = time.perf_counter()
        try:
            if attempt.error is not None:
                raise attempt.error
            assert attempt.desired is not None
            plan = self.plan_for(attempt.desired)
            prepared = Prepared(attempt.desired, attempt.config, digest=attempt.digest)
            return self._carry_out(plan, source, started, prepared)
        except Exception as error:
            raise self._failed(error, source, started) from error

    # --- confirmation

    @property
    def pending_confirmation(self) -> float | None:
        """Seconds until the last change is taken back; None when nothing waits."""
        return self._unconfirmed.left()

    def confirm(self) -> None:
        """Keeps the change that waits, and saves it (here) if that was asked for.
        Raises TunnelError; then it still waits."""
        text = self._unconfirmed.get().text
        if text is not None:
            path = own_path(self.path)
            try:
                save(path, text)
            except OSError as error:
                raise unsaved(path, error) from error
        self._unconfirmed.take()
        log.info("the change was confirmed")

    def rollback(self, source: str = "rollback") -> ReloadEvent:
        """Takes the change that waits back: what it changed and nothing else."""
        started = time.perf_counter()
        waiting = self._unconfirmed.take()
        try:
            plan = self._take_back(waiting.plan)
        except Exception as error:
            raise self._failed(error, source, started) from error
        self.config = waiting.config
        return self._succeeded(plan, source, started)

    def _not_confirmed(self) -> None:
        log.warning("the change was not confirmed in time and is taken back")
        try:
            self.rollback("unconfirmed")
        except TunnelError as error:
            log.error("it could not be taken back: %s", error)

    def _take_back(self, plan: Plan) -> Plan:
        """Applies the inverse of a plan to what runs now; returns what that was."""
        device = self.engine.device
        target = without_plan(device.observe(), plan)
        back = diff(device.observe(), target, generation=device.generation)
        self.engine.apply(back)
        return back

    # --- the record

    def uapi_applied(self, plan: Plan, error: Exception | None) -> None:
        """For the UAPI: a `set` has been applied, or refused with `error`."""
        if error is not None:
            self._failed(error, "uapi", time.perf_counter())
        elif not plan.empty:
            self._succeeded(plan, "uapi", time.perf_counter())


def _check_hash(plan: Plan, expect: str) -> None:
    if expect and not (len(expect) >= 8 and plan.hash.startswith(expect)):
        raise PlanStale(
            "the plan is no longer the one that was agreed to",
            hint="look at the new one with: tunnel plan",
        )
