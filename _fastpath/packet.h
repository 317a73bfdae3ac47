/* SPDX-License-Identifier: MIT
 *
 * What C and Cython share about a packet: drop reasons, buffer geometry and the
 * operation that the AEAD kernels work on.  No code that does I/O lives here.
 */
#ifndef TUNNEL_PACKET_H
#define TUNNEL_PACKET_H

#include <stddef.h>
#include <stdint.h>

/* Why a packet went no further.  tunnel/errors.py mirrors this list and a test
 * compares the two; append only, the numbers are part of the metrics. */
enum drop_reason {
    DROP_NONE = 0,
    /* outbound: from the TUN to the wire */
    DROP_TX_MALFORMED = 1,      /* not IPv4/IPv6, or shorter than its header */
    DROP_TX_VNET_HEADER = 2,    /* virtio header that contradicts its packet */
    DROP_TX_NO_ROUTE = 3,       /* no allowed IPs contain the destination (R59) */
    DROP_TX_NO_ENDPOINT = 4,    /* the peer has no known address (R59) */
    DROP_TX_STAGED_FULL = 5,    /* oldest of 128 packets waiting for a session */
    DROP_TX_PURGED = 6,         /* staged packets given up with the handshake (R19) */
    DROP_TX_NO_MEMORY = 7,      /* the device-wide budget of staged bytes is used */
    DROP_TX_SOCKET = 8,         /* the kernel refused the datagram */
    DROP_TX_NO_SOCKET = 9,      /* no socket of the endpoint's address family */
    DROP_TX_PEER_GONE = 10,     /* the peer was removed meanwhile */
    /* inbound: from the wire to the TUN */
    DROP_RX_TRUNCATED = 11,     /* datagram larger than any buffer (MSG_TRUNC) */
    DROP_RX_LENGTH = 12,        /* no message type has this length (R1) */
    DROP_RX_TYPE = 13,          /* unknown type or non-zero reserved bytes (R1) */
    DROP_RX_MAC1 = 14,          /* handshake message with a wrong mac1 (R43) */
    DROP_RX_HANDSHAKE_FULL = 15,/* the ring to the control plane is full (R49) */
    DROP_RX_NO_KEY = 16,        /* no private key, or not up (R8) */
    DROP_RX_INDEX = 17,         /* no keypair has this receiver index (R9), and no
                                 * cookie is awaited under it (R47) */
    DROP_RX_EXPIRED = 18,       /* keypair older than REJECT_AFTER_TIME (R27) */
    DROP_RX_COUNTER = 19,       /* counter at or past REJECT_AFTER_MESSAGES (R28) */
    DROP_RX_AUTH = 20,          /* Poly1305 tag does not match */
    DROP_RX_REPLAY = 21,        /* counter seen before (R32) */
    DROP_RX_TOO_OLD = 22,       /* counter behind the window (R32) */
    DROP_RX_MALFORMED = 23,     /* inner packet is no IP packet (R52) */
    DROP_RX_SOURCE = 24,        /* inner source belongs to another peer (R53) */
    DROP_RX_TUN = 25,           /* the TUN refused the packet */
    /* outbound again */
    DROP_TX_ISOLATED = 26,      /* from one peer to another, of a hub that isolates */
    /* between workers */
    DROP_TX_LANE_FULL = 27,     /* the ring to the peer's worker is full */
    DROP_RX_LANE_FULL = 28,
    DROP_REASON_COUNT = 29
};

/* The 10 byte virtio_net header that precedes each packet on the TUN descriptor
 * (native endian; linux/virtio_net.h). */
#define VNET_HDR_LEN 10
/* type, receiver index, counter (R3) */
#define DATA_HEADER_LEN 16
#define DATA_TAG_LEN 16
#define PADDING_MULTIPLE 16

/* One slot of a batch.  The packet starts 16 bytes in, so that the data header
 * goes in front of it, in place, where the virtio header was:
 *
 *     0      6        16                    16+len
 *     | pad  | virtio | packet ...          | padding, tag |
 *     | data header   | ciphertext ...                     |
 *
 * Packets begin at any address: the datagrams of a train lie back to back, those that
 * are sent as one (UDP_SEGMENT) and those that came as one (UDP_GRO).  Cache lines that
 * are crossed cost the ciphers 1 to 6 ns per 1420 bytes, less than a copy would.
 */
#define SLOT_VNET_OFFSET 6
#define SLOT_PACKET_OFFSET 16
#define SLOT_BYTES (SLOT_PACKET_OFFSET + 65536 + 64)
#define BATCH_MAX 64

/* One packet for seal_batch/open_batch (kernels/aead.h). */
struct aead_op {
    const uint8_t *src; /* seal: plaintext; open: ciphertext followed by its tag */
    uint8_t *dst;       /* seal: ciphertext followed by the tag; open: plaintext */
    uint32_t len;       /* plaintext bytes */
    uint32_t ok;        /* open: 1 when the tag matched, set by the kernel */
    uint64_t nonce;     /* the 64-bit counter; 4 zero bytes go in front (R3) */
};

#endif
