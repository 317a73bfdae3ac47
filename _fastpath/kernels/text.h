/* SPDX-License-Identifier: MIT
 *
 * What the vector Poly1305s authenticate: up to TEXTS ciphertexts at a time, each
 * padded with zeros to 16 bytes and followed by a block with its length, as the AEAD
 * has it.
 */
#ifndef TUNNEL_KERNELS_TEXT_H
#define TUNNEL_KERNELS_TEXT_H

#include "../secret.h"
#include "bytes.h"
#include "poly1305_64.h"

#define TEXTS 8

struct text {
    const uint8_t *at;
    uint32_t length;
};

/* Blocks of 16 bytes, with the one that holds the length. */
static inline size_t text_blocks16(uint32_t length)
{
    return ((size_t)length + 15) / 16 + 1;
}

/* One block after the other: the best for short texts. */
ISA static inline void scalar_tag(const uint8_t key[32], const struct text *t,
                                  uint8_t tag[16])
{
    const size_t whole = t->length / 16, rest = t->length % 16;
    struct poly1305 p;
    uint8_t last[16] = {0};

    poly1305_init(&p, key);
    poly1305_blocks(&p, t->at, whole);
    if (rest > 0) {
        short_copy(last, t->at + 16 * whole, rest);
        poly1305_blocks(&p, last, 1);
    }
    store64(last, 0); /* length of the AAD */
    store64(last + 8, t->length);
    poly1305_blocks(&p, last, 1);
    poly1305_final(&p, tag);
    secret_wipe(&p, sizeof p);
}

#endif
