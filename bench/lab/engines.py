"""Programs that implement a WireGuard device, each run and configured the same way.

Keys reach them through `wg` and its standard input, never on a command line.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab.network import Namespace
from lab.process import LabError, Process, run, wait_until
from lab.uapi import PeerStatus, Status, status

__all__ = [
    "ENGINES",
    "Engine",
    "EngineKind",
    "Identity",
    "PeerConfig",
    "engine_kind",
    "new_preshared_key",
]

_EXTRA_BIN = (Path.home() / "go/bin", Path.home() / ".cargo/bin")


@dataclass(frozen=True, slots=True)
class EngineKind:
    """How one implementation is called; `argv` is followed by the interface name."""

    name: str
    argv: tuple[str, ...]
    install: str
    environment: tuple[tuple[str, str], ...] = ()
    optional: bool = False  # no distribution has it: tests may skip it anywhere

    def find(self) -> EngineKind | None:
        """The same with a full path, None when it is not installed."""
        places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        places += [str(place) for place in _EXTRA_BIN]
        program = shutil.which(self.argv[0], path=os.pathsep.join(places))
        if program is None:
            return None
        return replace(self, argv=(program, *self.argv[1:]))


_UNPRIVILEGED = "--disable-drop-privileges"
ENGINES = {
    kind.name: kind
    for kind in (
        EngineKind("ours", (sys.executable, "-m", "tunnel.cli.wg", "-f"), "make test"),
        EngineKind(
            "wireguard-go", ("wireguard-go", "-f"), "apt-get install wireguard-go"
        ),
        EngineKind(
            "wireguard-go-newest",
            ("wireguard", "-f"),
            "go install golang.zx2c4.com/wireguard@latest",
            optional=True,
        ),
        EngineKind(
            "gotatun",
            ("gotatun", "-f", _UNPRIVILEGED),
            "cargo install gotatun-cli",
            optional=True,
        ),
        EngineKind(
            "boringtun",
            ("boringtun-cli", "-f", _UNPRIVILEGED),
            "cargo install boringtun-cli",
            optional=True,
        ),
    )
}


def engine_kind(name: str) -> EngineKind:
    """The installed engine of that name; LabError says how to get a missing one."""
    kind = ENGINES[name].find()
    if kind is None:
        raise LabError(f"{name} is not installed: {ENGINES[name].install}")
    return kind


@dataclass(frozen=True, slots=True)
class Identity:
    """An X25519 key pair in base64; made for one run and thrown away."""

    private_key: str
    public_key: str

    @classmethod
    def new(cls) -> Identity:
        private = run(["wg", "genkey"]).stdout
        return cls(private.strip(), run(["wg", "pubkey"], text=private).stdout.strip())

    def __repr__(self) -> str:
        return f"Identity({self.public_key})"


def new_preshared_key() -> str:
    return run(["wg", "genpsk"]).stdout.strip()


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """A [Peer] section of `wg setconf`."""

    public_key: str
    allowed_ips: Sequence[str]
    endpoint: str | None = None
    preshared_key: str | None = None
    keepalive: int = 0

    def render(self) -> str:
        lines = ["[Peer]", f"PublicKey = {self.public_key}"]
        lines.append(f"AllowedIPs = {', '.join(self.allowed_ips)}")
        if self.endpoint:
            lines.append(f"Endpoint = {self.endpoint}")
        if self.preshared_key:
            lines.append(f"PresharedKey = {self.preshared_key}")
        if self.keepalive:
            lines.append(f"PersistentKeepalive = {self.keepalive}")
        return "\n".join([*lines, ""])


class Engine:
    """One running engine, in the foreground, in a namespace."""

    def __init__(
        self, kind: EngineKind, host: Namespace, interface: str = "wg0"
    ) -> None:
        self.kind = kind
        self.host = host
        self.interface = interface
        self.process = self._start()

    @property
    def socket_path(self) -> Path:
        return self.host.path(f"/var/run/wireguard/{self.interface}.sock")

    def _start(self) -> Process:
        process = self.host.popen(
            *self.kind.argv, self.interface, env=dict(self.kind.environment)
        )

        def answers() -> bool:
            if not process.running:
                raise LabError(f"{self.kind.name} has ended:\n{process.output()}")
            try:
                status(self.socket_path)
            except OSError:
                return False
            return True

        try:
            wait_until(f"{self.kind.name} answers", answers, timeout=10, interval=0.005)
        except LabError:
            process.end()
            raise
        return process

    def restart(self) -> None:
        """A new process after the old one has ended; it has no configuration."""
        self.process.wait(5)
        self.process = self._start()

    def kill(self) -> None:
        """kill -9."""
        self.process.signal(signal.SIGKILL)
        self.process.wait(5)

    def end(self) -> int:
        return self.process.end()

    def wg(self, *argv: str, text: str | None = None) -> str:
        """`wg ARGS` in the engine's namespace; its output."""
        return self.host.run("wg", *argv, text=text).stdout

    def setconf(
        self,
        identity: Identity,
        peers: Sequence[PeerConfig],
        *,
        listen_port: int | None = None,
    ) -> None:
        lines = ["[Interface]", f"PrivateKey = {identity.private_key}"]
        if listen_port is not None:
            lines.append(f"ListenPort = {listen_port}")
        text = "\n".join([*lines, "", *(peer.render() for peer in peers)])
        self.wg("setconf", self.interface, "/dev/stdin", text=text)

    def addresses(self, *addresses: str, mtu: int = 1420) -> None:
        """Gives the interface its inside addresses (with prefix) and brings it up."""
        ip = self.host.ip
        for address in addresses:
            nodad = ["nodad"] if ":" in address else []
            ip("address", "add", address, "dev", self.interface, *nodad)
        ip("link", "set", self.interface, "mtu", str(mtu), "up")

    def status(self) -> Status:
        return status(self.socket_path)

    def peer(self) -> PeerStatus:
        """The status of its only peer."""
        (peer,) = self.status().peers
        return peer
