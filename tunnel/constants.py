"""Numbers: the protocol's, named as the WireGuard paper names them, and our own.

Times are nanoseconds unless the name says otherwise, on the CLOCK_BOOTTIME scale.
"""

from __future__ import annotations

from typing import Final

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000

# --- specification (paper section 6.1; Linux drivers/net/wireguard/messages.h)

REKEY_AFTER_MESSAGES: Final = 1 << 60
REJECT_AFTER_MESSAGES: Final = (1 << 64) - (1 << 13) - 1
REKEY_AFTER_TIME: Final = 120 * SECOND
REJECT_AFTER_TIME: Final = 180 * SECOND
REKEY_TIMEOUT: Final = 5 * SECOND
KEEPALIVE_TIMEOUT: Final = 10 * SECOND
MAX_TIMER_HANDSHAKES: Final = 18  # 90 s / REKEY_TIMEOUT; 20 initiations are sent
REKEY_JITTER_MAX: Final = 333 * MILLISECOND
INITIATION_FLOOD_GATE: Final = 20 * MILLISECOND
COOKIE_SECRET_MAX_AGE: Final = 120 * SECOND
COOKIE_SECRET_LATENCY: Final = 5 * SECOND

MESSAGE_INITIATION_SIZE: Final = 148
MESSAGE_RESPONSE_SIZE: Final = 92
MESSAGE_COOKIE_REPLY_SIZE: Final = 64
MESSAGE_DATA_MIN_SIZE: Final = 32

CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

# --- implementation (ours, or the kernel's where it is not in the paper)

MAX_STAGED_PACKETS: Final = 128
HANDSHAKE_QUEUE: Final = 131_072  # K has 4096, and works them off on every core
HANDSHAKE_UNDER_LOAD: Final = HANDSHAKE_QUEUE // 8
UNDER_LOAD_STICKY: Final = SECOND
TIMER_SLACK_PARTS: Final = 40  # a keepalive is up to a 40th of its delay late ...
TIMER_SLACK_MAX: Final = SECOND  # ... and no more than this
COOKIE_RATE_PER_SECOND: Final = 20
COOKIE_RATE_BURST: Final = 5
COOKIE_RATE_TABLE_MAX: Final = 65_536
HANDSHAKE_TOS: Final = 0x88  # AF41, ECN 00 (K messages.h:126)
DEFAULT_MTU: Final = 1420
MAC_SIZE: Final = 16  # mac1, mac2 and the cookie (K messages.h:30)
COOKIE_NONCE_SIZE: Final = 24
TAI64N_EPOCH: Final = 0x400000000000000A  # TAI label of Unix second 0 (R11)
TAI64N_STEP: Final = 1 << 24  # ns; stamps are rounded down to it (R11)
COOKIE_RATE_EXPIRY: Final = SECOND  # a bucket idle for this long is full again
