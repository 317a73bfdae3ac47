/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) of one long ciphertext, padded with zeros to 16 bytes
 * and followed by a block with its length, as the AEAD has it.
 *
 * While ChaCha20 keeps the vector units busy, the blocks in front go one by one
 * (lone_sum_avx512.h), and powers of r are computed.  The others, a multiple of eight,
 * lie in lanes (AVX-512 IFMA): a group of eight that k groups follow adds
 *
 *     g[0] r^(8k+8) + g[1] r^(8k+7) + ... + g[7] r^(8k+1),
 *
 * and four groups share a reduction.
 */
#ifndef TUNNEL_KERNELS_LONE_POLY_AVX512_H
#define TUNNEL_KERNELS_LONE_POLY_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "lone_sum_avx512.h"
#include "number_avx512.h"

#define LONE_GROUP 8
#define LONE_GROUP_BYTES 128
#define LONE_FACTORS 4

/* Powers of r, of which the first block of a group wants the highest.  In memory, since
 * ChaCha20 needs the registers. */
struct lone_powers {
    uint64_t first[3][LONE_GROUP]; /* r^8 r^4 r^7 r^3 r^6 r^2 r^5 r, by limb */
    struct factor of[LONE_FACTORS]; /* for a group that k follow: these times r^8k */
};

struct lone_poly {
    struct one_time_key key;
    struct lone_sum sum;   /* of the blocks that are done */
    struct lone_sum power; /* of r, the last one that was computed */
    const uint8_t *at;     /* what is to be done next */
    size_t head, groups;   /* left to do: blocks one by one, groups in lanes */
    size_t factors;        /* how many the groups need */
    struct lone_powers *powers;
};

/* `head` blocks or up to seven more go one by one; those must be there already, and a
 * group at least must follow. */
ISA INLINE struct lone_poly lone_poly_start(const struct one_time_key *k,
                                            const uint8_t *at, size_t len, size_t head,
                                            struct lone_powers *powers)
{
    const size_t blocks = (len + 15) / 16 + 1;
    const size_t groups = (blocks - head) / LONE_GROUP;

    return (struct lone_poly){
        .key = *k,
        .power = {{1, 0, 0}},
        .at = at,
        .head = blocks - groups * LONE_GROUP,
        .groups = groups,
        .factors = groups < LONE_FACTORS ? groups : LONE_FACTORS,
        .powers = powers,
    };
}

/* How many bytes of the powers are written. */
INLINE size_t lone_powers_size(const struct lone_poly *p)
{
    return sizeof p->powers->first + p->factors * sizeof *p->powers->of;
}

/* Computes r^exponent, the exponents being 1 to LONE_GROUP one after the other. */
ISA INLINE void lone_power(struct lone_poly *p, int exponent)
{
    const int lane = (exponent > 4 ? 16 : 9) - 2 * exponent;
    uint64_t (*const first)[LONE_GROUP] = p->powers->first;

    lone_times_r(&p->power, &p->key);
    first[0][lane] = p->power.h[0] & MASK44;
    first[1][lane] = (p->power.h[0] >> 44 | p->power.h[1] << 20) & MASK44;
    first[2][lane] = p->power.h[1] >> 24 | p->power.h[2] << 40;
}

/* The highest power of a factor, which its first lane has, in all lanes. */
ISA INLINE struct factor lone_highest(const struct factor *of)
{
    struct factor r;

    for (int i = 0; i < 5; i++)
        r.x[i] = _mm512_set1_epi64(*(const long long *)&of->x[i]);
    return r;
}

/* Computes of[k], for k = 0, 1, 2, ... one after the other, when r^8 is there. */
ISA INLINE void lone_factor(struct lone_poly *p, size_t k)
{
    struct lone_powers *const s = p->powers;
    struct factor r;
    struct number x;

    if (k == 0) {
        for (int i = 0; i < 3; i++)
            x.x[i] = _mm512_loadu_si512((const void *)s->first[i]);
    } else {
        r = lone_highest(&s->of[0]);
        x = (struct number){
            {s->of[k - 1].x[2], s->of[k - 1].x[3], s->of[k - 1].x[4]}};
        x = multiply(&x, &r);
    }
    s->of[k] = factor_of(&x);
}

/* `count` more of the blocks that go one by one, if so many are left. */
ISA INLINE void lone_go_on(struct lone_poly *p, int count)
{
    for (int i = 0; i < count && p->head > 0; i++) {
        lone_block(&p->sum, &p->key, load64(p->at), load64(p->at + 8));
        p->at += 16;
        p->head--;
    }
}

/* Ten times two rounds of ChaCha20; after each the next `blocks` go one by one, and at
 * least 10 * blocks do.  After it only the groups are left. */
