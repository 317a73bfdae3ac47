"""Which cookie replies reach the control thread: those that are awaited (R47, F35)."""

from __future__ import annotations

import os
import random
import struct

import pytest
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt,
)
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt,
)
from nacl.exceptions import CryptoError

from tunnel._fastpath.pump import Path

from .rig import FarEnd, Rig, ipv4, prefix
from .test_pump_inbound import PUBLIC, handshake

MAC1, KEY = bytes(range(16)), bytes(range(100, 132))
INDEX = 0x12345678


def reply_to(index: int, mac1: bytes, key: bytes) -> bytes:
    nonce = os.urandom(24)
    sealed = encrypt(os.urandom(16), mac1, nonce, key)
    return struct.pack("<II", 3, index) + nonce + sealed


def junk(index: int) -> bytes:
    return struct.pack("<II", 3, index) + os.urandom(56)


def arrive(rig: Rig, end: FarEnd, datagram: bytes) -> None:
    """Returns when the worker is done with it."""
    before = rig.pump.counters()["udp_received"]
    end.send(datagram)
    rig.until(lambda: rig.pump.counters()["udp_received"] > before)
    rig.drain()


def drops(rig: Rig) -> dict[str, int]:
    names = "rx_index", "rx_auth", "rx_handshake_full"
    counters = rig.pump.counters()
    return {n: counters[f"drop.{n}"] for n in names if counters[f"drop.{n}"]}


def test_r47_the_reply_to_what_was_sent_is_passed_on_once() -> None:
    with Rig(public_key=PUBLIC) as rig:
        path, end = rig.peer("10.0.0.2/32")
        reply = reply_to(INDEX, MAC1, KEY)
        arrive(rig, end, reply)
        assert drops(rig) == {"rx_index": 1}
        path.expect_cookie(INDEX, MAC1, KEY)
        arrive(rig, end, reply)
        assert [h.data for h in rig.handshakes] == [reply]
        assert rig.handshakes[0].endpoint == end.endpoint
        arrive(rig, end, reply)
        arrive(rig, end, reply_to(INDEX, MAC1, KEY))  # another one for the same
        assert drops(rig) == {"rx_index": 3}
        path.expect_cookie(INDEX, MAC1, KEY)
        path.expect_no_cookie()
        arrive(rig, end, reply)
        assert drops(rig) == {"rx_index": 4}
        assert len(rig.handshakes) == 1


def test_r8_without_a_key_no_reply_is_passed_on() -> None:
    with Rig() as rig:
        path, end = rig.peer("10.0.0.2/32")
        path.expect_cookie(INDEX, MAC1, KEY)
        end.send(reply_to(INDEX, MAC1, KEY))
        rig.dropped("rx_no_key")


