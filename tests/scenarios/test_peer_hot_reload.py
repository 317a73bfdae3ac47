"""The peers of config.json, changed while the tunnel runs."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from lab.process import wait_until

from tests.device.rig import LOCALHOST, Running, free_port, packet
from tunnel.config.desired import desired_state
from tunnel.config.store import parse_config
from tunnel.engine import Engine
from tunnel.state.plan import Plan
from tunnel.status import PeerStatus

from .office import SERVER, Office, assert_lossless


def key(value: bytes) -> str:
    return b64encode(value).decode()


def entry(office: Office, n: int, *more: str) -> dict[str, Any]:
    return {
        "name": f"client{n}",
        "publicKey": key(office.clients[n].public),
        "allowedIPs": [f"10.0.0.{n}/32", *more],
    }


def reload(office: Office, *peers: dict[str, Any]) -> Plan:
    """The server's config.json holds these peers from now on."""
    server = office.server
    text = {
        "mode": "server",
        "privateKey": key(server.secret.reveal()),
        "listen": server.port,
        "tunnel": {"type": "loopback", "name": "memory1", "address": "10.0.0.1/24"},
        "peers": list(peers),
    }
    wanted = desired_state(parse_config(json.dumps(text)))

    def run(engine: Engine) -> Plan:
        plan = engine.plan(wanted)
        engine.apply(plan)
        return plan

    return server.call(run)


def live(server: Running, name: str) -> PeerStatus:
    return server.call(lambda e: e.device.status().peer(name))


def test_add_peer() -> None:
    with Office(2) as office:
        office.start(3)
        with office.traffic(2) as flows:
            reload(office, entry(office, 2), entry(office, 3))
            assert office.reaches(3)
        assert_lossless(flows)
        assert office.sessions(2) == 1


def test_remove_peer() -> None:
    with Office(2, 3) as office:
        with office.traffic(2) as flows:
            reload(office, entry(office, 2))
            assert not office.reaches(3, seconds=0.5)
        assert_lossless(flows)
        status = office.server.call(lambda e: e.device.status())
        assert [peer.name for peer in status.peers] == ["client2"]


def test_update_allowed_ips() -> None:
    with Office(2) as office:
        with office.traffic(2) as flows:
            reload(office, entry(office, 2, "10.0.0.20/32"))
            assert office.reaches(2, source=20)
            reload(office, entry(office, 2))
            assert not office.reaches(2, source=20, seconds=0.5)
        assert_lossless(flows)
        assert office.sessions(2) == 1


def test_routing_updates() -> None:
    """A prefix goes from one client to the other, at one instant."""
    with Office(2, 3) as office:
        reload(office, entry(office, 2, "10.0.0.20/32"), entry(office, 3))
        for owner, other in ((2, 3), (3, 2)):
            both = {n: entry(office, n) for n in (2, 3)}
            both[owner]["allowedIPs"].append("10.0.0.20/32")
            with office.traffic(2, 3) as flows:
                reload(office, both[2], both[3])
            assert_lossless(flows)
            number = next(office.numbers)
            office.server.packets.send(packet(SERVER, 20, number))
            assert office.readers[owner].got(number, 5)
            assert not office.reaches(other, source=20, seconds=0.3)
        reload(office, entry(office, 2), entry(office, 3))
        before = drops(office)
        office.server.packets.send(packet(SERVER, 20))
        wait_until("the drop's count", lambda: drops(office) > before, timeout=10)
        assert office.reaches(2)


def drops(office: Office) -> int:
    """Packets of the server that nobody's allowed IPs hold."""
    return office.server.call(lambda e: e.device.status().counters)["drop.tx_no_route"]


def test_state_is_preserved() -> None:
    """Session, counters and the address a peer has roamed to survive every reload."""
    with Office(2) as office:
        reload(office, entry(office, 2))
        before = live(office.server, "client2")
        moved = free_port()
        office.clients[2].change(listen_port=moved)
        assert office.reaches(2)

        def answered() -> bool:
            return live(office.server, "client2").tx_bytes > before.tx_bytes

        # counted once it is sent, which may be after it has come
        wait_until("the answer's count", answered, timeout=10)
        roamed = live(office.server, "client2")
        assert roamed.endpoint == (LOCALHOST, moved, 0)
        reload(office, entry(office, 2, "10.0.0.20/32"))
        again = {**entry(office, 2), "name": "renamed", "persistentKeepalive": 25}
        reload(office, again)
        assert reload(office, again).empty
        after = live(office.server, "renamed")
        assert after.endpoint == roamed.endpoint
        assert after.last_handshake == before.last_handshake
        assert after.rx_bytes >= roamed.rx_bytes > before.rx_bytes
        assert after.tx_bytes >= roamed.tx_bytes
        assert office.reaches(2)
        assert office.sessions(2) == 1
