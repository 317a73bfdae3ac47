"""Programs in C that the benchmarks need, compiled when they are first used."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.process import LabError, run

__all__ = ["BENCH", "can_compile", "compiled"]

BENCH = Path(__file__).resolve().parents[1]
_FLAGS = ("-std=gnu11", "-O3", "-g0", "-fno-plt", "-Wall", "-Wextra")
_built: dict[tuple[str, ...], Path] = {}


def _directory() -> Path:
    """Private, and gone when the session's temporary files are."""
    where = Path(tempfile.gettempdir()) / f"tunnel-bench-{os.getuid()}"
    where.mkdir(mode=0o700, exist_ok=True)
    if where.stat().st_uid != os.getuid() or where.is_symlink():
        raise LabError(f"{where} belongs to somebody else")
    return where


def compiled(*sources: Path, options: Sequence[str] = ()) -> Path:
    """A program made of C `sources`; `options` (libraries, -D) go to gcc as well."""
    call = (*map(str, sources), *options)
    if call not in _built:
        digest = hashlib.sha256("\0".join(call).encode())
        for source in sources:
            digest.update(source.read_bytes())
        program = _directory() / f"{sources[0].stem}-{digest.hexdigest()[:12]}"
        # headers are not in the digest, so what was built in another run is rebuilt
        fresh = program.with_suffix(f".{os.getpid()}")
        run(["gcc", *_FLAGS, "-o", str(fresh), *call], timeout=300)
        fresh.replace(program)
        _built[call] = program
    return _built[call]


def can_compile(text: str, *options: str) -> bool:
    """Whether gcc makes a program of it; tells whether a library is installed."""
    with tempfile.TemporaryDirectory() as where:
        source = Path(where) / "probe.c"
        source.write_text(text)
        target = str(Path(where) / "probe")
        done = run(["gcc", "-o", target, str(source), *options], check=False)
    return done.returncode == 0
