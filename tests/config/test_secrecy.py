"""No secret in any text that people or logs get to see."""

from __future__ import annotations

import traceback
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunnel.config.desired import desired_state
from tunnel.config.schema import Config
from tunnel.errors import ConfigError

PRIVATE = b64encode(bytes(range(32))).decode()
PRESHARED = b64encode(bytes(range(1, 33))).decode()
PSK = "glass-otter-93-Lantern-quiver"
OTHER_PSK = "Wv7#pQ2!xZ9&kL4@-second"
PUBLIC = b64encode(bytes(range(2, 34))).decode()
SECRETS = (PRIVATE, PRESHARED, PSK, OTHER_PSK)

FULL = {
    "mode": "server",
    "privateKey": PRIVATE,
    "psk": PSK,
    "peers": [
        {"name": "a", "publicKey": PUBLIC, "presharedKey": PRESHARED},
        {"name": "b", "psk": OTHER_PSK},
    ],
}


def assert_silent(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text
        assert secret[:12] not in text


def test_repr_and_str(parse: Callable[..., Config]) -> None:
    config = parse(FULL)
    for shown in (config, config.facts, desired_state(config), config.peers):
        assert_silent(f"{shown!r}{shown!s}")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("damage", ["{}x", "{}\u0007", "\ud800{}", "{} ", "x{}"])
@pytest.mark.parametrize("key", ["privateKey", "psk", "preshared", "publicKey"])
def test_damaged_secrets(
    parse: Callable[..., Config], secret: str, damage: str, key: str
) -> None:
    text = damage.format(secret)
    broken: dict[str, Any] = {"mode": "server", "listen": 70000}
    if key in ("privateKey", "psk"):
        broken[key] = text
    else:
        broken["peers"] = [{"name": "a", "publicKey": text, "presharedKey": text}]
    with pytest.raises(ConfigError) as caught:
        parse(broken)
    lines = traceback.format_exception(caught.value)
    assert_silent(str(caught.value) + repr(caught.value) + "".join(lines))


@pytest.mark.parametrize(
    "template",
    [
        '{{"mode": "server", "psk": "{}",}}',
        '{{"mode": "server", "psk": {}}}',
        '{{"mode": "server", "psk": "{}}}',
        '{{"mode": "server", "psk": "{}" "x": 1}}',
        '{{"mode": "server", "psk": ["{}"]}}',
        '{{"mode": "server", "psk": {{"env": "{}"}}}}',
        '{{"mode": "server", "psk": {{"file": "{}"}}}}',
        '{{"mode": "server", "psk": {{"file": "{0}", "env": "{0}"}}}}',
        '{{"mode": "server", "psk": "{0}", "psk": "{0}"}}',
    ],
)
def test_broken_json_around_a_secret(
    parse: Callable[..., Config], template: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(template.format(PSK))
    lines = traceback.format_exception(caught.value)
    assert_silent(str(caught.value) + repr(caught.value) + "".join(lines))


def test_secret_files_of_wrong_content(
    parse: Callable[..., Config], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(PRIVATE + "x")
    with pytest.raises(ConfigError) as caught:
        parse({"mode": "server", "privateKey": {"file": "key"}})
    assert_silent(str(caught.value))
