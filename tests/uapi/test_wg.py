"""`tunnel-wg` as `wg` and `ip` see it, in network namespaces."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .daemon import COMMAND, RUN, Namespace, run, soon

pytestmark = pytest.mark.root


@pytest.fixture
def name(test_prefix: str) -> str:
    return f"{test_prefix}wg0"


def keys() -> tuple[str, str]:
    private = run("wg", "genkey").strip()
    return private, run("wg", "pubkey", input=private).strip()


def setup(ns: Namespace, name: str, private: str, *rest: str) -> None:
    """Keys never on a command line: `wg` reads them from its input."""
    ns("wg", "set", name, "private-key", "/dev/stdin", *rest, input=private)


def test_wg_shows_sets_and_reads_configurations(
    namespace: Namespace, name: str, tmp_path: Path
) -> None:
    ns = namespace
    ns.daemon(name)
    private, public = keys()
    psk = run("wg", "genpsk").strip()
    others = [keys()[1] for _ in range(3)]
    setup(ns, name, private, "listen-port", "51999", "fwmark", "0x10")
    ns(
        *("wg", "set", name, "peer", others[0], "endpoint", "192.0.2.7:1234"),
        *("allowed-ips", "10.0.0.7/24,fd00::/64", "persistent-keepalive", "25"),
        *("preshared-key", "/dev/stdin"),
        input=psk,
    )
    ns("wg", "set", name, "peer", others[1], "endpoint", "[2001:db8::1]:5")
    dump = [line.split("\t") for line in ns("wg", "show", name, "dump").splitlines()]
    assert dump[0] == [private, public, "51999", "0x10"]
    assert dump[1][:4] == [others[0], psk, "192.0.2.7:1234", "10.0.0.0/24,fd00::/64"]
    assert dump[1][4:] == ["0", "0", "0", "25"]
    assert dump[2][:4] == [others[1], "(none)", "[2001:db8::1]:5", "(none)"]

    saved = ns("wg", "showconf", name)
    config = tmp_path / "wg.conf"
    config.touch(0o600)
    config.write_text(saved)
    for command in ("setconf", "syncconf", "addconf"):
        ns("wg", command, name, str(config))
        assert ns("wg", "showconf", name) == saved

    config.write_text(f"[Peer]\nPublicKey = {others[2]}\nAllowedIPs = 10.0.0.0/24\n")
    ns("wg", "addconf", name, str(config))
    shown = ns("wg", "show", name, "allowed-ips").splitlines()
    assert shown == [
        f"{others[0]}\tfd00::/64",
        f"{others[1]}\t(none)",
        f"{others[2]}\t10.0.0.0/24",
    ]
    ns("wg", "set", name, "peer", others[0], "remove")
    assert ns("wg", "show", name, "peers").split() == others[1:]
    config.write_text(f"[Interface]\nPrivateKey = {private}\n")
    ns("wg", "syncconf", name, str(config))
    assert ns("wg", "show", name, "peers") == ""
    assert ns("wg", "show", name, "public-key").strip() == public


def test_r73_a_taken_port_is_refused_whole(namespace: Namespace, name: str) -> None:
    ns = namespace
    ns.daemon(name)
    ns("ip", "link", "set", name, "up")
    taken = subprocess.Popen(
        ns.argv(
            "python3",
            "-c",
            "import socket,sys\ns=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM)\n"
            "s.bind(('::',51998));print(1,flush=True);sys.stdin.read()",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert taken.stdout
    assert taken.stdout.readline() == b"1\n"
    _, peer = keys()
    said = ns(*("wg", "set", name, "listen-port", "51998", "peer", peer), check=False)
    taken.communicate(b"")
    assert "Address already in use" in said
    assert ns("wg", "show", name, "peers") == ""
    ns("wg", "set", name, "listen-port", "51998", "peer", peer)
    assert ns("wg", "show", name, "listen-port") == "51998\n"


def test_sockets_are_there_while_the_interface_is_up(
    namespace: Namespace, name: str
) -> None:
    ns = namespace
    ns.daemon(name)
    ns("wg", "set", name, "listen-port", "51997")

    def bound() -> bool:
        return ":51997" in ns("ss", "-uln")

    assert not bound()
    for _ in range(2):
        ns("ip", "link", "set", name, "up")
        assert soon(bound)
        ns("ip", "link", "set", name, "down")
        assert soon(lambda: not bound())


def connect(a: Namespace, b: Namespace, prefix: str) -> None:
    """A cable between two namespaces: 192.0.2.1 and 192.0.2.2."""
    one, two = f"{prefix}v1", f"{prefix}v2"
    run("ip", "link", "add", one, "type", "veth", "peer", "name", two)
    for ns, end, address in ((a, one, "192.0.2.1/24"), (b, two, "192.0.2.2/24")):
        run("ip", "link", "set", end, "netns", ns.name)
        ns("ip", "addr", "add", address, "dev", end)
        ns("ip", "link", "set", end, "up")


def test_packets_go_through_and_the_mtu_is_followed(
    namespaces: Callable[[], Namespace], test_prefix: str
) -> None:
    a, b = namespaces(), namespaces()
    connect(a, b, test_prefix)
    (private_a, public_a), (private_b, public_b) = keys(), keys()
    ends = (
        (a, f"{test_prefix}wg0", private_a, public_b, 1),
        (b, f"{test_prefix}wg1", private_b, public_a, 2),
    )
    for ns, name, private, far, n in ends:
        ns.daemon(name)
        ns("ip", "addr", "add", f"10.9.0.{n}/24", "dev", name)
        ns("ip", "link", "set", name, "up")
        other = 3 - n
        setup(
            ns, name, private, "listen-port", "51996", "peer", far,
            "endpoint", f"192.0.2.{other}:51996", "allowed-ips", f"10.9.0.{other}/32",
        )  # fmt: skip
        # what comes before that is lost, and the next attempt 5 s away
        assert soon(lambda ns=ns: ":51996" in ns("ss", "-uln"))
    a("ping", "-c", "3", "-i", "0.05", "-W", "2", "10.9.0.2")
    b("ping", "-c", "1", "-W", "2", "10.9.0.1")

    def transfer() -> list[str]:
        return a("wg", "show", ends[0][1], "transfer").split()[1:]

    # counted once it is sent, which may be after it has come
    assert soon(lambda: int(transfer()[1]) >= 148 + 4 * 128)
    rx, tx = transfer()
    # R58: a response and four packets of 128 bytes; an initiation, four, a keepalive
    assert int(rx) == 92 + 4 * 128
    assert int(tx) in {148 + 4 * 128, 148 + 4 * 128 + 32}
    assert int(a("wg", "show", ends[0][1], "latest-handshakes").split()[1]) > 1.6e9
    for mtu in ("1280", "1420"):
        a("ip", "link", "set", ends[0][1], "mtu", mtu)
        a("ping", "-c", "1", "-W", "2", "-s", str(int(mtu) - 28), "10.9.0.2")


def test_the_interface_may_move_to_another_namespace(
    namespaces: Callable[[], Namespace], test_prefix: str, name: str
) -> None:
    """Its sockets stay where it was made, and it is followed up, down and out."""
    a, b = namespaces(), namespaces()
    a.daemon(name)
    a("wg", "set", name, "listen-port", "51995")
    a("ip", "link", "set", name, "netns", b.name)
    b("ip", "link", "set", name, "up")
    assert soon(lambda: ":51995" in a("ss", "-uln"))
    assert ":51995" not in b("ss", "-uln")
    b("ip", "link", "del", name)
    assert soon(lambda: not (RUN / f"{name}.sock").exists())


def test_r74_one_process_for_each_interface_and_leftovers_are_replaced(
    namespace: Namespace, name: str
) -> None:
    path = RUN / f"{name}.sock"
    path.parent.mkdir(mode=0o755, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as leftover:
        leftover.bind(str(path))
    namespace.daemon(name)
    assert path.stat().st_mode & 0o777 == 0o600
    said = namespace(*COMMAND, name, check=False)
    assert said[0] != "0"
    assert name in said
    assert namespace("wg", "show", "interfaces").split().count(name) == 1


@pytest.mark.parametrize("how", ["interface", "socket", "SIGTERM", "SIGINT"])
def test_it_ends_with_its_interface_its_socket_or_a_signal(
    namespace: Namespace, name: str, how: str
) -> None:
    path = RUN / f"{name}.sock"
    child = namespace.foreground(name)
    if how == "interface":
        namespace("ip", "link", "del", name)
    elif how == "socket":
        path.unlink()
    else:
        child.send_signal(signal.Signals[how])
    _, said = child.communicate(timeout=20)
    assert child.returncode == (1 if how == "interface" else 0)
    assert ("was deleted" in said or "TUN" in said) == (how == "interface")
    assert not path.exists()
    assert name not in namespace("ip", "link")


def test_an_idle_daemon_is_small_and_keeps_no_core(
    namespace: Namespace, name: str
) -> None:
    pid = namespace.daemon(name)
    status = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert int(status["VmRSS"].split()[0]) < 30 * 1024
    limits = Path(f"/proc/{pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if "core file" in line)
    assert core.split()[4:6] == ["0", "0"]
    os.kill(pid, signal.SIGTERM)
    assert soon(lambda: not (RUN / f"{name}.sock").exists())


def test_a_bad_name_or_no_right_is_said_at_once(namespace: Namespace) -> None:
    said = namespace(*COMMAND, "much-too-long-a-name", check=False)
    assert said.startswith("2 ")
    assert "1 to 15" in said
    said = run(
        *("setpriv", "--reuid", "65534", "--clear-groups", *COMMAND, "-f", "nope0"),
        check=False,
    )
    assert said[0] in {"1", "3"}
    assert "Traceback" not in said


@pytest.mark.parametrize("flags", [["-f"], []], ids=["foreground", "daemon"])
def test_what_is_wrong_with_the_surroundings_is_said_with_its_code(
    flags: list[str], namespace: Namespace, name: str
) -> None:
    def start(**environment: str) -> subprocess.CompletedProcess[str]:
        with socket.socket(socket.AF_UNIX) as deaf:  # bound to nothing
            return subprocess.run(
                namespace.argv(*COMMAND, *flags, name),
                env={**os.environ, **environment},
                stdin=deaf,
                capture_output=True,
                text=True,
                timeout=30,
            )

    done = start(TUNNEL_RUN_DIR="/dev/null/run")
    assert done.returncode == 3
    assert "/dev/null/run: Not a directory" in done.stderr
    for fd in ("0", "1"):
        done = start(WG_UAPI_FD=fd)
        assert done.returncode == 1
        told = f"WG_UAPI_FD: descriptor {fd} is not a listening socket"
        assert told in done.stderr
    assert name not in namespace("ip", "-br", "link")
