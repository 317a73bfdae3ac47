"""Folding edits: the same as applying every line at once to plain dictionaries."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tunnel.state.model import PeerState, canonical_prefixes

from .fake import FakeDevice, setting

KEYS = [bytes([n]) * 32 for n in range(1, 6)]
IPS = [f"10.{n}.0.0/16" for n in range(5)] + [f"fd0{n}::/32" for n in range(4)]


@dataclass
class Naive:
    """The kernel's rules, line by line."""

    peers: dict[bytes, dict[str, object]] = field(default_factory=dict)
    owner: dict[str, bytes] = field(default_factory=dict)

    def forget(self, key: bytes) -> None:
        self.peers.pop(key, None)
        self.release(key)

    def release(self, key: bytes) -> None:
        self.owner = {ip: k for ip, k in self.owner.items() if k != key}

    def ips(self, key: bytes) -> set[str]:
        return {ip for ip, k in self.owner.items() if k == key}


def random_request(rng: random.Random, naive: Naive) -> list[str]:
    lines: list[str] = []
    if rng.random() < 0.1:
        lines.append("replace_peers=true")
        naive.peers.clear()
        naive.owner.clear()
    for _ in range(rng.randrange(6)):
        key = rng.choice(KEYS)
        lines.append(f"public_key={key.hex()}")
        if rng.random() < 0.2:
            lines.append("update_only=true")
            if key not in naive.peers:
                lines.append(f"allowed_ip={rng.choice(IPS)}")
                continue
        if rng.random() < 0.15:
            lines.append("remove=true")
            naive.forget(key)
            continue
        naive.peers.setdefault(key, {"keepalive": 0})
        if rng.random() < 0.3:
            naive.peers[key]["keepalive"] = seconds = rng.randrange(3)
            lines.append(f"persistent_keepalive_interval={seconds}")
        for _ in range(rng.randrange(5)):
            ip = rng.choice(IPS)
            if rng.random() < 0.15:
                lines.append("replace_allowed_ips=true")
                naive.release(key)
            elif rng.random() < 0.3:
                lines.append(f"allowed_ip=-{ip}")
                if naive.owner.get(ip) == key:
                    del naive.owner[ip]
            else:
                lines.append(f"allowed_ip={ip}")
                naive.owner[ip] = key
    return lines


def packed(ip: str) -> tuple[bytes, int]:
    import ipaddress

    network = ipaddress.ip_network(ip)
    return network.network_address.packed, network.prefixlen


def test_folding_is_line_by_line_application(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        naive, device = Naive(), FakeDevice()
        for _ in range(12):
            assert setting(device, *random_request(rng, naive)) == 0
            expected = {
                key: PeerState(
                    key,
                    keepalive=int(str(values["keepalive"])),
                    allowed_ips=canonical_prefixes(map(packed, naive.ips(key))),
                )
                for key, values in naive.peers.items()
            }
            assert device.state.peers == expected
