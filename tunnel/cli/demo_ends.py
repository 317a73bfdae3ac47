"""The two ends of the demonstration: in two network namespaces, or in one process.

Both run the server's configuration as it is in the file and a client made to match.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tunnel.cli.status import ask
from tunnel.cli.traffic import Counts, Flow
from tunnel.errors import TunnelError
from tunnel.io.memory import TunUser

if TYPE_CHECKING:
    from tunnel.engine import Engine

__all__ = ["Ends", "InProcess", "Namespaces", "Pair", "make_pair", "namespaces_work"]

RATE = 2000  # packets a second and direction
_PORT = 7000
_OUTSIDE = ("192.0.2.1", "192.0.2.2")  # RFC 5737: documentation only


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


def make_pair(config: Path, where: Path, endpoint: str, *, memory: bool) -> Pair:
    """Copies the server's configuration into `where` and writes a client for its
    first peer; with `memory` both are loopback tunnels. Raises TunnelError when it is
    not one that this works for."""
    from tunnel.config.store import load_config

    facts = json.loads(config.read_text())
    load_config(config)  # says what is wrong with it; makes its psk file
    tunnel, peers = facts.get("tunnel", {}), facts.get("peers", [])
    if facts.get("mode") != "server" or "psk" not in facts or not peers:
        raise TunnelError(
            f"{config}: the demonstration needs a server with psk and peers",
            hint="use the config.json that comes with the project",
        )
    psk = facts["psk"]
    if isinstance(psk, dict) and "file" in psk:
        facts["psk"] = psk = {"file": str((config.parent / psk["file"]).resolve())}
    server_address = tunnel["address"].partition("/")[0]
    client_address = peers[0]["allowedIPs"][0].partition("/")[0]
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


def namespaces_work() -> bool:
    """Root, a TUN device and `ip` are there."""
    return (
        os.geteuid() == 0
        and Path("/dev/net/tun").exists()
        and shutil.which("ip") is not None
    )


class Namespaces:
    """Each end in a network namespace of its own, with a real TUN device."""

    where = "two network namespaces, real TUN devices"

    def __init__(self, config: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._directory = Path(tempfile.mkdtemp(prefix="tunnel-demo-"))
        self._stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self.pair = make_pair(
            config, self._directory, f"{_OUTSIDE[0]}:51820", memory=False
        )
        self.names = (self.pair.server_interface, self.pair.client_interface)
        self._spaces = tuple(f"tnl-demo-{os.getpid()}-{end}" for end in "sc")
        self._counts = [Counts(), Counts()]
        self._reports: set[int] = set()
        self._traffic: list[subprocess.Popen[str]] = []
        os.environ["TUNNEL_RUN_DIR"] = str(self._directory)

    def start(self) -> None:
        self._make_network()
        for space, config in zip(
            self._spaces, (self.pair.server, self.pair.client), strict=True
        ):
            self._spawn(space, "tunnel", "up", str(config), "--log-level", "error")
        for name in self.names:
            _until(f"{name} answers", (self._directory / f"{name}.sock").exists)
        _await_handshakes(self.names)
        inside = (self.pair.server_address, self.pair.client_address)
        for end, (local, remote) in enumerate((inside, inside[::-1])):
            process = self._spawn(
                self._spaces[end],
                "tunnel.cli.traffic",
                *(local, remote, str(_PORT), str(RATE)),
                pipes=True,
            )
            self._traffic.append(process)
            threading.Thread(target=self._read, args=(end,), daemon=True).start()
        _until("both ends listen", lambda: self._reports == {0, 1})
        self._tell("start")

    def _make_network(self) -> None:
        for space in self._spaces:
            _ip("netns", "add", space)
            self._stack.callback(_ip, "netns", "del", space, check=False)
        first, second = self._spaces
        link = ("veth0", "netns", first, "type", "veth", "peer", "veth0")
        _ip("link", "add", *link, "netns", second)
        for space, address in zip(self._spaces, _OUTSIDE, strict=True):
            _ip("-n", space, "address", "add", f"{address}/24", "dev", "veth0")
            for device in ("lo", "veth0"):
                _ip("-n", space, "link", "set", device, "up")

    def _spawn(
        self, space: str, module: str, *arguments: str, pipes: bool = False
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", space, sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else None,
            text=True,
        )
        self._stack.callback(_end, process)
        return process

    def _read(self, end: int) -> None:
        output = self._traffic[end].stdout
        assert output is not None
        for line in output:
            self._counts[end] = Counts(**json.loads(line))
            self._reports.add(end)

    def counts(self) -> tuple[Counts, Counts]:
        return self._counts[0], self._counts[1]

    def _tell(self, word: str) -> None:
        for process in self._traffic:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

    def stop_sending(self) -> None:
        self._tell("stop")
        time.sleep(1)  # what is on its way arrives, and is reported

    def close(self) -> None:
        self._stack.close()


class InProcess:
    """Both ends in this process: in-memory TUN, real UDP on 127.0.0.1."""

    where = "one process, in-memory TUN, UDP on 127.0.0.1"

    def __init__(self, config: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._directory = Path(tempfile.mkdtemp(prefix="tunnel-demo-"))
        self._stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        port = _free_port()
        self.pair = make_pair(config, self._directory, f"127.0.0.1:{port}", memory=True)
        self.names = (self.pair.server_interface, self.pair.client_interface)
        self._flows: list[Flow] = []
        os.environ["TUNNEL_RUN_DIR"] = str(self._directory)

    def start(self) -> None:
        addresses = (self.pair.server_address, self.pair.client_address)
        for end, config in enumerate((self.pair.server, self.pair.client)):
            user = self._run_tunnel(config)
            header = _header(addresses[end], addresses[1 - end])
            self._flows.append(_flow(user, header))
        _await_handshakes(self.names)
        for flow in self._flows:
            flow.start()
            self._stack.callback(flow.close)

    def _run_tunnel(self, config: Path) -> TunUser:
        """One tunnel with its thread; returns the user's end of its TUN."""
        from tunnel.cli.up import serve
        from tunnel.config.desired import desired_state
        from tunnel.config.store import load_config

        loaded = load_config(config)
        desired = desired_state(loaded)
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
    udp = struct.pack(">HHHH", _PORT, _PORT, 8 + 64, 0)
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


def _ip(*arguments: str, check: bool = True) -> None:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise TunnelError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _until(what: str, condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TunnelError(f"did not happen in {seconds:g} s: {what}")
        time.sleep(0.02)


def _await_handshakes(names: tuple[str, str]) -> None:
    """The client's keepalive starts one; until then the server knows no address."""

    def connected() -> bool:
        return all(any(p.latest_handshake for p in ask(n).peers) for n in names)

    _until("a handshake", connected)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
