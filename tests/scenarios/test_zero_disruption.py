"""Changing the clients of a server under traffic: lost 0 of N at all who stay.

Whoever is added connects, whoever is removed is gone, and whoever is changed keeps
its session: new allowed IPs, a keepalive or a preshared key need no new handshake.
"""

from __future__ import annotations

import os

from tests.device.rig import host
from tunnel.state.model import Secret
from tunnel.state.plan import ActionKind, SessionEffect

from .office import Office, assert_lossless


def test_add_new_client() -> None:
    with Office(2, 3) as office:
        new = office.start(4)
        with office.traffic(2, 3) as flows:
            plan = office.server.add(office.entry(4))
            assert office.reaches(4)
        assert [a.kind for a in plan.actions] == [ActionKind.ADD]
        assert_lossless(flows)
        assert new.handshakes() == 1
        assert office.sessions(2) == office.sessions(3) == 1


def test_update_existing_client() -> None:
    """It does not reconnect, and its own packets are not lost either."""
    with Office(2, 3) as office:
        with office.traffic(2, 3) as flows:
            for extra in range(20, 30):
                wider = office.entry(2, allowed_ips=(host(2), host(extra)))
                plan = office.server.add(wider)
                assert [a.session for a in plan.actions] == [SessionEffect.KEPT]
            office.server.add(
                office.entry(
                    2,
                    allowed_ips=(host(2), host(29)),
                    preshared_key=Secret(os.urandom(32)),
                    keepalive=25,
                )
            )
        assert_lossless(flows)
        assert office.reaches(2, source=29)
        assert not office.reaches(2, source=28, seconds=0.5)
        assert office.sessions(2) == office.sessions(3) == 1


def test_remove_client() -> None:
    with Office(2, 3) as office:
        with office.traffic(2) as flows:
            office.server.remove(office.clients[3].public)
            assert not office.reaches(3, seconds=0.5)
        assert_lossless(flows)
        assert office.sessions(2) == 1


def test_disable_client_and_enable_it_again() -> None:
    with Office(2, 3) as office:
        with office.traffic(2) as flows:
            plan = office.server.add(office.entry(3, enabled=False))
            assert [a.session for a in plan.actions] == [SessionEffect.ENDS]
            assert not office.reaches(3, seconds=0.5)
        assert_lossless(flows)
        assert office.sessions(2) == 1


def test_multiple_changes() -> None:
    """One added, one changed and one removed at the same instant."""
    with Office(2, 3, 4, 5) as office:
        office.start(6)
        with office.traffic(2, 3, 5) as flows:
            peers = dict(office.server.state.peers)
            del peers[office.clients[4].public]
            changed = office.entry(3, allowed_ips=(host(3), host(30)), keepalive=9)
            for peer in (changed, office.entry(6)):
                peers[peer.public_key] = peer
            generation = office.server.call(lambda e: e.device.generation)
            plan = office.server.change(peers=peers)
            now = office.server.call(lambda e: e.device.generation)
            assert office.reaches(6)
            assert not office.reaches(4, seconds=0.5)
        assert now == generation + 1
        kinds = sorted(a.kind.value for a in plan.actions)
        assert kinds == ["add", "remove", "update"]
        assert_lossless(flows)
        assert [office.sessions(n) for n in (2, 3, 5, 6)] == [1, 1, 1, 1]


def test_the_same_again_is_no_change() -> None:
    with Office(2) as office:
        with office.traffic(2) as flows:
            for _ in range(10):
                assert office.server.change().empty
        assert_lossless(flows)
        assert office.sessions(2) == 1
