/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) in general registers, so that it can be computed
 * between the vector instructions of ChaCha20 (chacha_hashing_avx512.h): two texts at a
 * time, PIECE bytes of each per turn.
 *
 * An accumulator is h[0] + h[1] 2^64 + h[2] 2^128 with h[2] <= 4: both halves of r are
 * below 2^60 and the upper one is a multiple of 4, so s = r[1] * 5 / 4 stands for what
 * r[1] 2^128 is modulo 2^130 - 5, and no sum leaves its 64 or 128 bits.
 */
#ifndef TUNNEL_KERNELS_STREAMS_AVX512_H
#define TUNNEL_KERNELS_STREAMS_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"
#include "poly1305_64.h"
#include "text.h"

#define PIECE_BLOCKS 9
#define PIECE (16 * PIECE_BLOCKS)

/* One text.  The assembler knows the places of h, r and s. */
struct stream {
    uint64_t h[3], r[2], s;
    uint64_t pad[2]; /* added at the end, modulo 2^128 */
};
_Static_assert(offsetof(struct stream, r) == 24, "BLOCK_2");
_Static_assert(offsetof(struct stream, s) == 40, "BLOCK_2");

ISA static inline void stream_start(struct stream *s, const uint8_t key[32])
{
    s->h[0] = s->h[1] = s->h[2] = 0;
    s->r[0] = load64(key) & UINT64_C(0x0ffffffc0fffffff);
    s->r[1] = load64(key + 8) & UINT64_C(0x0ffffffc0ffffffc);
    s->s = s->r[1] + (s->r[1] >> 2);
    s->pad[0] = load64(key + 16);
    s->pad[1] = load64(key + 24);
}

/* ---- a block of text: h = (h + block + 2^128) * r, in six parts
 *
 * s is the stream, h0 h1 h2 its accumulator; the block is at rdx + `at`.  The assembler
 * statement has temporaries as its operands 1 to 4. */

#define T0 "%1"
#define T1 "%2"
#define T2 "%3"
#define T3 "%4"

#define BLOCK_1(s, h0, h1, h2, at)                            \
    "addq " at "(%%rdx), " h0 "\n\t"                         \
    "adcq 8+" at "(%%rdx), " h1 "\n\t"                       \
    "adcq $1, " h2 "\n\t"                                    \
    "movq " h0 ", %%rdx\n\t"
#define BLOCK_2(s, h0, h1, h2, at)                            \
    "mulxq 32(" s "), " T0 ", " T1 "\n\t"      /* h0 r1 */   \
    "mulxq 24(" s "), " h0 ", " T2 "\n\t"      /* h0 r0 */   \
    "movq " h1 ", %%rdx\n\t"                                 \
    "mulxq 40(" s "), " h1 ", " T3 "\n\t"      /* h1 s */
#define BLOCK_3(s, h0, h1, h2, at)                            \
    "addq " h1 ", " h0 "\n\tadcq " T3 ", " T2 "\n\t"         \
    "mulxq 24(" s "), " h1 ", " T3 "\n\t"      /* h1 r0 */   \
    "addq " T0 ", " h1 "\n\tadcq " T3 ", " T1 "\n\t"
#define BLOCK_4(s, h0, h1, h2, at)                            \
    "movq " h2 ", " T0 "\n\t"                                \
    "imulq 40(" s "), " T0 "\n\t"              /* h2 s */    \
    "imulq 24(" s "), " h2 "\n\t"              /* h2 r0 */   \
    "addq " T2 ", " T0 "\n\t"                  /* below 2^64 */
#define BLOCK_5(s, h0, h1, h2, at)                            \
    "addq " T0 ", " h1 "\n\tadcq " T1 ", " h2 "\n\t"        \
    "movq " h2 ", %%rdx\n\t"                                 \
    "shrq $2, %%rdx\n\tandq $3, " h2 "\n\t"
#define BLOCK_6(s, h0, h1, h2, at)                            \
    "leaq (%%rdx, %%rdx, 4), %%rdx\n\t"        /* 2^130 = 5 */ \
    "addq %%rdx, " h0 "\n\tadcq $0, " h1 "\n\tadcq $0, " h2 "\n\t"

/* ---- a text alone */

#define HERE(part) part("%[s]", "%[h0]", "%[h1]", "%[h2]", "0")

ISA static inline void stream_block(struct stream *s, const uint8_t at[16])
{
    uint64_t h0 = s->h[0], h1 = s->h[1], h2 = s->h[2], t0, t1, t2, t3;

    __asm__("movq %[at], %%rdx\n\t"
            HERE(BLOCK_1) HERE(BLOCK_2) HERE(BLOCK_3)
            HERE(BLOCK_4) HERE(BLOCK_5) HERE(BLOCK_6)
            : [h0] "+&r"(h0), "=&r"(t0), "=&r"(t1), "=&r"(t2), "=&r"(t3),
              [h1] "+&r"(h1), [h2] "+&r"(h2)
            : [s] "r"(s), [at] "r"(at), "m"(*s), "m"(*(const uint8_t (*)[16])at)
            : "cc", "rdx");
    s->h[0] = h0;
    s->h[1] = h1;
    s->h[2] = h2;
}

ISA static inline void stream_blocks(struct stream *s, const uint8_t *at, size_t n)
{
    for (; n > 0; n--, at += 16)
        stream_block(s, at);
}

/* The tag, once the last block was taken. */
ISA static inline void stream_tag(const struct stream *s, uint8_t tag[16])
{
    /* g = h + 5; it reaches 2^130 exactly when h >= p, and is then h - p */
    const uint64_t h0 = s->h[0], h1 = s->h[1], h2 = s->h[2];
    const uint64_t g0 = h0 + 5, g1 = h1 + (g0 < 5), g2 = h2 + (g1 < h1);
    const uint64_t above = 0 - (g2 >> 2); /* 0 or all ones: g is below 2^131 */
    const uint64_t low = h0 ^ ((h0 ^ g0) & above), high = h1 ^ ((h1 ^ g1) & above);
    const uint64_t sum = low + s->pad[0];
    store64(tag, sum);
    store64(tag + 8, high + s->pad[1] + (sum < low));
}

#endif
