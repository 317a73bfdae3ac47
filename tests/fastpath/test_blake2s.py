"""BLAKE2s (RFC 7693) against its published example and `hashlib` (R43)."""

from __future__ import annotations

import ctypes
import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tunnel._fastpath import blake2s

from .parts import FASTPATH, compile_c


def test_rfc7693_appendix_b() -> None:
    assert blake2s.digest(b"abc").hex() == (
        "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    )


def test_rfc7693_appendix_e_self_test() -> None:
    """The RFC's grand hash over many lengths, keyed and not."""

    def sequence(size: int, start: int) -> bytes:
        a, b = 0xDEAD4BAD * start & 0xFFFFFFFF, 1
        found = bytearray()
        for _ in range(size):
            a, b = b, (a + b) & 0xFFFFFFFF
            found.append(b >> 24)
        return bytes(found)

    hashes = b""
    for size in (16, 20, 28, 32):
        for length in (0, 3, 64, 65, 255, 1024):
            data = sequence(length, length)
            hashes += blake2s.digest(data, size)
            hashes += blake2s.mac(sequence(size, size), data, size)
    assert blake2s.digest(hashes).hex() == (
        "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe"
    )


@pytest.mark.parametrize("size", [1, 15, 16, 17, 20, 28, 31, 32])
def test_every_length_equals_hashlib(size: int, seed: int) -> None:
    data = random.Random(seed).randbytes(300)
    for length in range(301):
        part = data[:length]
        other = hashlib.blake2s(part, digest_size=size).digest()
        assert blake2s.digest(part, size) == other


def test_every_key_size_and_length_equals_hashlib(seed: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(300)
    for key_size in range(1, 33):
        key = rng.randbytes(key_size)
        for length in range(301):
            part, size = data[:length], 16 + (length + key_size) % 17
            other = hashlib.blake2s(part, key=key, digest_size=size).digest()
            assert blake2s.mac(key, part, size) == other


def test_any_contiguous_buffer_will_do() -> None:
    text = bytes(range(200))
    for data in (bytearray(text), memoryview(text), memoryview(text + text)[:200]):
        assert blake2s.digest(data) == hashlib.blake2s(text).digest()


def test_a_changed_bit_changes_the_mac() -> None:
    key, data = bytes(32), bytes(116)
    mac = blake2s.mac(key, data, 16)
    for place in range(116):
        changed = data[:place] + b"\x10" + data[place + 1 :]
        assert blake2s.mac(key, changed, 16) != mac
    assert blake2s.mac(bytes(31) + b"\1", data, 16) != mac
    assert blake2s.mac(bytes(31), data, 16) != mac


def test_wrong_arguments_are_named() -> None:
    for size in (-1, 0, 33):
        with pytest.raises(ValueError, match="size"):
            blake2s.digest(b"", size)
        with pytest.raises(ValueError, match="size"):
            blake2s.mac(b"key", b"", size)
    for key in (b"", bytes(33)):
        with pytest.raises(ValueError, match="key"):
            blake2s.mac(key, b"", 16)
    with pytest.raises(TypeError, match="key"):
        blake2s.mac(None, b"", 16)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data"):
        blake2s.digest("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data"):
        blake2s.digest(memoryview(b"abcd")[::2])


@pytest.mark.parametrize("options", [[], ["-DB2S_PLAIN"]], ids=["best", "plain"])
def test_plain_c_and_what_this_cpu_has_are_hashlib_s(
    options: list[str], require_program: Callable[..., str], tmp_path: Path, seed: int
) -> None:
    """Both compression functions, at every length of up to five blocks."""
    gcc = require_program("gcc", "apt install gcc")
    arguments = ["-shared", "-fPIC", *options, str(FASTPATH / "b2s.c")]
    hashing = ctypes.CDLL(str(compile_c(gcc, tmp_path / "b2s.so", arguments))).b2s_hash
    rng = random.Random(seed)
    for length in range(321):
        data, size = rng.randbytes(length), rng.randrange(1, 33)
        key, result = rng.randbytes(rng.randrange(33)), ctypes.create_string_buffer(32)
        sizes = [ctypes.c_size_t(n) for n in (size, len(key), length)]
        hashing(result, sizes[0], key, sizes[1], data, sizes[2])
        wanted = hashlib.blake2s(data, key=key, digest_size=size).digest()
        assert result.raw[:size] == wanted
