"""`tunnel merge --running`: our own tunnel, and any other engine's UAPI."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tunnel.api.uapi_server import UapiServer
from tunnel.api.uapi_socket import bind_socket, socket_path
from tunnel.cli.main import app
from tunnel.cli.up import serve
from tunnel.config.desired import desired_state
from tunnel.config.store import parse_config
from tunnel.engine import Engine
from tunnel.fleet.running import set_text, state_of
from tunnel.state.model import DeviceState, PeerState, Secret
from tunnel.state.plan import diff


def key(n: int) -> str:
    return b64encode(bytes([n]) * 32).decode()


def entry(name: str, n: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "publicKey": key(n),
        "allowedIPs": [f"10.0.0.{n}/32"],
        **more,
    }


PEERS = [
    entry("cm4", 3, endpoint="127.0.0.1:9"),
    entry("s2204", 4, presharedKey=key(9)),
    entry("off", 5, enabled=False),
]


class Served:
    """One tunnel with its control socket, in a thread."""

    def __init__(self, *, managed: bool) -> None:
        self.ready = threading.Event()
        self.failure: BaseException | None = None
        run = self._managed if managed else self._plain
        self.thread = threading.Thread(target=self._guard, args=(run,), daemon=True)
        self.thread.start()
        assert self.ready.wait(30)
        assert self.failure is None

    def _guard(self, run: Any) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.failure = error
            self.ready.set()

    def _config(self) -> Any:
        return parse_config(
            json.dumps(
                {
                    "mode": "server",
                    "privateKey": key(72),
                    "listen": 0,
                    "tunnel": {"type": "loopback", "name": "merge0"},
                    "peers": PEERS,
                }
            )
        )

    def _managed(self) -> None:
        config = self._config()
        with serve(desired_state(config), config=config, signals=False) as served:
            self.engine = getattr(served, "engine", served)
            self.ready.set()
            self.engine.run()

    def _plain(self) -> None:
        state = desired_state(self._config())
        engine = self.engine = Engine(state.interface)
        server = UapiServer(
            engine.loop,
            engine.device,
            bind_socket("merge0"),
            path=socket_path("merge0"),
            on_gone=engine.loop.stop,
        )
        engine.start(state)
        self.ready.set()
        engine.run()
        server.close()
        engine.close()

    def observe(self) -> DeviceState:
        device = self.engine.device
        return self.engine.submit(device.observe).result(30)

    def stop(self) -> None:
        self.engine.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture(params=[True, False], ids=["ours", "any"])
def served(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    running = Served(managed=request.param)
    running.managed = request.param  # type: ignore[attr-defined]
    yield running
    running.stop()


def merge(peers: object, *words: str) -> str:
    Path("p.json").write_text(json.dumps(peers))
    result = CliRunner().invoke(app, ["merge", "p.json", "--running", *words])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_new_added_known_updated_others_kept(served: Served) -> None:
    before = served.observe()
    change = [
        entry("new", 7, endpoint="127.0.0.1:7", presharedKey=key(8)),
        {"publicKey": key(4), "allowedIPs": ["10.0.0.4", "10.0.0.40"]},
    ]
    assert "2 updated" not in merge(change, "--dry-run")
    assert served.observe() == before
    said = merge(change, "merge0")
    assert "+1 peer(s), 1 updated" in said
    assert key(8) not in said
    peers = served.observe().peers
    assert peers[bytes([3]) * 32] == before.peers[bytes([3]) * 32]
    changed = peers[bytes([4]) * 32]
    assert len(changed.allowed_ips) == 2
    assert changed.preshared_key == Secret(bytes([9]) * 32)
    added = peers[bytes([7]) * 32]
    assert added.endpoint == (bytes([127, 0, 0, 1]), 7, 0)
    assert added.preshared_key == Secret(bytes([8]) * 32)
    assert "nothing to change" in merge(change)


def test_prune(served: Served) -> None:
    merge([{"publicKey": key(4)}], "--prune")
    assert list(served.observe().peers)[:1] == [bytes([4]) * 32]
    assert bytes([3]) * 32 not in served.observe().peers


def test_names_are_those_of_the_running_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new key for a name, another name for a key, a peer that is disabled."""
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    served = Served(managed=True)
    try:
        before = served.observe().peers
        merge(
            [
                {"name": "cm4", "publicKey": key(13)},
                {"name": "renamed", "publicKey": key(4)},
                {"name": "off", "persistentKeepalive": 5},
            ]
        )
        after = served.observe().peers
        assert bytes([3]) * 32 not in after
        rotated, old = after[bytes([13]) * 32], before[bytes([3]) * 32]
        assert (rotated.name, rotated.endpoint, rotated.allowed_ips) == (
            "cm4",
            old.endpoint,
            old.allowed_ips,
        )
        assert after[bytes([4]) * 32].name == "renamed"
        off = after[bytes([5]) * 32]
        assert (off.enabled, off.keepalive) == (False, 5)
    finally:
        served.stop()


def test_a_set_does_what_the_plan_says() -> None:
    one = PeerState(b"a" * 32, preshared_key=Secret(b"p" * 32), keepalive=5)
    two = PeerState(b"a" * 32, allowed_ips=((bytes(4), 0),))
    before, after = (DeviceState(peers={p.public_key: p}) for p in (one, two))
    text = set_text(diff(before, after, generation=0).actions)
    assert text == (
        f"set=1\npublic_key={(b'a' * 32).hex()}\nupdate_only=true\n"
        f"preshared_key={'0' * 64}\npersistent_keepalive_interval=0\n"
        "replace_allowed_ips=true\nallowed_ip=0.0.0.0/0\n\n"
    )
    pairs = [tuple(line.split("=", 1)) for line in text.splitlines()[1:-1]]
    known = [pair for pair in pairs if pair[0] != "update_only"]
    assert state_of(known, "x").peers == after.peers  # type: ignore[arg-type]
