"""Comments below `[Peer]` that repeat: remarks, not names."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest

from tunnel.config.wgquick import WgQuick, parse_wgquick
from tunnel.errors import ConfigError
from tunnel.fleet.standins import StandIns
from tunnel.state.model import PeerState


def key(number: int) -> bytes:
    return bytes([number]) * 31 + b"\x40"


def peer(number: int, *comments: str) -> str:
    said = "".join(f"{comment}\n" for comment in comments)
    return f"[Peer]\n{said}PublicKey = {b64encode(key(number)).decode()}\n"


def names(document: WgQuick) -> list[str]:
    return [found.values.name for found in document.peers]


def states(document: WgQuick) -> list[PeerState]:
    return [found.state(StandIns().endpoint) for found in document.peers]


def rewritten(document: WgQuick, peers: list[PeerState]) -> WgQuick:
    """The file with these peers, read again; it says what it was told to."""
    text = document.with_peers(peers, StandIns().target).text()
    again = parse_wgquick(text)
    assert states(again) == peers, text
    return again


REPEATED = "[Interface]\n\n" + "\n".join(
    [peer(1, "# office"), peer(2, "# office"), peer(3, "# home"), peer(4, "#office")]
)


def test_only_the_first_has_it_as_its_name() -> None:
    document = parse_wgquick(REPEATED)
    assert names(document) == ["office", "", "home", ""]
    assert document.text() == REPEATED


@pytest.mark.parametrize("said", ["# friendly_name=office", "# Name = office"])
@pytest.mark.parametrize("first", [True, False])
def test_one_that_says_that_it_is_a_name_wins(said: str, first: bool) -> None:
    parts = [peer(1, said), peer(2, "# office"), peer(3, "# office")]
    document = parse_wgquick("\n".join(parts if first else reversed(parts)))
    own = ["office", "", ""]
    assert names(document) == (own if first else own[::-1])


def test_two_that_say_so_must_differ() -> None:
    text = peer(1, "# friendly_name=office") + "\n" + peer(2, "# Name = office")
    with pytest.raises(ConfigError) as caught:
        parse_wgquick(text)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("Peer[1].name", 5)


def test_a_remark_stays_when_the_peer_changes_or_gets_a_name() -> None:
    document = parse_wgquick(REPEATED)
    one, two, three, four = states(document)
    peers = [one, replace(two, keepalive=25), three, replace(four, name="attic")]
    again = rewritten(document, peers)
    assert again.text().count("office") == 3
    assert "# friendly_name=attic\n#office" in again.text()


@pytest.mark.parametrize("left", [(3, 2, 1, 0), (1, 3), (3, 2), (1, 0), (2, 0, 1)])
def test_nobody_gets_a_name_by_another_order_or_by_who_is_gone(
    left: tuple[int, ...],
) -> None:
    document = parse_wgquick(REPEATED)
    found = states(document)
    again = rewritten(document, [found[index] for index in left])
    # and a second time
    rewritten(again, sorted(states(again), key=lambda state: state.public_key))


def test_a_remark_that_comes_to_stand_below_the_header_is_no_name() -> None:
    first = "AllowedIPs = 10.0.0.2/32"
    document = parse_wgquick(f"[Interface]\n\n{peer(1, first, '# old laptop')}")
    (state,) = states(document)
    again = rewritten(document, [replace(state, allowed_ips=())])
    assert "# old laptop" in again.text()
    rewritten(again, [replace(state, name="new", allowed_ips=())])


def test_a_name_that_was_a_remark_before_belongs_to_who_is_given_it() -> None:
    document = parse_wgquick(REPEATED)
    one, two, three, four = states(document)
    renamed = replace(one, name="cellar")
    rewritten(document, [two, four, renamed, replace(three, name="office")])


def test_merging_the_same_again_changes_nothing() -> None:
    document = parse_wgquick(REPEATED)
    found = states(document)
    assert document.with_peers(found, StandIns().target).text() == REPEATED
