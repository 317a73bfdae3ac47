"""The commands a newcomer types first: output, exit codes, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM

import pytest
from lab.network import Lab
from lab.process import wait_until

import tunnel

SEED_PSK = "quiet harbour 51 lanterns"


def command(
    *argv: str, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunnel", *argv],
        input=text,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_version_and_help() -> None:
    assert command("--version").stdout == f"tunnel {tunnel.__version__}\n"
    for argv in (["--help"], ["-h"], ["up", "--help"], ["demo", "--help"]):
        done = command(*argv)
        assert done.returncode == 0
        assert "Usage" in done.stdout
    assert "Exit codes" in command("--help").stdout


def test_wrong_command_line_is_exit_code_2() -> None:
    assert command("no-such-command").returncode == 2
    assert command("up", "--no-such-option").returncode == 2


def test_keys_fit_together() -> None:
    private = command("genkey").stdout
    public = command("pubkey", text=private).stdout
    assert len(b64decode(private)) == len(b64decode(public)) == 32
    wg = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True)
    assert wg.stdout == public
    assert command("genpsk").stdout != command("genpsk").stdout


@pytest.mark.parametrize("text", ["", "short\n", "!" * 44 + "\n", "A" * 40 + "\n"])
def test_pubkey_refuses_what_is_no_key(text: str) -> None:
    done = command("pubkey", text=text)
    assert done.returncode == 1
    assert "standard input" in done.stderr
    assert "tunnel genkey" in done.stderr
    assert text.strip() == "" or text.strip() not in done.stderr


def bad(config: dict[str, object]) -> str:
    return json.dumps({"mode": "server", "psk": SEED_PSK, **config}, indent=1)


@pytest.mark.parametrize("name", ["check", "up"])
@pytest.mark.parametrize(
    ("config", "said"),
    [
        (bad({"lisen": 1}), 'line 4: lisen: .*"?listen'),
        (bad({"listen": 70000}), "listen"),
        (bad({"peers": [{"name": "a", "allowedIPs": ["10.0.0.0/33"]}]}), "allowedIPs"),
        ("{", "line 1"),
    ],
)
def test_bad_configuration_names_the_field(
    name: str, config: str, said: str, tmp_path: Path
) -> None:
    done = command(name, "-", text=config, TUNNEL_RUN_DIR=str(tmp_path / "run"))
    assert done.returncode == 1
    assert re.search(said, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert SEED_PSK not in done.stderr
    assert not (tmp_path / "run").exists()


def test_no_tunnel_is_running(tmp_path: Path) -> None:
    done = command("status", TUNNEL_RUN_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "tunnel up" in done.stderr
    assert command("status", "wg9", TUNNEL_RUN_DIR=str(tmp_path)).returncode == 1
    assert command("status", "--json", TUNNEL_RUN_DIR=str(tmp_path)).stdout == "{}\n"


@pytest.fixture
def lab(require_root: None, require_tun: None) -> Iterator[Lab]:
    with Lab("left", "right") as made:
        yield made


def configuration(address: str, **more: object) -> str:
    return json.dumps(
        {
            "mode": "server",
            "psk": SEED_PSK,
            "listen": ":51820",
            "tunnel": {
                "name": "up0",
                "address": f"{address}/24",
                "routes": ["10.123.0.0/16"],
            },
            **more,
        }
    )


def test_up_configures_the_interface_and_takes_it_back(
    lab: Lab, tmp_path: Path
) -> None:
    host = next(iter(lab))
    path = tmp_path / "config.json"
    path.write_text(configuration("10.44.0.1"))
    process = host.popen(sys.executable, "-m", "tunnel", "up", str(path))
    socket = host.path("/var/run/wireguard/up0.sock")
    wait_until("up0 answers", socket.exists, timeout=30)
    wait_until("its address", lambda: "10.44.0.1/24" in host.ip("addr"), timeout=30)
    route = "10.123.0.0/16 dev up0"  # which follows the address
    wait_until("its route", lambda: route in host.ip("route"), timeout=30)
    assert socket.stat().st_mode & 0o777 == 0o600
    shown = json.loads(
        host.run(sys.executable, "-m", "tunnel", "status", "--json").stdout
    )
    assert shown["up0"]["listenPort"] == 51820
    process.signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not socket.exists()
    assert not host.has_interface("up0")
    assert "10.123" not in host.ip("route")


@pytest.mark.parametrize(("port", "code"), [(51820, 1), (443, 3)])
def test_a_port_that_cannot_be_had_ends_up_at_once(
    lab: Lab, tmp_path: Path, port: int, code: int
) -> None:
    """In use, or below 1024 without the right to it: never "is up"."""
    host = next(iter(lab))
    path = tmp_path / "config.json"
    path.write_text(configuration("10.44.0.1", listen=port))
    up = (sys.executable, "-m", "tunnel", "up", str(path))
    with closing(host.socket(AF_INET, SOCK_DGRAM)) as other:
        other.bind(("0.0.0.0", 51820))
        unprivileged = ("setpriv", "--bounding-set", "-net_bind_service")
        done = host.run("timeout", "30", *unprivileged, *up, check=False)
    assert done.returncode == code, done.stderr
    assert f"listen: cannot bind UDP port {port}" in done.stderr
    assert "is up" not in done.stderr
    assert "internal" not in done.stderr
    assert not host.has_interface("up0")


def test_going_down_and_up_costs_no_address_and_no_route(
    lab: Lab, tmp_path: Path
) -> None:
    host = next(iter(lab))
    path = tmp_path / "config.json"
    own = {"name": "up0", "addresses": ["10.44.0.1/24", "fd44::1/64"]}
    own |= {"routes": ["10.123.0.0/16", "fd45::/64", "0.0.0.0/0"]}
    path.write_text(configuration("10.44.0.1", tunnel=own, fwmark=51820))
    process = host.popen(sys.executable, "-m", "tunnel", "up", str(path))

    def shown() -> list[set[str]]:
        """Without fe80::, which the kernel makes anew."""
        every = ("route", "show", "table", "all", "dev", "up0")
        asked = [("-o", "addr", "show", "dev", "up0"), ("-4", *every), ("-6", *every)]
        texts = [host.ip(*words) for words in asked]
        return [{x for x in t.splitlines() if "fe80" not in x} for t in texts]

    def complete() -> bool:
        found = shown()
        return all(route in str(found) for route in ("10.123", "fd45", "default"))

    wait_until("up0", lambda: host.has_interface("up0"), timeout=30)
    wait_until("addresses and routes", complete, timeout=30)

    def calm() -> bool:
        """The kernel adds some of its own a moment later."""
        found = shown()
        time.sleep(0.2)
        return shown() == found

    wait_until("all that belongs to them", calm, timeout=30)
    before = shown()
    host.ip("link", "set", "up0", "down")
    assert not complete()
    host.ip("link", "set", "up0", "up")
    wait_until("all of them", lambda: shown() == before, timeout=30)
    own["addresses"] = ["10.44.0.1/24", "fd44::2/64"]
    path.write_text(configuration("10.44.0.1", tunnel=own, fwmark=51820))
    wait_until("the new address", lambda: "fd44::2" in str(shown()), timeout=30)
    assert "fd44::1/" not in str(shown())
    process.signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_psk_mode_server_and_client_know_each_other_by_name(
    lab: Lab, tmp_path: Path
) -> None:
    """Nothing but a psk and names, and still plain WireGuard on the wire."""
    left, right = lab
    server, client = tmp_path / "server.json", tmp_path / "client.json"
    peers = [{"name": "laptop", "allowedIPs": ["10.44.0.2/32"]}]
    server.write_text(configuration("10.44.0.1", peers=peers))
    client.write_text(
        configuration(
            "10.44.0.2",
            mode="client",
            name="laptop",
            endpoint=f"{left.ipv4}:51820",
            peers=[{"name": "server", "allowedIPs": ["10.44.0.0/24"]}],
        )
    )
    running = [
        host.popen(sys.executable, "-m", "tunnel", "up", str(path))
        for host, path in ((left, server), (right, client))
    ]
    for host in lab:
        wait_until("the address", lambda h=host: "10.44" in h.ip("addr"), timeout=30)

    def pinged() -> bool:
        ping = ("ping", "-c", "3", "-i", "0.1", "-W", "1", "10.44.0.1")
        return right.run(*ping, check=False).returncode == 0

    wait_until("a ping", pinged, timeout=30)
    for process in running:
        process.signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_any_port_of_one_address(tmp_path: Path) -> None:
    """`listen` with port 0 and an address: bound there from the start."""
    config = {
        "mode": "server",
        "psk": SEED_PSK,
        "listen": "127.0.0.1:0",
        "tunnel": {"type": "loopback", "name": "any0", "address": "10.8.0.1/24"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "tunnel", "up", str(tmp_path / "config.json")],
        env={**os.environ, "TUNNEL_RUN_DIR": str(run)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until("any0 answers", (run / "any0.sock").exists, timeout=30)
        done = command("status", "--json", TUNNEL_RUN_DIR=str(run))
        port = json.loads(done.stdout)["any0"]["listenPort"]
        assert (
            f"127.0.0.1:{port} "
            in subprocess.run(["ss", "-Hlun"], capture_output=True, text=True).stdout
        )
    finally:
        process.terminate()
        assert process.wait(20) == 0
