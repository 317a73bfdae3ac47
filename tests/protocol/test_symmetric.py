"""The compiled symmetric state against its twin in Python, and what it refuses."""

from __future__ import annotations

import pickle
import random

import pytest

from tunnel._fastpath.symmetric import SymmetricState
from tunnel._fastpath.x25519 import SharedSecret
from tunnel.protocol.primitives import HandshakeError, hash_of

from . import noise_twin as twin


class SlowState:
    """The Noise specification, section 5.2, on the twin's functions."""

    def __init__(self, chaining_key: bytes, hash_: bytes) -> None:
        self.ck, self.h, self.k = chaining_key, hash_, b""

    def mix_hash(self, data: bytes) -> None:
        self.h = hash_of(self.h, data)

    def mix_ephemeral(self, public: bytes) -> None:
        self.mix_hash(public)
        self.mix_chain(public)

    def mix_chain(self, shared: bytes) -> None:
        self.ck = twin.kdf1(self.ck, shared)

    def mix_key(self, shared: bytes) -> None:
        self.ck, self.k = twin.kdf2(self.ck, shared)

    def mix_psk(self, psk: bytes) -> None:
        self.ck, mixed, self.k = twin.kdf3(self.ck, psk)
        self.mix_hash(mixed)

    def seal(self, plaintext: bytes) -> bytes:
        sealed = twin.seal(self.k, plaintext, self.h)
        self.mix_hash(sealed)
        return sealed

    def split(self) -> tuple[bytes, bytes]:
        return twin.kdf2(self.ck, b"")


def both(rng: random.Random) -> tuple[SymmetricState, SlowState]:
    start = rng.randbytes(32), rng.randbytes(32)
    quick, slow = SymmetricState(*start), SlowState(*start)
    shared = rng.randbytes(32)
    quick.mix_key(SharedSecret(shared))
    slow.mix_key(shared)
    return quick, slow


def test_r4_any_order_of_operations_gives_what_the_twin_gives(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        quick, slow = both(rng)
        for _ in range(30):
            data = rng.randbytes(32)
            match rng.randrange(7):
                case 0:
                    quick.mix_ephemeral(data)
                    slow.mix_ephemeral(data)
                case 1:
                    quick.mix_chain(SharedSecret(data))
                    slow.mix_chain(data)
                case 2:
                    quick.mix_key(SharedSecret(data))
                    slow.mix_key(data)
                case 3:
                    psk = rng.choice([None, data])
                    quick.mix_psk(psk)
                    slow.mix_psk(psk or bytes(32))
                case 4:
                    data = rng.randbytes(rng.randrange(200))
                    quick.mix_hash(data)
                    slow.mix_hash(data)
                case 5:
                    quick = quick.copy()
                case 6:
                    plain = rng.randbytes(rng.choice([0, 12, 32, rng.randrange(300)]))
                    sealed = slow.seal(plain)
                    if rng.randrange(2):
                        assert quick.seal(plain) == sealed
                    else:
                        assert quick.open(sealed) == plain
            assert quick.split() == slow.split()
        assert quick.seal(b"the end") == slow.seal(b"the end")


@pytest.mark.parametrize("size", [*range(34), 63, 64, 65, 127, 128, 129, 200])
def test_r3_what_is_sealed_has_nonce_zero_and_the_hash_beside_it(
    size: int, seed: int
) -> None:
    rng = random.Random(seed)
    quick, slow = both(rng)
    plain = rng.randbytes(size)
    key, associated = slow.k, slow.h
    sealed = quick.copy().seal(plain)
    assert twin.unseal(key, sealed, associated) == plain
    assert quick.copy().open(sealed) == plain


@pytest.mark.parametrize("bit", range(0, 8 * 48, 7))
def test_r3_any_change_is_refused_and_changes_nothing(bit: int) -> None:
    quick, slow = both(random.Random(1))
    plain = bytes(range(32))
    sealed = slow.seal(plain)
    changed = bytearray(sealed)
    changed[bit // 8] ^= 1 << bit % 8
    assert quick.open(bytes(changed)) is None
    other = quick.copy()
    other.mix_hash(b"!")
    assert other.open(sealed) is None
    assert quick.open(sealed) == plain
    assert quick.split() == slow.split()


def test_a_copy_is_another_one() -> None:
    quick, _ = both(random.Random(2))
    other = quick.copy()
    before = quick.split()
    other.mix_psk(None)
    assert quick.split() == before != other.split()


def test_nothing_shows_a_secret() -> None:
    state = SymmetricState(b"\x5a" * 32, b"\x5a" * 32)
    assert repr(state) == "<SymmetricState>"
    with pytest.raises(TypeError, match="is not pickled"):
        pickle.dumps(state)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="chaining_key must be 32 bytes, not 31"):
        SymmetricState(bytes(31), bytes(32))
    with pytest.raises(ValueError, match="digest must be 32 bytes, not 33"):
        SymmetricState(bytes(32), bytes(33))
    state = SymmetricState(bytes(32), bytes(32))
    with pytest.raises(ValueError, match="psk must be 32 bytes, not 5"):
        state.mix_psk(bytes(5))
    with pytest.raises(ValueError, match="public must be 32 bytes, not 0"):
        state.mix_ephemeral(b"")
    with pytest.raises(ValueError, match="sealed must be 16 bytes or more"):
        state.open(bytes(15))
    with pytest.raises(TypeError, match="shared"):
        state.mix_key(bytes(32))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="shared"):
        state.mix_chain(None)  # type: ignore[arg-type]


def test_the_twin_refuses_what_is_changed() -> None:
    sealed = bytearray(twin.seal(bytes(32), b"plain", b"hash"))
    sealed[3] ^= 1
    with pytest.raises(HandshakeError, match="undecryptable"):
        twin.unseal(bytes(32), bytes(sealed), b"hash")
