"""What the routes answer: shapes, dry runs, preconditions, errors."""

from __future__ import annotations

import json
import socket
import time
from datetime import datetime
from typing import Any

import pytest

from tunnel.config import desired
from tunnel.errors import DeviceError

from .rig import NEW, PRESHARED, Api, entry, key, problem, text

FAR = "far.example"

# --- reading


def test_state_has_the_reloads_of_the_document(api: Api) -> None:
    api.want_peers(1, 2, 3, 4)
    api.post("/api/apply-wg-config")
    found = api.get("/state").json()
    assert {"device", "peers", "reloads"} <= found.keys()
    assert len(found["peers"]) == 4
    (reload,) = found["reloads"]
    assert reload["success"] is True
    assert reload["changes"] == ["peers"]
    assert reload["source"] == "http"
    stamp = datetime.fromisoformat(reload["timestamp"])
    assert reload["timestamp"].endswith("Z")
    assert abs(stamp.timestamp() - time.time()) < 60


def test_diffs_have_the_shape_of_the_document(api: Api) -> None:
    api.want_peers(1, 2, 3, 4)
    found = api.get("/api/wg/diffs").json()
    (one,) = found.pop("diffs")
    assert found.pop("hash")
    assert found == {
        "success": True,
        "interface": "fake0",
        "generation": api.generation,
        "current_peers": 3,
        "target_peers": 4,
        "total_changes": 1,
        "needs_restart": False,
        "warnings": [],
    }
    assert one == {
        "action": "add",
        "public_key": text(key(4)),
        "name": "peer4",
        "changes": [],
        "session": "new handshake",
        "new_state": {
            "name": "peer4",
            "allowed_ips": ["10.0.0.4/32"],
            "preshared_key": "",
            "persistent_keepalive": 25,
            "endpoint": "192.0.2.4:51820",
            "enabled": True,
        },
    }


def test_diffs_say_what_an_update_changes_but_no_secret(api: Api) -> None:
    one = entry(1, persistentKeepalive=7)
    api.want(
        peers=[one, entry(2), entry(3, enabled=False)],
        privateKey=text(key(77)),
        logging={"level": "debug"},
    )
    found = api.get("/api/wg/diffs").json()
    assert [one["action"] for one in found["diffs"]] == ["device", "settings", "update"]
    assert [one["public_key"] for one in found["diffs"]] == ["", "", text(key(1))]
    assert found["diffs"][2]["changes"] == [
        {"field": "preshared_key", "before": "(set)", "after": "(none)"},
        {"field": "keepalive", "before": 25, "after": 7},
    ]
    assert (found["current_peers"], found["target_peers"]) == (3, 3)


def test_status_has_the_columns_of_wg_show_dump(api: Api) -> None:
    found = api.get("/api/wg/status").json()
    assert found["success"] is True
    assert (found["interface"], found["current_peers"]) == ("fake0", 3)
    assert found["listen_port"] > 0
    assert found["peers"][0] == {
        "public_key": text(key(1)),
        "name": "peer1",
        "preshared_key": "(set)",
        "endpoint": "192.0.2.1:51820",
        "allowed_ips": ["10.0.0.1/32"],
        "last_handshake": 0,
        "rx_bytes": 0,
        "tx_bytes": found["peers"][0]["tx_bytes"],
        "persistent_keepalive": 25,
        "enabled": True,
        "connected": False,
    }


def test_health_and_readiness(api: Api) -> None:
    assert api.get("/healthz").json() == {"status": "ok"}
    assert api.get("/readyz").json() == {"status": "ok"}
    device = api.tunnel.engine.device
    api.tunnel.call(lambda: device.set_up(False))
    assert api.get("/healthz").status_code == 200
    problem(api.get("/readyz"), 503, "not-ready")


