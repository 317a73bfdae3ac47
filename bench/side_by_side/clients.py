"""Thousands of clients of one engine, each with an address of its own, and the socket
that plays them all."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from lab.network import Namespace

from side_by_side.callers import Caller, make_callers

__all__ = [
    "GENERATION",
    "INSIDE",
    "OUTSIDE",
    "PORT",
    "Client",
    "make_clients",
    "nth",
    "pktinfo",
    "players_socket",
]

OUTSIDE = "10.65.0.0/16"  # the clients' addresses, as the engine sees them
INSIDE = "10.64.0.0/16"  # in the tunnel
PORT = 40_000
BUFFER_BYTES = 64 << 20
GENERATION = 1 << 20
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_IP_PKTINFO = 8


@dataclass(slots=True)
class Client:
    """Its caller's index on the wire is its place in the list plus one, and a multiple
    of GENERATION that says which initiation it was."""

    caller: Caller
    control: list[tuple[int, int, bytes]]  # makes a datagram leave from its address
    inside: str
    cookie: bytes = b""
    echoed: bool = False


def nth(network: str, number: int) -> str:
    return str(IPv4Address(network.partition("/")[0]) + number)


def pktinfo(address: str) -> list[tuple[int, int, bytes]]:
    """Control messages that make a datagram leave from `address`."""
    info = struct.pack("=i4s4x", 0, socket.inet_aton(address))
    return [(socket.IPPROTO_IP, _IP_PKTINFO, info)]


def players_socket(host: Namespace) -> socket.socket:
    """In `host`, for every address of OUTSIDE; it does not block."""
    host.ip("route", "add", "local", OUTSIDE, "dev", "lo")
    sock = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    sock.bind(("0.0.0.0", PORT))
    sock.setblocking(False)
    return sock


def make_clients(count: int, server_public: bytes) -> list[Client]:
    """With one initiation each, which a server that is new can be called with."""
    clients = []
    for number, caller in enumerate(make_callers(count, server_public), 1):
        control = pktinfo(nth(OUTSIDE, number))
        clients.append(Client(caller, control, nth(INSIDE, number)))
    return clients
