"""Counted traffic for the demonstration: numbered packets one way, and what arrived.

`python -m tunnel.cli.traffic LOCAL REMOTE PORT RATE` sends from and listens on one
address; a line of JSON with the counts comes out several times a second. A first line
on standard input starts the sending, a second ends it, its end ends the process.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

__all__ = ["Counts", "Flow", "main"]

_NUMBER = struct.Struct(">Q")
_PAYLOAD = 64
_REPORT = 0.2  # seconds


@dataclass(slots=True)
class Counts:
    """Packets of one end."""

    sent: int = 0
    received: int = 0
    duplicated: int = 0


class Flow:
    """Numbered packets at a steady rate through `send`, and those that `receive`
    returns; `receive` raises TimeoutError (or OSError at the end) when nothing came."""

    def __init__(
        self,
        send: Callable[[bytes], object],
        receive: Callable[[], bytes],
        rate: int,
    ) -> None:
        """`rate` is in packets per second."""
        self.counts = Counts()
        self._send = send
        self._receive = receive
        self._rate = rate
        self._sending = threading.Event()
        self._running = threading.Event()
        self._threads = [
            threading.Thread(target=self._sender, daemon=True),
            threading.Thread(target=self._receiver, daemon=True),
        ]

    def start(self) -> None:
        self._sending.set()
        self._running.set()
        for thread in self._threads:
            thread.start()

    def stop_sending(self) -> None:
        self._sending.clear()
        self._threads[0].join()

    def close(self) -> None:
        self._sending.clear()
        self._running.clear()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _sender(self) -> None:
        began = time.monotonic()
        filling = bytes(_PAYLOAD - _NUMBER.size)
        while self._sending.is_set():
            due = int((time.monotonic() - began) * self._rate)
            while self.counts.sent < due:
                self._send(_NUMBER.pack(self.counts.sent) + filling)
                self.counts.sent += 1
            time.sleep(0.002)

    def _receiver(self) -> None:
        seen = bytearray()
        while self._running.is_set():
            try:
                payload = self._receive()
            except TimeoutError:
                continue
            except OSError:
                return
            (number,) = _NUMBER.unpack_from(payload)
            if number >= len(seen):
                seen.extend(bytes(number + 65_536 - len(seen)))
            self.counts.duplicated += seen[number]
            self.counts.received += not seen[number]
            seen[number] = 1


def main(local: str, remote: str, port: int, rate: int) -> None:
    """One end between two addresses, as a process of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((local, port))
        s.settimeout(0.2)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        flow = Flow(lambda p: s.sendto(p, (remote, port)), lambda: s.recv(2048), rate)
        ended = threading.Event()

        def commands() -> None:
            if sys.stdin.readline():
                flow.start()
                sys.stdin.readline()
                flow.stop_sending()
                sys.stdin.read()
            ended.set()

        threading.Thread(target=commands, daemon=True).start()
        while not ended.wait(_REPORT):
            print(json.dumps(asdict(flow.counts)), flush=True)
        flow.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
