"""Applying: all or nothing, whichever step fails."""

from __future__ import annotations

import random

import pytest

from tunnel.errors import ApplyError
from tunnel.state.apply import apply
from tunnel.state.model import DeviceState
from tunnel.state.plan import Plan, diff
from tunnel.state.targets import RecordingChange, RecordingTarget

from .random_states import random_state


def test_a_failure_at_any_step_leaves_the_target_as_it_was(seed: int) -> None:
    rng = random.Random(seed)
    failures = 0
    for _ in range(60):
        before, after = random_state(rng), random_state(rng)
        plan = diff(before, after, generation=0)
        if plan.empty:
            continue
        for step in range(len(plan.actions) + 1):  # every action and the commit
            target = RecordingTarget(before, fail_at=step)
            with pytest.raises(ApplyError, match=f"step {step}"):
                apply(plan, target)
            assert target.observe() is before
            assert target.generation == 0
            assert target.log[-1] == "abort"
            assert "commit" not in target.log
            failures += 1
    assert failures > 100


class LyingTarget(RecordingTarget):
    """Says it committed, and shows something else once."""

    lies = 1

    def observe(self) -> DeviceState:
        if self.lies and self.generation == 1:
            self.lies -= 1
            return DeviceState()
        return super().observe()


def test_a_failed_verification_goes_back_by_the_inverse_plan(seed: int) -> None:
    rng = random.Random(seed)
    before, after = random_state(rng), random_state(rng)
    while len(diff(before, after, generation=0).actions) < 3 or not after.peers:
        after = random_state(rng)
    target = LyingTarget(before)
    with pytest.raises(ApplyError, match="did not take over"):
        apply(diff(before, after, generation=0), target)
    assert target.observe() == before
    assert target.log.count("finish") == 2
    assert target.generation == 2


def test_an_interrupt_aborts_and_is_passed_on() -> None:
    class Interrupting(RecordingTarget):
        def begin(self, plan: Plan) -> RecordingChange:
            change = super().begin(plan)
            change.commit = self.interrupt  # type: ignore[method-assign]
            return change

        def interrupt(self) -> None:
            raise KeyboardInterrupt

    target = Interrupting(DeviceState())
    with pytest.raises(KeyboardInterrupt):
        apply(diff(DeviceState(), DeviceState(fwmark=1), generation=0), target)
    assert target.observe() == DeviceState()
    assert target.log[-1] == "abort"
