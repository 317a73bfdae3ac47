"""`logging.output`: what is no file keeps nobody waiting."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunnel.cli.up import log_to
from tunnel.config.store import parse_config
from tunnel.errors import ConfigError, TunnelError

from .rig import Up, eventually

Make = Callable[[Path], object]


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS: dict[str, Make] = {
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "socket": make_socket,
}


@pytest.fixture(params=KINDS)
def wrong(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "log.wrong"
    KINDS[request.param](path)
    return path


@pytest.fixture(autouse=True)
def handlers() -> Iterator[logging.Logger]:
    logger = logging.getLogger("tunnel")
    before = logger.handlers[:], logger.propagate, logger.level
    yield logger
    for handler in logger.handlers:
        if handler not in before[0]:
            handler.close()
    logger.handlers[:], logger.propagate, logger.level = before


def facts(output: str) -> dict[str, Any]:
    psk = "quiet harbour 51 lanterns"
    return {"mode": "server", "psk": psk, "logging": {"output": output}}


def test_the_check_refuses_it(wrong: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(facts(wrong.name)), "config.json", base=wrong.parent)
    (problem,) = caught.value.problems
    assert problem.path == "logging.output"
    assert "neither a file nor a terminal" in problem.message
    assert '"stderr"' in problem.hint


@pytest.mark.parametrize(
    "output", ["stderr", "new.log", "/dev/null", "no/where", "x" * 300]
)
def test_the_check_lets_others_be(tmp_path: Path, output: str) -> None:
    parse_config(json.dumps(facts(output)), "config.json", base=tmp_path)


def test_opening_refuses_it_at_once_and_the_log_stays(
    wrong: Path, handlers: logging.Logger
) -> None:
    before = handlers.handlers[:]
    with pytest.raises(TunnelError, match=r"logging\.output: cannot write") as caught:
        log_to(str(wrong), "info")
    assert '"stderr"' in caught.value.hint
    assert handlers.handlers == before


def test_a_pipe_that_has_a_reader_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        with pytest.raises(TunnelError, match="neither a file nor a terminal"):
            log_to(str(path), "info")
        assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    finally:
        os.close(reader)


def test_a_file_is_appended_to_and_ours_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in ("one", "two \udc80"):
        log_to(str(path), "info")
        logging.getLogger("tunnel").info("%s", text)
    assert [line.split()[-1] for line in path.read_text().splitlines()] == [
        "one",
        "\\udc80",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    log_to("/dev/null", "info")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Up]:
    tunnel = Up(tmp_path)
    yield tunnel
    tunnel.process.kill()  # unless it has ended: one that waits for a reader does not
    tunnel.process.wait()


def test_a_running_tunnel_goes_on(running: Up) -> None:
    """The file becomes a pipe, as somebody makes one who wants to read along."""
    up = running
    path, old = up.directory / "tunnel.log", up.directory / "tunnel.log.1"
    up.facts["logging"] = {"output": path.name}
    up.config.write_text(json.dumps(up.facts))
    up.run("reload")
    eventually(path.exists)
    path.rename(old)
    os.mkfifo(path)
    up.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the log stays where it is" in old.read_text())
    assert up.names() == ["far"]
    assert "logging.output" in up.run("reload", code=1).stderr
    assert up.stop() == 0


def test_it_is_refused_at_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(facts("pipe")))
    for command in ("check", "up"):
        done = subprocess.run(
            [sys.executable, "-m", "tunnel", command, str(path)],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 1
        assert "logging.output: neither a file nor a terminal" in done.stderr
