"""Limits that change while clients talk: 0 of N packets lost of those who may."""

from __future__ import annotations

from lab.process import wait_until

from tests.device.rig import LOCALHOST
from tunnel.protocol.prefixes import PrefixSet

from .office import Office, assert_lossless

HERE = PrefixSet([(LOCALHOST, 8)])
PATIENCE = 0.5  # seconds in which what is refused does not arrive


def set_limits(office: Office, **settings: object) -> None:
    pairs = {name.replace("_", "."): value for name, value in settings.items()}
    office.server.change(settings=tuple(sorted(pairs.items())))


def counted(office: Office, name: str) -> int:
    counters = office.server.call(lambda e: e.device.status().counters)
    return counters.get(name, 0)


def assert_counts(office: Office, name: str, least: int) -> None:
    """It will: what is refused is counted when it has arrived."""
    wait_until(name, lambda: counted(office, name) >= least, timeout=20)


def test_devices_are_kept_apart_and_joined_again() -> None:
    with Office(2, 3) as office:
        with office.traffic(2, 3) as flows:
            assert office.reaches(2, 3)
            for allowed in (False, True, False, True):
                set_limits(office, mode="server", allowDeviceToDevice=allowed)
                seconds = 15 if allowed else PATIENCE
                assert office.reaches(2, 3, seconds=seconds) is allowed
                assert office.reaches(3, 2, seconds=seconds) is allowed
        assert_lossless(flows)
        assert_counts(office, "drop.tx_isolated", 4)
        assert office.sessions(2) == office.sessions(3) == 1


def test_a_client_mode_tunnel_and_one_without_settings_forward() -> None:
    with Office(2, 3) as office:
        set_limits(office, mode="client", allowDeviceToDevice=False)
        assert office.reaches(2, 3)
        set_limits(office)
        assert office.reaches(3, 2)


def test_access_denied_while_sessions_are_there() -> None:
    with Office(2) as office:
        new = office.start(3)
        with office.traffic(2) as flows:
            for lists in (
                {"access_deny": HERE},
                {"access_blocklist": HERE},
                {"access_allow": PrefixSet([(bytes([192, 0, 2, 0]), 24)])},
            ):
                set_limits(office, **lists)
                before = counted(office, "handshake.access_denied")
                office.server.add(office.entry(3))
                assert not office.reaches(3, seconds=PATIENCE)
                assert_counts(office, "handshake.access_denied", before + 1)
                office.server.remove(new.public)
                new.change(peers={})
                new.add(office.to_server(3))  # so that it tries at once
            set_limits(office)
            office.server.add(office.entry(3))
            assert office.reaches(3)
        assert_lossless(flows)
        assert office.sessions(2) == 1


def test_max_connections_lowered_and_raised() -> None:
    with Office(2, 3) as office:
        new = office.start(4)
        with office.traffic(2, 3) as flows:
            set_limits(office, maxConnections=1)  # fewer than there are
            office.server.add(office.entry(4))
            assert not office.reaches(4, seconds=PATIENCE)
            assert_counts(office, "handshake.max_connections", 1)
            set_limits(office, maxConnections=3)
            new.change(peers={})
            new.add(office.to_server(4))
            assert office.reaches(4)
        assert_lossless(flows)
        assert office.sessions(2) == office.sessions(3) == 1


def test_connection_rate() -> None:
    """Three clients of one address, one handshake a minute: the second has to show a
    cookie, and has to wait with it too."""
    with Office(2) as office:
        with office.traffic(2) as flows:
            set_limits(office, connectionRate=1 / 60, connectionBurst=1)
            for n in (3, 4):
                office.start(n)
                office.server.add(office.entry(n))
            assert office.reaches(3)
            assert not office.reaches(4, seconds=PATIENCE)
            assert_counts(office, "cookie.sent", 1)
        assert_lossless(flows)
