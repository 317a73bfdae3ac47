"""Types of the symmetric state (see symmetric.pyx); keys and hashes are 32 bytes.

Wrong sizes raise ValueError, wrong types TypeError, naming the argument.
"""

from typing import final

from tunnel._fastpath.x25519 import SharedSecret

@final
class SymmetricState:
    """Noise's ck, h (`digest`) and k (its section 5.2); wiped, never shown."""

    def __init__(self, chaining_key: bytes, digest: bytes) -> None: ...
    def copy(self) -> SymmetricState: ...
    def mix_hash(self, data: bytes) -> None:
        """h = HASH(h | data)"""

    def mix_ephemeral(self, public: bytes) -> None:
        """The token e: `mix_hash` of it, and ck = KDF1(ck, public)."""

    def mix_chain(self, shared: SharedSecret) -> None:
        """ck = KDF1(ck, shared): a DH after which nothing is sealed."""

    def mix_key(self, shared: SharedSecret) -> None:
        """ck, k = KDF2(ck, shared): a DH after which something is."""

    def mix_psk(self, psk: bytes | None) -> None:
        """The token psk: ck, t, k = KDF3(ck, psk) and `mix_hash` of t; None: zeros."""

    def seal(self, plaintext: bytes) -> bytes:
        """AEAD under k with nonce 0 and h beside it; the result is mixed into h."""

    def open(self, sealed: bytes) -> bytes | None:
        """The inverse. None: it is not authentic, and nothing has changed."""

    def split(self) -> tuple[bytes, bytes]:
        """The transport keys: of the initiator's packets, of the responder's."""
