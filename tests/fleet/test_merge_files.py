"""`tunnel merge` into files: what is written, shown, refused, and left alone."""

from __future__ import annotations

import json
import stat
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tunnel.cli.main import app
from tunnel.cli.merge import inventory_of
from tunnel.config.desired import desired_state
from tunnel.config.store import load_config
from tunnel.config.wgquick import load_wgquick
from tunnel.errors import TunnelError


def key(n: int) -> str:
    return b64encode(bytes([n]) * 32).decode()


def entry(name: str, n: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "publicKey": key(n),
        "allowedIPs": [f"10.0.0.{n}/32"],
        **more,
    }


PEERS = [entry("cm4", 3), entry("s2204", 4, presharedKey=key(9))]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


def write(name: str, value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    Path(name).write_text(text)
    return name


def merge(*words: str) -> Result:
    return CliRunner().invoke(app, ["merge", *words])


def done(*words: str) -> str:
    result = merge(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refused(*words: str) -> str:
    """The reason; nothing in the directory has changed."""
    before = {p: p.read_bytes() for p in Path().iterdir() if p.is_file()}
    result = merge(*words)
    assert isinstance(result.exception, TunnelError)
    after = {p: p.read_bytes() for p in Path().iterdir() if p.is_file()}
    assert after == before
    return str(result.exception)


def config(**more: Any) -> dict[str, Any]:
    return {"mode": "server", "privateKey": key(72), **more}


def test_a_new_file_of_each_kind() -> None:
    write("p.json", PEERS)
    assert "NEW" in done("p.json", "--into", "wg0.conf")
    document = load_wgquick("wg0.conf")
    assert [peer.values.name for peer in document.peers] == ["cm4", "s2204"]
    done("wg0.conf", "--into", "peers.json")
    assert json.loads(Path("peers.json").read_text()) == PEERS
    for name in ("wg0.conf", "peers.json"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["wg0.conf", "peers.json", "config.json"])
def test_a_partial_set_keeps_the_others_and_again_is_nothing(kind: str) -> None:
    if kind == "config.json":
        write(kind, config())
    done(write("p.json", PEERS), "--into", kind)
    new = [entry("k8s-proxy", 21), {"name": "cm4", "persistentKeepalive": 25}]
    said = done(write("new.json", new), "--into", kind)
    assert "Current peers: 2" in said
    assert "Merged peers:  3" in said
    assert "+1 peer(s), 1 updated" in said
    assert "s2204" in said.partition("Extra peers")[2]
    before = Path(kind).read_bytes()
    assert "nothing to change" in done("new.json", "--into", kind)
    assert Path(kind).read_bytes() == before
    assert len(list(Path().glob(f"{kind}.*.backup"))) == 2 - (kind != "config.json")


@pytest.mark.parametrize("kind", ["wg0.conf", "peers.json", "config.json"])
def test_an_ipv4_endpoint_written_as_ipv6_is_the_same_one(kind: str) -> None:
    if kind == "config.json":
        write(kind, config())
    mapped = entry("cm4", 3, endpoint="[::ffff:192.0.2.9]:5")
    done(write("p.json", [mapped]), "--into", kind)
    write("again.json", [entry("cm4", 3, endpoint="192.0.2.9:5")])
    for name in ("p.json", "again.json"):
        assert "nothing to change" in done(name, "--into", kind)


def test_the_rest_of_config_json_is_untouched() -> None:
    text = """{
  "mode": "server",   "privateKey": "%s",
  "peers": [
    {"name": "b",   "publicKey": "%s"},
    {"name": "a", "publicKey": "%s", "endpoint": "vpn.example.com:5"}
  ],
  "logging": {"level":  "debug"}
}
""" % (key(72), key(1), key(2))  # fmt: skip # noqa: UP031
    write("config.json", text)
    done(write("p.json", [{"name": "a", "allowedIPs": ["10.0.0.1"]}]))
    lines = Path("config.json").read_text().splitlines()
    assert lines[1] == text.splitlines()[1]
    assert json.loads(lines[3].rstrip(",")) == {
        "name": "a",
        "publicKey": key(2),
        "endpoint": "vpn.example.com:5",
        "allowedIPs": ["10.0.0.1/32"],
    }
    assert lines[4] == '    {"name": "b",   "publicKey": "%s"}' % key(1)  # noqa: UP031
    assert lines[6:] == text.splitlines()[6:]


def test_peers_stay_in_the_file_they_are_in() -> None:
    write("config.json", config(include="more.json", peersFile="last.json"))
    write("more.json", {"peers": [entry("cm4", 3)]})
    write("last.json", [])
    change = [{"name": "cm4", "persistentKeepalive": 9}, entry("new", 7)]
    done(write("p.json", change))
    more = json.loads(Path("more.json").read_text())
    assert more == {"peers": [entry("cm4", 3, persistentKeepalive=9)]}
    assert json.loads(Path("last.json").read_text()) == [entry("new", 7)]
    assert "peers" not in json.loads(Path("config.json").read_text())


def test_psk_mode_needs_names_only() -> None:
    psk = "correct horse battery staple 17"
    old = {"name": "one", "allowedIPs": ["10.0.0.1/32"]}
    write(
        "config.json", {"mode": "server", "psk": psk, "keepalive": 25, "peers": [old]}
    )
    new = {"name": "two", "allowedIPs": ["10.0.0.2/32"]}
    done(write("p.json", [new, entry("plain", 3)]))
    assert json.loads(Path("config.json").read_text())["peers"] == [
        old,
        entry("plain", 3),
        new,
    ]
    state = desired_state(load_config("config.json"))
    assert [peer.keepalive for peer in state.peers.values()] == [25, 25, 25]


def test_renamed_and_rotated() -> None:
    write("config.json", config(peers=PEERS))
    change = [
        {"name": "cm5", "publicKey": key(3)},
        {"name": "s2204", "publicKey": key(5)},
    ]
    said = done(write("p.json", change))
    assert "+0 peer(s)" in said
    peers = json.loads(Path("config.json").read_text())["peers"]
    assert peers == [
        entry("cm5", 3),
        entry("s2204", 4, presharedKey=key(9)) | {"publicKey": key(5)},
    ]


def test_prune_and_inventory() -> None:
    write("config.json", config(peers=PEERS))
    empty = write("empty.json", [])
    assert "pruning would remove every peer" in refused(empty, "--prune")
    assert "missing: nobody" in refused(empty, "--inventory", "cm4,nobody")
    write("names", "cm4  # the first\n\n")
    done(empty, "--prune", "--inventory", "@names")
    peers = json.loads(Path("config.json").read_text())["peers"]
    assert [peer["name"] for peer in peers] == ["cm4"]
    assert inventory_of(["a, b", "b", "c"]) == ("a", "b", "c")
    assert inventory_of([]) is None


def test_conflicts_are_refused_naming_both() -> None:
    write("config.json", config(peers=PEERS))
    said = refused(write("p.json", [{"name": "s2204", "publicKey": key(3)}]))
    assert "s2204 (AwMD" in said
    assert "s2204 (BAQE" in said
    said = refused(write("p.json", [entry("thief", 7, allowedIPs=["10.0.0.3"])]))
    assert "thief" in said
    assert "cm4" in said
    own = load_config("config.json").facts.private_key
    assert own is not None
    from tunnel.config.identity import encode_key, public_key

    mine = encode_key(public_key(own.reveal()))
    assert "itself" in refused(write("p.json", [{"publicKey": mine}]))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([{"name": "a", "publicKey": "x"}], "publicKey"),
        ([{"name": "a", "allowdIPs": []}], "allowedIPs"),
        ([{"allowedIPs": []}], "neither publicKey nor name"),
        ([{"name": "a", "psk": "x"}], "no psk"),
        ([{"name": "cm4", "endpoint": "x"}], "port"),
        ([{"name": "cm4", "presharedKey": {"file": "k", "create": True}}], "create"),
        ("[Peer]\nx", "Peer[0]"),
        ("[{", "line 1"),
    ],
)
def test_a_wrong_set_is_refused_with_its_place(value: object, said: str) -> None:
    write("config.json", config(peers=PEERS))
    assert said in refused(write("p.json", value))
    assert "cannot read" in refused("nothing.json")


