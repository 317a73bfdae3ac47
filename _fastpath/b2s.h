/* SPDX-License-Identifier: MIT
 *
 * BLAKE2s (RFC 7693), keyed or not.  The packet path uses it for mac1 (R43).
 * Constant time in key and data.
 */
#ifndef TUNNEL_B2S_H
#define TUNNEL_B2S_H

#include <stddef.h>
#include <stdint.h>

#define B2S_BLOCK 64
#define B2S_HASH_MAX 32
#define B2S_KEY_MAX 32

struct b2s {
    uint32_t h[8];
    uint64_t count;          /* bytes compressed so far */
    uint8_t block[B2S_BLOCK]; /* not yet compressed: it may be the last one */
    size_t used;
    size_t size;
};

/* size: bytes of hash, 1..32; key_len: 0 (no key) .. 32 */
void b2s_init(struct b2s *s, size_t size, const uint8_t *key, size_t key_len);
void b2s_update(struct b2s *s, const uint8_t *data, size_t len);
/* The same for a whole block, taken at once: nothing may be waiting in s, and something
 * has to follow. */
void b2s_block(struct b2s *s, const uint8_t block[B2S_BLOCK]);
/* Writes size bytes and wipes s. */
void b2s_final(struct b2s *s, uint8_t *hash);

/* All three at once. */
void b2s_hash(uint8_t *hash, size_t size, const uint8_t *key, size_t key_len,
              const uint8_t *data, size_t len);

#endif
