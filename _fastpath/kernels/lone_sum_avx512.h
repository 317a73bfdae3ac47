/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) one block after the other, with scalar instructions:
 * at 15 cycles a block the best for short texts, and for long ones while the vector
 * units have something else to do.
 */
#ifndef TUNNEL_KERNELS_LONE_SUM_AVX512_H
#define TUNNEL_KERNELS_LONE_SUM_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "poly1305_64.h"

/* Becomes part of few functions: constants choose among its branches, and secrets stay
 * in registers. */
#define INLINE __attribute__((always_inline)) static inline

struct one_time_key {
    uint64_t r[2]; /* the clamped multiplier */
    uint64_t s[2]; /* added at the end, modulo 2^128 */
};

struct tag {
    uint64_t low, high;
};

/* h[0] + h[1] 2^64 + h[2] 2^128, partly reduced: h[2] is at most 4 */
struct lone_sum {
    uint64_t h[3];
};

/* Of block 0 of the keystream. */
ISA INLINE struct one_time_key one_time_key_of(__m512i block)
{
    const __m128i r = _mm512_castsi512_si128(block);
    const __m128i s = _mm512_extracti32x4_epi32(block, 1);

    return (struct one_time_key){
        {(uint64_t)_mm_cvtsi128_si64(r) & UINT64_C(0x0ffffffc0fffffff),
         (uint64_t)_mm_extract_epi64(r, 1) & UINT64_C(0x0ffffffc0ffffffc)},
        {(uint64_t)_mm_cvtsi128_si64(s), (uint64_t)_mm_extract_epi64(s, 1)},
    };
}

/* h *= r.  Assembler, because compilers do not leave the carries in the flags, which
 * takes twice as long.  With r[1], a multiple of 4, what passes 2^128 comes back 5/4
 * times; in the end so does what h[2] has above its last two bits. */
#define LONE_TIMES_R                \
    "movq %[h0], %%rdx\n\t"         \
    "mulxq %[r0], %[d0], %[e]\n\t"  \
    "mulxq %[r1], %[d1], %[d2]\n\t" \
    "movq %[h1], %%rdx\n\t"         \
    "mulxq %[back], %[a], %[b]\n\t" \
    "mulxq %[r0], %[h0], %[h1]\n\t" \
    "movq %[h2], %[c]\n\t"          \
    "imulq %[back], %[h2]\n\t"      \
    "imulq %[r0], %[c]\n\t"         \
    "addq %[h2], %[h0]\n\t"         \
    "adcq $0, %[h1]\n\t"            \
    "addq %[a], %[d0]\n\t"          \
    "adcq %[b], %[e]\n\t"           \
    "addq %[h0], %[d1]\n\t"         \
    "adcq %[h1], %[d2]\n\t"         \
    "addq %[e], %[d1]\n\t"          \
    "adcq %[c], %[d2]\n\t"          \
    "movq %[d2], %[h2]\n\t"         \
    "movq %[d2], %[c]\n\t"          \
    "andq $-4, %[c]\n\t"            \
    "shrq $2, %[d2]\n\t"            \
    "andl $3, %k[h2]\n\t"           \
    "addq %[d2], %[c]\n\t"          \
    "addq %[c], %[d0]\n\t"          \
    "adcq $0, %[d1]\n\t"            \
    "adcq $0, %[h2]\n\t"
#define LONE_RESULTS                                                             \
    [h0] "+&r"(h->h[0]), [h1] "+&r"(h->h[1]), [h2] "+&r"(h->h[2]), [a] "=&r"(a), \
        [b] "=&r"(b), [c] "=&r"(c), [d0] "=&r"(d0), [d1] "=&r"(d1),              \
        [d2] "=&r"(d2), [e] "=&r"(e)
#define LONE_R [r0] "rm"(k->r[0]), [r1] "rm"(k->r[1]), [back] "rm"(back)

ISA INLINE void lone_times_r(struct lone_sum *h, const struct one_time_key *k)
{
    const uint64_t back = k->r[1] + (k->r[1] >> 2);
    uint64_t a, b, c, d0, d1, d2, e;

    __asm__(LONE_TIMES_R : LONE_RESULTS : LONE_R : "rdx", "cc");
    h->h[0] = d0;
    h->h[1] = d1;
}

/* h = (h + block + 2^128) r */
ISA INLINE void lone_block(struct lone_sum *h, const struct one_time_key *k,
                           uint64_t low, uint64_t high)
{
    const uint64_t back = k->r[1] + (k->r[1] >> 2);
    uint64_t a, b, c, d0, d1, d2, e;

    __asm__("addq %[low], %[h0]\n\t"
            "adcq %[high], %[h1]\n\t"
            "adcq $1, %[h2]\n\t" LONE_TIMES_R
            : LONE_RESULTS
            : LONE_R, [low] "rm"(low), [high] "rm"(high)
            : "rdx", "cc");
    h->h[0] = d0;
    h->h[1] = d1;
}

/* Those of the four blocks in x that begin within its first n bytes. */
ISA INLINE void lone_four(struct lone_sum *h, const struct one_time_key *k, __m512i x,
                          size_t n)
{
#define LONE_NEXT(i)                                                   \
    if (n > 16 * (i)) {                                                \
        const __m128i block = _mm512_extracti32x4_epi32(x, i);         \
        lone_block(h, k, (uint64_t)_mm_cvtsi128_si64(block),           \
                   (uint64_t)_mm_extract_epi64(block, 1));             \
    }
    LONE_NEXT(0)
    LONE_NEXT(1)
    LONE_NEXT(2)
    LONE_NEXT(3)
}

/* The text at `at`, padded with zeros to 16 bytes, and the block with its length. */
ISA INLINE struct lone_sum lone_text_sum(const struct one_time_key *k,
                                         const uint8_t *at, size_t len)
{
    const uint8_t *const end = at + len / 16 * 16;
    const __mmask16 rest = (__mmask16)((1U << len % 16) - 1);
    struct lone_sum h = {{0, 0, 0}};

    for (; at < end; at += 16)
        lone_block(&h, k, load64(at), load64(at + 8));
    if (rest)
        lone_four(&h, k, _mm512_zextsi128_si512(_mm_maskz_loadu_epi8(rest, at)), 1);
    lone_block(&h, k, 0, len);
    return h;
}

/* tag = ((h mod p) + s) mod 2^128 */
ISA INLINE struct tag lone_end(const struct lone_sum *h, const struct one_time_key *k)
{
    /* g = h + 5; it reaches 2^130 exactly when h >= p, and is then h - p */
    poly1305_wide t = (poly1305_wide)h->h[0] + 5;
    const uint64_t g0 = (uint64_t)t;
    t = (poly1305_wide)h->h[1] + (uint64_t)(t >> 64);
    const uint64_t g1 = (uint64_t)t;
    const uint64_t take = 0 - ((h->h[2] + (uint64_t)(t >> 64)) >> 2);

    t = (poly1305_wide)((h->h[0] & ~take) | (g0 & take)) + k->s[0];
    return (struct tag){
        (uint64_t)t,
        ((h->h[1] & ~take) | (g1 & take)) + k->s[1] + (uint64_t)(t >> 64),
    };
}

#endif
