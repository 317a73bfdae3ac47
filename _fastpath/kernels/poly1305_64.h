/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) over whole 16-byte blocks, for machines that
 * multiply 64 x 64 -> 128 bits.  The AEAD pads everything to 16 bytes, so a short
 * last block does not occur here.
 *
 * A number below 2^130 is three limbs of 44, 44 and 42 bits: x0 + x1 2^44 + x2 2^88.
 * A product term that overflows 2^132 comes back multiplied by 2^132 mod p = 5 * 4.
 */
#ifndef TUNNEL_KERNELS_POLY1305_64_H
#define TUNNEL_KERNELS_POLY1305_64_H

#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

#define MASK44 UINT64_C(0xfffffffffff)
#define MASK42 UINT64_C(0x3ffffffffff)

__extension__ typedef unsigned __int128 poly1305_wide;

struct poly1305 {
    uint64_t r[3];  /* the clamped multiplier */
    uint64_t r20[3]; /* 20 * r, for terms past 2^132 */
    uint64_t h[3];  /* the accumulator, partly reduced */
    uint64_t s[2];  /* added at the end, modulo 2^128 */
};

static inline void poly1305_init(struct poly1305 *p, const uint8_t key[32])
{
    const uint64_t low = load64(key) & UINT64_C(0x0ffffffc0fffffff);
    const uint64_t high = load64(key + 8) & UINT64_C(0x0ffffffc0ffffffc);

    p->r[0] = low & MASK44;
    p->r[1] = (low >> 44 | high << 20) & MASK44;
    p->r[2] = high >> 24;
    for (int i = 0; i < 3; i++) {
        p->r20[i] = 20 * p->r[i];
        p->h[i] = 0;
    }
    p->s[0] = load64(key + 16);
    p->s[1] = load64(key + 24);
}

/* h = (h + block + 2^128) * r, for each of the blocks */
static inline void poly1305_blocks(struct poly1305 *p, const uint8_t *m, size_t blocks)
{
    const uint64_t r0 = p->r[0], r1 = p->r[1], r2 = p->r[2];
    const uint64_t q1 = p->r20[1], q2 = p->r20[2];
    uint64_t h0 = p->h[0], h1 = p->h[1], h2 = p->h[2];

    for (; blocks > 0; blocks--, m += 16) {
        const uint64_t low = load64(m), high = load64(m + 8);
        h0 += low & MASK44;
        h1 += (low >> 44 | high << 20) & MASK44;
        h2 += high >> 24 | UINT64_C(1) << 40;

        const poly1305_wide d0 =
            (poly1305_wide)h0 * r0 + (poly1305_wide)h1 * q2 + (poly1305_wide)h2 * q1;
        poly1305_wide d1 =
            (poly1305_wide)h0 * r1 + (poly1305_wide)h1 * r0 + (poly1305_wide)h2 * q2;
        poly1305_wide d2 =
            (poly1305_wide)h0 * r2 + (poly1305_wide)h1 * r1 + (poly1305_wide)h2 * r0;

        /* carry once around; h1 may keep one bit too many */
        d1 += (uint64_t)(d0 >> 44);
        d2 += (uint64_t)(d1 >> 44);
        h0 = ((uint64_t)d0 & MASK44) + 5 * (uint64_t)(d2 >> 42);
        h1 = ((uint64_t)d1 & MASK44) + (h0 >> 44);
        h2 = (uint64_t)d2 & MASK42;
        h0 &= MASK44;
    }
    p->h[0] = h0;
    p->h[1] = h1;
    p->h[2] = h2;
}

/* tag = ((h mod p) + s) mod 2^128 */
static inline void poly1305_final(struct poly1305 *p, uint8_t tag[16])
{
    uint64_t h0 = p->h[0], h1 = p->h[1], h2 = p->h[2];

    /* once around, so that every limb has its width: where h2 overflows it
     * becomes 0, and the carry out of h0 ends in h1 */
    h2 += h1 >> 44;
    h1 &= MASK44;
    h0 += 5 * (h2 >> 42);
    h2 &= MASK42;
    h1 += h0 >> 44;
    h0 &= MASK44;

    /* g = h + 5; it reaches 2^130 exactly when h >= p, and is then h - p */
    const uint64_t g0 = h0 + 5;
    const uint64_t g1 = h1 + (g0 >> 44);
    const uint64_t g2 = h2 + (g1 >> 44);
    const uint64_t take = 0 - (g2 >> 42);
    h0 = (h0 & ~take) | (g0 & MASK44 & take);
    h1 = (h1 & ~take) | (g1 & MASK44 & take);
    h2 = (h2 & ~take) | (g2 & MASK42 & take);

    const poly1305_wide low = (poly1305_wide)(h0 | h1 << 44) + p->s[0];
    store64(tag, (uint64_t)low);
    store64(tag + 8, (h1 >> 20 | h2 << 24) + p->s[1] + (uint64_t)(low >> 64));
}

#endif
