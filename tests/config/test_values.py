"""The small languages inside config.json, against `ipaddress` and by example."""

from __future__ import annotations

import ipaddress
import random
from base64 import b64encode
from typing import Any

import pytest

from tunnel.config import values
from tunnel.config.values import BadValue


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0), (25, 25), ("25", 25), ("15s", 15), ("1m30s", 90), ("1m", 60),
        ("2h", 7200), ("1h1m1s", 3661), ("off", 0), (" 5s ", 5), ("1m30", 90),
    ],
)  # fmt: skip
def test_seconds(value: int | str, seconds: int) -> None:
    assert values.parse_seconds(value) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "s", "1.5s", "-1s", "1s1m", "5 s", "٣s", "ms"]
)
def test_bad_seconds(text: str) -> None:
    with pytest.raises(BadValue):
        values.parse_seconds(text)


def test_prefixes_as_ipaddress_has_them(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        size = rng.choice([4, 16])
        packed, cidr = rng.randbytes(size), rng.randrange(size * 8 + 1)
        address = ipaddress.ip_address(packed)
        text = f"{address}/{cidr}"
        network = ipaddress.ip_network(text, strict=False)
        assert values.parse_prefix(text) == (network.network_address.packed, cidr)
        assert values.parse_address(text) == (packed, cidr)
        assert values.parse_prefix(str(address)) == (packed, size * 8)


@pytest.mark.parametrize(
    "text",
    ["", "/", "/8", "10.0.0.1/", "10.0.0.1/ 8", "10.0.0.1/8/8", "10.0.0.1/-1", "::/1e1",
     "10.0.0.1/33", "::/129", "1.2.3/8", "10.0.0.1/٣", "a\0/8", "\ud800/8",
     "fe80::1%1/64",
     "010.0.0.1/32", "10.0.0.1/0032"],
)  # fmt: skip
def test_bad_prefixes(text: str) -> None:
    with pytest.raises(BadValue):
        values.parse_prefix(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1:51820", "192.0.2.1", 51820),
        ("[fd00::1]:1", "fd00::1", 1),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
        ("vpn.example.com:51820", "vpn.example.com", 51820),
        ("vpn.example.com.:51820", "vpn.example.com.", 51820),
        ("my_host-1:5", "my_host-1", 5),
        ("bücher.example:5", "bücher.example", 5),
    ],
)
def test_endpoints(text: str, host: str, port: int) -> None:
    assert values.parse_host_port(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":", ":51820", "a", "a:", "a:0", "a:65536", "a:+1", "[a]:1", "[]:1", "a b:1",
     "-a:1", "a-:1", "[fe80::1%]:1", "[fe80::1%a/b]:1", "1.2.3:1", "1:1",
     "x" * 64 + ":1", "a\n:1", "http://a:1", "a:000001"],
)  # fmt: skip
def test_bad_endpoints(text: str) -> None:
    with pytest.raises(BadValue):
        values.parse_host_port(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (":51820", (b"", 51820)),
        ("51820", (b"", 51820)),
        (0, (b"", 0)),
        ("0.0.0.0:51820", (bytes(4), 51820)),
        ("[::]:51820", (bytes(16), 51820)),
    ],
)
def test_listen(value: int | str, expected: tuple[bytes, int]) -> None:
    assert values.parse_listen(value) == expected


@pytest.mark.parametrize("value", ["", ":", "[]:1", "[1.2.3.4]:1", "::1", "a:1", -1])
def test_bad_listen(value: int | str) -> None:
    with pytest.raises(BadValue):
        values.parse_listen(value)


@pytest.mark.parametrize(
    ("value", "mark"),
    [(0, 0), (51820, 51820), ("0xca6c", 51820), ("51820", 51820), ("off", 0)],
)
def test_fwmark(value: int | str, mark: int) -> None:
    assert values.parse_fwmark(value) == mark


def test_keys_round_trip(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(500):
        key = rng.randbytes(32)
        text = b64encode(key).decode()
        assert values.parse_key(text) == key
        at = rng.randrange(44)
        for wrong in (text[:at] + text[at + 1 :], text[:at] + "!" + text[at + 1 :]):
            with pytest.raises(BadValue) as caught:
                values.parse_key(wrong)
            assert wrong not in str(caught.value)


def test_a_key_has_one_spelling() -> None:
    text = b64encode(bytes(range(32))).decode()
    accepted = []
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/":
        try:
            accepted.append(values.parse_key(text[:42] + last + "="))
        except BadValue:
            continue
    assert len(accepted) == len(set(accepted)) == 16


@pytest.mark.parametrize(
    "text", ["127.0.0.1:7777", "localhost:1", "[::1]:80", "unix:/run/tunnel.sock"]
)
def test_bind(text: str) -> None:
    assert values.parse_bind(text) == text


@pytest.mark.parametrize("text", ["wg0", "tun-demo0", "a.b_c=d+e", "x" * 15])
def test_interface_names(text: str) -> None:
    assert values.parse_interface_name(text) == text


@pytest.mark.parametrize("text", ["x", "x" * 1000, "\x1b[31m\n", '"' * 100, "\ud800"])
def test_shown_is_short_and_plain(text: Any) -> None:
    shown = values.shown(text)
    assert len(shown) < 70
    assert shown.replace("…", "").isascii()
    assert shown.isprintable()
