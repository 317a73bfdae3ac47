"""UAPI get and set against a device that is only data (R67-R73)."""

from __future__ import annotations

import errno
import random

import pytest

from tunnel.api.uapi import UapiSession
from tunnel.api.uapi_parse import MAX_LINE
from tunnel.errors import DeviceError, NotPermitted
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import DeviceState, PeerState, Secret, clamp
from tunnel.status import Live

from .fake import FakeDevice, getting, setting, talk

A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))
PRIVATE = clamp(bytes(range(32)))
NET = (bytes([10, 0, 0, 0]), 24)
V6 = (bytes([0xFD]) + bytes(15), 64)


def device(*peers: PeerState) -> FakeDevice:
    return FakeDevice(DeviceState(peers={p.public_key: p for p in peers}))


# --- get


def test_get_has_everything_that_is_configured_and_live() -> None:
    peer = PeerState(A, "n", Secret(B), (b"\x7f\0\0\1", 1, 0), (NET, V6), 25)
    d = FakeDevice(DeviceState(Secret(PRIVATE), 51820, 7, peers={A: peer}))
    d.lives[A] = Live((V6[0][:15] + b"\1", 9, 3), 1_600_000_000_000_000_005, 11, 22)
    assert getting(d) == [
        f"private_key={PRIVATE.hex()}",
        "listen_port=51820",
        "fwmark=7",
        f"public_key={A.hex()}",
        f"preshared_key={B.hex()}",
        "protocol_version=1",
        "endpoint=[fd00::1%3]:9",
        "last_handshake_time_sec=1600000000",
        "last_handshake_time_nsec=5",
        "tx_bytes=22",
        "rx_bytes=11",
        "persistent_keepalive_interval=25",
        "allowed_ip=10.0.0.0/24",
        "allowed_ip=fd00::/64",
    ]


def test_get_leaves_out_disabled_peers_and_keeps_the_order() -> None:
    d = device(PeerState(C), PeerState(A, enabled=False), PeerState(B))
    keys = [line for line in getting(d) if line.startswith("public_key")]
    assert keys == [f"public_key={C.hex()}", f"public_key={B.hex()}"]


# --- set


def test_set_of_everything() -> None:
    d = FakeDevice()
    assert not setting(
        d, f"private_key={'ff' * 32}", "listen_port=5", "fwmark=4294967295",
        "replace_peers=true", f"public_key={A.hex()}", f"preshared_key={B.hex()}",
        "endpoint=[2001:db8::1]:51820", "persistent_keepalive_interval=65535",
        "replace_allowed_ips=true", "allowed_ip=10.0.0.77/24", "allowed_ip=fd00::/64",
        "protocol_version=1", f"public_key={B.hex()}", "endpoint=1.2.3.4:7",
    )  # fmt: skip
    assert d.state.private_key == Secret(clamp(b"\xff" * 32))  # R68
    assert (d.state.listen_port, d.state.fwmark) == (5, 2**32 - 1)
    v6 = bytes.fromhex("20010db8" + "00" * 11 + "01")
    assert d.state.peers == {
        A: PeerState(A, "", Secret(B), (v6, 51820, 0), (NET, V6), 65535),
        B: PeerState(B, endpoint=(bytes([1, 2, 3, 4]), 7, 0)),
    }
    assert len(d.plans) == 1


def test_what_is_set_again_is_an_empty_plan() -> None:
    d = FakeDevice()
    lines = [
        f"private_key={PRIVATE.hex()}",
        "listen_port=9",
        f"public_key={A.hex()}",
        "endpoint=1.2.3.4:5",
        "replace_allowed_ips=true",
        "allowed_ip=10.0.0.0/24",
    ]
    assert setting(d, *lines) == 0
    assert setting(d, "replace_peers=true", *lines) == 0
    assert setting(d, *lines[:2], "replace_peers=true", *lines[2:]) == 0
    assert [plan.empty for plan in d.plans] == [False, True, True]


