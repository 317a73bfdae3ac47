"""wg-quick files: what they mean, what is wrong with them, and back to text."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel.config.wgquick import (
    WgPeer,
    WgQuick,
    literal,
    load_wgquick,
    parse_wgquick,
    wgquick_of,
)
from tunnel.config.wgquick_values import InterfaceValues, PeerValues
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.fleet.standins import StandIns
from tunnel.state.model import (
    DeviceState,
    InterfaceState,
    PeerState,
    Secret,
    canonical_prefixes,
    clamp,
    mask,
)


def key(n: int) -> str:
    return b64encode(bytes([n]) * 32).decode()


FILE = f"""# the hub
[interface]
privatekey={key(72)}
ListenPort = 51820 # the usual one
FwMark = 0xca6c
Address = 10.0.0.1/24, fd00::1/64
ADDRESS = 10.1.0.1
DNS = 10.0.0.53, example.com
MTU = 1380
Table = off
PreUp = echo 'a # b'
PostUp = iptables -A FORWARD -i %i -j ACCEPT
PostUp = echo two
SaveConfig = false

# of the office
[Peer]
# cm4
PublicKey = {key(1)}
PresharedKey = {key(9)}
AllowedIPs = 10.0.0.3/32,fd00::3
AllowedIPs = 192.168.1.7/24
Endpoint = vpn.example.com:51820
PersistentKeepalive = 25

