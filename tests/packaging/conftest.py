"""Real builds, made once per run: an sdist, wheels from it and from the tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Caches, environments and builds; `tests` stays, an sdist carries it.
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", ".hypothesis", ".benchmarks", "__pycache__", "build",
    "dist", "*.egg-info", "*.so",
)  # fmt: skip


@dataclass(frozen=True)
class Builds:
    tree: Path
    """A copy of the checkout, so that a build leaves nothing in the real one."""
    sdist: Path
    wheel_from_sdist: Path
    wheel_from_tree: Path
    site: Path
    """What `pip install .` put into an empty directory."""


def pip(*arguments: str | Path, cwd: Path) -> None:
    """pip without build isolation: the environment has the build requirements."""
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def make_sdist(tree: Path, place: Path) -> Path:
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(place)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = place.glob("*.tar.gz")
    return sdist


def make_wheel(source: Path, place: Path) -> Path:
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", place, source, cwd=place)
    (wheel,) = place.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Builds:
    top = tmp_path_factory.mktemp("builds")
    for name in ("sdist", "from-sdist", "from-tree"):
        (top / name).mkdir()
    tree, site = top / "tree", top / "site"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=NOT_SOURCES)
    sdist = make_sdist(tree, top / "sdist")
    from_sdist = make_wheel(sdist, top / "from-sdist")
    from_tree = make_wheel(tree, top / "from-tree")
    pip("install", "--no-deps", "--no-build-isolation", "--target", site, tree, cwd=top)
    return Builds(tree, sdist, from_sdist, from_tree, site)
