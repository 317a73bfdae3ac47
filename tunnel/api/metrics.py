"""Prometheus metrics out of one status: a pure function, no registry that lives on.

Names are those that dashboards know: of the MindFlavor exporter by default, of the
mdlayher exporter on request, and `tunnel_` for what neither has. All values of a
scrape are of the same moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from tunnel.api.metrics_peers import mdlayher, mindflavor
from tunnel.status import DeviceStatus

__all__ = ["Names", "Reloads", "render"]

_NOT_REFUSED: Final = frozenset({"given_up"})
_PACKETS: Final = ("tun_read", "tun_written", "udp_received", "udp_sent")
_MESSAGES: Final = ("initiation", "response", "cookie")


class Names(StrEnum):
    """Whose names the series of peers have."""

    MINDFLAVOR = "mindflavor"
    MDLAYHER = "mdlayher"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Reloads:
    """What became of the changes so far; the time is Unix seconds, 0 for never."""

    succeeded: int = 0
    failed: int = 0
    last_success: float = 0.0
    sessions_kept: int = 0
    sessions_ended: int = 0


def render(
    status: DeviceStatus,
    reloads: Reloads,
    *,
    names: Names = Names.MINDFLAVOR,
    peers: bool = True,
    remote: bool = False,
    wall: int,
    accept: str = "",
) -> tuple[bytes, str]:
    """(document, media type). `peers` off leaves out the series of single peers;
    `remote` adds the labels remote_ip and remote_port, which change as peers roam.
    `wall` is Unix ns."""
    families = [*_own(status, reloads, wall)]
    if names is not Names.MDLAYHER and peers:
        families += mindflavor(status, remote)
    if names is not Names.MINDFLAVOR:
        families += mdlayher(status, peers)
    collected = _Collected(families)
    if "application/openmetrics-text" in accept:
        generate: Callable[[Collector], bytes] = openmetrics.generate_latest
        return generate(collected), openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(collected), CONTENT_TYPE_PLAIN_0_0_4


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


# --- the tunnel itself


def _own(status: DeviceStatus, reloads: Reloads, wall: int) -> Iterator[Metric]:
    counters = status.counters
    yield _gauge("tunnel_up", "Whether the interface is up", status.up)
    yield _gauge(
        "tunnel_generation", "Changes applied since the start", status.generation
    )
    yield _gauge("tunnel_peers", "Configured peers", len(status.peers))
    connected = sum(peer.connected(wall) for peer in status.peers)
    yield _gauge(
        "tunnel_connected_peers",
        "Peers with a handshake in the last 180 seconds",
        connected,
    )
    yield from _reloads(reloads)
    yield _counted(
        "tunnel_drops", "Packets that went no further", "reason",
        _below(counters, "drop."),
    )  # fmt: skip
    yield _counted(
        "tunnel_handshake_rejected", "Handshake messages that were refused", "reason",
        {k: v for k, v in _below(counters, "handshake.").items()
         if k not in _NOT_REFUSED},
    )  # fmt: skip
    yield _counter(
        "tunnel_handshake_given_up",
        "Handshakes that nobody answered for 90 seconds",
        counters.get("handshake.given_up", 0),
    )
    yield _messages(counters)
    yield _counted(
        "tunnel_packets", "Packets at each end of the packet path", "place",
        {name: counters.get(name, 0) for name in _PACKETS},
    )  # fmt: skip
    yield _counter(
        "tunnel_replay_drops",
        "Packets refused by the replay window",
        counters.get("drop.rx_replay", 0) + counters.get("drop.rx_too_old", 0),
    )
    yield _counter(
        "tunnel_allowedip_src_drops",
        "Packets whose source does not belong to the peer that sent them",
        counters.get("drop.rx_source", 0),
    )


def _reloads(reloads: Reloads) -> Iterator[Metric]:
    yield _counted(
        "tunnel_reload", "Changes that were asked for", "result",
        {"success": reloads.succeeded, "failure": reloads.failed},
    )  # fmt: skip
    yield _gauge(
        "tunnel_reload_last_success_timestamp_seconds",
        "Unix time of the last change that was applied",
        reloads.last_success,
    )
    yield _counter(
        "tunnel_session_kept",
        "Sessions of peers that changes touched and that lived on",
        reloads.sessions_kept,
    )
    yield _counter(
        "tunnel_session_ended",
        "Sessions that changes ended, by removing or disabling their peers",
        reloads.sessions_ended,
    )


def _messages(counters: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(
        "tunnel_handshake_messages",
        "Handshake messages sent and accepted",
        labels=["message", "direction"],
    )
    for message in _MESSAGES:
        for direction in ("sent", "received"):
            value = counters.get(f"{message}.{direction}", 0)
            family.add_metric([message, direction], value)
    return family


def _below(counters: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): value
        for name, value in sorted(counters.items())
        if name.startswith(prefix)
    }


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _counted(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family
