"""Understands keys and passphrases, wherever they are kept: are they any good?"""

from __future__ import annotations

from tunnel.config.identity import encode_key, generate_private_key, generate_psk
from tunnel.config.positions import JsonPath
from tunnel.config.problems import Found
from tunnel.config.schema import Config, SecretRef
from tunnel.config.secrets import Surroundings
from tunnel.config.strength import weakness
from tunnel.config.values import BadValue, parse_key
from tunnel.state.model import Secret, clamp, secret_or_none

__all__ = ["NO_KEY", "passphrase", "preshared_key", "private_key"]

NO_KEY = bytes(32)


def private_key(config: Config, where: Surroundings, found: Found) -> Secret | None:
    """The key of this end; None when it follows from the psk, or is wrong."""
    at, source = ("privateKey",), config.private_key
    if source is None:
        if config.psk is None:
            found.add(
                at,
                "missing: neither privateKey nor psk is there",
                "make a key with `tunnel genkey` and write it here",
            )
        return None
    text = where.secret(source, at, found, lambda: encode_key(generate_private_key()))
    if text is None:
        return None
    try:
        key = parse_key(text)
    except BadValue as bad:
        found.add(at, bad.message, bad.hint)
        return None
    if key == NO_KEY:
        found.add(at, "32 zero bytes are no key", "use `tunnel genkey`")
    return Secret(clamp(key))


def preshared_key(
    source: str | SecretRef, at: JsonPath, where: Surroundings, found: Found
) -> Secret | None:
    """All zero bytes mean none."""
    text = where.secret(source, at, found, generate_psk)
    if text is None:
        return None
    try:
        return secret_or_none(parse_key(text))
    except BadValue as bad:
        found.add(at, bad.message, bad.hint.replace("genkey", "genpsk"))
        return None


def passphrase(
    source: str | SecretRef, at: JsonPath, where: Surroundings, found: Found
) -> str | None:
    """The text of a psk, which has to be strong enough."""
    text = where.secret(source, at, found, generate_psk)
    weak = weakness(text) if text is not None else None
    if weak:
        found.add(at, *weak)
    return text
