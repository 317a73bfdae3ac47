"""The compiled X25519 kernel: what valgrind, which runs no AVX-512, cannot look at.

Constant time by reading the machine code: the only jumps are those of loops whose
length is a constant, and no address is made of anything but the stack, the arguments
and loop counters. And by measuring what is left behind on the stack.
"""

from __future__ import annotations

import ctypes
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tunnel._fastpath import x25519

from .parts import FASTPATH, compile_c

SOURCE = FASTPATH / "kernels" / "x25519_ifma.c"
MOVED = re.compile(r"\tv?p?(gather|scatter)|\tvmov[dq] +%xmm\d+,%[re]|\tvpextr")
JUMP = re.compile(r"\tj(?!mp)\w+ ")
# loops of: the bits of a scalar; a number of squarings
LOOPS = {"ladder": 1, "squared_often": 1, "climb": 0, "inverse": 0, "climb_up": 0}
LOOPS |= {"invert_all": 3, "divide": 0}
LOOPS |= {"step": 0, "times": 0, "squared": 0, "from_words": 0, "carried": 0}

pytestmark = pytest.mark.skipif(
    "ifma" not in x25519.kernels(), reason="this CPU has no AVX-512 IFMA"
)


@pytest.fixture(scope="module")
def functions(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """The instructions of each function of the kernel, as a release build has them."""
    gcc = require_program("gcc", "apt install gcc")
    objdump = require_program("objdump", "apt install binutils")
    output = tmp_path_factory.mktemp("x25519") / "kernel.o"
    compile_c(gcc, output, ["-c", "-g0", str(SOURCE)])
    listing = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", str(output)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if start := re.match(r"[0-9a-f]+ <([^>]+)>:", line):
            found[start[1]] = []
        elif line.startswith(" ") and found:
            next(reversed(found.values())).append(line)
    return found


def base_name(symbol: str) -> str:
    """Without what the compiler adds to a copy of a function."""
    return symbol.partition(".")[0]


def test_the_only_jumps_are_those_of_constant_loops(
    functions: dict[str, list[str]],
) -> None:
    seen = set()
    for symbol, lines in functions.items():
        name = base_name(symbol)
        if name not in LOOPS:
            continue
        seen.add(name)
        jumps = [line for line in lines if JUMP.search(line)]
        assert len(jumps) <= LOOPS[name], (symbol, jumps)
        indirect = [line for line in lines if re.search(r"\t(jmp|call) +\*", line)]
        assert indirect == [], symbol
    assert {"ladder", "climb_up", "divide"} <= seen


def test_no_vector_is_an_address(functions: dict[str, list[str]]) -> None:
    """Nor is anything that came out of one: no gather, scatter or vector-to-general
    move."""
    for symbol, lines in functions.items():
        if base_name(symbol) in LOOPS:
            bad = re.compile(
                r"\tv?p?(gather|scatter)|\tvmov[dq] +%xmm\d+,%[re]|\tvpextr"
            )
            assert [line for line in lines if bad.search(line)] == [], symbol


def test_a_branch_on_a_secret_would_be_seen(
    require_program: Callable[..., str], tmp_path: Path
) -> None:
    """The same ladder with the exchange made conditional has more jumps."""
    gcc = require_program("gcc", "apt install gcc")
    source = SOURCE.read_text().replace(
        "exchange(lanes, &w->x2, &w->x3);\n",
        "if (lanes)\n            exchange(lanes, &w->x2, &w->x3);\n",
    )
    leaky = tmp_path / "leaky.c"
    leaky.write_text(source)
    output = tmp_path / "leaky.o"
    compile_c(gcc, output, ["-c", "-g0", f"-I{SOURCE.parent}", str(leaky)])
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(output)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    body = listing.partition("<ladder>:")[2].partition("\n\n")[0]
    jumps = [line for line in body.splitlines() if JUMP.search(line)]
    assert len(jumps) > LOOPS["ladder"]


RESIDUE = r"""
#include <string.h>
#include "kernels/x25519.h"

/* The stack below us, as it was left. */
__attribute__((noinline)) static void look(unsigned char *seen, size_t n)
{
    unsigned char below[65536];
    __asm__ volatile("" : : "r"(below) : "memory");
    memcpy(seen, below + sizeof below - n, n);
}

__attribute__((noinline)) void probe(unsigned char *scalar, unsigned char *point,
                                     unsigned char *result, unsigned char *seen,
                                     size_t n)
{
    struct x25519_op op = {scalar, point, result, 0};
    x25519_ifma(&op, 1);
    look(seen, n);
}
"""


def test_nothing_is_left_on_the_stack(
    require_program: Callable[..., str], tmp_path: Path, seed: int
) -> None:
    """Neither the scalar, as it is or clamped, nor the result."""
    gcc = require_program("gcc", "apt install gcc")
    (tmp_path / "residue.c").write_text(RESIDUE)
    built = compile_c(
        gcc,
        tmp_path / "residue.so",
        [
            *("-shared", "-fPIC", "-Wno-maybe-uninitialized"),
            str(tmp_path / "residue.c"),
            str(SOURCE),
        ],
    )
    probe = ctypes.CDLL(str(built)).probe
    rng = random.Random(seed)
    scalar, point = rng.randbytes(32), rng.randbytes(32)
    result, seen = ctypes.create_string_buffer(32), ctypes.create_string_buffer(60_000)
    probe(scalar, point, result, seen, ctypes.c_size_t(len(seen)))
    left = seen.raw
    for secret in (scalar, result.raw):
        for start in range(0, 32, 8):
            assert secret[start : start + 8] not in left