def test_zero_keys_unset() -> None:
    d = FakeDevice(
        DeviceState(Secret(PRIVATE), peers={A: PeerState(A, preshared_key=Secret(B))})
    )
    zero = "0" * 64
    lines = [f"private_key={zero}", f"public_key={A.hex()}", f"preshared_key={zero}"]
    assert setting(d, *lines) == 0
    assert d.state.private_key is None
    assert d.state.peers[A].preshared_key is None


def test_r69_our_own_key_is_ignored_and_r67_removed() -> None:
    own = PrivateKey(PRIVATE).public
    d = device(PeerState(own, allowed_ips=(NET,)))
    assert setting(d, f"private_key={PRIVATE.hex()}") == 0
    assert own not in d.state.peers
    assert setting(d, f"public_key={own.hex()}", "allowed_ip=10.0.0.0/8") == 0
    assert d.state.peers == {}


def test_peers_before_the_private_key_are_a_protocol_of_their_own() -> None:
    """Device keys after a peer section are unknown keys of that peer."""
    d = FakeDevice()
    assert setting(d, f"public_key={A.hex()}", f"private_key={PRIVATE.hex()}") == -22
    assert d.state == DeviceState()


def test_r71_a_prefix_moves_to_its_last_setter() -> None:
    d = device(PeerState(A, allowed_ips=(NET, V6)), PeerState(B))
    assert setting(d, f"public_key={B.hex()}", "allowed_ip=10.0.0.1/24") == 0
    assert d.state.peers[A].allowed_ips == (V6,)
    assert d.state.peers[B].allowed_ips == (NET,)
    (move,) = d.plans[-1].moves
    assert move == (NET, A, B)


def test_r71_a_minus_takes_a_prefix_only_from_its_owner() -> None:
    d = device(PeerState(A, allowed_ips=(NET,)), PeerState(B, allowed_ips=(V6,)))
    line = "allowed_ip=-10.0.0.0/24"
    assert setting(d, f"public_key={B.hex()}", line) == 0
    assert d.state.peers[A].allowed_ips == (NET,)
    assert setting(d, f"public_key={A.hex()}", line) == 0
    assert d.state.peers[A].allowed_ips == ()


def test_replace_remove_and_update_only() -> None:
    d = device(PeerState(A, allowed_ips=(NET,)), PeerState(B))
    a = f"public_key={A.hex()}"
    assert setting(d, a, "replace_allowed_ips=true", "allowed_ip=::/0") == 0
    assert d.state.peers[A].allowed_ips == ((bytes(16), 0),)
    update = "update_only=true"
    assert setting(d, f"public_key={C.hex()}", update, "allowed_ip=::/0") == 0
    assert C not in d.state.peers
    assert d.state.peers[A].allowed_ips == ((bytes(16), 0),)
    assert setting(d, a, "remove=true", "allowed_ip=1.1.1.1") == 0
    assert list(d.state.peers) == [B]
    assert setting(d, a, "remove=true") == 0
    assert setting(d, "replace_peers=true") == 0
    assert d.state.peers == {}


def test_a_disabled_peer_is_a_new_one_with_its_name() -> None:
    d = device(PeerState(A, "phone", allowed_ips=(NET,), enabled=False))
    assert setting(d, f"public_key={A.hex()}", "update_only=true") == 0
    assert not d.state.peers[A].enabled
    assert setting(d, f"public_key={A.hex()}", "allowed_ip=::/0") == 0
    assert d.state.peers[A] == PeerState(A, "phone", allowed_ips=((bytes(16), 0),))


def test_a_repeated_endpoint_moves_a_roamed_peer_only_when_asked_for_alone() -> None:
    """`wg set peer endpoint` means now; setconf and syncconf describe a whole peer."""
    home, away = (b"\1\1\1\1", 1, 0), (b"\2\2\2\2", 2, 0)
    d = device(PeerState(A, endpoint=home))
    d.lives[A] = Live(endpoint=away)
    a, line = f"public_key={A.hex()}", "endpoint=1.1.1.1:1"
    assert setting(d, a, "replace_allowed_ips=true", line) == 0
    assert d.plans[-1].empty
    assert setting(d, a, line) == 0
    (action,) = d.plans[-1].actions
    assert [c[:] for c in action.changes] == [("endpoint", away, home)]
    d.lives[A] = Live(endpoint=home)
    assert setting(d, a, line) == 0
    assert d.plans[-1].empty


