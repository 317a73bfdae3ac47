"""The long texts of the UAPI, compiled (see uapi.pyx). Mappings are best a dict."""

from collections.abc import Mapping

from tunnel.state.model import PeerState

def peers_text(states: list[PeerState], live: Mapping[bytes, object]) -> bytes:
    """The lines of a `get` for the peers that are enabled, in their order. It holds
    their preshared keys.

    `live` has, by public key, what `protocol.peer.Peer` has: `last_handshake_wall`
    (Unix ns, 0 for never) and `path`, and that has `endpoint` (packed address, port,
    scope; or None), `rx_bytes` and `tx_bytes`. One that is missing has no endpoint and
    only zeros. An address or a key of a wrong size is a ValueError.
    """

def unchanged(
    data: bytes, start: int, peers: Mapping[bytes, PeerState], states: list[PeerState]
) -> tuple[int, bool]:
    """Passes over the sections of a `set` that replace a peer by what it is.

    Each starts with a `public_key=` line, the first at `start`, and is complete: the
    line after it is empty or the next `public_key=`. It has replace_allowed_ips=true
    and exactly the peer's prefixes, in any order; a key that it does not mention stays
    as it is. Their values in `peers` are appended to `states`.

    Returns where the first section starts that was not passed over (or the empty line),
    and whether the reason is only that its end has not arrived. A section in an unusual
    form is never passed over, whatever it means.
    """
