"""A running `tunnel up` as a process, and commands beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunnel.config.identity import encode_key, generate_private_key


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Up:
    """`tunnel up` on a loopback tunnel, and commands beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config.json"
        self.facts: dict[str, Any] = {
            "mode": "server",
            "listen": 0,
            "privateKey": encode_key(generate_private_key()),
            "tunnel": {"type": "loopback", "name": f"cli{os.getpid()}"},
            "peers": [{"name": "far", "publicKey": encode_key(os.urandom(32))}],
        }
        self.config.write_text(json.dumps(self.facts, indent=2))
        self.environment = os.environ | {"TUNNEL_RUN_DIR": str(directory / "run")}
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tunnel", "up", str(self.config)],
                stderr=log,
                env=self.environment,
            )
        try:
            eventually(lambda: "is up" in self.log.read_text())
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def run(
        self, *arguments: str, code: int = 0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "tunnel", *arguments],
            capture_output=True, text=True, input=stdin,
            env=self.environment, cwd=self.directory,
        )  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def names(self) -> list[str]:
        return [peer["name"] for peer in self.json("peer", "list")]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)
