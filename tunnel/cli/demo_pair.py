"""What both kinds of the demonstration share: the configurations, and waiting."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunnel.cli.status import ask
from tunnel.cli.traffic import Counts
from tunnel.errors import TunnelError

__all__ = ["PORT", "RATE", "Ends", "Pair", "await_handshakes", "new_pair", "until"]

RATE = 2000  # packets a second and direction
PORT = 7000


@dataclass(frozen=True, slots=True)
class Pair:
    """The configuration of both ends and where they are inside the tunnel."""

    server: Path
    client: Path
    server_address: str
    client_address: str
    server_interface: str
    client_interface: str


class Ends(Protocol):
    """Two tunnels with traffic between them; `names` are their control sockets."""

    where: str
    names: tuple[str, str]
    pair: Pair

    def start(self) -> None: ...
    def counts(self) -> tuple[Counts, Counts]: ...
    def stop_sending(self) -> None: ...
    def close(self) -> None: ...


@contextlib.contextmanager
def new_pair(
    config: Path, endpoint: str, *, memory: bool
) -> Iterator[tuple[Path, Pair]]:
    """A directory for the demonstration, removed at the end, and `_make_pair` in it."""
    with tempfile.TemporaryDirectory(
        prefix="tunnel-demo-", ignore_cleanup_errors=True
    ) as name:
        where = Path(name)
        yield where, _make_pair(config, where, endpoint, memory=memory)


def _make_pair(config: Path, where: Path, endpoint: str, *, memory: bool) -> Pair:
    """Copies the server's configuration into `where` and writes a client for its
    first peer; with `memory` both are loopback tunnels. Raises TunnelError when it is
    not one that this works for."""
    from tunnel.config.store import load_config

    load_config(config)  # says what is wrong with it; makes its psk file
    facts = json.loads(config.read_text())
    tunnel, peers = facts.get("tunnel", {}), facts.get("peers", [])
    if facts.get("mode") != "server" or "psk" not in facts or not peers:
        raise TunnelError(
            f"{config}: the demonstration needs a server with psk and peers",
            hint="use the config.json that comes with the project",
        )
    psk = facts["psk"]
    if isinstance(psk, dict) and "file" in psk:
        facts["psk"] = psk = {"file": str((config.parent / psk["file"]).resolve())}
    try:
        server_address = tunnel["address"].partition("/")[0]
        client_address = peers[0]["allowedIPs"][0].partition("/")[0]
    except (KeyError, IndexError, AttributeError) as error:
        raise TunnelError(
            f"{config}: the demonstration needs one tunnel.address, and allowedIPs of "
            "the first peer",
            hint="use the config.json that comes with the project",
        ) from error
    server_name = tunnel.get("name", "tunnel0")
    facts["listen"] = endpoint.rpartition(":")[2]
    facts["listen"] = f":{facts['listen']}"
    facts.pop("management", None)
    if memory:
        tunnel |= {"type": "loopback", "autoConfigure": False}
    facts["tunnel"] = tunnel
    client = {
        "mode": "client",
        "name": peers[0]["name"],
        "endpoint": endpoint,
        "psk": psk,
        "keepalive": facts.get("keepalive", 25),
        "tunnel": {
            "type": tunnel.get("type", "tun"),
            "name": "tun-demo1",
            "mtu": tunnel.get("mtu", 1420),
            "address": f"{client_address}/{tunnel['address'].partition('/')[2]}",
            "autoConfigure": True,
        },
        "peers": [
            {
                "name": facts.get("name", "server"),
                "allowedIPs": [f"{server_address}/32"],
            }
        ],
    }
    paths = where / "server.json", where / "client.json"
    for path, content in zip(paths, (facts, client), strict=True):
        path.write_text(json.dumps(content, indent=2))
        path.chmod(0o600)
    return Pair(*paths, server_address, client_address, server_name, "tun-demo1")


def until(what: str, condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TunnelError(f"did not happen in {seconds:g} s: {what}")
        time.sleep(0.02)


def await_handshakes(names: tuple[str, str]) -> None:
    """The client's keepalive starts one; until then the server knows no address."""

    def connected() -> bool:
        return all(any(p.latest_handshake for p in ask(n).peers) for n in names)

    until("a handshake", connected)
