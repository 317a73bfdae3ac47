"""Fixtures of the packet path's tests: kernels, and C compiled for them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from tunnel._fastpath import aead

from .parts import Kernel, Parts
from .preload import build


@pytest.fixture(params=aead.kernels())
def kernel_name(request: pytest.FixtureRequest) -> str:
    """Each kernel that this CPU runs."""
    return str(request.param)


@pytest.fixture
def kernel(kernel_name: str) -> Kernel:
    return Kernel(kernel_name)


@pytest.fixture(scope="session", params=["", "POLY1305_32"], ids=["wide", "narrow"])
def parts(
    request: pytest.FixtureRequest,
    require_program: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Parts:
    """The scalar kernel taken apart, with either multiplication."""
    gcc = require_program("gcc", "apt install gcc")
    directory: Path = tmp_path_factory.mktemp("parts")
    return Parts.build(gcc, directory, *filter(None, [request.param]))


@pytest.fixture(scope="session")
def shim(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """shim.c, to be preloaded."""
    gcc = require_program("gcc", "apt install gcc")
    return build("shim.c", gcc, tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def scarce(
    require_program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """scarce.c, to be preloaded; the sanitizer's memory, in a build of its own, cannot
    be made scarce from outside."""
    if hasattr(ctypes.CDLL(None), "__asan_init"):
        pytest.skip("needs the C library's malloc: this build has the sanitizer's")
    gcc = require_program("gcc", "apt install gcc")
    return build("scarce.c", gcc, tmp_path_factory.mktemp("scarce"))
