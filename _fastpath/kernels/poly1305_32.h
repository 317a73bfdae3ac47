/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) over whole 16-byte blocks, for machines without
 * a 64 x 64 -> 128 bit product; the same three functions as poly1305_64.h.
 *
 * A number below 2^130 is five limbs of 26 bits.  A product term that overflows
 * 2^130 comes back multiplied by 2^130 mod p = 5.
 */
#ifndef TUNNEL_KERNELS_POLY1305_32_H
#define TUNNEL_KERNELS_POLY1305_32_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

#define MASK26 UINT32_C(0x3ffffff)

struct poly1305 {
    uint32_t r[5]; /* the clamped multiplier */
    uint32_t h[5]; /* the accumulator, partly reduced */
    uint32_t s[4]; /* added at the end, modulo 2^128 */
};

/* 16 bytes as limbs; the last one has 24 bits */
static inline void poly1305_split(uint32_t limb[5], const uint8_t bytes[16])
{
    const uint64_t low = load64(bytes), high = load64(bytes + 8);
    limb[0] = (uint32_t)low & MASK26;
    limb[1] = (uint32_t)(low >> 26) & MASK26;
    limb[2] = (uint32_t)(low >> 52 | high << 12) & MASK26;
    limb[3] = (uint32_t)(high >> 14) & MASK26;
    limb[4] = (uint32_t)(high >> 40);
}

static inline void poly1305_init(struct poly1305 *p, const uint8_t key[32])
{
    uint8_t clamped[16];
    store64(clamped, load64(key) & UINT64_C(0x0ffffffc0fffffff));
    store64(clamped + 8, load64(key + 8) & UINT64_C(0x0ffffffc0ffffffc));
    poly1305_split(p->r, clamped);
    for (int i = 0; i < 5; i++)
        p->h[i] = 0;
    for (int i = 0; i < 4; i++)
        p->s[i] = load32(key + 16 + 4 * i);
}

/* h = (h + block + 2^128) * r, for each of the blocks */
static inline void poly1305_blocks(struct poly1305 *p, const uint8_t *m, size_t blocks)
{
    for (; blocks > 0; blocks--, m += 16) {
        uint32_t c[5];
        poly1305_split(c, m);
        c[4] |= UINT32_C(1) << 24;
        for (int i = 0; i < 5; i++)
            p->h[i] += c[i];

        /* limb i of the product: each h[j] times the r that brings it to i */
        uint64_t d[5];
        for (int i = 0; i < 5; i++) {
            d[i] = 0;
            for (int j = 0; j <= i; j++)
                d[i] += (uint64_t)p->h[j] * p->r[i - j];
            for (int j = i + 1; j < 5; j++)
                d[i] += (uint64_t)p->h[j] * (5 * p->r[i - j + 5]);
        }

        /* carry once around; h[1] may keep one bit too many */
        for (int i = 0; i < 4; i++)
            d[i + 1] += d[i] >> 26;
        const uint64_t first = (d[0] & MASK26) + 5 * (d[4] >> 26);
        for (int i = 1; i < 5; i++)
            p->h[i] = (uint32_t)d[i] & MASK26;
        p->h[0] = (uint32_t)first & MASK26;
        p->h[1] += (uint32_t)(first >> 26);
    }
}

/* tag = ((h mod p) + s) mod 2^128 */
static inline void poly1305_final(struct poly1305 *p, uint8_t tag[16])
{
    uint32_t *h = p->h;

    /* once around, so that every limb has its width: where h[4] overflows it
     * becomes 0, and the carry out of h[0] ends in h[1] */
    for (int i = 1; i < 4; i++) {
        h[i + 1] += h[i] >> 26;
        h[i] &= MASK26;
    }
    h[0] += 5 * (h[4] >> 26);
    h[4] &= MASK26;
    h[1] += h[0] >> 26;
    h[0] &= MASK26;

    /* g = h + 5; it reaches 2^130 exactly when h >= p, and is then h - p */
    uint32_t g[5], carry = 5;
    for (int i = 0; i < 5; i++) {
        g[i] = h[i] + carry;
        carry = g[i] >> 26;
        g[i] &= MASK26;
    }
    const uint32_t take = 0 - carry;
    for (int i = 0; i < 5; i++)
        h[i] = (h[i] & ~take) | (g[i] & take);

    const uint32_t word[4] = {
        h[0] | h[1] << 26,
        h[1] >> 6 | h[2] << 20,
        h[2] >> 12 | h[3] << 14,
        h[3] >> 18 | h[4] << 8,
    };
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++) {
        sum = (sum >> 32) + word[i] + p->s[i];
        store32(tag + 4 * i, (uint32_t)sum);
    }
}

#undef MASK26

#endif
