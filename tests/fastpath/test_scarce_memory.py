"""Memory that runs out at each request in turn: every operation of the pump is refused
as a whole, loses nothing of what there was, leaves nothing behind, and works again."""

from __future__ import annotations

from pathlib import Path

import pytest

from .preload import run_preloaded

SETTING = """
import atexit, ctypes, gc, json, os, socket, sys
from tunnel._fastpath.pump import Pump

after, end, live = (getattr(ctypes.PyDLL(None), f"scarce_{name}")
                    for name in ("after", "end", "live"))
after.argtypes, after.restype = [ctypes.c_long, ctypes.c_long], None

def attempt(n, operation):
    "Its result or None, and how many requests failed, at the n-th or from it on."
    result = None
    after(n, 1)
    try:
        result = operation()
    except MemoryError:
        pass
    while True:
        try:
            return result, end()
        except MemoryError:
            pass

def descriptors():
    return len(os.listdir("/proc/self/fd"))

tun, queue = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
pump = Pump(queue.fileno())
paths = [pump.add_peer(n) for n in range(3)]
owners = {(bytes([10, n, 0, 0]), 16 + n % 9): paths[n % 3] for n in range(40)}
with pump.begin() as change:
    change.set_sockets(udp.fileno(), -1)
    for prefix, path in owners.items():
        change.insert_prefix(*prefix, path)

def routes():
    change = pump.begin()
    try:
        return {prefix: change.remove_prefix(*prefix) for prefix in owners}
    finally:
        change.abort()

def add():
    return pump.add_peer("new")

def forget(path):
    pump.forget_peer(path)

def move():
    with pump.begin() as change:
        for prefix in owners:
            change.insert_prefix(*prefix, paths[0])
        for n in range(200):
            change.insert_prefix(bytes([172, 16, n, 0]), 24, paths[0])
    return True

def move_back(_):
    with pump.begin() as change:
        for prefix, path in owners.items():
            change.insert_prefix(*prefix, path)
        for n in range(200):
            change.remove_prefix(bytes([172, 16, n, 0]), 24)

def sockets():
    with pump.begin() as change:
        change.set_sockets(udp.fileno(), udp.fileno())
        change.set_isolation([bytes(4)])
        change.set_public_key(bytes(32))
    return True

def keypair():
    return paths[0].add_keypair(1 << 16, 7, bytes(32), bytes(32), created=1,
                                initiator=True, await_confirmation=False)

def drop(key):
    paths[0].drop_keypair(key)

def nothing(_):
    pass

back = {add: forget, move: move_back, sockets: nothing, keypair: drop}
operation = globals()[sys.argv[2]]

@atexit.register
def last():
    pump.stop()

def once(n):
    result, failed = attempt(n, operation)
    if result is not None:
        back[operation](result)
    pump.drain()
    return result, failed

for _ in range(3):
    once(1 << 30)
"""
EACH = """
n, wrong = 0, []
while True:
    held, generation = descriptors(), pump.generation
    result, failed = once(n)
    if routes() != owners or descriptors() != held:
        wrong.append(n)
    if result is None and pump.generation != generation:
        wrong.append(n)
    if not failed:
        break
    n += 1
print(json.dumps([n, result is not None, wrong]))
"""
MANY = """
requests = 0
while once(requests)[1]:
    requests += 1
grown = {}
for n in range(0, requests, max(1, requests // 10)):
    once(n)
    gc.collect()
    before = live()
    for _ in range(100):
        once(n)
    gc.collect()
    if live() - before > 50:
        grown[n] = live() - before
print(json.dumps(grown))
"""


@pytest.fixture
def no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object of Python is a request of its own."""
    monkeypatch.setenv("PYTHONMALLOC", "malloc")


@pytest.mark.usefixtures("no_pool")
@pytest.mark.parametrize("operation", ["add", "move", "sockets", "keypair"])
def test_what_finds_no_memory_changes_nothing(scarce: Path, operation: str) -> None:
    requests, works, wrong = run_preloaded(scarce, SETTING + EACH, operation)
    assert requests > 2
    assert works
    assert wrong == []


@pytest.mark.usefixtures("no_pool")
@pytest.mark.parametrize("operation", ["add", "move", "sockets", "keypair"])
def test_what_finds_no_memory_leaves_nothing_behind(
    scarce: Path, operation: str
) -> None:
    assert run_preloaded(scarce, SETTING + MANY, operation) == {}


EVENTS = """
from tunnel._fastpath.pump import PathEvent
import time
for path in paths:
    path.set_endpoint((bytes([127, 0, 0, 1]), 9, 0))
pump.start()
def news():
    "One packet for each of three peers that have no session."
    for n in range(3):
        paths[n].purge_staged()
    pump.settle(); pump.drain()
    for n in range(3):
        paths[n].check_unanswered()
        head = bytearray.fromhex("450000140007000040fd0000") + bytes([10, 200, 0, 1])
        tun.send(bytes(10) + head + bytes([10, n, 0, 1]))
lost = []
n = 0
while True:
    news()
    deadline = time.monotonic() + 5
    while pump.counters()["tun_read"] < 3 * (n + 1) and time.monotonic() < deadline:
        time.sleep(0.001)
    while not pump.settle():
        pass
    result, failed = attempt(n, pump.drain)
    seen = [] if result is None else [path.token for path, _ in result[0]]
    seen += [path.token for path, _ in pump.drain()[0]]
    if sorted(seen) != [0, 1, 2]:
        lost.append([n, seen])
    if not failed:
        break
    n += 1
pump.stop()
print(json.dumps([n, lost]))
"""


@pytest.mark.usefixtures("no_pool")
def test_events_that_find_no_memory_come_again(scarce: Path) -> None:
    requests, lost = run_preloaded(scarce, SETTING + EVENTS, "keypair")
    assert requests
    assert lost == []


FORKED = """
pump.start()
key = keypair()
child = os.fork()
if child == 0:
    pump.stop()
    paths[0].drop_keypair(key)
    sys.exit(3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
move()
pump.stop()
print(json.dumps(status))
"""


def test_a_forked_child_may_stop_what_is_its_parents(scarce: Path) -> None:
    assert run_preloaded(scarce, SETTING + FORKED, "keypair") == 3
