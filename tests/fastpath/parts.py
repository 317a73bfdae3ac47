"""The C code of the packet path as tests see it, through ctypes.

`Parts` is parts.c: the scalar kernel taken apart. `Kernel` calls a kernel of the
installed extension directly, with any pointers. `Guarded` is memory between two pages
that nobody may touch.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tunnel._fastpath import aead

FASTPATH = Path(__file__).resolve().parents[2] / "_fastpath"
AIP = sorted(FASTPATH.glob("aip*.c"))  # the routing table
TAG = 16
PROT_NONE = 0

Address = int


def compile_c(gcc: str, output: Path, arguments: Sequence[str]) -> Path:
    """Compiles with the flags of a release build; warnings are errors."""
    flags = ["-std=gnu11", "-O3", "-g", "-Wall", "-Wextra", "-Werror"]
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    subprocess.run(
        [gcc, *flags, f"-I{FASTPATH}", "-o", str(output), *arguments],
        check=True,
        env=environment,
    )
    return output


class Parts:
    """ChaCha20, Poly1305 and, made of both, the whole AEAD of RFC 8439 with AAD."""

    def __init__(self, library: Path) -> None:
        self._c = ctypes.CDLL(str(library))

    @classmethod
    def build(cls, gcc: str, directory: Path, *defines: str) -> Parts:
        source = Path(__file__).with_name("parts.c")
        name = directory / f"parts{''.join(defines)}.so"
        shared = ["-D_GNU_SOURCE", "-shared", "-fPIC", "-pthread"]
        options = [f"-D{define}" for define in defines]
        return cls(compile_c(gcc, name, [*shared, *options, str(source)]))

    def limb_bits(self) -> int:
        return int(self._c.part_limb_bits())

    def chacha20(self, key: bytes, nonce: bytes, block: int, data: bytes) -> bytes:
        out = ctypes.create_string_buffer(len(data) + 1)
        self._c.part_chacha20(
            key, nonce, ctypes.c_uint32(block), out, data, ctypes.c_size_t(len(data))
        )
        return out.raw[: len(data)]

    def poly1305(self, key: bytes, data: bytes) -> bytes:
        """`data` is a multiple of 16 bytes, as everything in the AEAD is."""
        assert len(data) % 16 == 0
        tag = ctypes.create_string_buffer(TAG)
        self._c.part_poly1305(key, data, ctypes.c_size_t(len(data) // 16), tag)
        return tag.raw

    def seal(self, key: bytes, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
        sealed = self.chacha20(key, nonce, 1, plain)
        return sealed + self.tag(key, nonce, sealed, aad)

    def tag(self, key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
        lengths = len(aad).to_bytes(8, "little") + len(sealed).to_bytes(8, "little")
        padded = b"".join(part + bytes(-len(part) % 16) for part in (aad, sealed))
        return self.poly1305(self.chacha20(key, nonce, 0, bytes(32)), padded + lengths)

    def residue(self, key: bytes, counter: int, packet: bytes, what: int) -> int:
        """Runs of secrets left on the stack by 0 sealing, 1 opening, 2 a leaky call."""
        data = ctypes.create_string_buffer(packet, len(packet))
        length = len(packet) - TAG
        number = ctypes.c_uint64(counter)
        found = self._c.part_residue(key, number, data, ctypes.c_uint32(length), what)
        return int(found)


class Op(ctypes.Structure):
    """`struct aead_op` of packet.h."""

    _fields_ = (
        ("src", ctypes.c_void_p),
        ("dst", ctypes.c_void_p),
        ("len", ctypes.c_uint32),
        ("ok", ctypes.c_uint32),
        ("nonce", ctypes.c_uint64),
    )


class _Struct(ctypes.Structure):
    """`struct aead_kernel` of kernels/aead.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("supported", ctypes.CFUNCTYPE(ctypes.c_int)),
        (
            "seal_batch",
            ctypes.CFUNCTYPE(
                None, ctypes.c_char_p, ctypes.POINTER(Op), ctypes.c_size_t
            ),
        ),
        (
            "open_batch",
            ctypes.CFUNCTYPE(
                ctypes.c_size_t, ctypes.c_char_p, ctypes.POINTER(Op), ctypes.c_size_t
            ),
        ),
    )


# source, destination, plaintext length, counter
Job = tuple[Address, Address, int, int]


class Kernel:
    """A kernel by name, called as the packet pump calls it."""

    def __init__(self, name: str) -> None:
        library = ctypes.CDLL(aead.__file__)
        self._kernel = _Struct.in_dll(library, f"aead_{name}")
        assert self._kernel.name == name.encode()

    def seal(self, key: bytes, jobs: Sequence[Job]) -> None:
        self._kernel.seal_batch(key, self._ops(jobs), len(jobs))

    def open(self, key: bytes, jobs: Sequence[Job]) -> list[bool]:
        ops = self._ops(jobs)
        good = self._kernel.open_batch(key, ops, len(jobs))
        verdicts = [op.ok for op in ops]
        assert set(verdicts) <= {0, 1}
        assert good == sum(verdicts)
        return [verdict == 1 for verdict in verdicts]

    @staticmethod
    def _ops(jobs: Sequence[Job]) -> ctypes.Array[Op]:
        # a verdict that the kernel does not write is none
        return (Op * len(jobs))(
            *(Op(src, dst, length, 7, counter) for src, dst, length, counter in jobs)
        )


class Guarded:
    """`size` usable bytes (rounded up to pages) between two PROT_NONE pages."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.size = -(-size // page) * page
        self._map = mmap.mmap(-1, self.size + 2 * page)
        anchor = ctypes.c_char.from_buffer(self._map)
        self.start = ctypes.addressof(anchor) + page
        del anchor
        self.end = self.start + self.size
        for guard in (self.start - page, self.end):
            _mprotect(guard, page, PROT_NONE)

    def close(self) -> None:
        page = mmap.PAGESIZE
        for guard in (self.start - page, self.end):
            _mprotect(guard, page, mmap.PROT_READ | mmap.PROT_WRITE)
        self._map.close()

    def fill(self, byte: int) -> None:
        ctypes.memset(self.start, byte, self.size)


def _mprotect(address: Address, size: int, protection: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), protection):
        raise OSError(ctypes.get_errno(), "mprotect")


def put(address: Address, data: bytes) -> None:
    ctypes.memmove(address, data, len(data))


def get(address: Address, size: int) -> bytes:
    return ctypes.string_at(address, size)
