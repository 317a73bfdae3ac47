"""The API before a loopback tunnel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .rig import PRESHARED, PRIVATE, TOKEN, Api, Tunnel, text


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """After the test, no answer it got may hold a secret, in any spelling."""
    tunnel = Tunnel(tmp_path)
    try:
        found = Api(tunnel)
        yield found
    finally:
        tunnel.close()
    secrets = [TOKEN]
    for raw in (PRIVATE, PRESHARED):
        secrets += [text(raw), raw.hex(), repr(raw)]
    for answer in found.answers:
        whole = answer.text + str(answer.headers)
        assert not [secret for secret in secrets if secret in whole]
