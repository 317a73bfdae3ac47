"""The file of the API's Unix socket, when others have put their own in its place."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunnel.api.http import HttpServer, serve
from tunnel.api.http_token import TOKEN_ENV
from tunnel.api.unix_sockets import SocketFile, listen_unix

from .rig import TOKEN, Tunnel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def server(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HttpServer]:
    monkeypatch.setenv(TOKEN_ENV, TOKEN)
    tunnel = Tunnel(tmp_path)
    found = serve(tunnel.engine, tunnel.manager, f"unix:{path}")
    try:
        yield found
    finally:
        found.close()
        tunnel.close()


@pytest.mark.parametrize("end", ["leave", "stop_listening", "close"])
def test_the_socket_of_another_process_stays(
    server: HttpServer, path: Path, end: str
) -> None:
    path.unlink()
    with listen_unix(path, 1):
        getattr(server, end)()
        server.close()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest.mark.parametrize("end", ["leave", "stop_listening", "close"])
def test_its_own_is_gone_at_once(server: HttpServer, path: Path, end: str) -> None:
    getattr(server, end)()
    assert not path.exists()


def test_a_file_is_removed_once(path: Path) -> None:
    with listen_unix(path, 1):
        file = SocketFile(path)
        assert file.is_ours
        file.remove()
    assert not path.exists()
    # which may well have the number that ours had
    with listen_unix(path, 1):
        assert not file.is_ours
        file.remove()
        assert path.exists()
