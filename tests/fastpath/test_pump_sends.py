"""Sends that the system refuses: full queues, and sources that are no good (R62, U13).

Each program says at which of its sends what happens (sends.c); nothing is timed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .preload import build, run_preloaded

SETTING = r"""
import ctypes, errno, json, socket, sys
sys.path.insert(0, sys.argv[1])
from fastpath.rig import Rig, boottime, ipv4
from tunnel.io.base import SendResult
from tunnel.io.udp import UdpSockets
sends = ctypes.CDLL(None)
ANY, TRAIN, WITH_SOURCE = range(3)
LOCALHOST = socket.inet_aton("127.0.0.1"), 1

def packet(number, size=1):
    return ipv4("10.0.0.1", "10.0.0.2", bytes([number]) * size)

def numbers(end, count):
    return [end.receive()[1][20] for _ in range(count)]

class Staged:
    '''Packets of these sizes that leave as one batch.'''

    def __init__(self, rig, sizes):
        self.rig = rig
        self.path, self.end, self.keypair = rig.session("10.0.0.2/32")
        self.path.use_for_sending(None)
        for number, size in enumerate(sizes):
            rig.write(packet(number, size))
        rig.until(lambda: self.path.staged == len(sizes))

    def leave(self):
        self.path.use_for_sending(self.keypair)
        self.path.flush(keepalive=False)
"""
GROWING = list(range(20, 20 + 16 * 100, 16))  # bytes inside: no two make a train


@pytest.fixture(scope="module")
def sends(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """sends.c, to be preloaded."""
    gcc = require_program("gcc", "apt install gcc")
    return build("sends.c", gcc, tmp_path_factory.mktemp("sends"))


def run(sends: Path, program: str, *argv: object) -> Any:
    return run_preloaded(sends, SETTING + program, *map(str, argv))


# --- sources

BLAMED = r"""
found = {}
with Rig() as rig:
    path, end, _ = rig.session("10.0.0.2/32")
    sockets = UdpSockets.bind(addresses=[LOCALHOST[0]])

    def done():
        counters = rig.pump.counters()
        return counters["udp_sent"] + counters["drop.tx_socket"]

    for code, name in errno.errorcode.items():
        if code == errno.EINTR:
            continue  # tried again, by both for ever
        path.set_endpoint(None)
        path.note_received(boottime(), 0, end.endpoint, LOCALHOST)
        before = done()
        sends.sends_fail(WITH_SOURCE, code)
        rig.write(packet(1))
        rig.until(lambda: done() > before)
        result = sockets.send(b"x", end.endpoint, LOCALHOST)
        sends.sends_fail(WITH_SOURCE, 0)
        found[name] = [path.source is None, result is SendResult.SENT_WITHOUT_SOURCE]
    sockets.close()
print(json.dumps(found))
"""


def test_u13_data_and_handshakes_blame_the_source_for_the_same_errors(
    sends: Path,
) -> None:
    found = run(sends, BLAMED)
    assert len(found) > 100
    assert {name for name, (data, _) in found.items() if data} == {
        "EINVAL",
        "ENETUNREACH",
        "EHOSTUNREACH",
        "EADDRNOTAVAIL",
        "ENODEV",
        "ENXIO",
    }
    assert all(data is handshake for data, handshake in found.values())


INTERFACE = r"""
found = []
with Rig() as rig:
    sockets = UdpSockets.bind()
    for number, (far, near) in enumerate(json.loads(sys.argv[2])):
        family = socket.AF_INET6 if ":" in near else socket.AF_INET
        path, end, _ = rig.session(f"10.0.0.{number}/32", host=far)
        source = socket.inet_pton(family, near), 9999
        path.note_received(boottime(), 0, end.endpoint, source)
        rig.write(ipv4("10.0.0.1", f"10.0.0.{number}"))
        end.receive()  # with that source, or after it was refused
        found.append(sends.sends_interface())
        sockets.send(b"x", end.endpoint, source)
        found.append(sends.sends_interface())
    sockets.close()
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("far", "near", "named"),
    [
        ("127.0.0.1", "127.0.0.5", 0),
        ("127.0.0.1", "169.254.0.1", 0),
        ("::1", "::1", 0),
        ("::1", "fe80::1", 9999),
        ("::1", "febf::1", 9999),
        ("::1", "fec0::1", 0),
        ("::1", "2001:db8::1", 0),
    ],
)
def test_r62_only_a_link_local_source_names_its_interface(
    sends: Path, far: str, near: str, named: int
) -> None:
    """The route chooses it, for data as for handshakes."""
    assert run(sends, INTERFACE, f'[["{far}", "{near}"]]') == [named, named]


BAD_SOURCE = r"""
sizes, code, train = json.loads(sys.argv[2])
with Rig() as rig:
    batch = Staged(rig, sizes)
    batch.path.note_received(boottime(), 0, batch.end.endpoint, LOCALHOST)
    sends.sends_fail(WITH_SOURCE, code)
    sends.sends_fail(TRAIN, train)
    batch.leave()
    print(json.dumps(numbers(batch.end, len(sizes))))
"""


@pytest.mark.parametrize("name", ["EINVAL", "ENODEV", "ENETUNREACH"])
@pytest.mark.parametrize("sizes", [GROWING[:10], [200] * 10], ids=["single", "train"])
def test_u13_a_source_that_is_gone_costs_nothing_of_a_batch(
    sends: Path, name: str, sizes: list[int]
) -> None:
    got = run(sends, BAD_SOURCE, [sizes, getattr(errno, name), 0])
    assert got == list(range(10))


