"""Peers that go and come back amid their handshake leave nothing behind (R76)."""

from __future__ import annotations

import pytest
from reload_lab.churn import churn

REMOVALS = 5000


@pytest.mark.timeout(120)
def test_nothing_is_left_of_peers_removed_at_random_instants(seed: int) -> None:
    outcome = churn(REMOVALS, seed)
    assert outcome.removals >= REMOVALS
    # the instants were spread over the whole handshake, and some came to its end
    assert outcome.stages.keys() == {"idle", "initiated", "responded", "established"}
    assert min(outcome.stages.values()) > REMOVALS // 100
    assert outcome.sessions > 0
    for leftovers in outcome.leftovers:
        assert not any(leftovers.values()), leftovers
