"""Two tunnels in this process whose first one follows a configuration file."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tunnel.api.client import UapiClient
from tunnel.cli.up import Served, serve
from tunnel.config.reload import Source
from tunnel.io.memory import TunUser
from tunnel.loop import Timer
from tunnel.protocol.primitives import PrivateKey
from tunnel.reloads import ReloadEvent
from tunnel.state.model import clamp

T = TypeVar("T")
Json = dict[str, Any]


def text_key(raw: bytes) -> str:
    return b64encode(raw).decode()


def new_key() -> str:
    """Somebody's public key."""
    return text_key(os.urandom(32))


def free_ports(count: int) -> list[int]:
    """As many different ones."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            stack.enter_context(sock).bind(("127.0.0.1", 0))
            ports.append(int(sock.getsockname()[1]))
        return ports


def eventually(condition: Callable[[], object], seconds: float = 5) -> None:
    """Looks a hundred times a second; the time in which the machine stands still does
    not count."""
    for _ in range(round(seconds * 100)):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


class End:
    """A tunnel as `tunnel up` runs it, in a thread; `facts` is its config.json."""

    def __init__(self, directory: Path, facts: Json) -> None:
        self.facts = facts
        self.path = directory / f"{facts['tunnel']['name']}.json"
        self.write(facts)
        self.failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            attempt = Source(self.path).attempt()
            assert attempt.error is None, attempt.error
            assert attempt.config is not None
            assert attempt.desired is not None
            with serve(
                attempt.desired,
                config=attempt.config,
                path=self.path,
                digest=attempt.digest,
                signals=False,
            ) as served:
                self.served: Served = served
                self._ready.set()
                served.engine.run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error
        finally:
            self._ready.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        assert self.failure is None, self.failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.served.engine.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self.failure is None, self.failure

    # --- the file

    def write(self, facts: Json | str) -> None:
        """Replaces the file by a rename."""
        text = facts if isinstance(facts, str) else json.dumps(facts, indent=2) + "\n"
        temporary = self.path.with_suffix(".new")
        temporary.write_text(text)
        temporary.rename(self.path)

    def with_peers(self, *peers: Json) -> Json:
        return self.facts | {"peers": [*self.facts["peers"], *peers]}

    # --- the tunnel

    def call(self, function: Callable[[Served], T]) -> T:
        served = self.served
        return served.engine.submit(lambda: function(served)).result(10)

    def control(self, do: str, **values: object) -> Any:
        with UapiClient(self.facts["tunnel"]["name"]) as client:
            return client.control(do, **values)

    def uapi(self, text: str) -> list[tuple[str, str]]:
        with UapiClient(self.facts["tunnel"]["name"]) as client:
            return client.request(text)

    def peer_names(self) -> list[str]:
        return self.call(
            lambda s: [p.name for p in s.engine.device.observe().peers.values()]
        )

    def events(self, source: str = "") -> list[ReloadEvent]:
        events = self.call(lambda s: list(s.manager.history))
        return [e for e in events if source in ("", e.source)]

    def generation(self) -> int:
        return self.call(lambda s: s.engine.device.generation)

    def handshakes(self) -> int:
        counters = self.call(lambda s: dict(s.engine.device.status().counters))
        return sum(counters.get(f"{k}.received", 0) for k in ("initiation", "response"))

    def trial_timer(self) -> Timer:
        """What ends the time of the change on trial."""
        timer = self.call(lambda s: s.manager.trial._timer)
        assert timer is not None
        return timer

    def expire(self, timer: Timer) -> None:
        """As if its time were over, which it is at once if it was not cancelled."""
        self.call(lambda _: timer.run())

    @property
    def packets(self) -> TunUser:
        end: TunUser = self.served.engine.packets
        return end


def _facts(n: int, name: str, private: bytes, port: int, peer: Json) -> Json:
    return {
        "mode": "server",
        "listen": port,
        "privateKey": text_key(private),
        "tunnel": {
            "type": "loopback",
            "name": name,
            "address": f"10.0.0.{n}/24",
        },
        "peers": [peer],
        "logging": {"level": "info"},
    }


def make_pair(directory: Path) -> tuple[End, End]:
    """Ends 1 and 2, peers of each other; the files of both are in `directory`."""
    keys = [clamp(os.urandom(32)) for _ in range(2)]
    ports = free_ports(2)
    names = [f"one{os.getpid()}", f"two{os.getpid()}"]
    ends = []
    for n in (0, 1):
        far = 1 - n
        peer = {
            "name": "far",
            "publicKey": text_key(PrivateKey(keys[far]).public),
            "endpoint": f"127.0.0.1:{ports[far]}",
            "allowedIPs": [f"10.0.0.{far + 1}/32"],
        }
        facts = _facts(n + 1, names[n], keys[n], ports[n], peer)
        ends.append(End(directory, facts))
    return ends[0], ends[1]


ENOUGH = 100  # packets, to mean something


class Traffic:
    """Numbered packets from one end to the other, until it is stopped and there were
    enough."""

    def __init__(self, one: End, two: End, pause: float = 0.001) -> None:
        self._from, self._to = one.packets, two.packets
        self._pause = pause
        self._stop = threading.Event()
        self.sent = 0
        self.received: list[int] = []
        self._sender = threading.Thread(target=self._send)
        self._receiver = threading.Thread(target=self._receive)

    def __enter__(self) -> Self:
        self._from.send(_packet(2**40))  # makes the session
        self._to.recv(20)
        self._sender.start()
        self._receiver.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            eventually(lambda: self.sent > ENOUGH, 20)
            self._stop.set()
            self._sender.join()
            with suppress(AssertionError):  # `check` says what is missing
                eventually(lambda: len(self.received) >= self.sent, 5)
        finally:
            self._stop.set()
            self._finished = True
            self._receiver.join()

    _finished = False

    def _send(self) -> None:
        while not self._stop.wait(self._pause):
            self._from.send(_packet(self.sent), 10)
            self.sent += 1

    def _receive(self) -> None:
        while not self._finished:
            try:
                data = self._to.recv(0.1)
            except TimeoutError:
                continue
            self.received.append(struct.unpack_from(">Q", data, 20)[0])

    def check(self) -> None:
        """Every packet arrived once, in order."""
        assert self.received == list(range(self.sent))


def _packet(number: int) -> bytes:
    payload = struct.pack(">Q", number) + bytes(32)
    return (
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, 253, 0)
        + bytes([10, 0, 0, 1])
        + bytes([10, 0, 0, 2])
        + payload
    )
