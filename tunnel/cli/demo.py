"""`tunnel demo`: traffic through two ends while one's peers change all the time.

Ends with a plain verdict; exit code 0 only if nothing was lost or duplicated.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tunnel.api.client import UapiClient
from tunnel.cli.demo_pair import RATE, Ends
from tunnel.cli.demo_process import InProcess
from tunnel.cli.demo_spaces import Namespaces, namespaces_work
from tunnel.cli.status import PeerView, ask
from tunnel.cli.traffic import Counts
from tunnel.errors import TunnelError

__all__ = ["run"]

_REFRESH = 0.25  # seconds
_CHANGES_PER_SECOND = 100


class Changes:
    """Changes the server's peers all the time: one comes and goes through its control
    socket, and another one by writing its configuration file anew."""

    def __init__(self, interface: str, config: Path) -> None:
        self.made = 0
        self.written = 0
        self.error: TunnelError | None = None
        self._interface = interface
        self._config = config
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=body, daemon=True)
            for body in (self._run, self._write)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def reloads(self) -> tuple[int, int]:
        """How often the server has taken its file over, and refused something."""
        with UapiClient(self._interface) as client:
            told = client.control("history")
        return told["by_source"].get("file", 0), told["failed"]

    def _write(self) -> None:
        """The file with one more peer or without it, replaced by a rename."""
        plain = json.loads(self._config.read_text())
        temporary = self._config.with_suffix(".new")
        while not self._stop.wait(1 / _CHANGES_PER_SECOND):
            facts = dict(plain)
            if self.written % 3:
                prefix = f"172.{16 + os.urandom(1)[0] % 16}.0.0/16"
                key = b64encode(os.urandom(32)).decode()
                guest = {"name": "guest", "publicKey": key, "allowedIPs": [prefix]}
                facts["peers"] = [*plain["peers"], guest]
            temporary.write_text(json.dumps(facts, indent=2))
            temporary.replace(self._config)
            self.written += 1

    def _run(self) -> None:
        try:
            with UapiClient(self._interface) as client:
                while not self._stop.wait(1 / _CHANGES_PER_SECOND):
                    self._change(client)
        except TunnelError as error:
            self.error = error

    def _change(self, client: UapiClient) -> None:
        key = os.urandom(32).hex()
        prefix = f"10.{os.urandom(1)[0]}.0.0/16"
        client.request(f"set=1\npublic_key={key}\nallowed_ip={prefix}\n\n")
        client.request(f"set=1\npublic_key={key}\nremove=true\n\n")
        self.made += 2


def _peer(name: str) -> PeerView:
    """The peer of `name` that has talked last."""
    peers = ask(name).peers
    return max(peers, key=lambda p: p.latest_handshake, default=PeerView(""))


def _age(peer: PeerView) -> str:
    if not peer.latest_handshake:
        return "none yet"
    return f"{max(0, time.time() - peer.latest_handshake):.0f} s ago"


def _meanwhile(changes: Changes) -> str:
    reloads, _ = changes.reloads()
    return (
        f"server's file written {changes.written:,} times, {reloads:,} reloads; "
        f"{changes.made:,} changes by its socket"
    )


class Screen:
    """The live table; rates come from the difference to the last look."""

    def __init__(self, ends: Ends, changes: Changes) -> None:
        self._ends = ends
        self._changes = changes
        self._last: list[tuple[float, Counts]] = [(0.0, Counts()), (0.0, Counts())]

    def table(self) -> Table:
        table = Table(
            title=f"Tunnel: {self._ends.where}",
            caption=_meanwhile(self._changes),
        )
        table.add_column("end")
        for column in ("handshake", "sent/s", "received/s", "sent", "received", "lost"):
            table.add_column(column, justify="right")
        counts = self._ends.counts()
        for end, name in enumerate(self._ends.names):
            mine, other = counts[end], counts[1 - end]
            then, before = self._last[end]
            now = time.monotonic()
            pace = 1 / (now - then) if then else 0.0
            self._last[end] = now, Counts(mine.sent, mine.received)
            # what the other end has sent a moment ago is still on its way
            lost = max(0, other.sent - mine.received - RATE)
            table.add_row(
                name,
                _age(_peer(name)),
                f"{(mine.sent - before.sent) * pace:,.0f}",
                f"{(mine.received - before.received) * pace:,.0f}",
                f"{mine.sent:,}",
                f"{mine.received:,}",
                f"{lost:,}",
            )
        return table


def _watch(ends: Ends, changes: Changes, console: Console, seconds: float) -> None:
    screen = Screen(ends, changes)
    deadline = time.monotonic() + seconds
    with Live(screen.table(), console=console, auto_refresh=False) as live:
        while (left := deadline - time.monotonic()) > 0 and changes.error is None:
            time.sleep(min(_REFRESH, left))
            live.update(screen.table(), refresh=True)


def _verdict(ends: Ends, changes: Changes, console: Console) -> bool:
    server, client = ends.counts()
    sent = server.sent + client.sent
    lost = sent - server.received - client.received
    twice = server.duplicated + client.duplicated
    reloads, refused = changes.reloads()
    changed = _meanwhile(changes)
    busy = changes.made and reloads
    if sent and busy and not lost and not twice and not refused:
        console.print(f"[bold green]PASS[/]: {sent:,} packets, 0 lost, {changed}")
        return True
    console.print(
        f"[bold red]FAIL[/]: {lost:,} of {sent:,} packets lost, "
        f"{twice:,} duplicated, {refused:,} changes refused, {changed}"
    )
    return False


@contextlib.contextmanager
def _tidy_when_told_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: nothing of it stays."""

    def end(signum: int, _frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # while it tidies up
        raise SystemExit(128 + signum)

    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] == signal.SIG_IGN:
        del before[signal.SIGHUP]  # nohup
    for each in before:
        signal.signal(each, end)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def run(config: Path, *, seconds: float, in_process: bool) -> None:
    """Raises SystemExit(1) when anything was lost, TunnelError when it cannot run."""
    with _tidy_when_told_to_end():
        _run(config, seconds, in_process or not namespaces_work())


def _run(config: Path, seconds: float, in_process: bool) -> None:
    console = Console()
    ends: Ends = InProcess(config) if in_process else Namespaces(config)
    try:
        ends.start()
        changes = Changes(ends.names[0], ends.pair.server)
        changes.start()
        try:
            _watch(ends, changes, console, seconds)
        finally:
            changes.stop()
        ends.stop_sending()
        if changes.error is not None:
            raise changes.error
        if not _verdict(ends, changes, console):
            raise SystemExit(1)
    finally:
        ends.close()
