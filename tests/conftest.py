"""What every test can ask for: a printed seed, capabilities, and no leftovers.

A capability that is missing (root, /dev/net/tun, a program) skips a test on a user's
machine and fails it when the environment has `CI`, where all of them are installed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from lab.engines import ENGINES, EngineKind
from lab.requirements import REQUIRED_PROGRAMS

import tunnel

ROOT = Path(__file__).resolve().parent.parent
CI = bool(os.environ.get("CI"))
TUN = Path("/dev/net/tun")

# Debian keeps ip and wg out of an ordinary user's PATH.
os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

# Every process started from here inherits this, however often it forks or changes
# its parent; that is how leftovers are found. Nested runs append to it.
MARK = f"{os.getpid()}.{time.monotonic_ns()}"
os.environ["TUNNEL_TEST_RUN"] = f"{os.environ.get('TUNNEL_TEST_RUN', '')}/{MARK}"

# What ignores a signal (nohup, a shell's background job) hands that on to all that it
# starts; who has a handler does not.
for _signum in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(_signum) == signal.SIG_IGN:
        signal.signal(_signum, lambda *_: None)

hypothesis.settings.register_profile("tunnel", deadline=None, print_blob=True)
hypothesis.settings.load_profile("tunnel")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="more rounds where chance is at work"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses to test the checkout when the installed package is what is meant.

    `TUNNEL_TEST_INSTALLED` is `1` for this interpreter's environment, or a directory.
    """
    wanted = os.environ.get("TUNNEL_TEST_INSTALLED")
    if not wanted:
        return
    place = Path(sys.prefix if wanted == "1" else wanted).resolve()
    found = Path(tunnel.__file__).resolve()
    if not found.is_relative_to(place) or found.is_relative_to(ROOT / "tunnel"):
        raise pytest.UsageError(f"tunnel is imported from {found}, not from {place}")


def lack(reason: str, *, optional: bool = False) -> None:
    """Ends the test: a skip, or a failure in CI unless it is about an optional peer."""
    if CI and not optional:
        pytest.fail(f"{reason} (CI must have it)", pytrace=False)
    pytest.skip(reason)


def need_root() -> None:
    if os.geteuid() != 0:
        lack("needs root: sudo make test")


def need_tun() -> None:
    need_root()
    if not TUN.is_char_device():
        lack("needs /dev/net/tun: modprobe tun")
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        lack(f"needs /dev/net/tun: {error.strerror}")


def need_program(name: str, how_to_get: str, *, optional: bool = False) -> str:
    path = shutil.which(name)
    if path is None:
        lack(f"needs {name}: {how_to_get}", optional=optional)
    assert path is not None
    return path


@pytest.fixture
def require_root() -> None:
    """The test needs root (the marker `root` asks for the same)."""
    need_root()


@pytest.fixture
def require_tun() -> None:
    """The test needs root and a working /dev/net/tun."""
    need_tun()


@pytest.fixture(scope="session")
def require_program() -> Callable[..., str]:
    """`require_program(name, how_to_get, optional=False)` -> its path.

    `optional=True` is for engines that no distribution packages: without them the
    test skips, with the command that gets them, in CI too.
    """
    return need_program


@pytest.fixture
def engine(require_tun: None) -> Callable[[str], EngineKind]:
    """`engine(name)` -> how to run that engine of bench/lab/engines.py."""

    def chosen(name: str) -> EngineKind:
        kind = ENGINES[name]
        found = kind.find()
        if found is None:
            lack(f"needs {name}: {kind.install}", optional=kind.optional)
        for program in REQUIRED_PROGRAMS:
            need_program(program, "make test installs it on Debian and Ubuntu")
        assert found is not None
        return found

    return chosen


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root"):
        need_root()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A random number, shown when the test fails; `TUNNEL_SEED=n` repeats it."""
    chosen = os.environ.get("TUNNEL_SEED")
    value = int(chosen) if chosen else random.SystemRandom().getrandbits(32)
    request.node.user_properties.append(("seed", value))
    return value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    for name, value in item.user_properties:
        if report.failed and name == "seed":
            report.sections.append(("seed", f"repeat with TUNNEL_SEED={value}"))
    return report


@pytest.fixture(scope="session")
def test_prefix() -> str:
    """Start of the name of every namespace and interface that a test makes.

    At most 7 characters, so that an interface name (15) has room for 8 more.
    """
    return f"t{os.getpid() % 0xFFFFF:x}-"


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers(test_prefix: str) -> Iterator[None]:
    """After the whole run no namespace, interface or process of it is left."""
    before = _network_names()
    yield
    deadline = time.monotonic() + 20  # what was told to end may take its time

    def left() -> tuple[list[str], list[str]]:
        names = _network_names() - before
        mine = {name for name in names if CI or name.startswith(test_prefix)}
        return sorted(mine), _processes()

    while any(left()) and time.monotonic() < deadline:
        time.sleep(0.1)
    names, processes = left()
    assert not names, f"left behind: {names}"
    assert not processes, f"still running: {processes}"


def _network_names() -> set[str]:
    """Network namespaces and interfaces of this namespace."""
    names = {entry.name for entry in Path("/sys/class/net").glob("*")}
    if Path("/run/netns").is_dir():
        names |= {entry.name for entry in Path("/run/netns").iterdir()}
    return names


def _processes() -> list[str]:
    """Processes started by this run that still exist, as `pid command`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            if not _is_ours(entry):
                continue
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:  # gone meanwhile, or another user's
            continue
        command = words.decode(errors="replace").strip() or "(not waited for)"
        if "multiprocessing.resource_tracker" not in command:
            found.append(f"{entry.name} {command}")
    return found


def _is_ours(process: Path) -> bool:
    # "pid (name) state ppid ...": the name may hold spaces and parentheses
    parent = int((process / "stat").read_bytes().rpartition(b")")[2].split()[1])
    if parent == os.getpid():
        return True
    return MARK.encode() in (process / "environ").read_bytes()