def test_a_port_that_is_waited_for_is_told(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = api.tunnel.engine.device
    taken = "cannot bind UDP port 7: Address already in use"

    def refuse(*_: object) -> None:
        raise DeviceError(taken)

    def again() -> None:
        device.set_up(False)
        with monkeypatch.context() as patch, pytest.raises(DeviceError):
            patch.setattr(device, "open_transport", refuse)
            device.set_up(True)

    api.tunnel.call(again)
    told = problem(api.get("/readyz"), 503, "not-ready")
    assert told["detail"] == taken
    assert api.get("/state").json()["device"]["waiting"] == taken
    assert api.get("/api/wg/status").json()["waiting"] == taken
    api.tunnel.call(lambda: device.set_up(True))
    assert api.get("/readyz").status_code == 200


# --- changing


def test_applying_the_configuration(api: Api) -> None:
    api.want_peers(1, 4)
    answer = api.post(
        "/api/apply-wg-config", headers={"content-type": "application/json"}
    )
    found = answer.json()
    assert answer.status_code == 200
    assert found["success"] is True
    assert "applied peers" in found["message"]
    assert found["changes"] == ["peers"]
    assert [p["action"] for p in found["peers"]] == ["remove", "remove", "add"]
    assert api.peers == [1, 4]
    again = api.post("/api/apply-wg-config").json()
    assert again["message"] == "nothing to change"
    assert again["generation"] == found["generation"] == api.generation


def test_a_name_without_an_address_is_told_and_holds_nothing_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.9", 0))]

    def resolve(*_: object, **__: object) -> list[Any]:
        if not addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return addresses

    original = desired.Addresses
    monkeypatch.setattr(desired, "Addresses", lambda _: original(resolve))
    api.want(peers=[entry(1, endpoint=f"{FAR}:5")])
    assert api.post("/api/apply-wg-config").json()["warnings"] == []
    addresses.clear()
    api.want(peers=[entry(1, endpoint=f"{FAR}:5"), entry(2)])
    told = f"peers[0].endpoint: cannot resolve {FAR}; the present endpoint is kept"
    found = api.get("/api/wg/diffs").json()
    assert [one["action"] for one in found["diffs"]] == ["add"]
    assert found["warnings"] == [told]
    planned = api.post("/api/apply-wg-config?dry_run=true").json()
    assert planned["warnings"] == planned["plan"]["warnings"] == [told]
    assert api.post("/api/apply-wg-config").json()["warnings"] == [told]
    assert api.peers == [1, 2]
    status = api.get("/api/wg/status").json()
    assert status["peers"][0]["endpoint"] == "192.0.2.9:5"


def test_applying_without_pruning(api: Api) -> None:
    api.want_peers(4)
    api.post("/api/apply-wg-config?prune=false")
    assert api.peers == [1, 2, 3, 4]


def test_a_peer_comes_and_goes(api: Api) -> None:
    answer = api.post("/api/wg/add-peer", json=NEW)
    found = answer.json()
    assert found["success"] is True
    assert found["public_key"] == NEW["public_key"]
    added = api.tunnel.engine.device.state.peers[key(4)]
    assert added.preshared_key is not None
    assert added.preshared_key.reveal() == PRESHARED
    assert added.keepalive == 25
    problem(api.post("/api/wg/add-peer", json=NEW), 409, "refused")
    assert api.post("/api/wg/remove-peer", json={"name": "peer4"}).status_code == 200
    body = {"public_key": text(key(2))}
    before = api.generation
    done = api.post("/api/wg/remove-peer", json=body).json()
    assert done["generation"] == before + 1
    assert api.peers == [1, 3]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid-request"),
        ({"name": "nobody"}, 404, "no-such-peer"),
        ({"public_key": text(key(9))}, 404, "no-such-peer"),
        ({"name": "peer1", "public_key": text(key(2))}, 404, "no-such-peer"),
    ],
)
def test_removing_needs_one_peer(
    api: Api, body: dict[str, str], status: int, code: str
) -> None:
    problem(api.post("/api/wg/remove-peer", json=body), status, code)
    assert api.peers == [1, 2, 3]