# --- refusals: nothing is applied


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nonsense=1", errno.EINVAL),
        ("nonsense", errno.EPROTO),
        ("private_key=00", errno.EINVAL),
        (f"private_key={'zz' * 32}", errno.EINVAL),
        (f"private_key={'0' * 62}\x00\x00", errno.EINVAL),
        ("listen_port=65536", errno.EINVAL),
        ("listen_port=-1", errno.EINVAL),
        ("listen_port=", errno.EINVAL),
        ("listen_port=1e3", errno.EINVAL),
        ("listen_port=" + "9" * 4000, errno.EINVAL),
        ("fwmark=4294967296", errno.EINVAL),
        ("replace_peers=false", errno.EINVAL),
        ("allowed_ip=10.0.0.0/8", errno.EINVAL),
        ("public_key=12", errno.EINVAL),
    ],
)
def test_r73_bad_device_lines(line: str, code: int) -> None:
    d = FakeDevice()
    assert setting(d, "fwmark=5", line) == -code
    assert d.state == DeviceState()
    assert d.plans == []


@pytest.mark.parametrize(
    "line",
    [
        "listen_port=5", "protocol_version=2", "remove=false", "update_only=1",
        "replace_allowed_ips=", "preshared_key=ab", "endpoint=1.2.3.4",
        "endpoint=1.2.3.4:65536", "endpoint=::1:5", "endpoint=[1.2.3.4]:5",
        "endpoint=host:5", "endpoint=[::1%nosuchif0]:5", "endpoint=[]:5",
        "endpoint=1.2.3.4\x00:5", "persistent_keepalive_interval=65536",
        "persistent_keepalive_interval=off", "allowed_ip=10.0.0.0/33",
        "allowed_ip=::/129", "allowed_ip=10.0.0/8", "allowed_ip=", "allowed_ip=/",
        "allowed_ip=10.0.0.0/-1", "allowed_ip=--10.0.0.0/8", "allowed_ip=\xff/8",
        "=", "=x", "public_key=", "allowed_ip=10.0.0.0/8/8",
    ],
)  # fmt: skip
def test_r73_bad_peer_lines(line: str) -> None:
    d = FakeDevice()
    lines = ["fwmark=5", f"public_key={A.hex()}", "allowed_ip=10.0.0.0/8", line]
    assert setting(d, *lines, f"public_key={B.hex()}") == -errno.EINVAL
    assert d.state == DeviceState()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotPermitted("x"), errno.EPERM),
        (DeviceError("x"), errno.EIO),
        (OSError(errno.EADDRINUSE, "x"), errno.EADDRINUSE),
        (KeyError("x"), errno.EIO),
    ],
)
def test_what_the_device_refuses_has_a_code(error: Exception, code: int) -> None:
    d = FakeDevice()
    d.error = error
    assert setting(d, "fwmark=1") == -code


def test_a_cause_gives_the_code() -> None:
    d = FakeDevice()
    d.error = DeviceError("taken")
    d.error.__cause__ = OSError(errno.EADDRINUSE, "x")
    assert setting(d, "listen_port=1") == -errno.EADDRINUSE


# --- the stream


def test_pieces_of_any_size_give_the_same_answers(seed: int) -> None:
    rng = random.Random(seed)
    lines = "".join(
        f"set=1\nfwmark={n}\npublic_key={bytes([n]).hex() * 32}\n"
        f"allowed_ip=10.{n}.0.0/16\n\nget=1\n\n"
        for n in range(1, 20)
    ).encode()
    whole = FakeDevice()
    expected = UapiSession(whole).feed(lines)
    for _ in range(5):
        d, answer, rest = FakeDevice(), b"", lines
        session = UapiSession(d)
        while rest:
            cut = rng.choice([1, 2, 7, 100])
            answer, rest = answer + session.feed(rest[:cut]), rest[cut:]
        assert answer == expected
        assert d.state == whole.state