def test_u13_a_single_datagram_of_a_refused_train_stays_one(sends: Path) -> None:
    """Of a train that the system does not take, from a source that is gone."""
    got = run(sends, BAD_SOURCE, [[200] * 10, errno.EADDRNOTAVAIL, errno.EIO])
    assert got == list(range(10))


UNREACHABLE = r"""
found = {}
with Rig() as rig:
    path, end, _ = rig.session("10.0.0.2/32")
    for number, code in enumerate(json.loads(sys.argv[2]), 1):
        path.note_received(boottime(), 0, end.endpoint, LOCALHOST)
        sends.sends_fail(ANY, code)
        rig.write(packet(number))
        rig.dropped("tx_socket", number)
        sends.sends_fail(ANY, 0)
        found[errno.errorcode[code]] = path.source == LOCALHOST
print(json.dumps(found))
"""


def test_r62_a_peer_that_cannot_be_reached_at_all_keeps_its_source(
    sends: Path,
) -> None:
    """A route that is missing for a moment says nothing about the address."""
    names = ["ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "EINVAL", "EPERM"]
    found = run(sends, UNREACHABLE, [getattr(errno, name) for name in names])
    assert found == dict.fromkeys(names, True)


LARGE_TRAINS = r"""
FIVE = socket.inet_aton("127.0.0.5"), 1
found = []
with Rig() as rig:
    path, end, keypair = rig.session("10.0.0.2/32")
    sends.sends_fail(TRAIN, int(sys.argv[2]))
    for _ in range(4):
        path.note_received(boottime(), 0, end.endpoint, FIVE)
        path.use_for_sending(None)
        for number in range(6):
            rig.write(packet(number, 1380))
        rig.until(lambda: path.staged == 6)
        before = sends.sends_refused()
        path.use_for_sending(keypair)
        path.flush(keepalive=False)
        hosts = {end.socket.recvfrom(70000)[1][0] for _ in range(6)}
        refused = sends.sends_refused() - before
        found.append([sorted(hosts), path.source == FIVE, refused])
print(json.dumps(found))
"""


@pytest.mark.parametrize(("name", "tries"), [("EMSGSIZE", 1), ("EINVAL", 2)])
def test_u7_a_train_above_the_mtu_costs_no_source_and_is_tried_once(
    sends: Path, name: str, tries: int
) -> None:
    """Of older kernels EINVAL says it, which a source that is gone says as well: that
    one is tried without."""
    first, *others = run(sends, LARGE_TRAINS, getattr(errno, name))
    assert first == [["127.0.0.5"], True, tries]
    assert others == [[["127.0.0.5"], True, 0]] * 3


# --- full queues

FULL = r"""
sizes, code, step = json.loads(sys.argv[2])
with Rig() as rig:
    batch = Staged(rig, sizes)
    sends.sends_fail(ANY, code)
    sends.sends_clock(step)
    batch.leave()
    rig.dropped("tx_socket", len(sizes))
    print(json.dumps([sends.sends_refused(), sends.sends_singly()]))
"""


@pytest.mark.parametrize("name", ["EAGAIN", "ENOBUFS"])
def test_a_train_that_finds_no_room_is_not_tried_singly(sends: Path, name: str) -> None:
    """After 20 ms of nothing, here four looks at the clock."""
    assert run(sends, FULL, [[200] * 10, getattr(errno, name), 5]) == [5, 0]


def test_all_waits_of_a_round_end_together(sends: Path) -> None:
    """20 ms for one datagram, 50 for all of a round; what follows is not waited for."""
    assert run(sends, FULL, [GROWING, errno.EAGAIN, 5]) == [5 + 5 + 3 + 97, 0]


MEANWHILE = r"""
with Rig() as rig:
    path, end, _ = rig.session("10.0.0.2/32")
    sends.sends_clock(0)  # it waits for ever
    sends.sends_fail(ANY, errno.EAGAIN)
    rig.write(packet(1))
    rig.until(lambda: sends.sends_refused() > 0)
    rig.write(packet(2))
    rig.write(packet(3))
    came = []
    for number in range(40):
        end.send(end.seal(ipv4("10.0.0.2", "10.0.0.1", bytes([number]))))
        came.append(rig.read()[20])
    dropped = rig.pump.counters()["drop.tx_socket"]
    sends.sends_fail(ANY, 0)
    went = numbers(end, 3)
    helped = rig.pump.counters()["tun_read_by_helper"]
print(json.dumps([came, dropped, went, helped]))
"""


def test_what_comes_in_does_not_wait_for_what_goes_out(sends: Path) -> None:
    """The worker takes it between two attempts; then sending is the helper's part."""
    came, dropped, went, helped = run(sends, MEANWHILE)
    assert came == list(range(40))
    assert dropped == 0
    assert went == [1, 2, 3]
    assert helped == 2


STOP = r"""
with Rig() as rig:
    path, end, _ = rig.session("10.0.0.2/32")
    sends.sends_clock(0)
    sends.sends_fail(ANY, errno.EAGAIN)
    rig.write(packet(1))
    rig.until(lambda: sends.sends_refused() > 0)
print("true")
"""


def test_stop_does_not_wait_for_a_full_queue(sends: Path) -> None:
    assert run(sends, STOP)
