"""Changes on trial: kept or taken back, whoever still waits for the answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tunnel.api import http_bridge
from tunnel.prepare import prepare_save

from .rig import Api, entry, problem


def test_a_change_that_waits_for_confirmation(api: Api) -> None:
    for path, peers in (("/api/confirm", (1, 2)), ("/api/rollback", (1, 2, 4))):
        problem(api.post(path), 409, "nothing-pending")
        api.want_peers(*peers)
        found = api.post("/api/apply-wg-config?confirm_within=30").json()
        assert found["confirm_within"] == 30
        problem(api.post("/api/apply-wg-config"), 409, "not-applied")
        assert api.post(path).status_code == 200
        problem(api.post(path), 409, "nothing-pending")


def test_a_confirmation_with_nothing_to_save_waits_for_nobody(api: Api) -> None:
    api.want_peers(1, 2)
    api.post("/api/apply-wg-config?confirm_within=30")
    with busy(api):
        assert api.post("/api/confirm").json()["message"] == "confirmed"
    assert sorted(api.peers) == [1, 2]


def test_a_confirmation_goes_on_when_its_client_has_given_up(api: Api) -> None:
    tunnel, trial = api.tunnel, api.tunnel.manager.trial
    wanted = json.dumps(tunnel.wanted | {"peers": [entry(1)]}).encode()
    prepared = prepare_save(wanted, "next.json", tunnel.path, later=True)
    tunnel.call(
        lambda: tunnel.manager.apply(prepared, source="test", confirm_within=60)
    )
    with busy(api):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http_bridge, "_TIMEOUT", 0.1)
            problem(api.post("/api/confirm"), 504, "timeout")
        left = tunnel.call(lambda: trial.left)
        assert left is not None
        assert tunnel.call(lambda: trial.left) == left  # it stands still
        assert tunnel.path.read_bytes() != wanted
    while tunnel.call(lambda: trial.left) is not None:
        time.sleep(0.01)
    assert api.peers == [1]
    assert tunnel.path.read_bytes() == wanted
    problem(api.post("/api/rollback"), 409, "nothing-pending")


def test_a_confirmation_that_fails_says_why_and_the_change_waits_still(
    api: Api,
) -> None:
    tunnel = api.tunnel
    wanted = json.dumps(tunnel.wanted | {"peers": [entry(1)]}).encode()
    prepared = prepare_save(wanted, "next.json", tunnel.path, later=True)
    tunnel.call(
        lambda: tunnel.manager.apply(prepared, source="test", confirm_within=60)
    )
    api.want_peers(1, 2)  # the file is another one now
    assert "changed meanwhile" in api.post("/api/confirm").json()["detail"]
    assert api.post("/api/rollback").status_code == 200


@contextmanager
def busy(api: Api) -> Iterator[None]:
    """The helper thread has a job that takes long; it is done at the end."""
    done, manager = threading.Event(), api.tunnel.manager
    try:
        api.tunnel.call(lambda: manager.background(done.wait, lambda _: None))
        yield
    finally:
        done.set()


def test_a_change_that_is_taken_back(api: Api) -> None:
    api.want_peers(1)
    api.post("/api/apply-wg-config?confirm_within=30")
    assert api.peers == [1]
    assert api.post("/api/rollback").json()["changes"] == ["peers"]
    assert sorted(api.peers) == [1, 2, 3]
