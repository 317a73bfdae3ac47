"""What the archives hold, and that what `pip install` leaves behind works alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import tunnel

from .conftest import ROOT, Builds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FASTPATH = "tunnel/_fastpath/"


def wheel_files(wheel: Path) -> set[str]:
    """Names in a wheel, without its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    return {name for name in names if ".dist-info/" not in name}


def sdist_files(sdist: Path) -> set[str]:
    """Names of the regular files in an sdist, below its top directory."""
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert [m.name for m in members if m.issym() or m.islnk()] == []
    return {m.name.partition("/")[2] for m in members if m.isfile()}


def python_sources(tree: Path) -> set[str]:
    """Every Python module and type marker of a checkout's package."""
    found = {
        str(path.relative_to(tree))
        for path in (tree / "tunnel").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    return {name for name in found if not name.startswith(FASTPATH)}


def test_wheel_holds_the_package_and_no_sources(builds: Builds) -> None:
    files = wheel_files(builds.wheel_from_tree)
    compiled = {path.stem for path in (builds.tree / "_fastpath").glob("*.pyx")}
    assert compiled
    fastpath = {name for name in files if name.startswith(FASTPATH)}
    assert files - fastpath == python_sources(builds.tree)
    assert {name.split("/")[2].split(".")[0] for name in fastpath} == {
        "__init__",
        *compiled,
    }
    extensions = [name for name in fastpath if name.endswith(".so")]
    stubs = {name for name in fastpath if name.endswith(".pyi")}
    assert len(extensions) == len(compiled)
    assert stubs == {f"{FASTPATH}{name}.pyi" for name in compiled}
    assert len(fastpath) == 1 + 2 * len(compiled)


def test_wheel_holds_real_files(builds: Builds) -> None:
    with zipfile.ZipFile(builds.wheel_from_tree) as archive:
        for info in archive.infolist():
            assert (info.external_attr >> 16) & 0o170000 in {0, 0o100000}, info


def test_wheel_from_the_sdist_is_the_same(builds: Builds) -> None:
    assert wheel_files(builds.wheel_from_sdist) == wheel_files(builds.wheel_from_tree)


def test_sdist_holds_what_builds_and_tests_it(builds: Builds) -> None:
    files = sdist_files(builds.sdist)
    wanted = {
        str(path.relative_to(builds.tree))
        for top in ("_fastpath", "bench", "scripts", "tests")
        for path in (builds.tree / top).rglob("*")
        if path.is_file() and path.suffix not in {".so", ".pyc"}
    }
    wanted |= python_sources(builds.tree)
    wanted |= {"setup.py", "pyproject.toml", "MANIFEST.in", "Makefile", "LICENSE"}
    wanted |= {"README.md", "CHANGELOG.md", "scripts/setup.sh"}
    assert wanted - files == set()
    assert [name for name in files if name.startswith((FASTPATH, "build/"))] == []
    assert [name for name in files if name.endswith((".so", ".pyc"))] == []


def test_a_build_leaves_no_generated_c_beside_the_sources(builds: Builds) -> None:
    generated = {path.stem for path in (builds.tree / "_fastpath").glob("*.pyx")}
    written = {path.stem for path in (builds.tree / "_fastpath").glob("*.c")}
    assert written & generated == set()


def test_metadata_says_what_pyproject_says(builds: Builds) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = tunnel.__version__
    with zipfile.ZipFile(builds.wheel_from_tree) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("dist-info/METADATA"))
        metadata = archive.read(name).decode()
        points = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert f"\nVersion: {version}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    for script, target in project["scripts"].items():
        assert f"{script} = {target}\n" in points


def test_the_installed_copy_works_alone(builds: Builds, tmp_path: Path) -> None:
    code = (
        "import tunnel, tunnel._fastpath.aead as aead\n"
        "from tunnel._fastpath import blake2s, pump, replay\n"
        "sealed = aead.seal_batch(bytes(32), [b'packet'], [7])\n"
        "assert aead.open_batch(bytes(32), sealed, [7]) == [b'packet']\n"
        "assert len(blake2s.digest(b'')) == 32\n"
        "assert replay.ReplayWindow().accept(1)\n"
        "print(tunnel.__file__, pump.__file__, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(builds.site), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.split():
        assert Path(line).is_relative_to(builds.site)


def test_a_module_that_was_removed_is_not_packaged_again(builds: Builds) -> None:
    stale = builds.tree / "build" / "release"
    (library,) = stale.glob("lib.*")
    (library / "tunnel" / "stale.py").write_text("")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build"],
        cwd=builds.tree,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (library / "tunnel" / "stale.py").exists()
    assert (library / "tunnel" / "errors.py").exists()
