"""The metrics of single peers, named as two exporters that dashboards know do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)

from tunnel.state.render import endpoint_text, key_text, prefix_text
from tunnel.status import DeviceStatus, PeerStatus

__all__ = ["mdlayher", "mindflavor"]

_NS: Final = 1_000_000_000

_Value = Callable[[PeerStatus], float]

# name without the suffix that counters get, help, whether it counts, value
_MINDFLAVOR: Final[tuple[tuple[str, str, bool, _Value], ...]] = (
    ("wireguard_sent_bytes", "Bytes sent to the peer", True, lambda p: p.tx_bytes),
    (
        "wireguard_received_bytes", "Bytes received from the peer", True,
        lambda p: p.rx_bytes,
    ),
    (
        "wireguard_latest_handshake_seconds",
        "Unix time of the last handshake, 0 for never", False,
        lambda p: p.last_handshake // _NS,
    ),
)  # fmt: skip
_MDLAYHER: Final[tuple[tuple[str, str, bool, _Value], ...]] = (
    (
        "wireguard_peer_last_handshake_seconds",
        "Unix time of the last handshake, 0 for never", False,
        lambda p: p.last_handshake // _NS,
    ),
    (
        "wireguard_peer_receive_bytes", "Bytes received from the peer", True,
        lambda p: p.rx_bytes,
    ),
    (
        "wireguard_peer_transmit_bytes", "Bytes sent to the peer", True,
        lambda p: p.tx_bytes,
    ),
)  # fmt: skip


def _table(
    rows: Iterable[tuple[str, str, bool, _Value]],
    labels: list[str],
    peers: list[tuple[PeerStatus, list[str]]],
) -> Iterator[Metric]:
    for name, text, counts, value in rows:
        family = (CounterMetricFamily if counts else GaugeMetricFamily)(
            name, text, labels=labels
        )
        for peer, words in peers:
            family.add_metric(words, value(peer))
        yield family


def mindflavor(status: DeviceStatus, remote: bool) -> Iterator[Metric]:
    """One series a peer and value; `remote` adds where the peer is."""
    labels = ["interface", "public_key", "allowed_ips", "friendly_name"]
    if remote:
        labels += ["remote_ip", "remote_port"]
    peers = []
    for peer in status.peers:
        words = [status.name, key_text(peer.public_key), _prefixes(peer), peer.name]
        peers.append((peer, words + (_remote(peer) if remote else [])))
    yield from _table(_MINDFLAVOR, labels, peers)


def _remote(peer: PeerStatus) -> list[str]:
    if peer.endpoint is None:
        return ["", ""]
    host, _, port = endpoint_text(peer.endpoint).rpartition(":")
    return [host.strip("[]"), port]


def mdlayher(status: DeviceStatus, peers: bool) -> Iterator[Metric]:
    """The device, and with `peers` one series a peer and value."""
    device = GaugeMetricFamily(
        "wireguard_device_info", "The device", labels=["device", "public_key"]
    )
    own = "" if status.public_key is None else key_text(status.public_key)
    device.add_metric([status.name, own], 1)
    yield device
    if not peers:
        return
    info = GaugeMetricFamily(
        "wireguard_peer_info",
        "The peer",
        labels=["device", "public_key", "endpoint", "name"],
    )
    ips = GaugeMetricFamily(
        "wireguard_peer_allowed_ips_info",
        "A prefix of the peer",
        labels=["device", "public_key", "allowed_ips"],
    )
    for peer in status.peers:
        key = key_text(peer.public_key)
        info.add_metric([status.name, key, endpoint_text(peer.endpoint), peer.name], 1)
        for prefix in peer.allowed_ips:
            ips.add_metric([status.name, key, prefix_text(prefix)], 1)
    yield info
    yield ips
    labelled = [(p, [status.name, key_text(p.public_key)]) for p in status.peers]
    yield from _table(_MDLAYHER, ["device", "public_key"], labelled)


def _prefixes(peer: PeerStatus) -> str:
    return ",".join(prefix_text(prefix) for prefix in peer.allowed_ips)
