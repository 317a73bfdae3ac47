"""The C of the packet path on AArch64: cross-compiled, run by qemu, answers compared.

Expected are published vectors, what `cryptography` and `hashlib` compute, and the
twins of test_replay and test_offload; the routing table brings its own twin in C. On
an AArch64 machine the same runs without qemu.
"""

from __future__ import annotations

import hashlib
import platform
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel._fastpath import offload

from . import test_offload as packets
from .parts import AIP, FASTPATH, TAG, compile_c
from .test_aead_vectors import VECTORS
from .test_replay import Twin
from .vectors import Vector, records

KERNELS = ["neon", "scalar"]
HERE = Path(__file__).parent
CROSS = "aarch64-linux-gnu-gcc"
NEON, SCALAR = (FASTPATH / "kernels" / f"{name}.c" for name in KERNELS)
OTHERS = [FASTPATH / f"{name}.c" for name in ("b2s", "gro", "gso", "vnet")]

Run = Callable[..., str]


class Machine:
    """Programs for AArch64: how they are made and run."""

    def __init__(self, gcc: str, before: list[str], directory: Path) -> None:
        self.gcc, self.before, self.directory = gcc, before, directory

    def build(self, name: str, *sources: Path, options: Sequence[str] = ()) -> Path:
        program = self.directory / name
        if not program.exists():
            arguments = ["-D_GNU_SOURCE", "-static", "-pthread", *options]
            compile_c(self.gcc, program, [*arguments, *map(str, sources)])
        return program

    def run(self, program: Path, *arguments: object, text: str = "") -> str:
        done = subprocess.run(
            [*self.before, program, *map(str, arguments)],
            input=text,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def answers(self, *questions: str) -> list[list[str]]:
        """What aarch64.c answers, word by word."""
        sources = [HERE / "aarch64.c", HERE / "parts.c", NEON, *OTHERS]
        program = self.build("answers", *sources)
        lines = self.run(program, text="\n".join(questions)).splitlines()
        assert len(lines) == len(questions)
        return [line.split() for line in lines]


@pytest.fixture(scope="module")
def machine(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    directory = tmp_path_factory.mktemp("aarch64")
    if platform.machine() == "aarch64":
        return Machine(require_program("gcc", "apt install gcc"), [], directory)
    gcc = require_program(CROSS, "apt install gcc-aarch64-linux-gnu")
    qemu = require_program("qemu-aarch64", "apt install qemu-user")
    return Machine(gcc, [qemu], directory)


def text_of(data: bytes) -> str:
    return data.hex() or "-"


def seal(kernel: str, key: bytes, texts: list[bytes], counters: list[int]) -> str:
    pairs = zip(counters, texts, strict=True)
    lines = [f"seal {kernel} {key.hex()} {len(texts)}"]
    return " ".join(lines + [f"{c} {text_of(t)}" for c, t in pairs])


def open_(kernel: str, key: bytes, texts: list[bytes], counters: list[int]) -> str:
    return seal(kernel, key, texts, counters).replace("seal", "open", 1)


def other(key: bytes, texts: list[bytes], counters: list[int]) -> list[bytes]:
    cipher = ChaCha20Poly1305(key)
    pairs = zip(counters, texts, strict=True)
    return [
        cipher.encrypt(bytes(4) + c.to_bytes(8, "little"), t, None) for c, t in pairs
    ]


def mac_data(v: Vector) -> bytes:
    """What Poly1305 is taken of (RFC 8439 section 2.8)."""
    padded = b"".join(part + bytes(-len(part) % 16) for part in (v.aad, v.sealed))
    lengths = len(v.aad).to_bytes(8, "little") + len(v.sealed).to_bytes(8, "little")
    return padded + lengths


def test_the_best_kernel_comes_first(machine: Machine) -> None:
    assert machine.answers("kernels") == [KERNELS]


# ---- the AEAD


def test_rfc8439_on_the_parts(machine: Machine) -> None:
    chacha = records("ciphers", "ChaCha20", "rfc7539.txt")
    names = ("KEY", "NONCE", "INITIAL_BLOCK_COUNTER", "PLAINTEXT")
    questions = ["chacha20 " + " ".join(r[n].lower() for n in names) for r in chacha]
    assert machine.answers(*questions) == [[r["CIPHERTEXT"].lower()] for r in chacha]

    poly = [r for r in records("poly1305", "rfc7539.txt") if len(r["MSG"]) % 32 == 0]
    assert len(poly) >= 8
    questions = [f"poly1305 {r['KEY']} {r['MSG']}".lower() for r in poly]
    assert machine.answers(*questions) == [[r["TAG"].lower()] for r in poly]


def test_whole_vectors_on_the_parts(machine: Machine) -> None:
    assert len(VECTORS) >= 380
    streams = [f"chacha20 {v.key.hex()} {v.nonce.hex()}" for v in VECTORS]
    keys = machine.answers(*(f"{s} 0 {bytes(32).hex()}" for s in streams))
    plains = (text_of(v.plain) for v in VECTORS)
    sealed = machine.answers(
        *(f"{s} 1 {p}" for s, p in zip(streams, plains, strict=True))
    )
    tags = machine.answers(
        *(
            f"poly1305 {k} {mac_data(v).hex()}"
            for (k,), v in zip(keys, VECTORS, strict=True)
        )
    )
    for vector, text, tag in zip(VECTORS, sealed, tags, strict=True):
        assert (tag == [vector.tag.hex()]) is vector.valid
        assert not vector.valid or text == [text_of(vector.sealed)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_vectors_adapted_to_data_messages(machine: Machine, kernel: str) -> None:
    """As in test_aead_vectors: `cryptography` says what they become."""
    questions, expected = [], []
    for v in VECTORS:
        sealed = other(v.key, [v.plain], [v.counter])
        wrong = [*sealed, sealed[0][:-1] + bytes([sealed[0][-1] ^ 0x80])]
        questions.append(seal(kernel, v.key, [v.plain], [v.counter]))
        questions.append(open_(kernel, v.key, wrong, [v.counter] * 2))
        expected += [[sealed[0].hex()], [text_of(v.plain), "forged"]]
    assert machine.answers(*questions) == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_length(machine: Machine, seed: int, kernel: str) -> None:
    rng = random.Random(seed)
    key = rng.randbytes(32)
    edges = [n + d for n in (4096, 16384, 65519) for d in (-1, 0, 1)]
    lengths = [*range(2049), *edges]
    for start in range(0, len(lengths), 200):
        texts = [rng.randbytes(n) for n in lengths[start : start + 200]]
        counters = [rng.getrandbits(64) for _ in texts]
        sealed = other(key, texts, counters)
        answers = machine.answers(
            seal(kernel, key, texts, counters), open_(kernel, key, sealed, counters)
        )
        assert answers == [list(map(text_of, sealed)), list(map(text_of, texts))]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_batch_size_with_a_forged_packet_anywhere(
    machine: Machine, seed: int, kernel: str
) -> None:
    rng = random.Random(seed)
    key = rng.randbytes(32)
    questions, expected = [], []
    for size in [*range(1, 67), 130]:
        texts = [rng.randbytes(rng.choice((0, 16, 64, rng.randrange(400), 1420)))
                 for _ in range(size)]  # fmt: skip
        counters = [rng.getrandbits(64) for _ in texts]
        sealed = other(key, texts, counters)
        forged = {rng.randrange(size) for _ in range(rng.randrange(3))}
        damaged = [bytearray(text) for text in sealed]
        for i in forged:
            damaged[i][rng.randrange(len(damaged[i]))] ^= 1 << rng.randrange(8)
        questions += [
            seal(kernel, key, texts, counters),
            open_(kernel, key, [bytes(text) for text in damaged], counters),
        ]
        verdicts = [
            "forged" if i in forged else text_of(t) for i, t in enumerate(texts)
        ]
        expected += [list(map(text_of, sealed)), verdicts]
    assert machine.answers(*questions) == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_ciphertext_of_ones(machine: Machine, kernel: str) -> None:
    """It drives the limbs of Poly1305 to their ends."""
    key = bytes(range(32))
    sizes = [*range(0, 300, 7), 511, 512, 1407, 1408, 1420]
    streams = other(key, [bytes(n) for n in sizes], sizes)
    texts = [bytes(b ^ 0xFF for b in stream[:-TAG]) for stream in streams]
    sealed = other(key, texts, sizes)
    assert sealed[10][:-TAG] == b"\xff" * 70
    assert machine.answers(seal(kernel, key, texts, sizes)) == [
        [t.hex() for t in sealed]
    ]


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_secret_is_left(machine: Machine, seed: int, kernel: str) -> None:
    """As test_aead_residue."""
    program = machine.build("residue", HERE / "residue.c", NEON, SCALAR)
    assert machine.run(program, kernel, seed) == "ran\n"
    assert len(machine.run(program, "forget", seed).splitlines()) > 1


# ---- the rest


def test_blake2s(machine: Machine, seed: int) -> None:
    rng = random.Random(seed)
    cases = [
        (rng.choice((16, 32)), rng.randbytes(rng.choice((0, 16, 32))), rng.randbytes(n))
        for n in [*range(200), 1000]
    ]
    expected = [
        [hashlib.blake2s(data, digest_size=size, key=key).hexdigest()]
        for size, key, data in cases
    ]
    questions = [
        f"blake2s {n} {text_of(key)} {text_of(data)}" for n, key, data in cases
    ]
    assert machine.answers(*questions) == expected


def test_replay(machine: Machine, seed: int) -> None:
    rng = random.Random(seed)
    limit = 2**64 - 2**13 - 1
    counters, newest = [], 0
    for _ in range(3000):
        newest += rng.choice((0, 1, 1, 1, 64, 9000, 2**40))
        back = rng.choice((0, 0, 1, 63, 64, 8127, 8128, 8129))
        counters.append(rng.choice((max(newest - back, 0), newest, limit)))
    twin = Twin(limit)
    question = f"replay {limit} {len(counters)} {' '.join(map(str, counters))}"
    assert machine.answers(question) == [[str(int(twin.verdict(c))) for c in counters]]


def test_large_packets_are_split_and_merged(machine: Machine, seed: int) -> None:
    rng = random.Random(seed)
    questions, expected = [], []
    for version, size in ((4, 1300), (6, 1300), (4, 100), (6, 64)):
        ip = 20 if version == 4 else 40
        payload = rng.randbytes(rng.randrange(5000, 9000))
        for whole, kind, header in (
            (packets.tcp(version, rng.getrandbits(32), payload), (1, 4), ip + 20),
            (packets.udp(version, payload), (5, 5), ip + 8),
        ):
            offset = 16 if header == ip + 20 else 6
            vnet = packets.vnet(kind[version == 6], size, ip, offset)
            segments = packets.twin_split(whole, ip, header, size)
            questions.append(f"split {vnet.hex()} {whole.hex()}")
            expected.append([text.hex() for text in segments])
            some = segments[:60]
            questions.append(f"merge {len(some)} {' '.join(t.hex() for t in some)}")
            expected.append([text.hex() for text in offload.merge(some)])
            assert len(expected[-1]) < len(some) / 2
            single = packets.vnet(0, 0, ip, offset)
            spoilt = bytearray(segments[0])
            spoilt[ip + offset : ip + offset + 2] = bytes(2)
            done = offload.complete(single, bytes(spoilt))
            assert done is not None
            questions.append(f"complete {single.hex()} {spoilt.hex()}")
            expected.append([done.hex()])
    questions.append(f"split {packets.vnet(9, 100, 20, 16).hex()} {segments[0].hex()}")
    expected.append(["refused"])
    assert machine.answers(*questions) == expected


def test_the_routing_table_matches_its_twin(machine: Machine, seed: int) -> None:
    program = machine.build("aip", HERE / "aip_driver.c", *AIP)
    machine.run(program, "random", seed, 200)
    machine.run(program, "bulk", 5000)
