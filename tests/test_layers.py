"""Imports point downward, and the deciding layers touch nothing outside themselves.

The table is the architecture (ARCHITECTURE.md draws it): a module may import its own
layer and the layers listed for it, whatever the form of the import.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tunnel"

# layer -> modules of that layer; a package stands for everything in it
LAYERS = {
    "base": ["errors", "constants", "digest", "workers"],
    "fastpath": ["_fastpath"],
    "protocol": ["protocol"],
    "io": ["io"],
    "netconfig": ["netconfig"],
    "state": ["state"],
    "device": [
        "device",
        "device_change",
        "driver",
        "peer_change",
        "engine",
        "helper",
        "interface_watch",
        "learned",
        "limits",
        "lookups",
        "loop",
        "network",
        "outgoing",
        "reloads",
        "status",
        "sticky",
        "timer_queue",
        "turns",
    ],
    "doors": [
        "tunnel",
        "__main__",
        "changes",
        "control_thread",
        "manager",
        "own_file",
        "packets",
        "settings",
        "confirmation",
        "edited_files",
        "file_reload",
        "follow",
        "peer_claims",
        "peer_edits",
        "prepare",
        "prepared",
        "report",
        "rollback",
        "waiting",
        "cli",
        "api",
        "config",
        "fleet",
    ],
}

# layer -> layers it may import; everybody may import base
ALLOWED = {
    "base": set[str](),
    "fastpath": set[str](),
    "protocol": {"fastpath"},  # and of it only what computes (below)
    "io": {"fastpath"},
    "netconfig": set[str](),
    # state drives devices through a Protocol of its own, so it imports none of them
    "state": set[str](),
    "device": {"fastpath", "protocol", "io", "netconfig", "state"},
    "doors": {"fastpath", "protocol", "io", "netconfig", "device", "state"},
}

# protocol/ and state/ decide; time, randomness and bytes are handed to them
OUTSIDE_WORLD = {
    "asyncio", "concurrent", "fcntl", "io", "multiprocessing", "os", "pathlib",
    "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess",
    "tempfile", "threading", "time",
}  # fmt: skip
PURE = ("protocol", "state")

# what `tunnel-wg` must start without (memory of an idle interface)
HEAVY = ("asyncio", "pydantic", "pydantic_core", "rich", "typer")

# what protocol/ may use of the packet path: computations without any state outside
PURE_FASTPATH = {"tunnel._fastpath.symmetric", "tunnel._fastpath.x25519"}


def modules() -> list[Path]:
    """Python sources of the package; compiled modules import nothing."""
    return sorted(
        path
        for path in PACKAGE.rglob("*.py")
        if "_fastpath" not in path.relative_to(PACKAGE).parts
    )


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str | None:
    """The layer of a dotted name; None for what is not ours and for `tunnel` itself."""
    parts = module.split(".")
    if parts[0] != "tunnel" or len(parts) == 1:
        return None
    for layer, members in LAYERS.items():
        if parts[1] in members:
            return layer
    raise AssertionError(f"{module} belongs to no layer: add it to the table")


def imports(path: Path, text: str | None = None) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import, also of those inside functions."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text() if text is None else text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            # `from tunnel import state` names a module after the import
            if base == "tunnel":
                yield from ((node.lineno, f"tunnel.{a.name}") for a in node.names)
            else:
                yield node.lineno, base


def exported() -> set[str]:
    """Names that `tunnel` itself offers; importing those is using the public API."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if "__all__" in (getattr(t, "id", "") for t in targets) and node.value:
                return {f"tunnel.{name}" for name in ast.literal_eval(node.value)}
    return set()


def violations(path: Path) -> list[str]:
    own = layer_of(name_of(path))
    if own is None:  # tunnel/__init__.py is the front of everything
        return []
    found = []
    for line, target in imports(path):
        if target in exported():
            layer: str | None = "doors"
        else:
            layer = layer_of(target)
        if layer not in {None, "base", own} | ALLOWED[own]:
            found.append(f"{path.name}:{line}: {own} must not import {target}")
    return found


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_downward(path: Path) -> None:
    assert violations(path) == []


@pytest.mark.parametrize("layer", PURE)
def test_deciding_layers_touch_nothing_outside(layer: str) -> None:
    found = [
        f"{path.name}:{line}: {target}"
        for path in modules()
        if layer_of(name_of(path)) == layer
        for line, target in imports(path)
        if target.split(".")[0] in OUTSIDE_WORLD
    ]
    assert found == []


def test_protocol_uses_only_what_computes() -> None:
    found = {
        target
        for path in modules()
        if layer_of(name_of(path)) == "protocol"
        for _, target in imports(path)
        if layer_of(target) == "fastpath"
    }
    assert found == PURE_FASTPATH


@pytest.mark.parametrize("layer", PURE)
def test_deciding_layers_open_no_files(layer: str) -> None:
    calls = [
        f"{path.name}:{node.lineno}"
        for path in modules()
        if layer_of(name_of(path)) == layer
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"open", "input", "print"}
    ]
    assert calls == []


@pytest.mark.parametrize(
    "form",
    [
        "import tunnel.cli.main",
        "from tunnel.cli import main",
        "from tunnel import cli",
        "from ..cli import main",
        "from .. import cli",
        "def f():\n    from tunnel.cli.main import app",
    ],
)
def test_every_form_of_import_is_seen(form: str) -> None:
    place = PACKAGE / "protocol" / "example.py"
    assert [layer_of(name) for _, name in imports(place, form)] == ["doors"]


def test_no_layer_is_allowed_in_a_circle() -> None:
    def below(layer: str, seen: tuple[str, ...] = ()) -> None:
        assert layer not in seen, seen
        for lower in ALLOWED[layer]:
            below(lower, (*seen, layer))

    for layer in LAYERS:
        below(layer)


def test_tunnel_wg_starts_without_the_heavy_libraries() -> None:
    """A child process, because this one has imported everything by now."""
    code = (
        "import sys, tunnel.cli.wg\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
