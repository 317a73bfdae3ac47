"""Builds the compiled packet path; metadata is declared in pyproject.toml.

`_fastpath/` at the top is installed as `tunnel._fastpath`. A link from tunnel/ to it
makes the checkout importable after `build_ext --inplace`; nothing is packaged through
the link. Each variant is built under its own directory, so they never mix:

    build/release     the default
    build/debug       TUNNEL_DEBUG=1: no optimisation, asserts, line trace
    build/sanitize    TUNNEL_SANITIZE=1: AddressSanitizer and UBSan, asserts

`build_ext --only NAME` builds a single extension.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
DEBUG = bool(os.environ.get("TUNNEL_DEBUG"))
SANITIZE = bool(os.environ.get("TUNNEL_SANITIZE"))
VARIANT = "sanitize" if SANITIZE else "debug" if DEBUG else "release"
BUILD = f"build/{VARIANT}"

# the routing table
AIP = ["aip.c", "aip_edit.c", "aip_item.c", "aip_node.c", "aip_tables.c"]
AIP += ["aip_walk4.c", "aip_walk6.c"]

# extension -> C sources that are linked into it
C_SOURCES: dict[str, list[str]] = {
    # those of another CPU compile to nothing
    "aead": [f"kernels/{k}.c" for k in ("scalar", "avx2", "avx512", "neon")],
    "allowedips": AIP,
    "replay": [],
    "symmetric": ["b2s.c", "noise.c"],
    "x25519": ["kernels/x25519_ifma.c"],
    "pump": [
        "address.c",
        *AIP,
        "b2s.c",
        "cookies.c",
        "endpoint.c",
        "engine.c",
        "epoch.c",
        "gro.c",
        "gso.c",
        "handshakes.c",
        "isolation.c",
        "keypairs.c",
        "lane.c",
        "open.c",
        "outbox.c",
        "path.c",
        "ring.c",
        "rx.c",
        "send.c",
        "source.c",
        "staging.c",
        "train.c",
        "tun_write.c",
        "tx.c",
        "vnet.c",
        "worker.c",
    ],
    "offload": ["gro.c", "gso.c", "vnet.c"],
    "blake2s": ["b2s.c"],
    "uapi": ["uapi_read.c", "uapi_write.c"],
}

CFLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter"]
if SANITIZE:
    CFLAGS += ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer"]
    CFLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
elif DEBUG:
    CFLAGS += ["-O0", "-g", "-UNDEBUG"]
else:
    CFLAGS += ["-O3", "-g0", "-fno-plt"]
LDFLAGS = ["-fsanitize=address,undefined"] if SANITIZE else []
MACROS = [("CYTHON_TRACE_NOGIL", "1")] if DEBUG else []


def extensions() -> list[Extension]:
    headers = [str(p.relative_to(HERE)) for p in (HERE / "_fastpath").rglob("*.h")]
    return [
        Extension(
            f"tunnel._fastpath.{pyx.stem}",
            [
                str(pyx.relative_to(HERE)),
                *(f"_fastpath/{source}" for source in C_SOURCES.get(pyx.stem, [])),
            ],
            depends=headers,
            include_dirs=["_fastpath"],
            extra_compile_args=CFLAGS,
            extra_link_args=LDFLAGS,
            define_macros=MACROS,
        )
        for pyx in sorted((HERE / "_fastpath").glob("*.pyx"))
    ]


class BuildExt(build_ext):
    """`build_ext` with `--only NAME`; Cython's output goes to the build directory."""

    user_options: ClassVar = [
        *build_ext.user_options,
        ("only=", None, "build one extension"),
    ]

    def initialize_options(self) -> None:
        super().initialize_options()
        self.only = None

    def finalize_options(self) -> None:
        if self.only:
            wanted = f"tunnel._fastpath.{self.only}"
            self.distribution.ext_modules = [
                e for e in self.distribution.ext_modules if e.name == wanted
            ]
        super().finalize_options()

    def build_extensions(self) -> None:
        translated = cythonize(
            self.extensions,
            build_dir=f"{BUILD}/cython",
            language_level=3,
            compiler_directives={"linetrace": DEBUG, "freethreading_compatible": False},
        )
        for extension, result in zip(self.extensions, translated, strict=True):
            extension.sources = result.sources
        super().build_extensions()


class BuildPy(build_py):
    """`build_py` that forgets modules which are no longer in the source tree."""

    def run(self) -> None:
        for stale in (HERE / self.build_lib).rglob("*.py"):
            stale.unlink()
        super().run()


def link_fastpath() -> None:
    """Restores the link where an archive format lost it (an sdist has none)."""
    link = HERE / "tunnel" / "_fastpath"
    if not link.exists():
        link.symlink_to("../_fastpath")


link_fastpath()
setup(
    packages=[
        *find_packages(include=["tunnel", "tunnel.*"], exclude=["tunnel._fastpath"]),
        "tunnel._fastpath",
    ],
    package_dir={"tunnel._fastpath": "_fastpath"},
    package_data={"tunnel": ["py.typed"], "tunnel._fastpath": ["*.pyi"]},
    include_package_data=False,
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
    options={"build": {"build_base": BUILD}},
)
