"""The server itself: sockets, thread, its end, and a bind address that changes."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunnel.api.http import serve, start
from tunnel.api.http_follow import Management
from tunnel.api.http_token import TOKEN_ENV
from tunnel.config.store import load_config
from tunnel.errors import DeviceError
from tunnel.prepare import prepare_file

from .rig import TOKEN, Tunnel, document, free_port

BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tunnel]:
    for thread in http_threads():  # of a server before, for which nobody waits
        thread.join(20)
    monkeypatch.setenv(TOKEN_ENV, TOKEN)
    monkeypatch.setenv("TUNNEL_RUN_DIR", str(tmp_path / "run"))
    found = Tunnel(tmp_path, with_bind(f"127.0.0.1:{free_port()}"))
    yield found
    found.close()


def with_bind(bind: str) -> dict[str, object]:
    return document() | {"management": {"bind": bind}}


def bind_of(tunnel: Tunnel) -> str:
    return str(tunnel.wanted["management"]["bind"])


def http_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "tunnel-http"]


def listens(address: str) -> bool:
    host, _, port = address.removeprefix("http://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def test_it_serves_what_the_configuration_says(tunnel: Tunnel) -> None:
    server = start(tunnel.engine, tunnel.manager, load_config(tunnel.path))
    try:
        assert server.address == f"http://{bind_of(tunnel)}"
        answer = httpx.get(f"{server.address}/state")
        assert answer.json()["device"]["name"] == "fake0"
        assert "server" not in answer.headers
        head = httpx.head(f"{server.address}/state")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == answer.headers["etag"]
        assert httpx.post(f"{server.address}/api/confirm").status_code == 401
        done = httpx.post(f"{server.address}/api/apply-wg-config", headers=BEARER)
        assert done.json()["message"] == "nothing to change"
    finally:
        server.close()
    assert not listens(server.address)
    assert not http_threads()
    server.close()


def test_many_at_once(tunnel: Tunnel) -> None:
    server = serve(tunnel.engine, tunnel.manager, bind_of(tunnel))
    answers: list[int] = []

    def ask() -> None:
        paths = ("/state", "/metrics", "/api/wg/status", "/healthz")
        with httpx.Client(base_url=server.address, timeout=30) as client:
            answers.extend(client.get(path).status_code for path in paths)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    server.close()
    assert answers == [200] * 64


def raw(address: str, request: bytes) -> tuple[bytes, dict[str, Any]]:
    """Status line and problem document of the answer to what may be no request."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(request)
        answer = b""
        while data := client.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"\r\nconnection: close" in head
    assert f"content-length: {len(body)}".encode() in head
    return head.partition(b"\r\n")[0], json.loads(body)


@pytest.mark.parametrize(
    "request_",
    [
        b"secret nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon secret\r\n\r\n",
        b"POST /api/confirm HTTP/1.1\r\nHost: x\r\nContent-Length: secret\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01secret\r\n\r\n",  # TLS
        b"GET /secret HTTP/1.1\r\n\r\n",  # no Host
    ],
)
def test_what_is_no_request_is_told_so(tunnel: Tunnel, request_: bytes) -> None:
    server = serve(tunnel.engine, tunnel.manager, bind_of(tunnel))
    try:
        status, problem = raw(server.address, request_)
        assert status.startswith(b"HTTP/1.1 400 ")
        assert (problem["code"], problem["status"]) == ("bad-request", 400)
        assert "secret" not in str(problem)
        assert httpx.get(f"{server.address}/healthz").status_code == 200
    finally:
        server.close()


