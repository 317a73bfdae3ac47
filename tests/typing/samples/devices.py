"""Every device and transport is what the contracts in tunnel.io.base ask for."""

from __future__ import annotations

from tunnel.io.base import TunDevice, UdpTransport
from tunnel.io.memory import MemoryTun, MemoryUdp, memory_tun, memory_udp
from tunnel.io.tun import open_tun, tun_from_fd
from tunnel.io.tun_linux import LinuxTun
from tunnel.io.udp import UdpSockets
from tunnel.netconfig import linux, windows
from tunnel.netconfig.interface import Planner

tuns: list[type[TunDevice]] = [LinuxTun, MemoryTun]
transports: list[type[UdpTransport]] = [UdpSockets, MemoryUdp]
planners: list[Planner] = [linux.commands, windows.commands]


def devices(fd: int) -> list[TunDevice]:
    return [open_tun("wg0", mtu=1420), tun_from_fd(fd), memory_tun()[0]]


def sockets(here: tuple[bytes, int, int]) -> list[UdpTransport]:
    return [UdpSockets.bind(51820), *memory_udp(here, here)]
