"""Whatever the text, the answer is a configuration or a `ConfigError`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunnel.config.desired import desired_state
from tunnel.config.schema import Config, LoggingConfig, PeerConfig, TunnelConfig
from tunnel.config.store import parse_config
from tunnel.errors import ConfigError

KEY = "aPbWm1pFZ0vKjZrjkOaVq2F5U6rJ0J3yX8nqkEJ0Z3g="
SECRET = "QMq9T0TQLmkYlNwE8bC5hW5w8nTq9X1pY0zqf3m2uXE="
VALID: dict[str, Any] = {
    "mode": "server",
    "name": "hub",
    "listen": ":51820",
    "privateKey": SECRET,
    "keepalive": "1m30s",
    "rekeyInterval": 60,
    "tunnel": {"name": "wg0", "address": "10.0.0.1/24", "routes": ["10.1.0.0/16"]},
    "peers": [
        {"name": "a", "publicKey": KEY, "allowedIPs": ["10.0.0.2/32", "fd00::/64"]},
        {"publicKey": KEY[::-1][1:] + "=", "endpoint": "[fd00::1]:51820"},
    ],
    "management": {"bind": "127.0.0.1:7777", "acl": ["127.0.0.0/8"]},
    "access": {"deny": ["192.0.2.0/24"]},
}
ALIASES = sorted(
    str(info.alias)
    for model in (Config, PeerConfig, TunnelConfig, LoggingConfig)
    for info in model.model_fields.values()
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "\0", "off", "0x1", ":1", "a:1", "[::]:1", "10.0.0.0/33", "::/0", KEY,
         "1h", "fd00::1/64", "*.json", "/", "~", "~nobody", "\ud800", "server", "tun"]
    ),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.sampled_from(ALIASES), st.text(max_size=5)), inner, max_size=4
        ),
    ),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid configuration with a few values replaced, removed or added."""
    config = json.loads(json.dumps(VALID))
    for _ in range(draw(st.integers(1, 4))):
        node: Any = config
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            child = node[key]
            if isinstance(child, (dict, list)) and child and draw(st.booleans()):
                node = child
                continue
            if draw(st.integers(0, 3)) == 0:
                del node[key]
            else:
                node[key] = draw(values)
            break
        if isinstance(node, dict) and draw(st.booleans()):
            node[draw(st.sampled_from(ALIASES))] = draw(values)
    return config


def attempt(text: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as base:
        problems, shown = [], ""
        try:
            config = parse_config(text, base=Path(base), create=False)
            shown = repr(config)
            desired_state(config, lambda *_, **__: [])
        except ConfigError as error:
            shown += str(error)
            problems = error.problems
        shown.encode()
        assert SECRET not in shown
        assert all(problem.message for problem in problems)
        assert not list(Path(base).iterdir())


@settings(max_examples=300)
@given(mutated())
def test_mutated_values(config: Any) -> None:
    attempt(json.dumps(config))


@settings(max_examples=300)
@given(st.data())
def test_mutated_bytes(data: st.DataObject) -> None:
    raw = bytearray(json.dumps(VALID, indent=1).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        count = data.draw(st.integers(0, 3))
        raw[at : at + count] = data.draw(
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from(
                    [b'"', b",", b"{", b"}", b"[", b"]", b"\\", b"\n", b"0"]
                ),
            )
        )
    attempt(bytes(raw))


@settings(max_examples=100)
@given(st.one_of(st.text(), st.binary()))
@example("\ud800")
@example('{"\ud800": 1, "\ud800": 2}')
@example('{"mode": "server", "\ud800": 1}')
@example('{"psk": {"\\ud800": 1}}')
@example('{"mode": "server", "include": "\\ud800"}')
@example('{"mode": "server", "include": "[\\ud800]*"}')
@example('{"mode": "server", "peersFile": {"file": "\\u0000", "create": true}}')
@example(
    '{"mode": "server", "peersFile": {"file": "' + "x" * 5000 + '", "create": true}}'
)
@example('{"mode": "server", "access": {"blocklist": "\\u0000"}}')
@example('{"mode": "server", "privateKey": {"file": "~nobody-of-that-name/x"}}')
def test_any_text(text: str | bytes) -> None:
    attempt(text)
