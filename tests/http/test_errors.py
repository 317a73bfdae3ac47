"""Every refusal is a problem document that says what is wrong and repeats nothing."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from tunnel.errors import ApplyError, NeedsRestart, PlanStale, TunnelError

from .rig import NEW, PRESHARED, Api, entry, problem, text


def fail(api: Api, error: Exception) -> None:
    """From now on the manager refuses every change for this reason."""

    def apply(*_: object, **__: object) -> None:
        raise error

    api.tunnel.manager.apply = apply  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (TunnelError("no", hint="do"), 409, "refused"),
        (NeedsRestart("no", hint="do"), 409, "needs-restart"),
        (PlanStale("no", hint="do"), 409, "plan-stale"),
        (ApplyError("no", hint="do"), 409, "not-applied"),
    ],
)
def test_a_refusal_of_the_tunnel_is_a_problem_document(
    api: Api, error: TunnelError, status: int, code: str
) -> None:
    fail(api, error)
    found = problem(api.post("/api/apply-wg-config"), status, code)
    assert (found["detail"], found["hint"]) == ("no", "do")


def test_what_needs_a_restart_is_shown_and_refused(api: Api) -> None:
    api.want(tunnel={"type": "loopback", "name": "other0"})
    assert api.get("/api/wg/diffs").json()["needs_restart"] is True
    problem(api.post("/api/apply-wg-config"), 409, "needs-restart")
    assert api.get("/state").json()["reloads"][-1]["success"] is False


@pytest.mark.parametrize("path", ["/api/wg/diffs", "/api/apply-wg-config"])
def test_the_problems_of_a_configuration_are_listed(api: Api, path: str) -> None:
    api.want(peers=[entry(1, presharedKey=text(PRESHARED)[:-4], name="")])
    method = "GET" if path.endswith("diffs") else "POST"
    found = problem(api(method, path), 422, "config-invalid")
    (one,) = found["problems"]
    assert one["path"] == "peers[0].presharedKey"
    assert one["line"] == 1
    assert one["message"]
    assert text(PRESHARED)[:20] not in str(found)
    assert api.peers == [1, 2, 3]


def test_a_failure_of_ours_says_nothing(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    fail(api, RuntimeError("deep inside"))
    logger = logging.getLogger("tunnel.http")
    logger.addHandler(caplog.handler)
    try:
        found = problem(api.post("/api/apply-wg-config"), 500, "internal")
    finally:
        logger.removeHandler(caplog.handler)
    assert "deep" not in str(found)
    assert "POST /api/apply-wg-config failed" in caplog.text


def test_a_tunnel_that_does_not_answer(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and what had not begun does not happen later."""
    monkeypatch.setattr("tunnel.api.http_bridge._TIMEOUT", 0.2)
    slow = Api(api.tunnel)
    go_on = threading.Event()
    api.tunnel.engine.submit(lambda: go_on.wait(10))
    problem(slow.get("/state"), 504, "timeout")
    problem(slow.post("/api/wg/add-peer", json=NEW), 504, "timeout")
    problem(slow.post("/api/apply-wg-config"), 504, "timeout")
    go_on.set()
    assert api.get("/healthz").status_code == 200
    api.tunnel.call(lambda: None)
    assert api.peers == [1, 2, 3]
    assert len(api.tunnel.manager.history) == 0


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"name": "x"}, "body.public_key"),
        (NEW | {"public_key": "short"}, "body.public_key"),
        (NEW | {"allowed_ips": "10.0.0.0/8"}, "body.allowed_ips"),
        (NEW | {"allowed_ips": [1]}, "body.allowed_ips[0]"),
        (NEW | {"preshared_key": text(PRESHARED)[:-1]}, "body.preshared_key"),
        (NEW | {"persistent_keepalive": 65536}, "body.persistent_keepalive"),
        (NEW | {"privateKey": text(PRESHARED)}, "body.privateKey"),
        ([], "body"),
    ],
)
def test_a_wrong_body_is_explained_without_echo(
    api: Api, body: Any, where: str
) -> None:
    answer = api.post("/api/wg/add-peer", json=body)
    found = problem(answer, 422, "invalid-request")
    (one,) = found["problems"]
    assert one["path"] == where
    assert "pattern" not in one["message"]
    if where.endswith("_key") and "public_key" in body:
        assert "32 bytes in base64" in one["message"]
    if where == "body":
        assert "JSON object" in one["message"]
    assert text(PRESHARED)[:20] not in answer.text


def test_wrong_queries_types_paths_and_methods(api: Api) -> None:
    problem(api.post("/api/apply-wg-config?dry_run=perhaps"), 422, "invalid-request")
    problem(api.get("/metrics?names=other"), 422, "invalid-request")
    problem(api.get("/nothing"), 404, "not-found")
    for query in ("dryrun=true", "dry_run=true&dry_run=false", "=", "prune=0&x"):
        found = problem(
            api.post(f"/api/apply-wg-config?{query}"), 422, "invalid-request"
        )
        assert found["problems"][0]["path"].startswith("query.")
    problem(api.get("/state?x=1"), 422, "invalid-request")
    for method, path in (("DELETE", "/state"), ("GET", "/api/wg/add-peer")):
        answer = api(method, path)
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"]
    broken = api.post("/api/wg/add-peer", content=b'{"preshared_key": "half')
    problem(broken, 422, "invalid-request")
    assert "half" not in broken.text


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"dry_run": true}', "body"),
        (b"dry_run=true", "body"),
        (b"[" * 100_000, "body"),
        (b"[]", "body"),
        (b'{"a": 1, "a": 2}', "body.a"),
    ],
)
def test_what_is_in_a_body_that_a_route_does_not_know(
    api: Api, body: bytes, place: str
) -> None:
    """Who thinks that `dry_run` belongs there makes no change of it."""
    api.want_peers(1)
    for path in ("/api/apply-wg-config", "/api/confirm", "/api/rollback"):
        found = problem(api.post(path, content=body), 422, "invalid-request")
        assert found["problems"][0]["path"] == place
    assert api.peers == [1, 2, 3]
    assert api.post("/api/apply-wg-config", content=b"{}").status_code == 200
    assert api.peers == [1]


def test_a_member_that_is_there_twice_is_refused(api: Api) -> None:
    """The first one would be lost without a word."""
    twice = f', "allowed_ips": ["10.0.0.9/32"], "preshared_key": "{text(PRESHARED)}"}}'
    body = json.dumps(NEW)[:-1] + twice
    answer = api.post("/api/wg/add-peer", content=body.encode())
    found = problem(answer, 422, "invalid-request")
    paths = [each["path"] for each in found["problems"]]
    assert paths == ["body.allowed_ips", "body.preshared_key"]
    assert text(PRESHARED) not in answer.text
    assert api.peers == [1, 2, 3]