def test_r47_with_any_bit_wrong_it_is_not_authentic() -> None:
    with Rig(public_key=PUBLIC) as rig:
        path, end = rig.peer("10.0.0.2/32")
        path.expect_cookie(INDEX, MAC1, KEY)
        reply = reply_to(INDEX, MAC1, KEY)
        bits = range(32, 512)
        for bit in bits:
            changed = bytearray(reply)
            changed[bit // 8] ^= 1 << bit % 8
            arrive(rig, end, bytes(changed))
        assert drops(rig) == {"rx_index": 32, "rx_auth": len(bits) - 32}
        arrive(rig, end, reply)
        assert [h.data for h in rig.handshakes] == [reply]


def test_f35_floods_reach_nobody_and_keep_nothing_out(seed: int) -> None:
    """With random indices, and with the right one, which somebody overheard."""
    rng = random.Random(seed)
    with Rig(public_key=PUBLIC) as rig:
        path, end = rig.peer("10.0.0.2/32")
        path.expect_cookie(INDEX, MAC1, KEY)
        for sent in range(50, 4050, 50):
            for n in range(50):
                end.send(junk(INDEX if n % 2 else rng.getrandbits(32)))
            rig.until(lambda s=sent: rig.pump.counters()["udp_received"] >= s)
        rig.drain()
        assert rig.handshakes == []
        assert drops(rig) == {"rx_index": 2000, "rx_auth": 2000}
        reply = reply_to(INDEX, MAC1, KEY)
        arrive(rig, end, reply)
        assert [h.data for h in rig.handshakes] == [reply]


def test_r49_what_the_full_ring_refused_may_come_again() -> None:
    with Rig(public_key=PUBLIC) as rig:
        path, end = rig.peer("10.0.0.2/32")
        message = handshake(1)
        for sent in range(64, 4097, 64):
            for _ in range(64):
                end.send(message)
            rig.until(lambda s=sent: rig.pump.counters()["udp_received"] >= s)
        assert rig.pump.handshakes_waiting == 4096
        path.expect_cookie(INDEX, MAC1, KEY)
        reply = reply_to(INDEX, MAC1, KEY)
        end.send(reply)
        rig.dropped("rx_handshake_full")
        rig.drain()
        arrive(rig, end, reply)
        assert rig.handshakes[-1].data == reply


@pytest.mark.parametrize(("mac1", "key"), [(15, 32), (17, 32), (16, 31), (16, 33)])
def test_sizes_are_checked(mac1: int, key: int) -> None:
    with Rig() as rig:
        path, _ = rig.peer()
        with pytest.raises(ValueError, match="16 and 32 bytes"):
            path.expect_cookie(INDEX, bytes(mac1), bytes(key))


def test_r76_a_removed_peer_awaits_nothing_and_its_memory_comes_back() -> None:
    with Rig(public_key=PUBLIC) as rig:
        paths = [rig.peer(f"10.0.0.{n}/32")[0] for n in range(3)]
        for n, path in enumerate(paths):
            path.expect_cookie(INDEX + n, MAC1, KEY)
        with rig.pump.begin() as t:
            t.remove_prefix(*prefix("10.0.0.1/32"))
            t.remove_peer(paths[1])
        paths[1].expect_cookie(INDEX + 1, MAC1, KEY)  # it is inert
        end = rig.ends[0]
        for n in range(3):
            arrive(rig, end, reply_to(INDEX + n, MAC1, KEY))
        assert drops(rig) == {"rx_index": 1}
        assert [h.data[4:8] for h in rig.handshakes] == [
            struct.pack("<I", INDEX + n) for n in (0, 2)
        ]
        # what a later test finds: paths that outlive their pump do nothing
        rig.until(lambda: rig.drain() or rig.pump.retired == 0)
    paths[0].expect_cookie(INDEX, MAC1, KEY)
    paths[0].expect_no_cookie()


class Twin:
    """Everything in one list, everything compared, the library's AEAD."""

    def __init__(self) -> None:
        self.awaited: dict[Path, tuple[int, bytes, bytes]] = {}

    def verdict(self, reply: bytes) -> str:
        found = "rx_index"
        for path, (index, mac1, key) in list(self.awaited.items()):
            if reply[4:8] != struct.pack("<I", index):
                continue
            try:
                decrypt(reply[32:], mac1, reply[8:32], key)
            except CryptoError:
                found = "rx_auth"
            else:
                del self.awaited[path]
                return "passed on"
        return found


def test_the_table_against_its_twin(seed: int) -> None:
    """Peers send, are answered, forget, come and go; indices share their chains."""
    rng = random.Random(seed)
    with Rig(public_key=PUBLIC) as rig:
        twin, paths = Twin(), [rig.peer()[0] for _ in range(12)]
        end = rig.ends[0]
        old: list[tuple[int, bytes, bytes]] = [(INDEX, MAC1, KEY)]
        wanted = {"rx_index": 0, "rx_auth": 0, "passed on": 0}

        def free_index() -> int:
            taken = {index for index, _, _ in twin.awaited.values()}
            while (index := rng.randrange(3) << 16 | rng.randrange(9)) in taken:
                pass
            return index

        for _ in range(1500):
            path = rng.choice(paths)
            match rng.randrange(6):
                case 0 | 1:
                    new = free_index(), rng.randbytes(16), rng.choice([KEY, bytes(32)])
                    path.expect_cookie(*new)
                    twin.awaited[path] = new
                    old.append(new)
                case 2 if rng.random() < 0.3:
                    path.expect_no_cookie()
                    twin.awaited.pop(path, None)
                case 2 if rng.random() < 0.3:
                    with rig.pump.begin() as t:
                        t.remove_peer(path)
                    twin.awaited.pop(path, None)
                    paths.remove(path)
                    paths.append(rig.pump.add_peer(None))
                case _:
                    index, mac1, key = rng.choice(
                        [*twin.awaited.values()] * 2 + old[-10:]
                    )
                    right = rng.random() < 0.7
                    reply = reply_to(index, mac1, key) if right else junk(index)
                    wanted[twin.verdict(reply)] += 1
                    arrive(rig, end, reply)
                    got = {"rx_index": 0, "rx_auth": 0, **drops(rig)}
                    assert {**got, "passed on": len(rig.handshakes)} == wanted
        assert min(wanted.values()) > 20


def test_entries_come_and_go_under_a_flood() -> None:
    """The worker walks chains that the control thread changes meanwhile (and the
    sanitizers look on); data goes on beside it."""
    with Rig(public_key=PUBLIC) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        paths = [rig.peer()[0] for _ in range(20)]
        for sent in range(100):
            for n, path in enumerate(paths):
                end.send(junk(INDEX + n))
                path.expect_cookie(INDEX + (n + sent) % 20, MAC1, KEY)
            if sent % 4 == 0:
                packet = ipv4("10.0.0.2", "10.0.0.1", struct.pack(">I", sent))
                end.send(end.seal(packet))
                assert rig.read() == packet
            rig.drain()
        assert rig.handshakes == []
        rig.until(lambda: rig.drain() or rig.pump.retired == 0)