def test_edits_can_be_saved(api: Api) -> None:
    assert api.post("/api/wg/add-peer?save=true", json=NEW).status_code == 200
    api.post("/api/wg/remove-peer?save=true", json={"name": "peer2"})
    written = json.loads(api.tunnel.path.read_text())
    assert [one["name"] for one in written["peers"]] == ["peer1", "peer3", "peer4"]
    assert api.get("/api/wg/diffs").json()["total_changes"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/apply-wg-config", None),
        ("/api/wg/add-peer", NEW),
        ("/api/wg/remove-peer", {"name": "peer1"}),
    ],
)
def test_a_dry_run_shows_the_plan_and_changes_nothing(
    api: Api, path: str, body: dict[str, Any] | None
) -> None:
    api.want_peers(1, 2, 3, 4)
    before = api.tunnel.engine.device.state
    found = api.post(f"{path}?dry_run=true", json=body).json()
    assert found["dry_run"] is True
    assert found["plan"]["total_changes"] == 1
    assert found["message"] == "would make 1 change"
    assert found["changes"] == ["peers"]  # the words of the change itself
    assert api.tunnel.engine.device.state is before
    assert len(api.tunnel.manager.history) == 0


# --- preconditions


@pytest.mark.parametrize("path", ["/state", "/api/wg/status", "/api/wg/diffs"])
def test_a_change_can_depend_on_what_was_read(api: Api, path: str) -> None:
    tag = api.get(path).headers["etag"]
    assert api.get(path).headers["etag"] == tag
    first = api.post("/api/wg/add-peer", json=NEW, headers={"if-match": tag})
    assert first.status_code == 200
    assert first.headers["etag"] != tag
    body = {"name": "peer4"}
    late = api.post("/api/wg/remove-peer", json=body, headers={"if-match": tag})
    problem(late, 412, "generation-changed")
    assert late.headers["etag"] == first.headers["etag"]
    assert 4 in api.peers
    several = f'"other", {late.headers["etag"]}'
    done = api.post("/api/wg/remove-peer", json=body, headers={"if-match": several})
    assert done.status_code == 200


@pytest.mark.parametrize("tag", ["", '"0"', "W/*", "nonsense"])
def test_an_unknown_tag_stops_every_change(api: Api, tag: str) -> None:
    headers = {"if-match": tag}
    for path, body in (
        ("/api/apply-wg-config", None),
        ("/api/apply-wg-config?dry_run=true", None),
        ("/api/wg/add-peer", NEW),
    ):
        problem(api.post(path, json=body, headers=headers), 412, "generation-changed")
    assert (
        api.post("/api/apply-wg-config", headers={"if-match": "*"}).status_code == 200
    )


def test_a_weak_tag_is_not_enough(api: Api) -> None:
    tag = api.get("/state").headers["etag"]
    weak = api.post("/api/apply-wg-config", headers={"if-match": f"W/{tag}"})
    problem(weak, 412, "generation-changed")


def test_a_tag_of_another_process_does_not_match(api: Api) -> None:
    other = Api(api.tunnel).get("/state").headers["etag"]
    answer = api.post("/api/apply-wg-config", headers={"if-match": other})
    problem(answer, 412, "generation-changed")


def test_no_pages_that_load_scripts_from_elsewhere(api: Api) -> None:
    for path in ("/docs", "/redoc"):
        problem(api.get(path), 404, "not-found")


def test_the_openapi_document(api: Api) -> None:
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    paths = document["paths"]
    assert set(paths) == {
        "/state", "/healthz", "/readyz", "/metrics", "/api/apply-wg-config",
        "/api/wg/diffs", "/api/wg/add-peer", "/api/wg/remove-peer", "/api/wg/status",
        "/api/confirm", "/api/rollback",
    }  # fmt: skip
    for operations in paths.values():
        for method, operation in operations.items():
            refusal = operation["responses"]["4XX"]["content"]
            assert list(refusal) == ["application/problem+json"]
            assert ("security" in operation) == (method == "post")
