"""A running loopback tunnel with its manager, and a client for the API before it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tunnel.api.http import guarded
from tunnel.config.desired import desired_state
from tunnel.config.schema import Config
from tunnel.config.store import load_config
from tunnel.engine import Engine
from tunnel.manager import Manager
from tunnel.state.model import DeviceState

T = TypeVar("T")

TOKEN = "a-token-for-these-tests"
BIND = "127.0.0.1:7777"
PRIVATE = bytes([200]) * 31 + b"\x48"
PRESHARED = bytes([201]) * 31 + b"\x48"


def key(number: int) -> bytes:
    return bytes([number]) * 31 + b"\x40"


def text(raw: bytes) -> str:
    return b64encode(raw).decode()


def entry(number: int, **fields: Any) -> dict[str, Any]:
    """A peer as the configuration has it."""
    return {
        "name": f"peer{number}",
        "publicKey": text(key(number)),
        "endpoint": f"192.0.2.{number}:51820",
        "allowedIPs": [f"10.0.0.{number}/32"],
        "persistentKeepalive": 25,
    } | fields


NEW = {
    "public_key": text(key(4)),
    "name": "peer4",
    "allowed_ips": ["10.0.0.4/32"],
    "preshared_key": text(PRESHARED),
    "persistent_keepalive": 25,
}


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def document() -> dict[str, Any]:
    return {
        "mode": "server",
        "listen": 0,
        "privateKey": text(PRIVATE),
        "tunnel": {"type": "loopback", "name": "fake0", "address": "10.0.0.200/24"},
        "peers": [
            entry(1, presharedKey=text(PRESHARED)),
            entry(2),
            entry(3, enabled=False),
        ],
        "management": {"bind": BIND},
        "logging": {"level": "error"},
    }


class Tunnel:
    """Engine and manager in a thread; `wanted` is the configuration file's content."""

    def __init__(self, directory: Path, wanted: dict[str, Any] | None = None) -> None:
        self.path = directory / "config.json"
        self.wanted = wanted or document()
        self.write()
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        if self._failure is not None:
            raise self._failure

    def write(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.wanted))
        new.replace(self.path)

    def _run(self) -> None:
        try:
            config = load_config(self.path)
            desired = desired_state(config)
            self.engine = Engine(desired.interface)
            try:
                self._serve(config, desired)
            finally:
                self.engine.close()
        except BaseException as error:  # noqa: BLE001 - the test gets it
            self._failure = error
            self._ready.set()

    def _serve(self, config: Config, desired: DeviceState) -> None:
        self.manager = Manager(self.engine, path=self.path, config=config)
        self.engine.start(desired)
        self._ready.set()
        self.engine.run()
        self.manager.close()

    def call(self, function: Callable[[], T]) -> T:
        return self.engine.submit(function).result(10)

    def close(self) -> None:
        self.engine.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self._failure is None


class Api:
    """Requests to the guarded application without a socket; keeps all answers."""

    def __init__(self, tunnel: Tunnel, bind: str = BIND) -> None:
        self.tunnel = tunnel
        self.app = guarded(tunnel.engine, tunnel.manager, token=TOKEN, bind=bind)
        self.answers: list[httpx.Response] = []

    def __call__(
        self,
        method: str,
        path: str,
        *,
        client: tuple[str, int] | None = ("127.0.0.1", 40000),
        token: str | None = TOKEN,
        host: str = BIND,
        headers: dict[str, str] | None = None,
        **rest: Any,
    ) -> httpx.Response:
        all_headers = {"host": host} | (headers or {})
        if token is not None:
            all_headers.setdefault("authorization", f"Bearer {token}")

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=client)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport) as session:
                return await session.request(
                    method, f"http://{BIND}{path}", headers=all_headers, **rest
                )

        answer = asyncio.run(ask())
        self.answers.append(answer)
        return answer

    def get(self, path: str, **rest: Any) -> httpx.Response:
        return self("GET", path, **rest)

    def post(self, path: str, **rest: Any) -> httpx.Response:
        return self("POST", path, **rest)

    def want(self, **members: Any) -> None:
        """Writes these members of the configuration."""
        self.tunnel.wanted |= members
        self.tunnel.write()

    def want_peers(self, *numbers: int) -> None:
        known = {one["name"]: one for one in self.tunnel.wanted["peers"]}
        self.want(peers=[known.get(f"peer{n}", entry(n)) for n in numbers])

    @property
    def peers(self) -> list[int]:
        """The numbers of the peers that run."""
        return [k[0] for k in self.tunnel.engine.device.state.peers]

    @property
    def generation(self) -> int:
        return self.tunnel.engine.device.generation


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The document of a refusal, which has to be a proper one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == "about:blank"
    assert document["status"] == status
    assert document["code"] == code
    assert document["title"]
    assert document["detail"]
    assert document["success"] is False
    return document