def test_a_reference_to_a_secret_stays_one() -> None:
    write("config.json", config(peers=PEERS))
    write("psk", key(8))
    write("p.json", [{"name": "cm4", "presharedKey": {"file": "psk"}}])
    done("p.json")
    assert key(8) not in Path("config.json").read_text()
    peer = desired_state(load_config("config.json")).peers[bytes([3]) * 32]
    assert peer.preshared_key is not None
    assert peer.preshared_key.reveal() == bytes([8]) * 32


@pytest.mark.parametrize("kind", ["wg0.conf", "config.json"])
def test_a_dry_run_shows_and_changes_nothing(kind: str, directory: Path) -> None:
    if kind == "config.json":
        write(kind, config(peers=PEERS))
    else:
        done(write("p.json", PEERS), "--into", kind)
    before = Path(kind).read_bytes()
    write("new.json", [entry("new", 7, presharedKey=key(8))])
    said = done("new.json", "--into", kind, "--dry-run")
    assert Path(kind).read_bytes() == before
    assert "Status:        UPDATE" in said
    assert "Preview peers: 3" in said
    assert "+1 peer(s)" in said
    assert f"+++ {kind} (preview)" in said
    (preview,) = (directory / "tmp").iterdir()
    assert str(preview) in said
    assert stat.S_IMODE(preview.stat().st_mode) == 0o600
    for secret in (key(72), key(8), key(9)):
        assert secret not in said + preview.read_text()
    assert key(7) in preview.read_text()


