/* SPDX-License-Identifier: MIT
 *
 * ChaCha20 (RFC 8439 section 2.3) in plain C, one block at a time.
 */
#ifndef TUNNEL_KERNELS_CHACHA_SCALAR_H
#define TUNNEL_KERNELS_CHACHA_SCALAR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../secret.h"
#include "bytes.h"

#define CHACHA_BLOCK 64

/* constants, key, block counter, nonce */
struct chacha {
    uint32_t word[16];
};

#define COUNTER_WORD 12

static inline void chacha_init(struct chacha *c, const uint8_t key[32])
{
    static const uint32_t constants[4] = {
        0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, /* "expand 32-byte k" */
    };
    for (int i = 0; i < 4; i++)
        c->word[i] = constants[i];
    for (int i = 0; i < 8; i++)
        c->word[4 + i] = load32(key + 4 * i);
    for (int i = 12; i < 16; i++)
        c->word[i] = 0;
}

static inline uint32_t rotate(uint32_t v, int n)
{
    return v << n | v >> (32 - n);
}

#define QUARTER(a, b, c, d)                                \
    do {                                                   \
        x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 16);      \
        x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 12);      \
        x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 8);       \
        x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 7);       \
    } while (0)

/* x = the keystream block of c, as words; c moves on to the next block */
static inline void chacha_block(struct chacha *c, uint32_t x[16])
{
    memcpy(x, c->word, sizeof c->word);
    for (int i = 0; i < 10; i++) {
        QUARTER(0, 4, 8, 12);
        QUARTER(1, 5, 9, 13);
        QUARTER(2, 6, 10, 14);
        QUARTER(3, 7, 11, 15);
        QUARTER(0, 5, 10, 15);
        QUARTER(1, 6, 11, 12);
        QUARTER(2, 7, 8, 13);
        QUARTER(3, 4, 9, 14);
    }
    for (int i = 0; i < 16; i++)
        x[i] += c->word[i];
    c->word[COUNTER_WORD]++;
}

/* dst = src ^ keystream, from the current block on; dst may be src */
static inline void chacha_xor(struct chacha *c, uint8_t *dst, const uint8_t *src,
                              size_t len)
{
    uint32_t x[16];

    for (; len >= CHACHA_BLOCK; len -= CHACHA_BLOCK) {
        chacha_block(c, x);
        for (int i = 0; i < 16; i++)
            store32(dst + 4 * i, load32(src + 4 * i) ^ x[i]);
        src += CHACHA_BLOCK;
        dst += CHACHA_BLOCK;
    }
    if (len > 0) {
        uint8_t stream[CHACHA_BLOCK];
        chacha_block(c, x);
        for (int i = 0; i < 16; i++)
            store32(stream + 4 * i, x[i]);
        for (size_t i = 0; i < len; i++)
            dst[i] = src[i] ^ stream[i];
        secret_wipe(stream, sizeof stream);
    }
    secret_wipe(x, sizeof x);
}

#undef QUARTER
#undef COUNTER_WORD

#endif
