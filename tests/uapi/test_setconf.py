"""What we write as a wg-quick file, `wg setconf` takes over and shows again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunnel.config.wgquick import parse_wgquick, wgquick_of
from tunnel.fleet.standins import StandIns
from tunnel.state.model import DeviceState, PeerState, Secret, clamp

from .daemon import Namespace

pytestmark = pytest.mark.root


def test_wg_setconf_reads_what_is_written(
    namespace: Namespace, test_prefix: str, tmp_path: Path
) -> None:
    one = PeerState(
        b"\1" * 32,
        "one",
        Secret(b"p" * 32),
        (bytes([192, 0, 2, 1]), 51820, 0),
        ((bytes([10, 0, 0, 1]), 32), (bytes.fromhex("fd00") + bytes(14), 64)),
        25,
    )
    two = PeerState(b"\2" * 32, "two")
    wanted = DeviceState(
        private_key=Secret(clamp(b"k" * 32)),
        listen_port=51999,
        fwmark=0xCA6C,
        peers={peer.public_key: peer for peer in (one, two)},
    )
    path = tmp_path / "wg.conf"
    path.write_text(wgquick_of(wanted).text())
    interface = f"{test_prefix}s"
    namespace.daemon(interface)
    namespace("wg", "setconf", interface, str(path))
    shown = parse_wgquick(namespace("wg", "showconf", interface))
    state = shown.state(interface, StandIns().endpoint)
    assert state.private_key == wanted.private_key
    assert (state.listen_port, state.fwmark) == (51999, 0xCA6C)
    nameless = {key: (p.preshared_key, p.endpoint, p.allowed_ips, p.keepalive)
                for key, p in wanted.peers.items()}  # fmt: skip
    assert nameless == {
        key: (p.preshared_key, p.endpoint, p.allowed_ips, p.keepalive)
        for key, p in state.peers.items()
    }
