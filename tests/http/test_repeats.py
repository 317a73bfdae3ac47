"""What a refusal repeats of a request: perhaps a wrong value, never a key."""

from __future__ import annotations

import pytest

from .rig import NEW, PRESHARED, Api, problem, text

SPELLED = [text(PRESHARED), text(PRESHARED)[:-1], PRESHARED.hex()]


@pytest.mark.parametrize("secret", SPELLED)
@pytest.mark.parametrize(
    "field",
    ["allowed_ips", "endpoint", "persistent_keepalive", "preshared_key", "made_up"],
)
def test_a_secret_in_the_wrong_field(api: Api, field: str, secret: str) -> None:
    value = [secret] if field == "allowed_ips" else f"{secret}!"
    found = api.post("/api/wg/add-peer", json=NEW | {field: value})
    assert found.status_code == 422
    for size in (16, 32):
        assert secret[:size] not in found.text


@pytest.mark.parametrize("secret", SPELLED)
def test_a_secret_as_a_key_or_in_the_query(api: Api, secret: str) -> None:
    found = api.post("/api/wg/add-peer", json=NEW | {secret: 1})
    assert found.status_code == 422
    assert secret[:16] not in found.text
    query = api.post(f"/api/apply-wg-config?{secret}=1")
    assert query.status_code == 422
    assert secret[:16] not in query.text


def test_another_wrong_value_may_be_repeated(api: Api) -> None:
    wrong = NEW | {"allowed_ips": ["10.0.0.300/32"]}
    found = problem(api.post("/api/wg/add-peer", json=wrong), 422, "config-invalid")
    assert "10.0.0.300/32" in str(found)
