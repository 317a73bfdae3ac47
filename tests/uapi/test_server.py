"""The UAPI's socket: many clients, slow clients, bad clients, no descriptors."""

from __future__ import annotations

import resource
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunnel.api.uapi_server import UapiServer, bind_socket, socket_path
from tunnel.errors import DeviceError
from tunnel.loop import ControlLoop
from tunnel.state.model import DeviceState, PeerState

from .fake import FakeDevice

GET = b"get=1\n\n"


class Served:
    """A server in a thread of its own."""

    def __init__(self, state: DeviceState | None = None) -> None:
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
        sock.settimeout(5)
        return sock

    def ask(self, request: bytes = GET) -> bytes:
        with self.connect() as sock:
            sock.sendall(request)
            return answer(sock)

    def close(self) -> None:
        self.loop.stop_threadsafe()
        self.thread.join(5)
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


def test_a_removed_socket_is_noticed_and_a_foreign_one_left_alone(
    served: Served,
) -> None:
    served.path.unlink()
    served.path.write_text("somebody else's")
    assert served.gone.wait(2)
    served.server.close()
    assert served.path.exists()


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
        spent = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - spent < 0.1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for sock in (*waiting, *queued):
        sock.settimeout(2)
        sock.sendall(GET)
        assert answer(sock) == b"errno=0\n\n"
        sock.close()