def test_an_error_answers_after_the_blank_line_and_the_connection_goes_on() -> None:
    d = FakeDevice()
    session = UapiSession(d)
    assert session.feed(b"set=1\nbad=1\nfwmark=1\n") == b""
    assert session.feed(b"\nset=1\nfwmark=2\n\n") == b"errno=-22\n\nerrno=0\n\n"
    assert not session.closing
    assert d.state.fwmark == 2


@pytest.mark.parametrize(
    "data",
    [b"\n", b"hello\n", b"get=2\n\n", b"x" * (MAX_LINE + 1), b"\0" * 10_000 + b"\n"],
)
def test_what_cannot_be_followed_closes(data: bytes) -> None:
    session = UapiSession(FakeDevice())
    assert session.feed(data) == b"errno=-71\n\n"
    assert session.closing
    assert session.feed(b"get=1\n\n") == b""


def test_f10_an_endless_line_is_not_kept() -> None:
    session = UapiSession(FakeDevice())
    answers = [session.feed(b"set=1\nfwmark=" + b"1" * 3000)]
    answers += [session.feed(b"1" * 65536) for _ in range(160)]
    assert b"".join(answers) == b"errno=-71\n\n"


def test_get_with_keys_is_refused() -> None:
    assert talk(FakeDevice(), "get=1\nfwmark=1\n\n") == "errno=-22\n\n"


def test_half_a_set_applies_nothing() -> None:
    d = FakeDevice()
    UapiSession(d).feed(b"set=1\nfwmark=1\npublic_key=" + A.hex().encode() + b"\n")
    assert d.plans == []


def test_random_bytes_never_apply_or_raise(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [
        *(b"set=1\n", b"get=1\n", b"\n", b"public_key=", A.hex().encode(), b"="),
        *(b"allowed_ip=", b"10.0.0.0/8", b"endpoint=[::1]:1", b"\0", b"-", b"%"),
    ]
    for _ in range(3000):
        text = b"".join(rng.choices(pieces, k=rng.randrange(12)))
        answer = UapiSession(FakeDevice()).feed(text)
        assert answer == b"" or answer.endswith(b"\n\n")


def test_our_own_verb_needs_a_manager_and_may_answer_late() -> None:
    d, late = FakeDevice(), []
    assert UapiSession(d).feed(b'tunnel=1\n{"do":"state"}\n\n') == b"errno=-22\n\n"
    waiting = []
    session = UapiSession(
        d, control=lambda line, reply: waiting.append((line, reply)), late=late.append
    )
    # what follows on the connection waits for its turn
    assert session.feed(b'tunnel=1\n{"do":"x"}\n\nset=1\nfwmark=7\n\nget=1\n\n') == b""
    assert session.waiting
    assert d.plans == []
    ((line, reply),) = waiting
    assert line == b'{"do":"x"}'
    reply(b"result=1\nerrno=0\n\n")
    assert late == [b"result=1\nerrno=0\n\nerrno=0\n\nfwmark=7\nerrno=0\n\n"]
    assert not session.waiting
    long = b'"' + b"x" * 100_000 + b'"'
    assert session.feed(b"tunnel=1\n" + long[:70_000]) == b""
    assert session.feed(long[70_000:] + b"\n\n") == b""
    assert waiting[1][0] == long
    assert session.feed(b"tunnel=1\n{}\n{}\n\n") == b""
    waiting[1][1](b"")
    assert late[1] == b"errno=-22\n\n"
    assert not session.closing


def test_every_set_is_reported() -> None:
    d, seen = FakeDevice(), []
    session = UapiSession(d, applied=lambda plan, error: seen.append((plan, error)))
    session.feed(b"set=1\nfwmark=7\n\n")
    d.error = OSError(28, "full")
    session.feed(b"set=1\nfwmark=8\n\n")
    assert [error for _, error in seen] == [None, d.error]
    assert [plan.actions[0].fields[0].after for plan, _ in seen] == [7, 8]
