"""Devices that reach each other through the server, clients that outlive a restart,
allowed IPs that stay."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.device.rig import LOCALHOST, Running, free_port, host, ping
from tunnel.cli.merge import Options, run
from tunnel.config.desired import desired_state
from tunnel.config.store import load_config, parse_config
from tunnel.errors import ConfigError
from tunnel.state.model import DeviceState, PeerState

from .office import Office

STAMP = 0.05  # R11, R13: initiations closer together than 17 and 20 ms are refused


def key(value: bytes) -> str:
    return b64encode(value).decode()


def test_device_to_device() -> None:
    """The devices' allowed IPs for the server are the subnet; the server keeps one
    address for each of them and forwards."""
    with Office(2, 3) as office:
        two, three = office.clients[2], office.clients[3]
        assert office.reaches(2, 3)
        assert office.reaches(3, 2)
        assert office.forwarded >= 2
        observed = office.server.call(lambda e: e.device.observe())
        assert observed.peers[two.public].allowed_ips == (host(2),)
        assert observed.peers[three.public].allowed_ips == (host(3),)


def test_without_the_subnet_a_device_reaches_the_server_only() -> None:
    with Office(2, 3, subnet=False) as office:
        assert office.reaches(2)
        assert not office.reaches(2, 3, seconds=0.3)
        assert office.forwarded == 0


def test_the_subnet_for_every_device_on_the_server_is_refused() -> None:
    """It would belong to the last of them and to nobody else."""
    peers = [
        {
            "name": f"device{n}",
            "publicKey": key(bytes([n]) * 32),
            "allowedIPs": ["10.42.42.0/24"],
        }
        for n in (1, 2)
    ]
    text = {"mode": "server", "privateKey": key(b"\x48" * 32), "peers": peers}
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(text))
    (problem,) = caught.value.problems
    assert problem.path == "peers[1].allowedIPs[0]"
    assert "peers[0]" in problem.message


def started(n: int, state: DeviceState) -> Running:
    """A server that has just started with this configuration."""
    server = Running(n)
    assert state.private_key is not None
    server.secret = state.private_key
    server.change(
        private_key=state.private_key,
        listen_port=state.listen_port,
        peers=state.peers,
    )
    return server


def test_client_peers_persist_across_a_restart(tmp_path: Path) -> None:
    """What was merged into `peersFile` is there after the server was started again."""
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "mode": "server",
                "privateKey": {"file": "private", "create": True},
                "listen": free_port(),
                "tunnel": {"type": "loopback", "name": "memory1"},
                "peersFile": {"file": "clients.json", "create": True},
            }
        )
    )
    first = desired_state(load_config(config))
    with Running(2) as client:
        with started(1, first) as server:
            partial = [entry(client)]
            (tmp_path / "new.json").write_text(json.dumps(partial))
            run(str(tmp_path / "new.json"), str(config), None, Options())
            assert json.loads((tmp_path / "clients.json").read_text()) == partial
            server.change(peers=desired_state(load_config(config)).peers)
            client.add(to_server(server, first))
            ping(client, server)
        again = desired_state(load_config(config))
        assert again.private_key == first.private_key
        client.change(peers={})  # or it would take it 15 s to notice
        time.sleep(STAMP)
        with started(1, again) as server:
            client.add(to_server(server, again))
            ping(client, server, 2)


def entry(client: Running) -> dict[str, Any]:
    return {
        "name": "laptop",
        "publicKey": key(client.public),
        "allowedIPs": [f"10.0.0.{client.n}/32"],
    }


def to_server(server: Running, state: DeviceState) -> PeerState:
    from tunnel.config.identity import public_key

    assert state.private_key is not None
    return PeerState(
        public_key(state.private_key.reveal()),
        name="server",
        endpoint=(LOCALHOST, server.port, 0),
        allowed_ips=(host(1),),
    )


def test_allowed_ips_stay_when_a_peer_reconnects_from_an_endpoint() -> None:
    """A device that starts anew is learnt at its new address; its prefix is still its
    own, and others' handshakes change nothing about it."""
    with Office(2, 3) as office:
        two = office.clients[2]
        public = two.public
        for _ in range(2):
            two.change(peers={})  # it forgets the session, and connects again
            two.change(listen_port=free_port())
            time.sleep(STAMP)
            two.add(office.to_server(2))
            assert office.reaches(2)
            assert office.reaches(3)
            status = office.server.call(lambda e: e.device.status())
            allowed = {p.public_key: p.allowed_ips for p in status.peers}
            assert allowed[public] == (host(2),)
            assert allowed[office.clients[3].public] == (host(3),)
            live = office.server.call(lambda e: e.device.live(public))
            assert live.endpoint == (LOCALHOST, two.port, 0)
