"""The script of changes that every engine is put through, whatever door it has.

Two guests come, take each other's prefixes and go; the changed peer (the only one of
the real ones that is touched) gets and loses prefixes, keepalive, endpoint and
preshared key, all of which keep its session. The prefixes that wander cover the
addresses of the untouched peers: were one of those routes missing for a moment,
packets would go to the owner of the cover, and count as lost or misrouted.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "COVERS",
    "ROUND",
    "ROUND_OTHERS",
    "Change",
    "PresharedKeys",
    "changes",
    "hexadecimal",
]

ROUND, ROUND_OTHERS = 11, 6  # changes
COVERS = ("10.78.0.0/24", "10.78.0.0/26", "10.64.0.0/11")
GUEST_ENDPOINTS = ("10.99.0.250:9", "10.99.0.251:9")


@dataclass(frozen=True, slots=True)
class Change:
    """One `set` of one peer; None leaves a field as it is. The key is in base64."""

    key: str
    what: str
    remove: bool = False
    allowed_ips: tuple[str, ...] | None = None
    endpoint: str | None = None
    keepalive: int | None = None
    preshared_key: str | None = None

    def uapi(self) -> str:
        """As a UAPI operation."""
        lines = ["set=1", f"public_key={hexadecimal(self.key)}"]
        if self.remove:
            lines.append("remove=true")
        if self.preshared_key is not None:
            lines.append(f"preshared_key={hexadecimal(self.preshared_key)}")
        if self.endpoint is not None:
            lines.append(f"endpoint={self.endpoint}")
        if self.keepalive is not None:
            lines.append(f"persistent_keepalive_interval={self.keepalive}")
        if self.allowed_ips is not None:
            lines.append("replace_allowed_ips=true")
            lines += [f"allowed_ip={prefix}" for prefix in self.allowed_ips]
        return "\n".join([*lines, "", ""])

    def wg(self, interface: str, keys: PresharedKeys) -> list[str]:
        """As a `wg` command."""
        argv = ["wg", "set", interface, "peer", self.key]
        if self.remove:
            argv.append("remove")
        if self.preshared_key is not None:
            argv += ["preshared-key", keys.file(self.preshared_key)]
        if self.endpoint is not None:
            argv += ["endpoint", self.endpoint]
        if self.keepalive is not None:
            argv += ["persistent-keepalive", str(self.keepalive)]
        if self.allowed_ips is not None:
            argv += ["allowed-ips", ",".join(self.allowed_ips)]
        return argv


class PresharedKeys:
    """`wg` takes a preshared key from a file: one for each key, in a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._files: dict[str, str] = {}

    def file(self, key: str) -> str:
        if key not in self._files:
            path = Path(self._directory, f"psk{len(self._files)}")
            path.touch(0o600)
            path.write_text(key + "\n")
            self._files[key] = str(path)
        return self._files[key]


def hexadecimal(key: str) -> str:
    return base64.b64decode(key).hex()


def random_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def changes(
    changed: str,
    own: Sequence[str],
    endpoints: Sequence[str],
    *,
    others_only: bool = False,
) -> Iterator[Change]:
    """Without end; a round leaves the configuration as it was but for the changed
    peer's endpoint and key.

    `changed` is the key of the changed peer, `own` its prefixes, `endpoints` the
    addresses at which it can be reached. Preshared keys repeat, two in all.
    """
    secrets = (random_key(), random_key())
    number = 0
    while True:
        number += 1
        one, two = random_key(), random_key()
        yield Change(
            one, "add", allowed_ips=COVERS, endpoint=GUEST_ENDPOINTS[0], keepalive=0
        )
        yield Change(two, "move", allowed_ips=COVERS, preshared_key=secrets[0])
        if not others_only:
            yield Change(changed, "move", allowed_ips=(*own, *COVERS[1:]))
            yield Change(changed, "psk", preshared_key=secrets[number % 2])
            yield Change(changed, "keepalive", keepalive=25 * (number % 2))
            yield Change(changed, "endpoint", endpoint=endpoints[number % 2])
        yield Change(one, "move", allowed_ips=COVERS)
        if not others_only:
            yield Change(changed, "move", allowed_ips=tuple(own))
        yield Change(two, "endpoint", endpoint=GUEST_ENDPOINTS[number % 2])
        yield Change(one, "remove", remove=True)
        yield Change(two, "remove", remove=True)
