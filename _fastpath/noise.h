/* SPDX-License-Identifier: MIT
 *
 * The symmetric state of a Noise handshake (Noise specification 5.2, WireGuard paper
 * 5.4.2) with BLAKE2s and ChaCha20-Poly1305.  The specification is
 * tests/protocol/noise_twin.py, which says the same in Python.
 *
 * Constant time in everything but lengths; what is computed in between is wiped.
 */
#ifndef TUNNEL_NOISE_H
#define TUNNEL_NOISE_H

#include <stddef.h>
#include <stdint.h>

#define SYMMETRIC_KEY 32
#define SYMMETRIC_TAG 16

struct symmetric {
    uint8_t chaining_key[SYMMETRIC_KEY];
    uint8_t hash[SYMMETRIC_KEY];
    uint8_t key[SYMMETRIC_KEY]; /* of the next seal or open; used once */
};

/* hash = HASH(hash | data) */
void symmetric_mix_hash(struct symmetric *s, const uint8_t *data, size_t len);
/* chaining_key = KDF1(chaining_key, data) */
void symmetric_mix_chain(struct symmetric *s, const uint8_t *data, size_t len);
/* chaining_key, key = KDF2(chaining_key, data) */
void symmetric_mix_key(struct symmetric *s, const uint8_t *data, size_t len);
/* chaining_key, mixed, key = KDF3(chaining_key, psk); then mixes the hash of mixed */
void symmetric_mix_psk(struct symmetric *s, const uint8_t psk[SYMMETRIC_KEY]);
/* dst[0..len+16) = AEAD(key, nonce 0, src, hash); mixes dst into the hash */
void symmetric_seal(struct symmetric *s, uint8_t *dst, const uint8_t *src, size_t len);
/* The inverse: len counts the plaintext, src has 16 bytes more.  Returns 1; or 0 if it
 * is not authentic, when dst and s are left alone. */
int symmetric_open(struct symmetric *s, uint8_t *dst, const uint8_t *src, size_t len);
/* first, second = KDF2(chaining_key, "") */
void symmetric_split(const struct symmetric *s, uint8_t first[SYMMETRIC_KEY],
                     uint8_t second[SYMMETRIC_KEY]);

#endif
