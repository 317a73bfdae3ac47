/* SPDX-License-Identifier: MIT
 *
 * How batches of small packets go: those whose text is at most one block, as TCP's
 * acknowledgements are.  16 or 8 of them share a pass of ChaCha20
 * (small_pass_avx512.h), and Poly1305 takes their texts from the registers and their
 * keys as they come (small_poly_avx512.h).
 *
 * When opening, the plaintexts are put aside until the tags are verified.
 */
#ifndef TUNNEL_KERNELS_SMALL_BATCH_AVX512_H
#define TUNNEL_KERNELS_SMALL_BATCH_AVX512_H

#include "small_pass_avx512.h"
#include "work.h"

#define SMALL_MIN 5 /* so many are done sooner with a pass of their own */

/* Whether it is worth looking further: small packets come together. */
ISA static inline bool perhaps_small(const struct aead_op *ops, size_t n)
{
    return n >= SMALL_MIN && ops[(n < SMALL ? n : SMALL) - 1].len <= BLOCK;
}

/* How many packets in front are small. */
ISA static inline size_t small_run(const struct aead_op *ops, size_t n)
{
    size_t count = 0;

    while (count < n && ops[count].len <= BLOCK)
        count++;
    return count;
}

/* ---- packets */

ISA __attribute__((always_inline)) static inline __m512i *
small_pass(struct work *w, const struct aead_op *ops, int halves, struct small_half *s)
{
    return halves == HALVES ? pass_of_16(w, ops, s) : pass_of_8(w, ops, s);
}

ISA static inline __mmask64 first_bytes(uint32_t length)
{
    return length == BLOCK ? UINT64_MAX : (UINT64_C(1) << length) - 1;
}

/* Masked accesses take longer. */
ISA static inline __m512i small_load(const struct aead_op *op)
{
    return op->len == BLOCK ? _mm512_loadu_si512((const void *)op->src)
                            : _mm512_maskz_loadu_epi8(first_bytes(op->len), op->src);
}

ISA static inline void small_store(const struct aead_op *op, __m512i x)
{
    if (op->len == BLOCK)
        _mm512_storeu_si512((void *)op->dst, x);
    else
        _mm512_mask_storeu_epi8(op->dst, first_bytes(op->len), x);
}

/* ---- sealing */

ISA __attribute__((always_inline)) static inline void
small_seal_group(struct work *w, struct aead_op *ops, int halves)
{
    struct small_half s[HALVES];
    __m512i tags[HALVES][2], *x = small_pass(w, ops, halves, s);
    uint8_t tag[HALVES][TEXTS][TAG];

    for (int i = 0; i < TEXTS * halves; i++) {
        const __m512i text = _mm512_xor_si512(x[i], small_load(&ops[i]));
        small_store(&ops[i], text);
        x[i] = small_behind(_mm512_maskz_mov_epi8(first_bytes(ops[i].len), text),
                            ops[i].len);
    }
    small_tags(s, halves, x, tags);
    for (int half = 0; half < halves; half++)
        store_tags(tags[half][0], tags[half][1], tag[half]);
    for (int half = 0; half < halves; half++)
        for (int i = 0; i < TEXTS; i++) {
            const struct aead_op *op = &ops[small_order(halves, half)[i]];
            memcpy(op->dst + op->len, tag[half][i], TAG);
        }
}

ISA __attribute__((noinline)) static void seal_16(struct work *w, struct aead_op *ops)
{
    small_seal_group(w, ops, HALVES);
}

ISA __attribute__((noinline)) static void seal_8(struct work *w, struct aead_op *ops)
{
    small_seal_group(w, ops, 1);
}

/* ---- opening */

/* Bits 0 2 4 6: whether these are the tags of packets p[0], p[2], p[4], p[6]. */
ISA static inline uint32_t four_verdicts(const struct aead_op *ops, const uint8_t p[7],
                                         __m512i tags)
{
#define SENT(i) _mm_loadu_si128((const void *)(ops[p[i]].src + ops[p[i]].len))
    __m512i sent = _mm512_castsi128_si512(SENT(0));
    sent = _mm512_inserti64x2(sent, SENT(2), 1);
    sent = _mm512_inserti64x2(sent, SENT(4), 2);
    sent = _mm512_inserti64x2(sent, SENT(6), 3);
    const uint32_t equal = _mm512_cmpeq_epi64_mask(tags, sent);
    return equal & equal >> 1 & 0x55;
}

