"""Refuses pre-shared passphrases that somebody could guess.

Whoever records one handshake can test guesses without talking to us, so a weak
passphrase is refused, not warned about. An estimate, deliberately on the strict side.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from math import log2
from typing import Final

__all__ = ["MIN_BITS", "MIN_LENGTH", "estimate_bits", "weakness"]

MIN_LENGTH: Final = 16
MAX_LENGTH: Final = 1024
MIN_BITS: Final = 40

# Texts of examples and manuals, without punctuation and in small letters.
_PLACEHOLDERS: Final = frozenset(
    {
        "yoursecurerandom32bytepsk",
        "yourpresharedkeyhere",
        "changemeinproduction",
        "changethispassword",
        "changethistoarandomstring",
        "thisisaverysecurepsk",
        "supersecretpassword",
        "correcthorsebatterystaple",
        "replacewithyourownpsk",
        "insertyourpresharedkey",
    }
)
_COMMON_WORDS: Final = re.compile(
    r"change|passw(?:or)?d|secret|secure|random|default|example|production|"
    r"presharedkey|shared|your|this|please|here|replace|insert|placeholder|"
    r"qwerty|asdfgh|zxcvbn|letmein|welcome|admin|root|test|demo|tunnel|wireguard|"
    r"vpn|byte|bits?|key|psk|the|super|very|strong|long|must"
)


def estimate_bits(text: str) -> float:
    """Guessing work in bits: repetition, runs and common words count for nothing."""
    rest = _COMMON_WORDS.sub(" ", text.lower()) if _is_wordy(text) else text
    rest = _period(rest)
    if not rest:
        return 0.0
    codes = [ord(character) for character in rest]
    steps = [b - a for a, b in pairwise(codes)]
    counts = Counter(
        code
        for at, code in enumerate(codes)
        if at < 2 or steps[at - 1] != steps[at - 2] or abs(steps[at - 1]) > 1
    )
    total = counts.total()
    return sum(n * log2(total / n) for n in counts.values())


def weakness(psk: str) -> tuple[str, str] | None:
    """(what is wrong, what to do) for a passphrase that must not be used."""
    hint = "make one with `tunnel genpsk`"
    plain = re.sub(r"[\W_]", "", psk.lower())
    if plain in _PLACEHOLDERS:
        return "this passphrase stands in manuals, everybody knows it", hint
    if len(psk) < MIN_LENGTH:
        return f"shorter than {MIN_LENGTH} characters", hint
    if len(psk) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters", hint
    if estimate_bits(psk) < MIN_BITS:
        return f"too easy to guess (estimated below {MIN_BITS} bits)", hint
    return None


def _is_wordy(text: str) -> bool:
    """Common words are struck out of sentences, not out of random base64."""
    return len(_COMMON_WORDS.findall(text.lower())) >= 2


def _period(text: str) -> str:
    """The shortest unit that `text` is a repetition of."""
    at = (text + text).find(text, 1)
    return text[:at]