def test_a_wrong_bind_address_is_said_at_once(tunnel: Tunnel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for bind in (f"127.0.0.1:{port}", "192.0.2.1:7777", f"unix:{tunnel.path}/x"):
            with pytest.raises(DeviceError, match=r"management\.bind") as caught:
                serve(tunnel.engine, tunnel.manager, bind)
            assert caught.value.hint
    assert not http_threads()


def test_the_token_lies_beside_the_configuration(
    tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_ENV)
    server = serve(tunnel.engine, tunnel.manager, bind_of(tunnel))
    try:
        path = tunnel.path.parent / ".tunnel" / "management.token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        headers = {"authorization": f"Bearer {path.read_text().strip()}"}
        url = f"{server.address}/api/apply-wg-config"
        assert httpx.post(url, headers=headers).status_code == 200
        assert httpx.post(url, headers=BEARER).status_code == 401
    finally:
        server.close()


def test_without_a_configuration_file_it_lies_in_the_run_directory(
    tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(TOKEN_ENV)
    monkeypatch.setattr(tunnel.manager.file, "path", None)
    serve(tunnel.engine, tunnel.manager, bind_of(tunnel)).close()
    assert (tmp_path / "run" / "fake0.token").exists()


def test_a_unix_socket(tunnel: Tunnel, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(path))
    server = serve(tunnel.engine, tunnel.manager, f"unix:{path}")
    assert server.address == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url="http://tunnel") as client:
        assert client.get("/healthz").status_code == 200
        assert client.post("/api/apply-wg-config").status_code == 401
        done = client.post("/api/apply-wg-config", headers=BEARER)
        assert done.status_code == 200
        with pytest.raises(DeviceError, match=r"management\.bind"):
            serve(tunnel.engine, tunnel.manager, f"unix:{path}")
    server.close()
    assert not path.exists()


def test_its_end_waits_for_no_client(tunnel: Tunnel) -> None:
    server = serve(tunnel.engine, tunnel.manager, bind_of(tunnel))
    host, _, port = bind_of(tunnel).rpartition(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.sendall(b"POST /api/confirm HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        time.sleep(0.1)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 4
        assert not http_threads()


def test_its_end_waits_for_no_tunnel(tunnel: Tunnel) -> None:
    """A request that waits for a control thread that has ended is dropped."""
    server = serve(tunnel.engine, tunnel.manager, bind_of(tunnel))
    go_on = threading.Event()
    tunnel.engine.submit(lambda: go_on.wait(60))

    def ask() -> None:
        with contextlib.suppress(httpx.TransportError):  # dropped is fine too
            httpx.get(f"{server.address}/state", timeout=20)

    asked = threading.Thread(target=ask)
    asked.start()
    time.sleep(0.2)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 4
    assert not http_threads()
    go_on.set()
    asked.join(10)


# --- management.bind, while the tunnel runs


def apply(tunnel: Tunnel, address: str, bind: str | None) -> httpx.Response:
    tunnel.wanted["management"] = {"bind": bind} if bind else {}
    tunnel.write()
    return httpx.post(f"{address}/api/apply-wg-config", headers=BEARER, timeout=10)


def reload(tunnel: Tunnel) -> None:
    """As SIGHUP and `tunnel reload` do it."""
    done = threading.Event()
    tunnel.call(lambda: tunnel.manager.reload_soon("test", lambda _: done.set()))
    assert done.wait(10)


def wait_gone(address: str) -> None:
    deadline = time.monotonic() + 20
    while listens(address):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_moves_where_the_configuration_says(tunnel: Tunnel) -> None:
    management = tunnel.call(lambda: Management(tunnel.engine, tunnel.manager))
    first = management.address
    assert first == f"http://{bind_of(tunnel)}"
    second = f"http://127.0.0.1:{free_port()}"
    answer = apply(tunnel, first, second.removeprefix("http://"))
    assert answer.json()["changes"] == ["management_bind"]
    assert management.address == second
    assert httpx.get(f"{second}/healthz").status_code == 200
    wait_gone(first)
    other = second.replace("127.0.0.1", "127.0.0.2")
    wider = second.replace("127.0.0.1", "0.0.0.0")
    assert apply(tunnel, second, wider.removeprefix("http://")).status_code == 200
    assert httpx.get(f"{other}/healthz").status_code == 200  # the same port
    assert apply(tunnel, other, None).status_code == 200
    assert management.address == ""
    wait_gone(second)
    management.close()


def test_it_stays_where_it_is_when_the_new_place_is_taken(tunnel: Tunnel) -> None:
    management = tunnel.call(lambda: Management(tunnel.engine, tunnel.manager))
    address = management.address
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        assert apply(tunnel, address, bind).status_code == 200
        reload(tunnel)
        assert management.address == address
        assert httpx.get(f"{address}/healthz").status_code == 200
    reload(tunnel)  # the file has not changed, the place is free
    assert management.address == f"http://{bind}"
    assert httpx.get(f"http://{bind}/healthz").status_code == 200
    wait_gone(address)
    management.close()
    assert not http_threads()


def test_none_until_the_configuration_wants_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_ENV, TOKEN)
    quiet = Tunnel(tmp_path, document() | {"management": {}})
    try:
        management = quiet.call(lambda: Management(quiet.engine, quiet.manager))
        assert management.address == ""
        quiet.wanted["management"] = {"bind": f"127.0.0.1:{free_port()}"}
        quiet.write()
        file = prepare_file(quiet.path, load_config(quiet.path))
        quiet.call(lambda: quiet.manager.apply(file, source="test"))
        assert httpx.get(f"{management.address}/healthz").status_code == 200
        management.close()
    finally:
        quiet.close()
