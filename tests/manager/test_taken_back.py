"""What is taken back is what the change did, and nothing that happened after it."""

from __future__ import annotations

import os
from base64 import b64decode
from pathlib import Path

import pytest

from tunnel.config.save import Saving
from tunnel.errors import TunnelError
from tunnel.peer_edits import PeerEdit
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import Endpoint, PeerState, clamp

from .rig import End, Json, free_ports, make_pair, text_key
from .test_changes import written
from .test_file import guest

HERE = b"\x7f\0\0\1"
LEARNED, NEWER = (HERE, 4711, 0), (HERE, 4712, 0)
PUT = {"endpoint": "127.0.0.1:9"}


def far_key(one: End) -> bytes:
    return b64decode(one.facts["peers"][0]["publicKey"])


def far_with(one: End, **fields: object) -> Json:
    return one.facts | {"peers": [one.facts["peers"][0] | fields]}


def begin(one: End, facts: Json) -> None:
    """Applies it on trial."""
    one.control("apply", file=written(one, "next.json", facts), confirm=60)


def live(one: End) -> Endpoint | None:
    """Where packets to the peer go."""
    return one.call(lambda s: s.engine.device.live_endpoint(far_key(one)))


def heard(one: End, endpoint: Endpoint) -> None:
    """The peer sent something from there."""
    one.call(
        lambda s: s.engine.device.node.peers[far_key(one)].path.set_endpoint(endpoint)
    )


def peers(one: End) -> dict[str, PeerState]:
    found = one.call(lambda s: s.engine.device.observe().peers)
    return {peer.name: peer for peer in found.values()}


def wg_set(one: End, key: bytes, *lines: str) -> None:
    """As `wg set` does it, which nobody holds up during a trial."""
    text = "\n".join(["set=1", f"public_key={key.hex()}", *lines])
    one.uapi(f"{text}\n\n")


# --- where the peers are


def test_a_learned_endpoint_is_back(one: End) -> None:
    heard(one, LEARNED)
    begin(one, far_with(one, **PUT))
    assert live(one) == (HERE, 9, 0)
    one.control("rollback")
    assert live(one) == LEARNED
    assert peers(one)["far"].endpoint not in (None, LEARNED)


def test_and_so_is_that_of_a_peer_that_was_removed(one: End) -> None:
    heard(one, LEARNED)
    begin(one, one.facts | {"peers": []})
    one.control("rollback")
    assert live(one) == LEARNED


def test_a_peer_that_was_heard_from_elsewhere_since_is_there(one: End) -> None:
    heard(one, LEARNED)
    begin(one, far_with(one, **PUT))
    heard(one, NEWER)
    one.control("rollback")
    assert live(one) == NEWER


def test_what_no_plan_moved_is_where_it_was_heard_last(one: End) -> None:
    """Even if that is where the file says that it is."""
    configured = peers(one)["far"].endpoint
    assert configured is not None
    heard(one, LEARNED)
    begin(one, far_with(one, persistentKeepalive=7, name="other"))
    heard(one, configured)
    one.control("rollback")
    assert peers(one)["far"].keepalive == 0
    assert live(one) == configured


def test_a_peer_that_was_never_heard_from_is_nowhere_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path / "run"))
    one, _ = make_pair(tmp_path)
    del one.facts["peers"][0]["endpoint"]
    one.write(one.facts)
    with one:
        begin(one, far_with(one, **PUT))
        one.control("rollback")
        assert live(one) is None


@pytest.mark.parametrize(
    "edit", [PeerEdit("set", "far", PUT), PeerEdit("remove", "far")]
)
def test_a_change_that_could_not_be_saved_moves_nobody(
    one: End, monkeypatch: pytest.MonkeyPatch, edit: PeerEdit
) -> None:
    heard(one, LEARNED)
    before = peers(one)
    monkeypatch.setattr(Saving, "commit", no_space)
    with pytest.raises(TunnelError, match="No space"):
        one.call(
            lambda s: s.manager.edit_peers(
                s.manager.prepare_edits([edit], save=True), source="test"
            )
        )
    assert peers(one) == before
    assert live(one) == LEARNED


def no_space(_: Saving) -> None:
    raise OSError(28, "No space left on device")


# --- what happened meanwhile


