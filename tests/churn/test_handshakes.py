"""Peers that go and come back amid their handshake leave nothing behind (R76)."""

from __future__ import annotations

from collections import Counter

import pytest
from reload_lab.churn import churn

REMOVALS = 5000
ROUNDS = 6
STAGES = ("idle", "initiated", "responded", "established")


@pytest.mark.timeout(360)
def test_nothing_is_left_of_peers_removed_at_random_instants(seed: int) -> None:
    """The instants were spread over the whole handshake, and some came to its end; on
    a busy machine, where few come so far, it takes more of them."""
    stages: Counter[str] = Counter(dict.fromkeys(STAGES, 0))
    for more in range(ROUNDS):
        outcome = churn(REMOVALS, seed + more)
        assert outcome.removals >= REMOVALS
        assert outcome.sessions > 0
        for leftovers in outcome.leftovers:
            assert not any(leftovers.values()), leftovers
        stages.update(outcome.stages)
        if min(stages.values()) > REMOVALS // 100:
            break
    assert stages.keys() == set(STAGES)
    assert min(stages.values()) > REMOVALS // 100
