"""ChaCha20-Poly1305 in C and Go: nanoseconds of CPU per packet, in alternating rounds.

Ours are the kernels of `_fastpath/kernels`, compiled as they are in the packet path and
called in its batches of 64 (16 KiB: 8), or one packet at a time ("alone"). The others
seal and open packet by packet, which is the only way they know. In one round everybody
computes on the same CPU, in the next one on another: a neighbour on the same core of a
virtual machine's host can make one CPU a third slower than the others.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.native import BENCH, can_compile, compiled
from lab.process import LabError, run

from side_by_side.figures import Figure, Result
from tunnel._fastpath.aead import kernel_name

__all__ = ["CIPHER_FIGURES", "measure_ciphers"]

SIZES = (64, 512, 1420, 16384)
_GO_PACKAGE = "golang.org/x/crypto/chacha20poly1305"
_KERNELS = ("scalar", "avx2", "avx512")
_SOURCES = BENCH.parent / "_fastpath" / "kernels"
_OPENSSL = """#include <openssl/evp.h>
int main(void) { return !EVP_chacha20_poly1305(); }
"""
_IPSEC_MB = """#include <intel-ipsec-mb.h>
int main(void) { return !alloc_mb_mgr(0); }
"""

_WAYS = {
    "seal": "seal {} B",
    "open": "open {} B",
    "seal-alone": "seal {} B, alone",
    "open-alone": "open {} B, alone",
}
CIPHER_FIGURES = tuple(
    Figure(f"{way}{size}", text.format(size), "ns", 1, more_is_better=False)
    for size in SIZES
    for way, text in _WAYS.items()
)


def _harness() -> Path:
    if not can_compile(_OPENSSL, "-lcrypto"):
        raise LabError("OpenSSL's headers are missing: apt-get install libssl-dev")
    options = ["-lcrypto"]
    if can_compile(_IPSEC_MB, "-lIPSec_MB"):
        options = ["-DWITH_IPSEC_MB", *options, "-lIPSec_MB"]
    else:
        print("left out: ipsec-mb: apt-get install libipsec-mb-dev", file=sys.stderr)
    sources = [_SOURCES / f"{name}.c" for name in _KERNELS]
    return compiled(BENCH / "ciphers" / "harness.c", *sources, options=options)


@contextmanager
def _on_cpu(cpu: int) -> Iterator[None]:
    """What is started here runs there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _go() -> Iterator[Path | None]:
    """The Go program, made in a directory that is then removed; None without Go."""
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if go is None:
        print("left out: Go's x/crypto: there is no go", file=sys.stderr)
        yield None
        return
    with tempfile.TemporaryDirectory() as where:
        shutil.copy(BENCH / "ciphers" / "bench.go.txt", Path(where) / "main.go")
        try:
            run([go, "-C", where, "mod", "init", "ciphers"])
            run([go, "-C", where, "get", _GO_PACKAGE], timeout=120)
            run([go, "-C", where, "build", "-o", "bench"], timeout=300)
        except LabError as error:
            print(f"left out: Go's x/crypto: {error}", file=sys.stderr)
            yield None
            return
        yield Path(where) / "bench"


def _add(results: dict[str, Result], text: str) -> None:
    for line in text.splitlines():
        name, way, size, ns = line.split()
        result = results.setdefault(name, Result(name))
        result.add({f"{way}{size}": float(ns)})


def measure_ciphers(rounds: int) -> dict[str, Result]:
    """By implementation; `ours` is the kernel that this CPU gets."""
    results: dict[str, Result] = {}
    harness = _harness()
    with _go() as go:
        programs = [[str(harness), "1"], *([[str(go)]] if go else [])]
        cpus = itertools.cycle(sorted(os.sched_getaffinity(0)))
        for cpu in itertools.islice(cpus, rounds):
            with _on_cpu(cpu):
                for program in programs:
                    _add(results, run(program, timeout=120).stdout)
    ours = kernel_name()
    chosen = results[ours]
    return {"ours": Result("ours", ours, chosen.samples), **results}