def test_other_fields_of_the_same_peer_stay(one: End) -> None:
    before = peers(one)["far"]
    begin(one, far_with(one, persistentKeepalive=7, allowedIPs=["10.8.0.0/24"]))
    psk = os.urandom(32)
    wg_set(one, far_key(one), f"preshared_key={psk.hex()}", "allowed_ip=10.9.0.0/24")
    one.control("rollback")
    after = peers(one)["far"]
    assert after.keepalive == before.keepalive == 0
    assert set(after.allowed_ips) == {*before.allowed_ips, (b"\x0a\x09\0\0", 24)}
    assert after.preshared_key is not None
    assert after.preshared_key.reveal() == psk


def test_a_field_that_was_set_again_stays(one: End) -> None:
    begin(one, far_with(one, persistentKeepalive=7))
    wg_set(one, far_key(one), "persistent_keepalive_interval=9")
    one.control("rollback")
    assert peers(one)["far"].keepalive == 9


def test_a_peer_that_was_removed_stays_away(one: End) -> None:
    begin(one, far_with(one, persistentKeepalive=7))
    wg_set(one, far_key(one), "remove=true")
    one.control("rollback")
    assert peers(one) == {}


def test_a_removed_peer_that_came_back_stays_as_it_is(one: End) -> None:
    begin(one, one.facts | {"peers": []})
    wg_set(one, far_key(one), "allowed_ip=10.9.0.0/24")
    now = list(peers(one).values())
    one.control("rollback")
    assert list(peers(one).values()) == now


def test_what_was_added_goes_though_it_was_changed(one: End) -> None:
    new = guest()
    begin(one, one.with_peers(new))
    key = b64decode(str(new["publicKey"]))
    wg_set(one, key, "persistent_keepalive_interval=9")
    one.control("rollback")
    assert list(peers(one)) == ["far"]


def test_a_port_that_was_set_meanwhile_stays(one: End) -> None:
    ports = free_ports(2)
    begin(one, one.facts | {"listen": ports[0], "fwmark": 0, "peers": []})
    one.uapi(f"set=1\nlisten_port={ports[1]}\n\n")
    one.control("rollback")
    assert one.call(lambda s: s.engine.device.listen_port) == ports[1]
    assert list(peers(one)) == ["far"]


def test_a_prefix_returns_from_a_peer_that_the_change_touched_too(one: End) -> None:
    """It would have two owners if each peer were looked at alone."""
    other = guest("other", allowedIPs=["10.8.0.0/24"])
    one.control(
        "apply", file=written(one, "two.json", one.with_peers(other)), prune=False
    )
    before = {name: peer.allowed_ips for name, peer in peers(one).items()}
    changed = [
        one.facts["peers"][0] | {"allowedIPs": []},
        other | {"persistentKeepalive": 7},
    ]
    begin(one, one.facts | {"peers": changed})
    wg_set(one, b64decode(str(other["publicKey"])), "allowed_ip=10.0.0.2/32")
    one.control("rollback")
    assert {name: peer.allowed_ips for name, peer in peers(one).items()} == before


# --- our own key


def test_a_peer_with_the_key_that_is_ours_again_goes(one: End) -> None:
    ours = PrivateKey(b64decode(one.facts["privateKey"])).public
    begin(one, one.facts | {"privateKey": text_key(clamp(os.urandom(32)))})
    wg_set(one, ours, "allowed_ip=10.0.0.77/32")
    one.control("rollback")
    assert list(peers(one)) == ["far"]
    assert one.call(lambda s: s.engine.device.node.public_key) == ours
    one.control("reload")


def test_a_peer_whose_key_is_ours_now_does_not_come_back(
    pair: tuple[End, End],
) -> None:
    one, two = pair
    begin(one, one.facts | {"peers": []})
    raw = b64decode(two.facts["privateKey"])
    one.uapi(f"set=1\nprivate_key={raw.hex()}\n\n")
    one.control("rollback")
    assert peers(one) == {}


def test_our_own_key_cannot_be_added_as_a_peer(one: End) -> None:
    """Not even one that the file does not know of."""
    key = clamp(os.urandom(32))
    one.uapi(f"set=1\nprivate_key={key.hex()}\n\n")
    edit = PeerEdit("add", "me", {"publicKey": text_key(PrivateKey(key).public)})
    with pytest.raises(TunnelError, match="key of this tunnel itself"):
        one.call(
            lambda s: s.manager.edit_peers(
                s.manager.prepare_edits([edit]), source="test"
            )
        )
    assert list(peers(one)) == ["far"]
