"""The other end of the control socket: gone, silent about us, or talking nonsense."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunnel.api.client import UapiClient, interfaces
from tunnel.cli.main import app
from tunnel.errors import NotPermitted, TunnelError

from .rig import Up


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path))
    return tmp_path


class Nonsense:
    """Answers every request with the same bytes, then hangs up."""

    def __init__(self, path: Path, answer: bytes, *, read: bool = True) -> None:
        self._answer, self._read = answer, read
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._read and connection.recv(1 << 16) == b"stop":
                    return
                if not self._read and connection.recv(4) == b"stop":
                    return
                with contextlib.suppress(OSError):  # who only looks is gone already
                    connection.sendall(self._answer)

    def close(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.sendall(b"stop")
        self._thread.join()
        self._listener.close()


@pytest.fixture(
    params=[
        pytest.param((b"", True), id="nothing"),
        pytest.param((b"", False), id="reset"),
        pytest.param((b"x=\xff\n\n", True), id="no text"),
        pytest.param((b"errno=zz\n\n", True), id="no number"),
    ]
)
def nonsense(request: pytest.FixtureRequest, run: Path) -> Iterator[str]:
    answer, read = request.param
    path = run / "odd.sock"
    server = Nonsense(path, answer, read=read)
    yield "odd"
    server.close(path)


def test_nonsense_is_an_error_with_the_name(nonsense: str) -> None:
    with UapiClient(nonsense) as client, pytest.raises(TunnelError) as plain:
        client.request("get=1\n\n")
    assert plain.value.exit_code == 1
    with UapiClient(nonsense) as client, pytest.raises(TunnelError) as own:
        client.control("plan")
    for refused in (plain, own):
        assert refused.value.message.startswith("odd")


def test_a_socket_that_nobody_listens_on_is_not_a_tunnel(run: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left, socket.socket(socket.AF_UNIX) as alive:
        left.bind(str(run / "gone.sock"))
        left.close()
        (run / "file.sock").write_text("")
        assert interfaces() == []
        alive.bind(str(run / "here.sock"))
        alive.listen()
        assert interfaces() == ["here"]


def test_no_directory_and_one_that_is_closed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(run / "none"))
    assert interfaces() == []

    def denied(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(NotPermitted, match="cannot look into"):
        interfaces()


def test_what_a_killed_engine_left_confuses_no_command(up: Up) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(up.directory / "run" / "old.sock"))
    (told,) = up.json("status")
    assert told == up.facts["tunnel"]["name"]
    assert "nothing to change" in up.run("plan").stdout


def test_an_engine_that_is_not_ours_is_named(run: Path) -> None:
    path = run / "other.sock"
    server = Nonsense(path, b"errno=-22\n\n")
    try:
        done = CliRunner().invoke(app, ["plan", "-i", "other"])
        assert isinstance(done.exception, TunnelError)
        assert "was not started by tunnel up" in str(done.exception)
    finally:
        server.close(path)