/* Bit i: packet i is genuine. */
ISA static inline uint32_t small_verdicts(const struct aead_op *ops, int halves,
                                          __m512i (*tags)[2])
{
    uint32_t genuine = 0;

    for (int half = 0; half < halves; half++) {
        const uint8_t *p = small_order(halves, half);
        const uint32_t lanes = four_verdicts(ops, p, tags[half][0]) |
                               four_verdicts(ops, p + 1, tags[half][1]) << 1;
        genuine |= halves < HALVES ? lanes : _pdep_u32(lanes, half ? 0xcccc : 0x3333);
    }
    secret_declassify(&genuine, sizeof genuine);
    return genuine;
}

ISA __attribute__((always_inline)) static inline void
small_open_group(struct work *w, struct aead_op *ops, int halves)
{
    struct small_half s[HALVES];
    __m512i tags[HALVES][2], *x = small_pass(w, ops, halves, s);
    __m512i *plain = (__m512i *)w->ahead;

    for (int i = 0; i < TEXTS * halves; i++) {
        const __m512i text = small_load(&ops[i]);
        plain[i] = _mm512_xor_si512(x[i], text);
        x[i] = small_behind(text, ops[i].len);
    }
    small_tags(s, halves, x, tags);
    const uint32_t genuine = small_verdicts(ops, halves, tags);
    for (int i = 0; i < TEXTS * halves; i++) {
        ops[i].ok = genuine >> i & 1;
        if (ops[i].ok)
            small_store(&ops[i], plain[i]);
        else if (ops[i].dst != ops[i].src)
            memset(ops[i].dst, 0, ops[i].len);
    }
}

ISA __attribute__((noinline)) static void open_16(struct work *w, struct aead_op *ops)
{
    small_open_group(w, ops, HALVES);
}

ISA __attribute__((noinline)) static void open_8(struct work *w, struct aead_op *ops)
{
    small_open_group(w, ops, 1);
}

/* ---- batches */

/* As burn_stack(), for frames of 3.2 KB. */
ISA __attribute__((noinline)) static void small_burn_stack(void)
{
    uint8_t below[3584];
    wipe_blocks(below, sizeof below);
}

typedef void small_way(struct work *w, struct aead_op *ops);

/* A group of n packets, filled up to `size` with some that go nowhere.  Always inlined,
 * so that the way's frame lies where it is burnt. */
ISA __attribute__((always_inline)) static inline void
small_part(struct work *w, struct aead_op *ops, size_t n, size_t size, small_way *way)
{
    struct aead_op group[SMALL];

    for (size_t i = 0; i < size; i++)
        group[i] = i < n ? ops[i] : (struct aead_op){.src = zeros, .dst = w->nowhere};
    way(w, group);
    for (size_t i = 0; i < n; i++)
        ops[i].ok = group[i].ok;
}

/* Takes packets from the front of a batch, as long as they are small and not too few:
 * groups that are full, and what is left if no larger packets fill its pass.  Returns
 * how many. */
ISA __attribute__((noinline)) static size_t
small_batch(struct work *w, struct aead_op *ops, size_t n, small_way *way_16,
            small_way *way_8)
{
    const size_t run = small_run(ops, n);
    size_t done = 0;

    if (run < SMALL && run < n)
        return 0;
    turn_used(w, 2 * SMALL * sizeof *w->rows);
    for (; done + SMALL <= run; done += SMALL)
        way_16(w, ops + done);
    if (run == n && n - done >= SMALL_MIN) {
        if (n - done > TEXTS)
            small_part(w, ops + done, n - done, SMALL, way_16);
        else
            small_part(w, ops + done, n - done, TEXTS, way_8);
        done = n;
    }
    small_burn_stack();
    return done;
}

ISA static size_t small_seal(struct work *w, struct aead_op *ops, size_t n)
{
    return perhaps_small(ops, n) ? small_batch(w, ops, n, seal_16, seal_8) : 0;
}

/* *good counts the genuine packets. */
ISA static size_t small_open(struct work *w, struct aead_op *ops, size_t n,
                             size_t *good)
{
    size_t done;

    if (!perhaps_small(ops, n))
        return 0;
    done = small_batch(w, ops, n, open_16, open_8);
    w->ahead_most = SMALL;
    for (size_t i = 0; i < done; i++)
        *good += ops[i].ok;
    return done;
}

#endif