#define LONE_TEN_TIMES(two_rounds, p, blocks)         \
    do {                                              \
        size_t i_ = 0;                                \
        for (; i_ < 4; i_++) {                        \
            two_rounds;                               \
            lone_power(p, 2 * (int)i_ + 1);           \
            lone_power(p, 2 * (int)i_ + 2);           \
            lone_go_on(p, blocks);                    \
        }                                             \
        for (; i_ < 4 + (p)->factors; i_++) {         \
            two_rounds;                               \
            lone_go_on(p, blocks);                    \
            lone_factor(p, i_ - 4);                   \
        }                                             \
        for (; i_ < 10; i_++) {                       \
            two_rounds;                               \
            lone_go_on(p, blocks);                    \
        }                                             \
    } while (0)

/* ---- eight blocks at once */

/* Their order is 0 4 1 5 2 6 3 7, which comes from unpacking. */
ISA INLINE struct number lone_group(__m512i front, __m512i back)
{
    struct number b = limbs(_mm512_unpacklo_epi64(front, back),
                            _mm512_unpackhi_epi64(front, back));

    b.x[2] = _mm512_or_si512(b.x[2], _mm512_set1_epi64(INT64_C(1) << 40));
    return b;
}

/* The first n bytes at `at`, then zeros; no other byte is touched. */
ISA INLINE __m512i lone_load(const uint8_t *at, size_t n)
{
    if (n >= 64)
        return _mm512_loadu_si512((const void *)at);
    return _mm512_maskz_loadu_epi8((UINT64_C(1) << n) - 1, at);
}

/* The group at `at`; the last one has fewer bytes, and the length at its end. */
ISA INLINE struct number lone_next_group(const uint8_t *at, const uint8_t *end,
                                         size_t len)
{
    const size_t n = (size_t)(end - at);
    __m512i back = _mm512_setzero_si512();

    if (n >= LONE_GROUP_BYTES)
        return lone_group(_mm512_loadu_si512((const void *)at),
                          _mm512_loadu_si512((const void *)(at + 64)));
    if (n > 64)
        back = lone_load(at + 64, n - 64);
    back = _mm512_mask_set1_epi64(back, 0x80, (long long)len);
    return lone_group(lone_load(at, n), back);
}

/* Adds up the lanes. */
ISA INLINE struct lone_sum lone_add_lanes(const struct number *h)
{
    uint64_t x[3];
    poly1305_wide t;
    struct lone_sum r;

    for (int i = 0; i < 3; i++)
        x[i] = (uint64_t)_mm512_reduce_add_epi64(h->x[i]);
    t = (poly1305_wide)x[0] + ((poly1305_wide)x[1] << 44);
    r.h[0] = (uint64_t)t;
    t = (t >> 64) + ((poly1305_wide)x[2] << 24);
    r.h[1] = (uint64_t)t;
    r.h[2] = (uint64_t)(t >> 64);
    t = (poly1305_wide)r.h[0] + 5 * (r.h[2] >> 2);
    r.h[0] = (uint64_t)t;
    t = (poly1305_wide)r.h[1] + (uint64_t)(t >> 64);
    r.h[1] = (uint64_t)t;
    r.h[2] = (r.h[2] & 3) + (uint64_t)(t >> 64);
    return r;
}

/* h in the first lane */
ISA INLINE struct number lone_in_first(const struct lone_sum *h)
{
    struct number r = limbs(_mm512_maskz_set1_epi64(1, (long long)h->h[0]),
                            _mm512_maskz_set1_epi64(1, (long long)h->h[1]));

    r.x[2] = PLUS(r.x[2], _mm512_maskz_set1_epi64(1, (long long)(h->h[2] << 40)));
    return r;
}

/* The tag, when only the groups are left; `end` is where the `len` bytes end. */
ISA INLINE struct tag lone_poly_tag(struct lone_poly *p, const uint8_t *end,
                                    size_t len)
{
    const struct factor *const of = p->powers->of;
    struct products sums = no_products();
    struct number g = lone_next_group(p->at, end, len), h = lone_in_first(&p->sum);
    struct factor all;
    size_t left = p->groups - 1; /* after g */

    g = add(&g, &h); /* the blocks before count as part of this one */
    multiply_add(&sums, &g, &of[left % LONE_FACTORS]);
    for (; left > 0; left--) {
        if (left % LONE_FACTORS == 0) {
            h = reduce(&sums);
            all = lone_highest(&of[LONE_FACTORS - 1]);
            sums = no_products();
            multiply_add(&sums, &h, &all);
        }
        p->at += LONE_GROUP_BYTES;
        g = lone_next_group(p->at, end, len);
        multiply_add(&sums, &g, &of[(left - 1) % LONE_FACTORS]);
    }
    h = reduce(&sums);
    p->sum = lone_add_lanes(&h);
    return lone_end(&p->sum, &p->key);
}

#endif
