"""Metrics: names and labels that dashboards know, in a form that parsers accept."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from tunnel.api.metrics import Names, Reloads, render
from tunnel.errors import DropReason
from tunnel.status import DeviceStatus, PeerStatus

from .rig import Api, entry, key, text

NOW = 1_700_000_000_000_000_000
RELOADS = Reloads(5, 2, 1_699_999_999.5, 11, 3)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def peer(number: int, name: str = "", **fields: Any) -> PeerStatus:
    values: dict[str, Any] = {
        "public_key": key(number),
        "name": name,
        "enabled": True,
        "endpoint": (bytes([192, 0, 2, number]), 51820, 0),
        "allowed_ips": ((bytes([10, 0, 0, number]), 32),),
        "keepalive": 25,
        "last_handshake": NOW - number * 100 * 10**9,
        "rx_bytes": 1000 * number,
        "tx_bytes": 1 << 60,
        "has_preshared_key": True,
    }
    return PeerStatus(**(values | fields))


def status(*peers: PeerStatus, name: str = "wg0") -> DeviceStatus:
    counters = {f"drop.{reason.name.lower()}": 0 for reason in DropReason if reason}
    counters |= {"drop.rx_replay": 3, "drop.rx_too_old": 2, "drop.rx_source": 1}
    counters |= {"handshake.bad_mac1": 4, "handshake.given_up": 9, "tun_read": 7}
    counters |= {"initiation.sent": 5}
    return DeviceStatus(name, True, key(9), 51820, 0, 1420, 6, peers, counters)


def document(*peers: PeerStatus, **options: Any) -> str:
    raw, media = render(status(*peers), RELOADS, wall=NOW, **options)
    assert media == "text/plain; version=0.0.4; charset=utf-8"
    check_form(raw.decode())
    return raw.decode()


def check_form(whole: str) -> None:
    """HELP and TYPE once before the samples of each name, no sample twice, an end."""
    assert whole.endswith("\n")
    assert not whole.endswith("\n\n")
    described: set[str] = set()
    seen: set[str] = set()
    lines = whole.removesuffix("\n").split("\n")
    for help_line, type_line in pairwise(lines):
        if help_line.startswith("# HELP "):
            name = help_line.split(" ")[2]
            assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name)
            assert len(help_line.split(" ", 3)[3]) > 5
            assert re.fullmatch(rf"# TYPE {name} (counter|gauge)", type_line)
            assert name not in described
            described.add(name)
    for line in lines:
        if not line.startswith("#"):
            sample = line.rpartition(" ")[0]
            assert sample.partition("{")[0] in described
            assert sample not in seen
            seen.add(sample)


def samples(families: Iterable[Any]) -> Samples:
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            labels = frozenset((k, v) for k, v in sample.labels.items() if v)
            found[sample.name, labels] = sample.value
    return found


def of(found: Samples, name: str) -> list[tuple[dict[str, str], float]]:
    return [(dict(labels), v) for (known, labels), v in found.items() if known == name]


def test_the_default_names_are_those_of_mindflavor() -> None:
    found = samples(parse(document(peer(1, "laptop"), peer(2, last_handshake=0))))
    first = {
        "interface": "wg0",
        "public_key": text(key(1)),
        "allowed_ips": "10.0.0.1/32",
        "friendly_name": "laptop",
    }
    assert of(found, "wireguard_sent_bytes_total")[0] == (first, float(1 << 60))
    assert of(found, "wireguard_received_bytes_total")[0] == (first, 1000.0)
    handshakes = of(found, "wireguard_latest_handshake_seconds")
    assert handshakes[0] == (first, NOW // 10**9 - 100)
    assert handshakes[1][1] == 0  # never; a Unix time, not an age
    assert not of(found, "wireguard_peer_info")


def test_the_names_of_mdlayher_are_behind_a_switch() -> None:
    whole = document(peer(1, "laptop"), names=Names.MDLAYHER)
    found = samples(parse(whole))
    label = {"device": "wg0", "public_key": text(key(1))}
    own = {"device": "wg0", "public_key": text(key(9))}
    assert of(found, "wireguard_device_info") == [(own, 1)]
    info = label | {"endpoint": "192.0.2.1:51820", "name": "laptop"}
    assert of(found, "wireguard_peer_info") == [(info, 1)]
    assert of(found, "wireguard_peer_receive_bytes_total") == [(label, 1000)]
    assert of(found, "wireguard_peer_transmit_bytes_total") == [(label, 1 << 60)]
    last = of(found, "wireguard_peer_last_handshake_seconds")
    assert last == [(label, NOW // 10**9 - 100)]
    ips = label | {"allowed_ips": "10.0.0.1/32"}
    assert of(found, "wireguard_peer_allowed_ips_info") == [(ips, 1)]
    assert "wireguard_sent_bytes_total" not in whole


def test_both_sets_and_no_peers() -> None:
    both = document(peer(1), names=Names.BOTH)
    assert "wireguard_sent_bytes_total" in both
    assert "wireguard_peer_info" in both
    few = document(*(peer(n) for n in range(1, 9)), names=Names.BOTH, peers=False)
    assert text(key(1)) not in few
    assert "wireguard_device_info" in few
    assert "tunnel_peers 8.0" in few


def test_remote_addresses_are_labels_only_on_request() -> None:
    six = (bytes.fromhex("20010db8" + "00" * 11 + "01"), 7, 0)
    found = samples(parse(document(peer(1), peer(2, endpoint=six), remote=True)))
    sent = [labels for labels, _ in of(found, "wireguard_sent_bytes_total")]
    assert [s["remote_ip"] for s in sent] == ["192.0.2.1", "2001:db8::1"]
    assert [s["remote_port"] for s in sent] == ["51820", "7"]
    assert "remote_ip" not in document(peer(1))
    assert 'remote_ip=""' in document(peer(1, endpoint=None), remote=True)


def test_our_own_metrics() -> None:
    found = samples(parse(document(peer(1), peer(2))))

    def one(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert one("tunnel_up") == 1
    assert one("tunnel_generation") == 6
    assert one("tunnel_peers") == 2
    assert one("tunnel_connected_peers") == 1  # the other one is 200 s old
    assert one("tunnel_reload_total", result="success") == 5
    assert one("tunnel_reload_total", result="failure") == 2
    assert one("tunnel_reload_last_success_timestamp_seconds") == 1_699_999_999.5
    assert one("tunnel_session_kept_total") == 11
    assert one("tunnel_session_ended_total") == 3
    assert one("tunnel_drops_total", reason="rx_replay") == 3
    assert len(of(found, "tunnel_drops_total")) == len(DropReason) - 1
    assert of(found, "tunnel_handshake_rejected_total") == [({"reason": "bad_mac1"}, 4)]
    assert one("tunnel_handshake_given_up_total") == 9
    sent = one(
        "tunnel_handshake_messages_total", message="initiation", direction="sent"
    )
    assert sent == 5
    assert one("tunnel_packets_total", place="tun_read") == 7
    assert one("tunnel_replay_drops_total") == 5
    assert one("tunnel_allowedip_src_drops_total") == 1


def test_any_name_survives_as_a_label(seed: int) -> None:
    """Quotes, backslashes, newlines, braces: escaped, and read back as they were."""
    rng = random.Random(seed)
    alphabet = '"\\\n{},=# aé…\u2028\U0001f600n\t\r'
    names = ['"', "\\", "\n", '\\"', "\\n", '"} 1\nfake{a="b']
    names += ["".join(rng.choices(alphabet, k=rng.randint(1, 12))) for _ in range(200)]
    peers = [
        peer(1, name, public_key=rng.randbytes(32)) for name in dict.fromkeys(names)
    ]
    for options in ({}, {"names": Names.MDLAYHER}):
        raw, _ = render(status(*peers), RELOADS, wall=NOW, **options)  # type: ignore[arg-type]
        found = samples(parse(raw.decode()))
        name = "wireguard_peer_info" if options else "wireguard_sent_bytes_total"
        label = "name" if options else "friendly_name"
        read = {labels[label] for labels, _ in of(found, name)}
        assert read == {one.name for one in peers}
        assert not of(found, "fake")


def test_openmetrics_on_request() -> None:
    raw, media = render(
        status(peer(1, 'a"\\\n')), RELOADS, wall=NOW, names=Names.BOTH,
        accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    )  # fmt: skip
    assert media.startswith("application/openmetrics-text; version=1.0.0")
    assert raw.endswith(b"# EOF\n")
    found = samples(parse_openmetrics(raw.decode()))
    assert of(found, "wireguard_sent_bytes_total")[0][0]["friendly_name"] == 'a"\\\n'
    assert of(found, "wireguard_peer_info")


@pytest.mark.parametrize("query", ["", "?names=both", "?names=mdlayher&peers=false"])
def test_the_route(api: Api, query: str) -> None:
    answer = api.get(f"/metrics{query}")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    check_form(answer.text)
    assert of(samples(parse(answer.text)), "tunnel_peers") == [({}, 3)]
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    other = api.get(f"/metrics{query}", headers=accept)
    assert list(parse_openmetrics(other.text))


def test_changes_are_counted(api: Api) -> None:
    def found(name: str, **labels: str) -> float:
        whole = samples(parse(api.get("/metrics").text))
        return whole[name, frozenset(labels.items())]

    assert found("tunnel_reload_total", result="success") == 0
    assert found("tunnel_reload_last_success_timestamp_seconds") == 0
    api.want(peers=[entry(1, persistentKeepalive=3), entry(4)])
    assert api.post("/api/apply-wg-config").status_code == 200
    api.want(peers=[entry(1, allowedIPs=["nonsense"])])
    assert api.post("/api/apply-wg-config").status_code == 422
    assert api.post("/api/apply-wg-config?dry_run=true").status_code == 422
    assert found("tunnel_reload_total", result="success") == 1
    assert found("tunnel_reload_total", result="failure") == 1
    assert found("tunnel_reload_last_success_timestamp_seconds") > 1e9
    assert found("tunnel_session_ended_total") == 1  # of peer2; peer3 was disabled
    assert found("tunnel_session_kept_total") >= 1
