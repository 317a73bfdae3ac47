"""A forwarding hub in network namespaces: its clients are kept apart until the file
says otherwise, and whoever may talk loses nothing when it changes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab.echo import ping
from lab.network import Lab, Namespace
from lab.process import Process, wait_until
from lab.traffic import Receiver, Sender

from tunnel.config.identity import encode_key, generate_private_key, public_key

pytestmark = [pytest.mark.root]

PORT = 51820
RATE = 500  # packets per second of each flow
TOGGLES = 6


class Hub:
    """A hub (number 1) and two clients, each a `tunnel up` in its own namespace."""

    def __init__(self, hosts: list[Namespace], directory: Path) -> None:
        self.hosts = hosts
        self.path = directory / "hub.json"
        keys = [generate_private_key() for _ in hosts]
        self.processes: list[Process] = []
        for number, host in enumerate(hosts, 1):
            path = directory / ("hub.json" if number == 1 else f"client{number}.json")
            path.write_text(json.dumps(self.facts(number, host, keys)))
            self.processes.append(
                host.popen(
                    *(sys.executable, "-m", "tunnel", "up", str(path)),
                    env=os.environ | {"TUNNEL_RUN_DIR": str(directory / str(number))},
                )
            )
        for number, host in enumerate(hosts, 1):
            address = f"10.5.0.{number}/24"
            wait_until(address, lambda h=host, a=address: a in h.ip("addr"), timeout=20)
            assert self.processes[number - 1].running
        for client in hosts[1:]:
            wait_until("the hub", lambda c=client: self.answers(c), timeout=20)

    def facts(self, number: int, host: Namespace, keys: list[bytes]) -> dict[str, Any]:
        tunnel = {"address": f"10.5.0.{number}/24", "addresses": [f"fd05::{number}/64"]}
        facts: dict[str, Any] = {
            "mode": "server" if number == 1 else "client",
            "listen": PORT,
            "privateKey": encode_key(keys[number - 1]),
            "tunnel": tunnel,
        }
        if number == 1:
            facts["peers"] = [
                {
                    "publicKey": b64encode(public_key(key)).decode(),
                    "allowedIPs": [f"10.5.0.{n}", f"fd05::{n}"],
                }
                for n, key in enumerate(keys[1:], 2)
            ]
        else:
            facts["endpoint"] = f"{self.hosts[0].ipv4}:{PORT}"
            facts["peers"] = [{"publicKey": b64encode(public_key(keys[0])).decode()}]
        return facts

    def allow(self, allowed: bool) -> None:
        """Saves the file; returns when the hub has taken it over."""
        facts = json.loads(self.path.read_text()) | {"allowDeviceToDevice": allowed}
        self.path.write_text(json.dumps(facts))
        wait_until("the file", lambda: self.passes() is allowed, timeout=10)

    @staticmethod
    def answers(client: Namespace) -> bool:
        return ping(client, "10.5.0.1", count=1, wait=1).received == 1

    def passes(self, address: str = "10.5.0.3") -> bool:
        """Whether the first client reaches the second."""
        found = ping(self.hosts[1], address, count=1, wait=1)
        return found.received == 1


@contextmanager
def hub(directory: Path) -> Iterator[Hub]:
    with Lab("hub", "one", "two") as lab:
        for family in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            lab.hosts[0].run("sysctl", "-qw", f"net.{family}=1")
        yield Hub(lab.hosts, directory)


def test_kept_apart_and_joined_under_traffic(require_tun: None, tmp_path: Path) -> None:
    """0 of N lost: client to hub, hub to client, and between clients while joined."""
    with hub(tmp_path) as around:
        one = around.hosts[1]
        assert not around.passes()
        assert not around.passes("fd05::3")
        receivers = [Receiver(host, node=n) for n, host in enumerate(around.hosts, 1)]
        count = RATE * 60
        senders = [
            Sender(
                around.hosts[source - 1],
                source=f"10.5.0.{source}",
                to=f"10.5.0.{target}",
                node=target,
                flow=flow,
                rate=RATE,
                count=count,
            )
            for flow, (source, target) in enumerate(((2, 1), (3, 1), (1, 2), (1, 3)), 1)
        ]
        for number in range(TOGGLES):
            around.allow(number % 2 == 0)
        around.allow(True)
        wait_until("IPv6", lambda: around.passes("fd05::3"), timeout=10)
        between = Sender(
            one, source="10.5.0.2", to="10.5.0.3", node=3, flow=9, rate=RATE, count=RATE
        )
        joined = between.finish()
        sent = [sender.finish(early=True) for sender in senders]
        time.sleep(0.3)
        seen = [receiver.finish() for receiver in receivers]
        for flow, target in ((1, 1), (2, 1), (3, 2), (4, 3)):
            report = seen[target - 1][flow]
            assert (report.received, report.misrouted) == (sent[flow - 1], 0)
        assert seen[2][9].received == joined == RATE
        assert min(sent) > RATE


def test_who_is_kept_apart_is_told(require_tun: None, tmp_path: Path) -> None:
    """ping says so at once, for both families, instead of waiting in vain."""
    with hub(tmp_path) as around:
        one = around.hosts[1]
        for address, answer in (("10.5.0.3", "iltered"), ("fd05::3", "rohibited")):
            done = one.run("ping", "-n", "-c", "2", "-W", "2", address, check=False)
            assert answer in done.stdout
            assert ", 0 received" in done.stdout
        assert ping(one, "10.5.0.1", count=1).lost == 0
