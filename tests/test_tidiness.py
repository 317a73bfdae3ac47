"""Tidiness as tests: lists that must agree, sizes, leftovers, style and types.

These read the checkout, wherever the tested package is installed.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tunnel
from tunnel import constants
from tunnel.errors import DropReason

ROOT = Path(__file__).resolve().parent.parent
FASTPATH = ROOT / "_fastpath"
LINES_MAX = 400

# Written out where it is looked for, so that this file does not find itself.
LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


def sources(*suffixes: str) -> list[Path]:
    """Files of the project, without what tools and builds put beside them."""
    places = ["tunnel", "_fastpath", "tests", "bench", "scripts", ".ci"]
    found = [ROOT / name for name in ("setup.py", "Makefile", "pyproject.toml")]
    for place in places:
        found += (ROOT / place).rglob("*")
    return sorted(
        path
        for path in found
        if path.is_file()
        and not path.is_relative_to(ROOT / "tunnel" / "_fastpath")
        and "__pycache__" not in path.parts
        and (path.suffix in suffixes or not suffixes)
    )


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A tool of the environment that runs the tests."""
    argv = [sys.executable, "-m", name, *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)


# --- lists that must agree


def test_drop_reasons_are_those_of_the_c_header() -> None:
    text = (FASTPATH / "packet.h").read_text()
    body = re.search(r"enum drop_reason \{(.*?)\};", text, re.DOTALL)
    assert body
    listed = {
        name: int(value)
        for name, value in re.findall(r"DROP_(\w+) = (\d+)", body[1])
        if name != "REASON_COUNT"
    }
    assert listed == {reason.name: reason.value for reason in DropReason}
    count = re.search(r"DROP_REASON_COUNT = (\d+)", body[1])
    assert count
    assert int(count[1]) == len(DropReason)


@pytest.mark.parametrize(
    ("name", "value"),
    [  # WireGuard paper, section 6.1; times in seconds
        ("REKEY_AFTER_MESSAGES", 2**60),
        ("REJECT_AFTER_MESSAGES", 2**64 - 2**13 - 1),
        ("REKEY_AFTER_TIME", 120 * constants.SECOND),
        ("REJECT_AFTER_TIME", 180 * constants.SECOND),
        ("REKEY_TIMEOUT", 5 * constants.SECOND),
        ("KEEPALIVE_TIMEOUT", 10 * constants.SECOND),
        ("COOKIE_SECRET_MAX_AGE", 120 * constants.SECOND),
    ],
)
def test_constants_are_the_paper_s(name: str, value: int) -> None:
    assert getattr(constants, name) == value


def test_every_compiled_module_has_a_stub() -> None:
    modules = {path.stem for path in FASTPATH.glob("*.pyx")}
    assert modules
    assert modules == {path.stem for path in FASTPATH.glob("*.pyi")}


def test_the_version_is_written_once() -> None:
    version = tunnel.__version__
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    literal = re.compile(rf"""version__?\s*=\s*["']{re.escape(version)}["']""")
    found = [p for p in sources(".py", ".toml") if literal.search(p.read_text())]
    assert found == [ROOT / "tunnel" / "__init__.py"]


def test_commands_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in ROOT.glob("*.md"):
        text = document.read_text()
        asked = set(re.findall(r"(?:^|`)(?:sudo )?make ([a-z-]+)", text, re.MULTILINE))
        assert asked <= targets, document.name
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_files_that_the_documents_name_exist() -> None:
    link = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")
    missing = [
        f"{document.name}: {name}"
        for document in ROOT.glob("*.md")
        for name in link.findall(document.read_text())
        if not (ROOT / name).exists()
    ]
    assert missing == []


# --- sizes and leftovers


def test_no_source_file_is_too_long() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources(".py", ".pyx", ".pxd", ".pxi", ".pyi", ".c", ".h")
        if (lines := path.read_text().count("\n")) > LINES_MAX
    }
    assert long == {}


def test_lines_of_c_and_cython_fit_88_columns() -> None:
    wide = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources(".pyx", ".pxd", ".pxi", ".c", ".h")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 88
    ]
    assert wide == []


def test_nothing_is_left_to_do() -> None:
    left = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources(
            ".py", ".pyx", ".pxd", ".pxi", ".pyi", ".c", ".h", ".sh", ".toml", ""
        )
        if path.suffix or path.name in {"Makefile", "run"}
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if LEFTOVER.search(line)
    ]
    assert left == []


@pytest.mark.parametrize(
    "path", sources(".py"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if not tree.body:  # an empty __init__.py of a test directory
        return
    assert ast.get_docstring(tree)
    if any(not isinstance(node, ast.Expr) for node in tree.body):
        assert "from __future__ import annotations" in path.read_text()


# --- style and types


def test_ruff_has_nothing_to_say() -> None:
    for arguments in (["check", "."], ["format", "--check", "."]):
        done = tool("ruff", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_types_hold_strictly() -> None:
    done = tool("mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_shell_scripts_parse() -> None:
    for script in (ROOT / "scripts" / "setup.sh", ROOT / ".ci" / "run"):
        done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
