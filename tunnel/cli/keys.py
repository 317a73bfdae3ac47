"""`tunnel genkey`, `pubkey` and `genpsk`: keys on standard output, nothing else."""

from __future__ import annotations

import sys

from tunnel.errors import TunnelError

__all__ = ["genkey", "genpsk", "pubkey"]


def genkey() -> None:
    """Print a new private key in base64 (keep it secret, mode 0600)."""
    from tunnel.config.identity import encode_key, generate_private_key

    print(encode_key(generate_private_key()))


def genpsk() -> None:
    """Print a new preshared key: for `psk`, or for a peer's `presharedKey`."""
    from tunnel.config.identity import generate_psk

    print(generate_psk())


def pubkey() -> None:
    """Read a private key in base64 from standard input, print its public key."""
    from binascii import Error, a2b_base64

    from tunnel.config.identity import encode_key, public_key

    text = sys.stdin.readline().strip()
    try:
        key = a2b_base64(text.encode(), strict_mode=True)
    except (Error, UnicodeEncodeError):
        key = b""
    if len(key) != 32:
        raise TunnelError(
            "standard input: not a private key of 32 bytes in base64",
            hint="make one with: tunnel genkey > private.key",
        )
    print(encode_key(public_key(key)))
