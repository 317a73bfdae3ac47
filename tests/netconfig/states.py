"""Random states of an interface, from few addresses so that they collide."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_interface, ip_network

from tunnel.netconfig.base import Address, Prefix, WantedState


def address(text: str) -> Address:
    interface = ip_interface(text)
    return interface.packed, interface.network.prefixlen


def prefix(text: str) -> Prefix:
    network = ip_network(text)
    return network.network_address.packed, network.prefixlen


def packed(text: str) -> bytes:
    return ip_address(text).packed


ADDRESSES = [
    *(f"10.0.0.{host}/24" for host in (1, 2, 3)),
    *("10.0.0.2/32", "10.0.0.3/16", "10.1.0.1/24", "192.168.7.1/30"),
    *("fd00::1/64", "fd00::2/64", "fd00::1/48", "fd01::1/128"),
]
ROUTES = [
    *("10.0.0.0/24", "10.0.0.0/16", "10.1.0.0/24", "172.16.0.0/12"),
    *("192.0.2.1/32", "0.0.0.0/0"),
    *("fd00::/64", "fd00::/48", "fd05::/64", "::/0"),
]
SERVERS = ["10.0.0.53", "10.0.0.54", "fd00::53"]


def random_state(rng: random.Random) -> WantedState:
    chosen = {
        address(text)[0]: address(text)
        for text in rng.sample(ADDRESSES, rng.randint(0, 5))
    }
    routes = tuple(prefix(t) for t in rng.sample(ROUTES, rng.randint(0, 6)))
    six = any(len(a) == 16 for a, _ in (*chosen.values(), *routes))
    if rng.random() < 0.1:
        return WantedState("wg0", mtu=rng.choice([1000, 1420]), up=False)
    return WantedState(
        "wg0",
        mtu=rng.choice([1280, 1420] if six else [1000, 1280, 1420]),
        addresses=tuple(chosen.values()),
        routes=routes,
        dns=tuple(packed(t) for t in rng.sample(SERVERS, rng.randint(0, 2))),
        fwmark=rng.choice([51820, 7]),
        table=rng.choice([0, 0, 99]),
    )