def test_a_preview_of_ones_own_is_never_written_over(directory: Path) -> None:
    write("config.json", config(peers=PEERS))
    write("new.json", [entry("new", 7, presharedKey=key(8))])
    ask = ("new.json", "--dry-run", "--show-secrets", "--preview")
    done(*ask, "preview.json")
    assert stat.S_IMODE(Path("preview.json").stat().st_mode) == 0o600
    done("new.json")
    assert Path("preview.json").read_text() == Path("config.json").read_text()
    (directory / "link").symlink_to("target")
    write("new.json", [entry("other", 8)])
    assert "File exists" in refused(*ask, "link")
    assert not (directory / "target").exists()


def test_json_output() -> None:
    write("config.json", config(peers=PEERS))
    write("p.json", [entry("new", 7, endpoint="vpn.example.com:5")])
    told = json.loads(done("p.json", "--dry-run", "--json"))
    assert (told["current_peers"], told["preview_peers"]) == (2, 3)
    assert told["changed"] is True
    (action,) = told["plan"]["diffs"]
    assert action["new_state"]["endpoint"] == "vpn.example.com:5"
    done("p.json")
    assert json.loads(done("p.json", "--json"))["changed"] is False


def test_the_dictionaries_of_the_filters_are_a_partial_set() -> None:
    write("config.json", config(peers=PEERS))
    write("p.json", {"new": {"public_key": key(7), "allowed_ips": "10.0.0.7/32"}})
    done("p.json")
    peers = json.loads(Path("config.json").read_text())["peers"]
    assert entry("new", 7) in peers


OLD_TEXTS = {
    "wg0.conf": f"# mine\n[Interface]\nPrivateKey = {key(72)}\n\n# old\n[Peer]\n"
    f"PublicKey = {key(3)}\nAllowedIPs = 10.0.0.3/32\n",
    "config.json": json.dumps(config(peers=[entry("cm4", 3)]), indent=1) + "\n",
    "peers.json": json.dumps([entry("cm4", 3)]) + "\n",
    "clients.json": f"# mine\n{key(3)} 10.0.0.3/32 cm4\n",
}


@pytest.mark.parametrize("name", OLD_TEXTS)
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_file_keeps_its_line_ends(name: str, end: str) -> None:
    Path(name).write_bytes(OLD_TEXTS[name].replace("\n", end).encode())
    write("p.json", [entry("s2204", 4)])
    done("p.json", "--into", name, "--dry-run", "--preview", "preview")
    done("p.json", "--into", name)
    text = Path(name).read_bytes().decode()
    assert key(4) in text
    assert text.endswith(end)
    assert text.count("\n") == text.count(end) > 1
    assert text.count("\r") == (text.count("\n") if end == "\r\n" else 0)
    assert Path("preview").read_bytes().count(b"\r") == text.count("\r")
    before = Path(name).read_bytes()
    done("p.json", "--into", name)  # nothing left to do
    assert Path(name).read_bytes() == before


@pytest.mark.parametrize("name", ["wg0.conf", "config.json", "peers.json"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_last_line_without_an_end_stays_so(name: str, end: str) -> None:
    Path(name).write_bytes(OLD_TEXTS[name].rstrip().replace("\n", end).encode())
    write("p.json", [entry("s2204", 4)])
    done("p.json", "--into", name)
    raw = Path(name).read_bytes()
    assert key(4).encode() in raw
    assert raw == raw.rstrip()


def test_of_two_kinds_of_line_ends_a_new_line_gets_the_usual_one() -> None:
    old = "# a\r\n[Interface]\r\n# odd\nListenPort = 1\r\n"
    Path("wg0.conf").write_bytes(old.encode())
    write("p.json", [entry("s2204", 4)])
    done("p.json", "--into", "wg0.conf")
    text = Path("wg0.conf").read_bytes().decode()
    assert text.startswith(old)
    assert "\n" not in text.removeprefix(old).replace("\r\n", "")
