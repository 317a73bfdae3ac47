"""The UAPI's socket: many clients, slow clients, bad clients, no descriptors."""

from __future__ import annotations

import errno
import resource
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunnel.api import uapi_server, uapi_socket
from tunnel.api.uapi import Control
from tunnel.api.uapi_server import UapiServer
from tunnel.api.uapi_socket import bind_socket, socket_path
from tunnel.errors import DeviceError, NotPermitted, NotSupported
from tunnel.loop import ControlLoop
from tunnel.state.model import DeviceState, PeerState

from .fake import FakeDevice

GET = b"get=1\n\n"


class Served:
    """A server in a thread of its own."""

    def __init__(
        self, state: DeviceState | None = None, control: Control | None = None
    ) -> None:
        self.device = FakeDevice(state)
        self.loop = ControlLoop()
        self.path = socket_path("wg0")
        self.gone = threading.Event()
        self.server = UapiServer(
            self.loop,
            self.device,
            bind_socket("wg0"),
            path=self.path,
            on_gone=self.gone.set,
            control=control,
        )
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.loop.run()
        self.server.close()
        self.loop.close()

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.path))
        sock.settimeout(20)
        return sock

    def ask(self, request: bytes = GET) -> bytes:
        with self.connect() as sock:
            sock.sendall(request)
            return answer(sock)

    def close(self) -> None:
        self.loop.stop_threadsafe()
        self.thread.join(20)
        assert not self.thread.is_alive()


def answer(sock: socket.socket) -> bytes:
    """Up to the end of one answer, or of the connection."""
    data = b""
    while not data.endswith(b"\n\n"):
        piece = sock.recv(1 << 20)
        if not piece:
            break
        data += piece
    return data


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path / "run"))
    return tmp_path / "run"


@pytest.fixture
def served(run_dir: Path) -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


def test_r74_only_the_owner_may_talk(served: Served, run_dir: Path) -> None:
    mode = served.path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o755
    assert served.ask() == b"errno=0\n\n"


def test_a_second_server_is_refused_and_a_leftover_replaced(served: Served) -> None:
    with pytest.raises(DeviceError, match="another process"):
        bind_socket("wg0")
    assert served.ask() == b"errno=0\n\n"
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(socket_path("wg1")))
    bind_socket("wg1").close()
    socket_path("wg2").write_text("not a socket")
    with pytest.raises(DeviceError, match="cannot listen"):
        bind_socket("wg2")
    assert socket_path("wg2").read_text() == "not a socket"


@pytest.mark.parametrize("way", ["a file", "below a file", "a lost link", "long"])
def test_a_directory_that_cannot_be_is_named(
    way: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = run_dir
    if way == "a lost link":
        run_dir.symlink_to("nowhere/at/all")
    elif way == "long":
        directory = run_dir / ("x" * 120)
    else:
        run_dir.write_text("in the way")
        directory = run_dir if way == "a file" else run_dir / "run"
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(directory))
    with pytest.raises(NotSupported) as caught:
        bind_socket("wg0")
    assert caught.value.exit_code == 3
    assert str(directory) in caught.value.message
    assert "None" not in caught.value.message
    assert "TUNNEL_RUN_DIR" in caught.value.hint


