"""Changes by the hundred under traffic: no packet lost or misrouted, no session new."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from lab.engines import EngineKind
from lab.streams import StreamReport, Streams
from reload_lab.api_process import api_hub
from reload_lab.star import Star, hub_engine, star
from reload_lab.storm import Watched, storm

pytestmark = pytest.mark.root

RELOADS = 400  # a second
SECONDS = 2.5
PACKETS = 200  # a second and flow


@pytest.fixture
def around(engine: Callable[[str], EngineKind]) -> Iterator[Star]:
    engine("ours")
    with star() as found:
        yield found


def check(reports: list[StreamReport]) -> None:
    total = StreamReport.merge(reports)
    assert total.sent == len(reports) * int(PACKETS * (SECONDS + 1))
    assert (total.lost, total.misrouted, total.duplicated) == (0, 0, 0)


def traffic(around: Star) -> Streams:
    return Streams(around.streams(), rate=PACKETS, seconds=SECONDS + 1)


@pytest.mark.timeout(60)
def test_reloads_through_one_control_connection(
    engine: Callable[[str], EngineKind], around: Star
) -> None:
    with hub_engine(around, engine("ours")) as hub:
        before = Watched.of(hub, around)
        flows = traffic(around)
        done = storm(hub, around, rate=RELOADS, seconds=SECONDS)
        check(flows.finish())
        after = Watched.of(hub, around)
    assert done.changes == RELOADS * SECONDS
    assert after.handshakes == before.handshakes
    for old, new in zip(before.bytes_seen, after.bytes_seen, strict=True):
        assert new[0] > old[0]
        assert new[1] > old[1]


@pytest.mark.timeout(60)
def test_reloads_through_the_python_api(around: Star) -> None:
    with api_hub(around, RELOADS, SECONDS) as hub:
        handshakes = around.peer_handshakes()
        flows = traffic(around)
        time.sleep(0.1)
        done = hub.storm()
        check(flows.finish())
        assert around.peer_handshakes() == handshakes
    assert done["changes"] == RELOADS * SECONDS
    assert done["backwards"] == 0
    assert done["retired_max"] <= 64
