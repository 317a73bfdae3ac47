"""Packets see the peers before a change or those after it, never something between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tunnel.protocol.node import Node
from tunnel.protocol.peer import Peer
from tunnel.state.model import PeerState

from .rig import Running, host, number_of, packet, ping

MOVED = 9
FIRST = 1000  # number of these packets; those of pings are lower


def _sends_at_each_removal(
    hub: Running, far: Running, arrived: list[int]
) -> Callable[[Node, bytes, int], Peer | None]:
    """Node.remove_peer, behind which a packet for the moved prefix is sent at once."""
    real = Node.remove_peer

    def remove_peer(self: Node, key: bytes, now: int = 0) -> Peer | None:
        removed = real(self, key, now)
        hub.packets.send(packet(1, MOVED, FIRST + len(arrived)))
        while (number := number_of(far.packets.recv(5))) < FIRST:
            pass  # a ping that was sent anew came late
        arrived.append(number)
        return removed

    return remove_peer


def test_a_prefix_of_a_removed_peer_is_the_other_ones_before_its_keys_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While removed peers are forgotten, which takes a while if they are many, packets
    for their prefixes go to whoever has them now: none waits for a dying session."""
    with Running(1) as hub, Running(2) as going, Running(3) as staying:
        mine = host(2), host(MOVED)
        for far in (going, staying):
            far.add(far.peer(hub))
        idle = [PeerState(bytes([n]) * 32, allowed_ips=(host(n),)) for n in (50, 51)]
        hub.add(hub.peer(going, allowed_ips=mine), hub.peer(staying), *idle)
        ping(hub, going)
        ping(hub, staying)
        heir = replace(hub.peer(staying), allowed_ips=(host(3), host(MOVED)))
        arrived: list[int] = []
        hook = _sends_at_each_removal(hub, staying, arrived)
        monkeypatch.setattr(Node, "remove_peer", hook)
        hub.change(peers={heir.public_key: heir})
        assert arrived == [FIRST, FIRST + 1, FIRST + 2]
        counters = hub.call(lambda e: e.device.pump.counters())
        assert counters["drop.tx_purged"] == 0
        assert hub.handshakes() == 2
