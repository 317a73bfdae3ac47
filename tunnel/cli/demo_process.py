"""The two ends of the demonstration in this process, with their insides in memory."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tunnel.cli.demo_pair import PORT, RATE, await_handshakes, new_pair
from tunnel.cli.traffic import Counts, Flow
from tunnel.errors import TunnelError
from tunnel.io.memory import TunUser

if TYPE_CHECKING:
    from tunnel.engine import Engine

__all__ = ["InProcess"]


class InProcess:
    """Both ends in this process: in-memory TUN, real UDP on 127.0.0.1."""

    where = "one process, in-memory TUN, UDP on 127.0.0.1"

    def __init__(self, config: Path) -> None:
        self._stack = contextlib.ExitStack()
        outside = f"127.0.0.1:{_free_port()}"
        self._directory, self.pair = self._stack.enter_context(
            new_pair(config, outside, memory=True)
        )
        self.names = (self.pair.server_interface, self.pair.client_interface)
        self._flows: list[Flow] = []
        os.environ["TUNNEL_RUN_DIR"] = str(self._directory)

    def start(self) -> None:
        addresses = (self.pair.server_address, self.pair.client_address)
        for end, config in enumerate((self.pair.server, self.pair.client)):
            user = self._run_tunnel(config)
            header = _header(addresses[end], addresses[1 - end])
            self._flows.append(_flow(user, header))
        await_handshakes(self.names)
        for flow in self._flows:
            flow.start()
            self._stack.callback(flow.close)

    def _run_tunnel(self, config: Path) -> TunUser:
        """One tunnel with its thread; returns the user's end of its TUN."""
        from tunnel.cli.up import serve
        from tunnel.config.desired import desired_state
        from tunnel.config.store import load_config
        from tunnel.turns import look_up, run_here

        loaded = load_config(config)
        desired = run_here(lambda: desired_state(loaded, look_up))
        ready: list[Engine] = []
        started = threading.Event()

        def body() -> None:
            try:
                with serve(
                    desired, config=loaded, path=config, signals=False
                ) as tunnel:
                    ready.append(tunnel.engine)
                    started.set()
                    tunnel.engine.run()
            finally:
                started.set()

        thread = threading.Thread(target=body)
        thread.start()
        started.wait()
        if not ready:
            raise TunnelError("one end did not start")
        self._stack.callback(thread.join)
        self._stack.callback(ready[0].stop)
        user: TunUser = ready[0].packets
        return user

    def counts(self) -> tuple[Counts, Counts]:
        return self._flows[0].counts, self._flows[1].counts

    def stop_sending(self) -> None:
        for flow in self._flows:
            flow.stop_sending()
        time.sleep(0.5)

    def close(self) -> None:
        self._stack.close()


def _header(source: str, destination: str) -> bytes:
    """IPv4 and UDP headers for the payload of `Flow` (64 bytes), checksums included."""
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x45, 0, 28 + 64, 0, 0, 64, 17, 0,
        socket.inet_aton(source), socket.inet_aton(destination),
    )  # fmt: skip
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    udp = struct.pack(">HHHH", PORT, PORT, 8 + 64, 0)
    return head[:10] + struct.pack(">H", checksum) + head[12:] + udp


def _flow(user: TunUser, header: bytes) -> Flow:
    def send(payload: bytes) -> None:
        user.send(header + payload, 1)

    return Flow(send, lambda: _payload(user.recv(0.2)), RATE)


def _payload(packet: bytes) -> bytes:
    """What `Flow` sent; TimeoutError for anything else that comes through."""
    if len(packet) != 28 + 64 or packet[9] != socket.IPPROTO_UDP:
        raise TimeoutError
    return packet[28:]


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