@pytest.mark.parametrize("call", ["mkdir", "bind"])
def test_a_directory_that_is_not_ours_to_write_to_is_named(
    call: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    if call == "mkdir":
        monkeypatch.setattr(Path, "mkdir", refused)
    else:
        monkeypatch.setattr(uapi_socket, "listen_unix", refused)
    with pytest.raises(NotPermitted, match="Permission denied") as caught:
        bind_socket("wg0")
    assert str(run_dir) in caught.value.message
    assert "TUNNEL_RUN_DIR" in caught.value.hint


def test_a_removed_socket_is_noticed_and_a_foreign_one_left_alone(
    served: Served,
) -> None:
    served.path.unlink()
    served.path.write_text("somebody else's")
    assert served.gone.wait(20)
    served.server.close()
    assert served.path.exists()


@pytest.mark.parametrize("told", [True, False], ids=["inotify", "looking"])
@pytest.mark.parametrize("how", ["unlink", "replace", "move"])
def test_whatever_takes_the_socket_away_is_noticed(
    how: str, told: bool, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not told:  # as where the system has no more watches
        monkeypatch.setattr(uapi_server.Presence, "watch", lambda _path: None)
    served = Served()
    try:
        served.path.chmod(0o640)  # says something, and takes nothing away
        assert served.ask() == b"errno=0\n\n"
        assert not served.gone.is_set()
        other = run_dir / "other"
        if how == "unlink":
            served.path.unlink()
        elif how == "move":
            served.path.rename(other)
        else:
            other.write_text("somebody else's")
            other.rename(served.path)
        assert served.gone.wait(20)
    finally:
        served.close()


def test_a_socket_that_stays_costs_no_wake_up(served: Served) -> None:
    """Nothing looks for it again and again: no timer is pending."""
    assert served.ask() == b"errno=0\n\n"
    assert served.loop.next_timer() is None


def test_several_operations_on_one_connection(served: Served) -> None:
    with served.connect() as sock:
        for n in range(1, 4):
            sock.sendall(b"set=1\nfwmark=%d\n\n" % n)
            assert answer(sock) == b"errno=0\n\n"
            sock.sendall(GET)
            assert answer(sock) == b"fwmark=%d\nerrno=0\n\n" % n


def test_a_client_that_does_not_read_blocks_nobody(run_dir: Path) -> None:
    keys = [n.to_bytes(32, "big") for n in range(1, 3000)]
    served = Served(DeviceState(peers={k: PeerState(k) for k in keys}))
    try:
        with served.connect() as slow:
            for _ in range(30):  # far more than fits into the socket
                slow.sendall(GET)
            started = time.monotonic()
            expected = served.ask()
            assert time.monotonic() - started < 2
            assert expected.count(b"public_key=") == len(keys)
            wanted, data = expected * 30, b""
            while len(data) < len(wanted):
                data += slow.recv(1 << 20)
            assert data == wanted
    finally:
        served.close()


def test_a_late_answer_and_what_follows_it_wait_for_what_is_being_sent(
    run_dir: Path,
) -> None:
    keys = [n.to_bytes(32, "big") for n in range(1, 3000)]
    asked: list[Callable[[bytes], None]] = []
    served = Served(
        DeviceState(peers={k: PeerState(k) for k in keys}),
        lambda _line, reply: asked.append(reply),
    )
    try:
        one = served.ask()
        with served.connect() as slow:
            slow.sendall(GET + b"tunnel=1\n{}\n\n" + GET)
            while not asked:
                time.sleep(0.001)
            time.sleep(0.05)  # the first answer is in the socket as far as it fits
            data = slow.recv(64 << 10)  # room for more, too little to be woken for
            served.loop.call_soon_threadsafe(lambda: asked[0](b"late\n\n"))
            time.sleep(0.05)
            wanted = one + b"late\n\n" + one
            while len(data) < len(wanted):
                data += slow.recv(1 << 20)
            assert data == wanted
    finally:
        served.close()


def test_f10_half_open_clients_and_endless_lines(served: Served) -> None:
    """500 clients that never finish: get stays quick and what is half is nothing."""
    clients = []
    for n in range(500):
        sock = served.connect()
        sock.sendall(b"set=1\nfwmark=7\n" if n % 2 else b"se")
        clients.append(sock)
    started = time.monotonic()
    for _ in range(20):
        assert served.ask() == b"errno=0\n\n"
    assert time.monotonic() - started < 2
    for sock in clients:
        sock.close()
    with served.connect() as sock:
        try:
            for _ in range(160):  # 10 MB without an end of line
                sock.sendall(b"x" * 65536)
            said = answer(sock)
        except (BrokenPipeError, ConnectionResetError):
            said = b""
        assert said in {b"errno=-71\n\n", b""}
    assert served.ask() == b"errno=0\n\n"
    assert served.device.plans == []


def test_f8_without_descriptors_accept_pauses_and_comes_back(served: Served) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = [served.connect() for _ in range(3)]
    queued = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    used = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    try:
        for sock in queued:
            sock.connect(str(served.path))
        # of the server's thread alone: others have their own to do
        assert served.thread.ident is not None
        clock = time.pthread_getcpuclockid(served.thread.ident)
        spent = time.clock_gettime(clock)
        time.sleep(0.5)
        assert time.clock_gettime(clock) - spent < 0.1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for sock in (*waiting, *queued):
        sock.settimeout(20)
        sock.sendall(GET)
        assert answer(sock) == b"errno=0\n\n"
        sock.close()
