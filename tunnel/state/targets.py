"""A target that is only data: dry runs, tests, and the rule of what an action means.

`apply_action` is the meaning of every action on a state; the running device uses it
to keep its own record, so that a dry run and the real thing cannot disagree.
"""

from __future__ import annotations

from dataclasses import replace

from tunnel.state.model import DeviceState, PeerState
from tunnel.state.plan import Action, ActionKind, Plan

__all__ = ["RecordingTarget", "StateEditor"]


class StateEditor:
    """Turns one state into the next, action by action; the old one is untouched."""

    __slots__ = ("_peers", "_state")

    def __init__(self, state: DeviceState) -> None:
        self._state = state
        self._peers: dict[bytes, PeerState] = dict(state.peers)

    def apply(self, action: Action) -> None:
        if action.key is not None:
            if action.after is None:
                self._peers.pop(action.key, None)
            else:
                self._peers[action.key] = action.after
            return
        values = {change.field: change.after for change in action.fields}
        if action.kind in (ActionKind.NETWORK, ActionKind.RESTART):
            interface = replace(self._state.interface, **values)  # type: ignore[arg-type]
            self._state = replace(self._state, interface=interface)
        elif action.kind is ActionKind.SETTINGS:
            self._apply_settings(values)
        else:
            self._state = replace(self._state, **values)  # type: ignore[arg-type]

    def _apply_settings(self, values: dict[str, object]) -> None:
        level = values.pop("log_level", self._state.log_level)
        settings = dict(self._state.settings) | values
        self._state = replace(
            self._state,
            log_level=str(level),
            settings=tuple(
                sorted((n, v) for n, v in settings.items() if v is not None)
            ),
        )

    def result(self) -> DeviceState:
        return self._state.with_peers(self._peers)


class RecordingTarget:
    """Holds a state and a log of what was done to it; nothing else happens.

    `fail_at` makes one step raise: the number of a step (counted from 0 over staged
    actions and the commit), for tests of what is left behind.
    """

    def __init__(self, state: DeviceState, *, fail_at: int | None = None) -> None:
        self.state = state
        self.log: list[str] = []
        self.fail_at = fail_at
        self._generation = 0

    @property
    def generation(self) -> int:
        return self._generation

    def observe(self) -> DeviceState:
        return self.state

    def begin(self, plan: Plan) -> RecordingChange:
        self.log.append(f"begin {len(plan.actions)}")
        return RecordingChange(self)

    def commit(self, state: DeviceState) -> None:
        """For the change: the one instant at which the state is another one."""
        self.state = state
        self._generation += 1


class RecordingChange:
    """A change of a `RecordingTarget`; see `apply.StagedChange`."""

    def __init__(self, target: RecordingTarget) -> None:
        self._target = target
        self._editor = StateEditor(target.state)
        self._steps = 0

    def _step(self, text: str) -> None:
        number, self._steps = self._steps, self._steps + 1
        if number == self._target.fail_at:
            raise OSError(f"step {number} was told to fail")
        self._target.log.append(text)

    def stage(self, action: Action) -> None:
        self._step(f"stage {action.kind.value} {action.name}".rstrip())
        self._editor.apply(action)

    def commit(self) -> None:
        self._step("commit")
        self._target.commit(self._editor.result())

    def finish(self) -> None:
        self._target.log.append("finish")

    def abort(self) -> None:
        self._target.log.append("abort")
