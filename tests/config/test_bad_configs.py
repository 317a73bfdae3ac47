"""Wrong configurations: each is refused at its key, on its line, with a way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunnel.errors import ConfigError, ConfigProblem

KEY1 = "aPbWm1pFZ0vKjZrjkOaVq2F5U6rJ0J3yX8nqkEJ0Z3g="
KEY2 = "bPbWm1pFZ0vKjZrjkOaVq2F5U6rJ0J3yX8nqkEJ0Z3g="
PRIVATE = "QMq9T0TQLmkYlNwE8bC5hW5w8nTq9X1pY0zqf3m2uXE="
PUBLIC_OF_PRIVATE = "1eXnTUvaSvrSIYStt1pnmBnRKaw+Kq/L7lFEsQRRTQg="


def server(*lines: str) -> str:
    """A server whose further keys start on line 3; it would create a key file."""
    own = '"privateKey": {"file": "new/key", "create": true}'
    return "{\n" + ",\n".join([f'"mode": "server", {own}', *lines]) + "\n}"


def peers(*lines: str) -> str:
    """As `server`, with one peer per line from line 4 on."""
    return server('"peers": [\n' + ",\n".join(lines) + "\n]")


def peer(extra: str = "", name: str = "a", key: str = KEY1) -> str:
    return f'{{"name": "{name}", "publicKey": "{key}"{extra and ", " + extra}}}'


def keyed(mode: str, more: str) -> str:
    """With an inline key on line 2 and `more` on line 3."""
    return f'{{"mode": "{mode}",\n"privateKey": "{PRIVATE}",\n{more}}}'


def psk_mode(peer: str) -> str:
    """A server with a passphrase and one peer on line 2."""
    psk = '"psk": {"file": "new/psk", "create": true}'
    return f'{{"mode": "server", {psk},\n"peers": [{peer}]}}'


# id -> (text, path, line, part of the message, part of the hint)
BAD: dict[str, tuple[str | bytes, str, int, str, str]] = {
    # --- not JSON
    "empty file": ("", "$", 1, "is empty", "docs/config.md"),
    "only spaces": (" \n\n ", "$", 1, "is empty", "docs/config.md"),
    "byte order mark": (b"\xef\xbb\xbf{}", "$", 1, "byte order mark", "without BOM"),
    "byte order mark text": ("\ufeff{}", "$", 1, "byte order mark", "without BOM"),
    "utf-16": ("{}".encode("utf-16"), "$", 1, "UTF-16", "without BOM"),
    "latin-1": (b'{\n"name": "J\xfcrgen"}', "$", 2, "byte 11", "UTF-8"),
    "trailing comma object": ('{\n"mode": "server",\n}', "$", 2, "comma", "trailing"),
    "trailing comma list": ('{"a": [1,\n]}', "$", 1, "comma", "trailing comma"),
    "line comment": ('{\n// hello\n"a": 1}', "$", 2, "no comments", "remove"),
    "block comment": ('{"a": 1,\n/* x */ "b": 2}', "$", 2, "no comments", "remove"),
    "hash comment": ('{\n# hello\n"a": 1}', "$", 2, "no comments", "remove"),
    "single quotes": ("{\n'mode': 1}", "$", 2, "single quotes", "double quotes"),
    "bare key": ("{\nmode: 1}", "$", 2, "without quotes", "double quotes"),
    "missing comma": ('{"a": 1\n"b": 2}', "$", 2, "comma is missing", "between"),
    "python word": ('{"a":\nTrue}', "$", 2, "not a JSON word", "true, false"),
    "ends early": ('{"a": [\n1', "$", 2, "ends too early", "close"),
    "open text": ('{\n"a": "b', "$", 2, "not closed", "quote"),
    "line break in text": ('{\n"a": "b\nc"}', "$", 2, "line break", "quote"),
    "second value": ('{"a": 1}\n{}', "$", 2, "after the end", "remove"),
    "garbage": ("{\n%}", "$", 2, "not JSON here", "json.org"),
    "nested too deeply": ("[" * 10_000, "$", 1, "", ""),
    "endless number": ('{"mode": ' + "1" * 5000 + "}", "$", 1, "thousands", ""),
    "key twice": ('{"mode": "server",\n"x": 1,\n"mode": "client"}', "mode", 3,
        "line 1 and on line 3", "keep one"),
    "key twice deep": ('{"tunnel": {\n"mtu": 1,\n\n"mtu": 1}}', "tunnel.mtu", 4,
        "line 2 and on line 4", "keep one"),
    "key twice escaped": ('{"mode": 1,\n"m\\u006fde": 2}', "mode", 2, "line 1", "keep"),
    # --- the wrong shape
    "list": ("[]", "$", 1, "an object, not a list", ""),
    "null": ("null", "$", 1, "an object, not null", ""),
    "no mode": ('{"psk": 1}', "mode", 1, "missing", '"server" or "client"'),
    "wrong mode": ('{\n"mode": "servr"}', "mode", 2, "one of", 'mean "server"'),
    "unknown key": (server('"lisen": 1'), "lisen", 3, "unknown key", "`listen`?"),
    "other case": (server('"Listen": 1'), "Listen", 3, "unknown key", "`listen`?"),
    "snake case": (server('"rekey_budget": 1'), "rekey_budget", 3, "unknown",
        "`rekeyBudget`?"),
    "misplaced key": (server('"mtu": 1420'), "mtu", 3, "unknown", "in `tunnel`"),
    "nothing like it": (server('"zzz": 1'), "zzz", 3, "unknown", "known here: access"),
    "odd key": (server('"a b\\u0007": 1'), '["a b\\u0007"]', 3, "unknown", "known"),
    "unknown in tunnel": (server('"tunnel": {\n"adress": ""}'), "tunnel.adress", 4,
        "unknown key", "`address`?"),
    "unknown in peer": (peers(peer('"allowedIps": []')), "peers[0].allowedIps", 4,
        "unknown key", "`allowedIPs`?"),
    "keepalive in peer": (peers(peer('"keepalive": 1')), "peers[0].keepalive", 4,
        "unknown key", "`persistentKeepalive`?"),
    "unknown in secret": ('{"mode": "server",\n"psk": {"fil": "x"}}', "psk.fil", 2,
        "unknown key", "`file`?"),
    "number for text": (server('"name": 5'), "name", 3, "a text, not a number", ""),
    "text for bool": (peers(peer('"enabled": "yes"')), "peers[0].enabled", 4,
        "true or false, not a text", "write true"),
    "number for bool": (server('"allowDeviceToDevice": 1'), "allowDeviceToDevice", 3,
        "true or false, not a number", ""),
    "bool for number": (server('"maxConnections": true'), "maxConnections", 3,
        "a whole number, not true or false", ""),
    "fraction": (server('"keepalive": 1.5'), "keepalive", 3,
        "a whole number or a text", 'write "25s"'),
    "text for list": (peers(peer('"allowedIPs": "10.0.0.1/32"')),
        "peers[0].allowedIPs", 4, "a list, not a text", '["10.0.0.2/32"]'),
    "number in list": (peers(peer('"allowedIPs": [\n5]')), "peers[0].allowedIPs[0]",
        5, "a text, not a number", ""),
    "object for peers": (server('"peers": {}'), "peers", 3, "a list, not an object",
        "allowedIPs"),
    "text for peer": (peers('"a"'), "peers[0]", 4, "an object, not a text", ""),
    "list for tunnel": (server('"tunnel": []'), "tunnel", 3, "an object, not a list",
        '"type": "tun"'),
    "null for list": (server('"tunnel": {"dns": null}'), "tunnel.dns", 3,
        "a list, not null", ""),
    "nan": (server('"keepalive": NaN'), "keepalive", 3, "not a finite", "25s"),
    "infinity": (server('"connectionRate": Infinity'), "connectionRate", 3,
        "not a finite number", "no NaN and no Infinity"),
    "1e400": (server('"maxConnections": 1e400'), "maxConnections", 3, "finite", ""),
    "secret as number": ('{"mode": "server",\n"psk": 12}', "psk", 2,
        'a text, {"file": path} or {"env": NAME}, not a number', ""),
    "lone surrogate": (server('"name": "\\ud800"'), "name", 3, "half of a", "UTF-8"),
    "long name": (server(f'"name": "{"x" * 65}"'), "name", 3, "longer than 64", ""),
    "10 MB text": (server(f'"listen": "{"x" * 10_000_000}"'), "listen", 3, "xxx…", ""),
    "wrong level": (server('"logging": {"level": "INFO"}'), "logging.level", 3,
        "one of", 'mean "info"'),
    "wrong type": (server('"tunnel": {"type": "tunn"}'), "tunnel.type", 3, "one of",
        'mean "tun"'),
    # --- ranges
    "port": (server('"listen": ":70000"'), "listen", 3, "0 and 65535", "host:port"),
    "port number": (server('"listen": 70000'), "listen", 3, "0 and 65535", "51820"),
    "huge port": (server(f'"listen": {"9" * 400}'), "listen", 3, "65535", "51820"),
    "listen host": (server('"listen": "localhost:1"'), "listen", 3, "address",
        ":51820"),
    "listen v6": (server('"listen": ":::51820"'), "listen", 3, "address", "[::]:51820"),
    "mtu small": (server('"tunnel": {"mtu": 575}'), "tunnel.mtu", 3, "least 576",
        "1420"),
    "mtu large": (server('"tunnel": {"mtu": 65536}'), "tunnel.mtu", 3, "most 65535",
        ""),
    "mtu for a route of v6": (
        server('"tunnel": {"autoConfigure": true,\n"routes": ["::/1"], "mtu": 1279}'),
        "tunnel.mtu", 4, "at least 1280", "routes out",
    ),
    "mtu for v6": (server('"tunnel": {"address": "fd00::1/64",\n"mtu": 1279}'),
        "tunnel.mtu", 4, "at least 1280", "IPv6"),
    "keepalive": (server('"keepalive": 65536'), "keepalive", 3, "65535 seconds", "25s"),
    "keepalive negative": (server('"keepalive": -1'), "keepalive", 3, "between 0", ""),
    "peer keepalive": (peers(peer('"persistentKeepalive": 65536')),
        "peers[0].persistentKeepalive", 4, "0 and 65535 seconds", "write 25"),
    "milliseconds": (server('"keepalive": "500ms"'), "keepalive", 3, "whole seconds",
        "1m30s"),
    "no time": (server('"keepalive": ""'), "keepalive", 3, "whole seconds", "1m30s"),
    "rekey slow": (server('"rekeyInterval": "10m"'), "rekeyInterval", 3, "15 and 120",
        "s"),
    "rekey fast": (server('"rekeyInterval": 14'), "rekeyInterval", 3, "15 and 120",
        "s"),
    "rekey budget": (server('"rekeyBudget": 10'), "rekeyBudget", 3, "least 1024", ""),
    "padding": (server('"maxPadding": 255'), "maxPadding", 3, "16", "240 or 256"),
    "rate zero": (server('"connectionRate": 0'), "connectionRate", 3, "more than 0",
        ""),
    "burst zero": (server('"connectionBurst": 0'), "connectionBurst", 3, "least 1", ""),
    "fwmark": (server('"fwmark": 4294967296'), "fwmark", 3, "4294967295", "0xca6c"),
    "workers": (server('"workers": 17'), "workers", 3, "not a number", "1 to 16"),
    "no workers": (server('"workers": 0'), "workers", 3, "not a number", "1 to 16"),
    "workers text": (server('"workers": "all"'), "workers", 3, "not a n", "auto"),
    "fwmark text": (server('"fwmark": "blue"'), "fwmark", 3, "4294967295", "0xca6c"),
    "default route": (server('"tunnel": {"routes": ["0.0.0.0/0"]}'), "tunnel.routes",
        3, "needs a fwmark", '"fwmark": 51820'),
    "default route v6": (server('"fwmark": "off"', '"tunnel": {"routes": ["::/0"]}'),
        "tunnel.routes", 4, "needs a fwmark", '"fwmark": 51820'),
    "interface name": (server('"tunnel": {"name": "a/b"}'), "tunnel.name", 3,
        "interface name", "1 to 15"),
    "interface long": (server('"tunnel": {"name": "abcdefghijklmnop"}'), "tunnel.name",
        3, "interface name", "1 to 15"),
    "interface dots": (server('"tunnel": {"name": ".."}'), "tunnel.name", 3, "name",
        ""),
    # --- addresses
    "prefix /33": (peers(peer('"allowedIPs": ["10.0.0.0/8",\n"10.0.0.0/33"]')),
        "peers[0].allowedIPs[1]", 5, "between 0 and 32", '"10.0.0.0/24"'),
    "prefix /129": (peers(peer('"allowedIPs": ["fd00::/129"]')),
        "peers[0].allowedIPs[0]", 4, "between 0 and 128", "fd00::/64"),
    "prefix word": (peers(peer('"allowedIPs": ["any"]')), "peers[0].allowedIPs[0]", 4,
        "not an IP prefix", "10.0.0.0/24"),
    "prefix short": (peers(peer('"allowedIPs": ["10.0.0/24"]')),
        "peers[0].allowedIPs[0]", 4, "not an IP prefix", "10.0.0.0/24"),
    "prefix /32 word": (peers(peer('"allowedIPs": ["x/32"]')),
        "peers[0].allowedIPs[0]", 4, "not an IP prefix", "10.0.0.0/24"),
    "prefix sign": (peers(peer('"allowedIPs": ["10.0.0.0/+8"]')),
        "peers[0].allowedIPs[0]", 4, "between 0 and 32", ""),
    "bad address": (server('"tunnel": {"address": "10.0.0.256/24"}'), "tunnel.address",
        3, "not an IP prefix", "10.0.0.0/24"),
    "bad addresses": (server('"tunnel": {"addresses": ["::1",\n"::g"]}'),
        "tunnel.addresses[1]", 4, "not an IP prefix", ""),
    "bad route": (server('"tunnel": {"routes": ["/8"]}'), "tunnel.routes[0]", 3,
        "not an IP prefix", ""),
    "bad dns": (server('"tunnel": {"dns": ["dns.example"]}'), "tunnel.dns[0]", 3,
        "not an IP address", "10.0.0.1"),
    "bad acl": (server('"management": {"acl": ["x"]}'), "management.acl[0]", 3,
        "not an IP prefix", ""),
    "bad allow": (server('"access": {"allow": ["x"]}'), "access.allow[0]", 3, "", ""),
    "bad deny": (server('"access": {"deny": ["x"]}'), "access.deny[0]", 3, "", ""),
    "no blocklist": (server('"access": {"blocklist": "none.txt"}'), "access.blocklist",
        3, "No such file", "path"),
    "bad bind": (server('"management": {"bind": "7777"}'), "management.bind", 3,
        "no port", "127.0.0.1:7777"),
    "bad socket": (server('"management": {"bind": "unix:x"}'), "management.bind", 3,
        "socket path", "unix:/run"),
    "bad output": (server('"logging": {"output": ""}'), "logging.output", 3,
        "not a file name", "stderr"),
    "endpoint no port": (peers(peer('"endpoint": "vpn.example.com"')),
        "peers[0].endpoint", 4, "no port", "host:port"),
    "endpoint port 0": (peers(peer('"endpoint": "a:0"')), "peers[0].endpoint", 4,
        "1 and 65535", ""),
    "endpoint port": (peers(peer('"endpoint": "a:65536"')), "peers[0].endpoint", 4,
        "1 and 65535", "host:port"),
    "endpoint bare v6": (peers(peer('"endpoint": "fd00::1:51820"')),
        "peers[0].endpoint", 4, "without brackets", "[fd00::1]:51820"),
    "endpoint brackets": (peers(peer('"endpoint": "[10.0.0.1]:1"')),
        "peers[0].endpoint", 4, "no IPv6 address", "[fd00::1]"),
    "endpoint numbers": (peers(peer('"endpoint": "300.1.1.1:1"')), "peers[0].endpoint",
        4, "host name or address", "host:port"),
    "endpoint label": (peers(peer('"endpoint": "a..b:1"')), "peers[0].endpoint", 4,
        "host name or address", "host:port"),
    # --- keys and names
    "short key": (peers(peer(key="abcd")), "peers[0].publicKey", 4,
        "32-byte key in base64 (4 characters)", "44 characters"),
    "odd key bits": (peers(peer(key=KEY1[:42] + "h=")), "peers[0].publicKey", 4,
        "not base64", "44 characters"),
    "zero key": (peers(peer(key="A" * 43 + "=")), "peers[0].publicKey", 4,
        "zero bytes", "public key"),
    "no key": (peers('{"name": "a"}'), "peers[0].publicKey", 4, "missing", "psk"),
    "bad preshared": (peers(peer('"presharedKey": "x"')), "peers[0].presharedKey", 4,
        "32-byte key", "genpsk"),
    "both preshared": (peers(peer(f'"presharedKey": "{KEY2}",\n"psk": "{KEY2}"')),
        "peers[0].psk", 5, "exclude each other", "keep one"),
    "psk without name": (peers(f'{{"psk": "{KEY2}"}}'), "peers[0].name", 4, "missing",
        ""),
    "same name": (peers(peer(), peer(key=KEY2)), "peers[1].name", 5,
        '"a" is the name of peers[0] too', "own name"),
    "same key": (peers(peer(), peer(name="b")), "peers[1].publicKey", 5,
        "same key as peers[0]", "own key"),
    "same prefix": (peers(peer('"allowedIPs": ["10.0.0.1/24"]'),
        peer('"allowedIPs": ["10.0.0.9/24"]', "b", KEY2)), "peers[1].allowedIPs[0]", 5,
        '"10.0.0.9/24" belongs to peers[0] already', "/32"),
    "space in name": (peers(peer(name=" a")), "peers[0].name", 4, "printable",
        "laptop"),
    "control in name": (server('"name": "a\\u001b[31m"'), "name", 3, "printable", ""),
    "own key": (keyed("server", f'"peers": [{peer(key=PUBLIC_OF_PRIVATE)}]'),
        "peers[0].publicKey", 3, "tunnel itself", "the other end"),
    "own name": (psk_mode('{"name": "server"}'), "peers[0].name", 2, "tunnel itself",
        "rename"),
    "nameless psk peer": (psk_mode("{}"), "peers[0].name", 2, "missing", "publicKey"),
    "no secret": ('{"mode": "server"}', "privateKey", 1, "neither", "tunnel genkey"),
    "bad private key": ('{"mode": "server",\n"privateKey": "nope"}', "privateKey", 2,
        "32-byte key in base64 (4 characters)", "genkey"),
    "zero private key": ('{"mode": "server",\n"privateKey": "' + "A" * 43 + '="}',
        "privateKey", 2, "zero bytes", "genkey"),
    "short psk": ('{"mode": "server",\n"psk": "abc"}', "psk", 2, "shorter than 16",
        "tunnel genpsk"),
    "example psk": ('{"mode": "server",\n"psk": "your-secure-random-32-byte-psk"}',
        "psk", 2, "everybody knows", "tunnel genpsk"),
    "default psk": ('{"mode": "server",\n"psk": "change-me-in-production"}', "psk", 2,
        "everybody knows", "tunnel genpsk"),
    "easy psk": ('{"mode": "server",\n"psk": "aaaaaaaaaaaaaaaaaaaaaaaa"}', "psk", 2,
        "easy to guess", "tunnel genpsk"),
    "10 MB psk": ('{"mode": "server",\n"psk": "' + KEY1[:40] * 250_000 + '"}', "psk",
        2, "longer than 1024", "genpsk"),
    # --- secrets kept elsewhere
    "no secret file": ('{"mode": "server",\n"psk": {\n"file": "gone"}}', "psk.file", 3,
        "no such file", '"create": true'),
    "secret is directory": ('{"mode": "server",\n"psk": {"file": "."}}', "psk.file", 2,
        "not a regular file", "path"),
    "secret nul": ('{"mode": "server",\n"psk": {"file": "a\\u0000"}}', "psk.file", 2,
        "not a path", ""),
    "no variable": ('{"mode": "server",\n"psk": {"env": "TUNNEL_NOT_SET"}}', "psk.env",
        2, "not set", "export"),
    "odd variable": ('{"mode": "server",\n"psk": {"env": "A=B"}}', "psk.env", 2,
        "not the name", ""),
    "create variable": ('{"mode": "server",\n"psk": {"env": "A", "create": true}}',
        "psk.create", 2, "cannot be created", ""),
    "secret of nothing": ('{"mode": "server",\n"psk": {}}', "psk", 2, "either", "file"),
    "secret of both": ('{"mode": "server",\n"psk": {"env": "A", "file": "b"}}', "psk",
        2, "either", "file"),
    # --- how it fits together
    "client endpoint": (keyed("client", f'"peers": [{peer()}]'), "endpoint", 1,
        "missing", "vpn.example.com:51820"),
    "client peers": (keyed("client", '"endpoint": "a:1"'), "peers", 1,
        "needs its server", "add one peer"),
    "server endpoint": (server('"endpoint": "a:1"'), "endpoint", 3, "no endpoint",
        '"client"'),
    "no peers file": (server('"peersFile": "gone.json"'), "peersFile", 3,
        "no such file", "[]"),
    "no include": (server('"include": ["gone.json"]'), "include[0]", 3,
        "no such file", "[]"),
    "include directory": (server('"include": "."'), "include", 3, "regular file", ""),
}  # fmt: skip


def tree(path: Path) -> list[Path]:
    return sorted(path.rglob("*"))


@pytest.mark.parametrize("name", BAD)
def test_bad_config(
    name: str, tmp_path: Path, refuse: Callable[..., list[ConfigProblem]]
) -> None:
    text, path, line, message, hint = BAD[name]
    problems = refuse(text)
    matching = [p for p in problems if p.path == path and p.line == line]
    assert matching, problems
    assert any(message in p.message and hint in p.hint for p in matching), matching
    assert all(len(str(p)) < 1000 for p in problems)
    assert tree(tmp_path) == []


def test_every_problem_at_once(refuse: Callable[..., list[ConfigProblem]]) -> None:
    text = peers(
        peer('"allowedIPs": ["10.0.0.1/33"], "endpoint": "x"'),
        peer('"persistentKeepalive": 70000', name="a", key="short"),
    ).replace('"mode": "server"', '"mode": "server", "listen": 70000')
    found = [(p.line, p.path) for p in refuse(text)]
    assert sorted(found) == [
        (2, "listen"),
        (4, "peers[0].allowedIPs[0]"),
        (4, "peers[0].endpoint"),
        (5, "peers[1].name"),
        (5, "peers[1].persistentKeepalive"),
        (5, "peers[1].publicKey"),
    ]
    assert found == sorted(found, key=lambda item: item[0])


def test_error_reads_well(parse: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse('{"mode": "server",\n"psk": {"file": "none"},\n"listen": ":x"}')
    assert str(caught.value) == (
        "config.json: 2 problems\n"
        "  line 2: psk.file: cannot read the secret: there is no such file "
        '(add "create": true to make it)\n'
        '  line 3: listen: the port of ":x" is not between 0 and 65535 '
        '(write "host:port", or "[fd00::1]:51820" for IPv6)'
    )


def test_nesting_that_json_accepts(refuse: Callable[..., list[ConfigProblem]]) -> None:
    deep = "[" * 400 + "]" * 400
    problems = refuse(server(f'"listen": {deep}', f'"zzz": {deep}'))
    assert {(p.path, p.line) for p in problems} == {("listen", 3), ("zzz", 4)}


def test_same_key_twice_deep_down(refuse: Callable[..., list[ConfigProblem]]) -> None:
    deep = "[" * 20 + '{"a": 1, "a": 2}' + "]" * 20
    (problem,) = refuse(f'{{"mode": {deep}}}')
    assert "same key twice" in problem.message


@pytest.mark.parametrize("label", ["more.json", "peers.d/one.json"])
def test_other_files_are_named(
    label: str, tmp_path: Path, refuse: Callable[..., list[ConfigProblem]]
) -> None:
    (tmp_path / label).parent.mkdir(exist_ok=True)
    (tmp_path / label).write_text(f'[\n{peer(name="a")},\n{{"nam": 1}}\n]')
    problems = refuse(server(f'"include": ["{label}"]'))
    assert [(p.path, p.line) for p in problems] == [(f"{label}#[1].nam", 3)]
    (tmp_path / label).write_text(f'{{"peers":\n[{peer(name="b")}]}}')
    problems = refuse(server(f'"include": ["{label}"]', f'"peers": [{peer(name="c")}]'))
    assert [(p.path, p.line) for p in problems] == [(f"{label}#peers[0].publicKey", 2)]
    assert "peers[0]" in problems[0].message


def test_blocklist_line(
    tmp_path: Path, refuse: Callable[..., list[ConfigProblem]]
) -> None:
    (tmp_path / "block.txt").write_text("# bad people\n192.0.2.0/24\n\nnope\n")
    (problem,) = refuse(server('"access": {"blocklist": "block.txt"}'))
    assert problem.path == "access.blocklist"
    assert "line 4 of the file" in problem.message
