"""Where a section begins and ends, and in which order sections take effect."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tunnel._fastpath.uapi import unchanged
from tunnel.api import uapi_parse
from tunnel.api.uapi import UapiSession
from tunnel.api.uapi_parse import MAX_LINE, Parser, parse_unchanged
from tunnel.api.uapi_requests import SetRequest, Unchanged
from tunnel.state.model import DeviceState, PeerState, canonical_prefixes

from .fake import FakeDevice
from .sections import ENDPOINTS, KEYS, PREFIXES, SECRETS, Slow, pieces, plain_lines

ONE = PeerState(
    KEYS[0], "one", SECRETS[1], ENDPOINTS[1], canonical_prefixes(PREFIXES[:3]), 25
)
TWO = PeerState(KEYS[1], allowed_ips=(PREFIXES[4],))
PEERS = {peer.public_key: peer for peer in (ONE, TWO)}


def text_of(*peers: PeerState) -> bytes:
    rng = random.Random(1)
    rng.random = lambda: 0.0  # type: ignore[method-assign]  # every line there is
    lines = [line for peer in peers for line in plain_lines(rng, peer)]
    return "".join(f"{line}\n" for line in lines).encode()


def test_a_section_waits_for_its_end() -> None:
    text = text_of(ONE, TWO, ONE)
    first, second = len(text_of(ONE)), len(text_of(ONE, TWO))
    for size in range(len(text)):
        states: list[PeerState] = []
        end, cut = unchanged(text[:size], 0, PEERS, states)
        assert cut
        known = (size >= first + 11) + (size >= second + 11)  # "public_key=" was seen
        assert states == [ONE, TWO, ONE][:known]
        assert end == [0, first, second][known]
    states = []
    assert unchanged(text + b"\n", 0, PEERS, states) == (len(text), False)
    assert states == [ONE, TWO, ONE]


def test_only_identity_counts_for_a_peer_that_was_replaced_meanwhile() -> None:
    device = FakeDevice(DeviceState(peers=PEERS))
    session, other = UapiSession(device), UapiSession(device)
    text = b"set=1\n" + text_of(ONE, TWO) + b"\n"
    assert session.feed(text[:-1]) == b""
    assert other.feed(b"set=1\n%b\n" % text_of(replace(TWO, keepalive=9))) != b""
    assert device.state.peers[TWO.public_key].keepalive == 9
    assert session.feed(text[-1:]) == b"errno=0\n\n"
    assert device.state.peers == PEERS


def test_many_prefixes_and_long_sections_are_the_same(seed: int) -> None:
    rng = random.Random(seed)
    for count in (63, 64, 65, 500):
        ips = canonical_prefixes((rng.randbytes(4), 32) for _ in range(count))
        peer = PeerState(KEYS[2], allowed_ips=ips)
        state = DeviceState(peers={peer.public_key: peer})
        quick, slow = FakeDevice(state), FakeDevice(state)
        for changed in (peer, replace(peer, allowed_ips=ips[1:]), peer):
            stream = (
                b"set=1\n"
                + "".join(f"{line}\n" for line in plain_lines(rng, changed)).encode()
            )
            assert (len(stream) > MAX_LINE) is (count == 500)
            ends = UapiSession(quick), Slow(slow)
            for piece in pieces(rng, stream + b"\n"):
                assert ends[0].feed(piece) == ends[1].feed(piece)
            assert quick.state == slow.state
            assert quick.state.peers[peer.public_key].allowed_ips == changed.allowed_ips


@pytest.mark.parametrize("limit", [300, 700, 1400, 2000])
def test_a_request_that_is_too_long_is_refused_all_the_same(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(uapi_parse, "MAX_REQUEST", limit)
    stream = b"set=1\n" + text_of(*[ONE, TWO] * 2) + b"\n"
    lines = sum(map(len, stream.split(b"\n")))
    for size in (1, 50, len(stream)):
        quick, slow = (FakeDevice(DeviceState(peers=PEERS)) for _ in range(2))
        ends = UapiSession(quick), Slow(slow)
        answers = [
            b"".join(
                end.feed(stream[at : at + size]) for at in range(0, len(stream), size)
            )
            for end in ends
        ]
        assert answers[0] == answers[1]
        assert answers[0] == (b"errno=0\n\n" if lines <= limit else b"errno=-71\n\n")
        assert ends[0].closing == ends[1].closing == (lines > limit)


def test_an_endless_request_is_refused_while_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uapi_parse, "MAX_REQUEST", 20_000)
    session = UapiSession(FakeDevice(DeviceState(peers=PEERS)))
    text = text_of(ONE, TWO)
    answer, sent = session.feed(b"set=1\n"), 0
    while not answer and sent < 40_000:
        answer, sent = session.feed(text), sent + len(text)
    assert answer == b"errno=-71\n\n"
    assert 20_000 < sent < 21_000 + MAX_LINE


def test_a_section_may_be_longer_than_a_line() -> None:
    device = FakeDevice(DeviceState(peers=PEERS))
    stream = b"set=1\n" + text_of(ONE) + b"protocol_version=1\n" * 1000 + b"\n"
    for size in (100, 5000, len(stream)):
        session = UapiSession(device)
        answers = [
            session.feed(stream[n : n + size]) for n in range(0, len(stream), size)
        ]
        assert b"".join(answers) == b"errno=0\n\n"
    assert device.state.peers == PEERS


def test_a_line_without_an_end_is_still_too_long() -> None:
    session = UapiSession(FakeDevice(DeviceState(peers=PEERS)))
    assert session.feed(b"set=1\n" + text_of(ONE)) == b""
    assert session.feed(b"public_key=" + b"0" * (MAX_LINE - 11)) == b""
    assert session.feed(b"0") == b"errno=-71\n\n"
    assert session.closing


def test_sections_come_in_the_order_in_which_they_were_written() -> None:
    new = PeerState(KEYS[5])
    stream = b"set=1\n" + text_of(ONE, new, TWO, TWO, new) + b"\n"
    (found,) = Parser(lambda: PEERS).feed(stream)
    assert isinstance(found, SetRequest)
    order = [
        [state.public_key for state in section.states]
        if isinstance(section, Unchanged)
        else section.public_key
        for section in found.sections()
    ]
    one, two = ONE.public_key, TWO.public_key
    assert order == [[one], new.public_key, [two, two], new.public_key]
    assert parse_unchanged(found.unchanged[0])[0].keepalive == 25


def test_no_secret_is_shown() -> None:
    (found,) = Parser(lambda: PEERS).feed(b"set=1\n" + text_of(ONE) + b"\n")
    assert isinstance(found, SetRequest)
    assert found.unchanged
    assert "07" * 16 not in repr(found)
    assert r"\x07" not in repr(found)


@pytest.mark.parametrize(
    ("usual", "unusual"),
    [
        (b"allowed_ip=10.5.0.0/18", b"allowed_ip=010.5.0.0/18"),
        (b"allowed_ip=10.5.0.0/18", b"allowed_ip=10.5.0.0/"),
        (b"allowed_ip=10.5.0.0/18", b"allowed_ip=10.5.0.0/18 "),
        (b"allowed_ip=10.5.0.0/18", b"allowed_ip=10.5.0/18"),
        (b"allowed_ip=10.5.0.0/18", b"allowed_ip=10.5.0.0.0/18"),
        (b"allowed_ip=10.5.0.0/18", b"allowed_ip=10.5.0.0\0/18"),
        (b"allowed_ip=10.5.0.0/18", b"allowed_ip=10.5.256.0/18"),
        (b"allowed_ip=10.5.0.0/18", b"allowed_ip="),
        (b"allowed_ip=fd01::/22", b"allowed_ip=fd01::/150"),
        (b"allowed_ip=fd01::/22", b"allowed_ip=fd01::/4294967318"),
        (b"allowed_ip=fd01::/22", b"allowed_ip=[fd01::]/22"),
        (b"allowed_ip=fd01::/22", b"allowed_ip=fd01::%s/22" % (b"0" * 60)),
        (b"endpoint=[fe80::1%7]:1", b"endpoint=[fe80::1%]:1"),
        (b"endpoint=[fe80::1%7]:1", b"endpoint=[fe80::1%7:1"),
        (b"endpoint=[fe80::1%7]:1", b"endpoint=fe80::1%7:1"),
        (b"endpoint=[fe80::1%7]:1", b"endpoint=[fe80::1%7]:"),
        (b"endpoint=[fe80::1%7]:1", b"endpoint=[fe80::1%7]:65537"),
        (b"endpoint=[fe80::1%7]:1", b"endpoint=[]:1"),
        (b"endpoint=[fe80::1%7]:1", b"endpoint=]:1"),
        (b"endpoint=[fe80::1%7]:1", b"endpoint=:"),
        (b"endpoint=[fe80::1%7]:1", b"endpoint="),
        (b"keepalive_interval=25", b"keepalive_interval=65561"),
        (b"keepalive_interval=25", b"keepalive_interval="),
        (b"keepalive_interval=25", b"keepalive_interval=+25"),
        (b"07\n", b"07 \n"),
        (b"07\n", b"0g\n"),
        (b"07\n", b"0`\n"),
        (b"07\n", b"0:\n"),
        (b"07\n", b"0/\n"),
        (b"07\n", b"0@\n"),
        (b"public_key=01", b"public_key=0G"),
        (b"public_key=01", b"public_key= 1"),
        (b"replace_allowed_ips=true", b"replace_allowed_ips=false"),
    ],
)
def test_what_is_no_value_is_left_to_the_parser_s_error(
    usual: bytes, unusual: bytes
) -> None:
    peer = replace(
        ONE, endpoint=(bytes.fromhex("fe80") + bytes(13) + b"\1", 1, 7),
        allowed_ips=((bytes([10, 5, 0, 0]), 18), (b"\xfd\1" + bytes(14), 22)),
    )  # fmt: skip
    peers = {peer.public_key: peer}
    text = text_of(peer)
    assert unchanged(text + b"\n", 0, peers, []) == (len(text), False)
    wrong = text.replace(usual, unusual, 1)
    assert wrong != text
    assert unchanged(wrong + b"\n", 0, peers, []) == (0, False)
    device = FakeDevice(DeviceState(peers=peers))
    answer = UapiSession(device).feed(b"set=1\n%b\n" % wrong)
    assert answer == b"errno=-22\n\n"
    assert device.state.peers == peers


def test_a_place_outside_the_data_is_an_error() -> None:
    for start in (-1, 4):
        with pytest.raises(ValueError, match="start"):
            unchanged(b"abc", start, {}, [])