[Peer]
PublicKey = {key(2)}
# friendly_name = s 2204
Endpoint = [fd00::9]:1
AllowedIPs =
PersistentKeepalive = off
"""


def problems(text: str) -> list[ConfigProblem]:
    with pytest.raises(ConfigError) as caught:
        parse_wgquick(text, "wg0.conf")
    assert "wg0.conf" in str(caught.value)
    return caught.value.problems


def test_everything_in_a_file() -> None:
    document = parse_wgquick(FILE)
    own = document.interface
    assert own.private_key == Secret(clamp(bytes([72]) * 32))
    assert (own.listen_port, own.fwmark, own.mtu) == (51820, 0xCA6C, 1380)
    assert own.addresses == (
        (bytes([10, 0, 0, 1]), 24),
        (bytes.fromhex("fd00") + bytes(13) + b"\1", 64),
        (bytes([10, 1, 0, 1]), 32),
    )
    assert own.dns == (bytes([10, 0, 0, 53]),)
    assert own.search == ("example.com",)
    assert own.hooks == (
        ("PreUp", "echo 'a # b'"),
        ("PostUp", "iptables -A FORWARD -i %i -j ACCEPT"),
        ("PostUp", "echo two"),
    )
    assert (own.table, own.save_config) == ("off", False)
    one, two = (peer.values for peer in document.peers)
    assert (one.name, two.name) == ("cm4", "s 2204")
    assert one.preshared_key == Secret(bytes([9]) * 32)
    assert one.endpoint == ("vpn.example.com", 51820)
    assert one.allowed_ips == canonical_prefixes(
        [mask(bytes([192, 168, 1, 0]), 24), (bytes([10, 0, 0, 3]), 32),
         (bytes.fromhex("fd00") + bytes(13) + b"\3", 128)]
    )  # fmt: skip
    assert (one.keepalive, two.keepalive) == (25, 0)
    assert two.allowed_ips == ()
    assert document.text().split() == FILE.split()


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("# friendly_name=alice", "alice"),
        ("#friendly_name = alice b", "alice b"),
        ("# Name = alice", "alice"),
        ("# alice", "alice"),
        ("# plain\n# friendly_name=alice", "alice"),
        ("# Name = other\n# friendly_name=alice", "alice"),
        ('# friendly_json={"id": 1}', ""),
        ("#Endpoint = 1.2.3.4:5", ""),
        ("# " + "x" * 65, ""),
    ],
)
def test_names(lines: str, name: str) -> None:
    text = f"[Peer]\n{lines}\nPublicKey = {key(1)}\n"
    assert parse_wgquick(text).peers[0].values.name == name


@pytest.mark.parametrize(
    ("text", "line", "path", "said"),
    [
        ("[Interface]\nPrivatKey = x", 2, "Interface.PrivatKey", "PrivateKey"),
        (
            "[Interface]\nPrivateKey = x",
            2,
            "Interface.PrivateKey",
            "32-byte key",
        ),
        ("[Interface]\nMTU = 1\n", 2, "Interface.MTU", "576"),
        ("[Interface]\nMTU = 1400\nmtu = 1400", 3, "Interface.MTU", "line 2"),
        (
            "[Interface]\nAddress = 10.0.0.1/33",
            2,
            "Interface.Address",
            "0 and 32",
        ),
        ("[Interface]\nMTU", 2, "Interface.MTU", "no value"),
        ("[Interface]\nAllowedIPs = ::/0", 2, "Interface.AllowedIPs", "no key"),
        ("[Interface]\n\n[Interface]", 3, "Interface", "line 1"),
        ("[Peer]\n# a\n", 1, "Peer[0].PublicKey", "missing"),
        (f"[Peer]\nPublicKey={key(0)}", 2, "Peer[0].PublicKey", "zero"),
        (
            f"[Peer]\nPublicKey={key(1)}\nEndpoint=a",
            3,
            "Peer[0].Endpoint",
            "port",
        ),
        ("[Per]\n", 1, "section", "[Peer]"),
        ("PrivateKey = x\n[Interface]", 1, "section", "before any section"),
    ],
)
def test_errors_have_their_line(text: str, line: int, path: str, said: str) -> None:
    (problem,) = problems(text)
    assert (problem.line, problem.path) == (line, path)
    assert said in str(problem)


def test_all_problems_at_once_and_both_owners() -> None:
    text = (
        f"[Peer]\n# one\nPublicKey = {key(1)}\nAllowedIPs = 10.0.0.0/24\n"
        f"[Peer]\n# two\nPublicKey = {key(1)}\nAllowedIPs = 10.0.0.9/24\n"
        "[Interface]\nListenPort = 70000\n"
    )
    found = problems(text)
    assert [p.line for p in found] == [5, 5, 10]
    assert "one on line 1" in found[0].message
    assert "10.0.0.0/24 belongs to one on line 1" in found[1].message


def test_a_secret_is_never_in_an_error() -> None:
    secret = "A" * 20 + "secret" + "B" * 17 + "="
    for line in (
        f"PrivateKey = {secret}x",
        f"{secret}",
        f"PrivateKy = {secret}",
    ):
        assert all("secret" not in str(p) for p in problems(f"[Interface]\n{line}"))


def test_a_shown_file_has_no_secret() -> None:
    text = parse_wgquick(
        FILE.replace("# cm4", f"# cm4\n#PresharedKey = {key(8)}")
    ).text(secrets=False)
    for n in (72, 8, 9):
        assert key(n) not in text
    assert "iptables" not in text
    assert key(1) in text
    assert "(hidden)" in text


def test_a_changed_peer_keeps_its_comments_and_the_others_their_lines() -> None:
    names = StandIns()
    document = parse_wgquick(FILE)
    states = [peer.state(names.endpoint) for peer in document.peers]
    changed = replace(states[0], name="cm 5", keepalive=0, allowed_ips=())
    text = document.with_peers([changed, states[1]], names.target).text()
    lines = text.splitlines()
    assert "# of the office" in lines
    assert "# cm 5" in lines
    assert "Endpoint = vpn.example.com:51820" in lines
    assert "PersistentKeepalive = 0" in lines
    assert not any(line.startswith("AllowedIPs = 10") for line in lines)
    assert text.endswith(FILE[FILE.rindex("[Peer]") :])
    assert parse_wgquick(text).peers[0].state(names.endpoint) == changed


@pytest.mark.parametrize(
    "written", ["[2001:DB8:0::1]:05", "[::ffff:192.0.2.1]:7", "Hub.example.com:5"]
)
def test_an_endpoint_that_stays_keeps_its_spelling(written: str) -> None:
    names = StandIns()
    section = f"[Peer]\nPublicKey = {key(1)}\nEndpoint = hub.EXAMPLE.com:6\n"
    other = section.replace(key(1), key(2)).replace("hub.EXAMPLE.com:6", written)
    file = f"[Interface]\n\n{section}\n{other}"
    document = parse_wgquick(file)
    states = [peer.state(names.endpoint) for peer in document.peers]
    text = document.with_peers(states, names.target).text()
    assert text == file
    changed = replace(states[1], endpoint=names.endpoint(("192.0.2.9", 5)))
    text = document.with_peers([states[0], changed], names.target).text()
    assert text.splitlines()[-1] == "Endpoint = 192.0.2.9:5"


# --- round trips

texts = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S")),
    min_size=1,
    max_size=20,
)
secrets = st.binary(min_size=32, max_size=32).filter(any).map(Secret)
addresses = st.one_of(
    st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)
)
hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.just("vpn.example.com"),
)


@st.composite
def with_length(draw: st.DrawFn) -> tuple[bytes, int]:
    address = draw(addresses)
    return address, draw(st.integers(0, len(address) * 8))


@st.composite
def peers(draw: st.DrawFn, number: int) -> WgPeer:
    prefixes = draw(st.lists(st.binary(min_size=3, max_size=3), max_size=3))
    return WgPeer(
        PeerValues(
            bytes([number + 1]) * 32,
            draw(st.one_of(st.just(""), st.just(f"peer {number}"))),
            draw(st.none() | secrets),
            draw(st.none() | st.tuples(hosts, st.integers(1, 65535))),
            canonical_prefixes((bytes([number]) + p, 32) for p in prefixes),
            draw(st.none() | st.integers(0, 65535)),
        )
    )


@st.composite
def documents(draw: st.DrawFn) -> WgQuick:
    interface = InterfaceValues(
        private_key=draw(st.none() | secrets.map(lambda s: Secret(clamp(s.reveal())))),
        listen_port=draw(st.none() | st.integers(0, 65535)),
        fwmark=draw(st.none() | st.integers(0, 2**32 - 1)),
        addresses=tuple(draw(st.lists(with_length(), unique=True, max_size=3))),
        dns=tuple(draw(st.lists(addresses, unique=True, max_size=2))),
        search=draw(st.sampled_from([(), ("example.com",), ("lan", "home.arpa")])),
        mtu=draw(st.none() | st.integers(576, 65535)),
        table=draw(st.none() | st.sampled_from(["off", "auto", "1234"])),
        hooks=tuple(
            draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(["PreUp", "PostUp", "PreDown", "PostDown"]),
                        texts,
                    ),
                    max_size=3,
                )
            )
        ),
        save_config=draw(st.none() | st.booleans()),
    )
    count = draw(st.integers(0, 4))
    return WgQuick(interface, tuple(draw(peers(n)) for n in range(count)))


@settings(max_examples=150)
@given(documents())
def test_what_is_written_reads_back(document: WgQuick) -> None:
    again = parse_wgquick(document.text())
    assert again == document
    assert again.text() == document.text()


@settings(max_examples=100)
@given(documents(), documents())
def test_any_peers_fit_into_any_file(one: WgQuick, two: WgQuick) -> None:
    names = StandIns()
    wanted = two.state("wg0", names.endpoint).peers
    text = parse_wgquick(one.text()).with_peers(wanted.values(), names.target).text()
    again = parse_wgquick(text)
    assert again.state("wg0", names.endpoint).peers == wanted
    assert again.interface == one.interface


def test_a_state_becomes_a_file_and_a_state_again() -> None:
    state = DeviceState(
        private_key=Secret(clamp(b"k" * 32)),
        listen_port=5,
        fwmark=9,
        interface=InterfaceState(
            name="wg0",
            mtu=1400,
            addresses=((bytes([10, 0, 0, 1]), 24),),
            routes=((bytes([10, 9, 0, 0]), 16),),
            dns=(bytes([9, 9, 9, 9]),),
            auto_configure=True,
        ),
        peers={
            bytes([1]) * 32: PeerState(
                bytes([1]) * 32,
                "one",
                Secret(b"p" * 32),
                (bytes([1, 2, 3, 4]), 5, 0),
                ((bytes([10, 9, 0, 0]), 16),),
                25,
            )
        },
    )
    document = parse_wgquick(wgquick_of(state).text())
    assert document.state("wg0", StandIns().endpoint) == state
    assert literal((bytes.fromhex("fe80") + bytes(14), 7, 3)) == ("fe80::%3", 7)


def test_wg_itself_reads_what_is_written(
    tmp_path: Path, require_program: Callable[..., str]
) -> None:
    """`wg-quick strip` accepts it, and what it leaves is what `wg` knows."""
    require_program("wg-quick", "apt install wireguard-tools")
    path = tmp_path / "wg0.conf"
    path.write_text(wgquick_of(parse_wgquick(FILE).state("wg0", _offline)).text())
    path.chmod(0o600)
    done = subprocess.run(
        ["wg-quick", "strip", path], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    stripped = parse_wgquick(done.stdout)
    whole = load_wgquick(path)
    assert stripped.peers == whole.peers
    assert stripped.interface.private_key == whole.interface.private_key
    assert stripped.interface.addresses == ()


def _offline(target: tuple[str, int]) -> tuple[bytes, int, int]:
    return bytes([192, 0, 2, 1]), target[1], 0


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.conf").write_bytes(b"\xff\xfe")
    for name in ("none.conf", "bad.conf", "."):
        with pytest.raises(ConfigError, match="cannot read"):
            load_wgquick(tmp_path / name)
