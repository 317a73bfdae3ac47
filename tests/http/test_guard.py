"""Who may ask: the address list, the token, host names, and no foreign web pages."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunnel.api.auth import Guard
from tunnel.api.http_token import TOKEN_ENV, find_token
from tunnel.errors import DeviceError

from .rig import BIND, NEW, TOKEN, Api, entry, problem

READS = ["/state", "/healthz", "/readyz", "/metrics", "/api/wg/status", "/openapi.json"]
CHANGES = [
    "/api/apply-wg-config",
    "/api/wg/add-peer",
    "/api/wg/remove-peer",
    "/api/confirm",
    "/api/rollback",
]


# --- the token


@pytest.mark.parametrize("path", [*CHANGES, "/nothing", "/state"])
def test_what_changes_something_needs_the_token(api: Api, path: str) -> None:
    answer = api.post(path, token=None)
    problem(answer, 401, "token-missing")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    for wrong in ("x", TOKEN[:-1], TOKEN + "x", TOKEN.upper()):
        problem(api.post(path, token=wrong), 401, "token-wrong")
    for scheme in ("Basic", "Token", ""):
        headers = {"authorization": f"{scheme} {TOKEN}"}
        problem(api.post(path, token=None, headers=headers), 401, "token-wrong")
    assert api.peers == [1, 2, 3]


def test_the_name_of_the_scheme_is_in_any_case(api: Api) -> None:
    headers = {"authorization": f"bEARER  {TOKEN}"}
    answer = api.post("/api/apply-wg-config", token=None, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("path", READS)
def test_reading_needs_no_token(api: Api, path: str) -> None:
    assert api.get(path, token=None).status_code == 200


def test_the_token_is_asked_for_before_the_body_is_looked_at(api: Api) -> None:
    problem(
        api.post("/api/wg/add-peer", content=b"{", token=None), 401, "token-missing"
    )


def test_a_new_token_is_made_once_and_only_we_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "management.token"
    token = find_token([path])
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text().strip() == token
    assert find_token([path]) == token
    assert find_token([tmp_path / "other", path]) == token
    assert not (tmp_path / "other").exists()


def test_the_next_place_is_taken_where_the_first_cannot_be_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    second = tmp_path / "second"
    token = find_token([tmp_path / "gone" / ".." / "file" / "x", second])
    assert second.read_text().strip() == token
    with pytest.raises(DeviceError, match="cannot create the token"):
        find_token([tmp_path / "file" / "x"])


def test_the_token_of_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_ENV, " 0123456789abcdef\n")
    assert find_token([tmp_path / "unused"]) == "0123456789abcdef"
    assert not (tmp_path / "unused").exists()
    for bad in ("", "short", "0123456789abcdé", "0123456789\nabcdef"):
        monkeypatch.setenv(TOKEN_ENV, bad)
        with pytest.raises(DeviceError) as caught:
            find_token([tmp_path / "unused"])
        assert bad == "" or bad not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    find_token([path])
    path.chmod(mode)
    with pytest.raises(DeviceError, match="only its owner can read"):
        find_token([path])


def test_what_is_no_file_or_no_token_is_refused(tmp_path: Path) -> None:
    pipe, short = tmp_path / "pipe", tmp_path / "short"
    os.mkfifo(pipe, 0o600)
    short.write_text("x\n")
    short.chmod(0o600)
    for path in (pipe, short, tmp_path):
        with pytest.raises(DeviceError):
            find_token([path])


# --- addresses


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
)
def test_by_default_this_machine_may_ask(api: Api, address: str) -> None:
    assert api.get("/state", client=(address, 1)).status_code == 200


@pytest.mark.parametrize("client", [
    ("192.0.2.1", 1), ("128.0.0.1", 1), ("::2", 1), ("fe80::1%eth0", 1),
    ("::ffff:192.0.2.1", 1), ("nonsense", 1), ("", 1), None,
])  # fmt: skip
def test_by_default_nobody_else_may(api: Api, client: tuple[str, int] | None) -> None:
    for path in (*READS, "/nothing"):
        problem(api.get(path, client=client), 403, "address-not-allowed")
    problem(api.post("/api/confirm", client=client), 403, "address-not-allowed")


def test_the_address_list_changes_while_it_runs(api: Api) -> None:
    client = ("10.1.2.3", 1)
    api.want(management={"bind": BIND, "acl": ["10.1.0.0/16", "127.0.0.1/32"]})
    problem(api.get("/state", client=client), 403, "address-not-allowed")
    assert api.post("/api/apply-wg-config").json()["changes"] == ["management_acl"]
    assert api.get("/state", client=client).status_code == 200
    api.want(management={"bind": BIND, "acl": []})
    assert api.post("/api/apply-wg-config", client=client).status_code == 200
    problem(api.get("/state"), 403, "address-not-allowed")


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip"])
def test_what_a_proxy_says_does_not_count(api: Api, header: str) -> None:
    for claimed, real in (("127.0.0.1", "192.0.2.1"), ("192.0.2.1", "127.0.0.1")):
        answer = api.get("/state", client=(real, 1), headers={header: claimed})
        assert (answer.status_code == 200) == (real == "127.0.0.1")


# --- web pages


@pytest.mark.parametrize("host", [
    "127.0.0.1:7777", "127.0.0.1", "[::1]:7777", "localhost:7777", "LOCALHOST",
    "192.0.2.7", "localhost.",
])  # fmt: skip
def test_own_host_names_are_answered(api: Api, host: str) -> None:
    assert api.get("/state", host=host).status_code == 200


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:7777", "127.0.0.1.evil.example", "", "[::1", "a@b",
    "localhost.evil.example", "127.0.0.1:7777@evil.example",
])  # fmt: skip
def test_a_rebound_name_is_not_answered(api: Api, host: str) -> None:
    for path in READS:
        problem(api.get(path, host=host), 421, "host-not-allowed")
    problem(api.post("/api/confirm", host=host), 421, "host-not-allowed")


def test_the_name_in_management_bind_is_answered(api: Api) -> None:
    named = Api(api.tunnel, "Panel.example:7777")
    assert named.get("/state", host="panel.example:7777").status_code == 200
    problem(api.get("/state", host="panel.example:7777"), 421, "host-not-allowed")


@pytest.mark.parametrize("headers", [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1:8888"},
    {"origin": "http://[nonsense"},
    {"origin": "https://evil.example", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "surprise"},
])  # fmt: skip
def test_pages_of_other_origins_are_refused(api: Api, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/state"), ("POST", "/api/confirm")):
        problem(api(method, path, headers=headers), 403, "cross-origin")
    problem(api("OPTIONS", "/api/confirm", headers=headers), 403, "cross-origin")


@pytest.mark.parametrize("headers", [
    {"origin": f"http://{BIND}", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
])  # fmt: skip
def test_own_pages_and_people_are_not(api: Api, headers: dict[str, str]) -> None:
    answer = api.get("/state", headers=headers)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


# --- the rest


def test_large_bodies_are_refused(api: Api) -> None:
    body = b'{"name": "' + b"x" * (1 << 20) + b'"}'
    problem(api.post("/api/wg/remove-peer", content=body), 413, "too-large")

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * (1 << 16)

    problem(api.post("/api/wg/remove-peer", content=chunks()), 413, "too-large")
    full = NEW | {"allowed_ips": [f"10.{n >> 8}.{n & 255}.0/24" for n in range(4096)]}
    assert api.post("/api/wg/add-peer?dry_run=true", json=full).status_code == 200


@pytest.mark.parametrize("name", ["host", "origin", "authorization"])
def test_a_header_that_is_there_twice_decides_nothing(api: Api, name: str) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    value = b"127.0.0.1"
    scope = {
        "type": "http", "method": "GET", "path": "/state",
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", value), (name.encode(), value), (name.encode(), value)],
    }  # fmt: skip
    asyncio.run(api.app(scope, receive, send))
    assert sent[0]["status"] == 400


def test_a_unix_socket_needs_the_token_and_no_host_name(api: Api) -> None:
    local = Api(api.tunnel, "unix:/run/tunnel.sock")
    assert isinstance(local.app, Guard)
    assert local.get("/state", client=None, host="anything").status_code == 200
    answer = local.post("/api/confirm", client=None, token=None)
    problem(answer, 401, "token-missing")


def test_no_answer_holds_a_secret(api: Api) -> None:
    """The fixture looks at all answers; here are all of them."""
    api.want(peers=[entry(1), entry(2, presharedKey=entry(7)["publicKey"])])
    for path in (*READS, "/api/wg/diffs", "/metrics?names=both&remote=true"):
        assert api.get(path).status_code == 200
    for query in ("?dry_run=true", ""):
        assert api.post(f"/api/apply-wg-config{query}").status_code == 200
        assert api.post(f"/api/wg/add-peer{query}", json=NEW).status_code == 200
        body = {"name": "peer1"}
        assert api.post(f"/api/wg/remove-peer{query}", json=body).status_code == 200
    api.post("/api/wg/add-peer", json=NEW)
    whole = "".join(answer.text for answer in api.answers)
    assert entry(7)["publicKey"] not in whole
    assert len(api.answers) > 12


def test_tunnel_wg_and_a_tunnel_without_http_load_none_of_it() -> None:
    code = (
        "import sys, tunnel.cli.wg, tunnel.api.http_follow\n"
        "print(*({'fastapi', 'starlette', 'uvicorn', 'prometheus_client', 'asyncio'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
