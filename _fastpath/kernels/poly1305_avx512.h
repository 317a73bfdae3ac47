/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) with AVX-512 IFMA, for texts that are zero-padded to
 * 16 bytes and followed by a block with their length, as the AEAD has them.
 *
 * Short texts lie one per lane (poly1305_short_avx512.h).  Of long ones eight blocks of
 * the same text lie in the lanes (poly1305_sum_avx512.h), and everything else is done
 * for eight texts at a time, with one text per lane: the powers of r, the end
 * h[0] r^8 + h[1] r^7 + ... + h[7] r, and the final reduction.  A text that comes alone
 * has the powers of its r in the lanes instead.
 */
#ifndef TUNNEL_KERNELS_POLY1305_AVX512_H
#define TUNNEL_KERNELS_POLY1305_AVX512_H

#include <immintrin.h>
#include <stdbool.h>

#include "number_avx512.h"
#include "poly1305_short_avx512.h"
#include "poly1305_sum_avx512.h"
#include "text.h"

/* ---- eight texts, one per lane */

/* Words 0 to 3 of the keys, by word. */
ISA static inline void key_words(const uint8_t (*keys)[64], size_t n, __m512i word[4])
{
    const __m512i first = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
    const __m512i second = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    __m256i key[TEXTS];
    __m512i x[4];

    for (size_t i = 0; i < TEXTS; i++)
        key[i] = i < n ? _mm256_load_si256((const void *)keys[i])
                       : _mm256_setzero_si256();
    for (int i = 0; i < 4; i++)
        x[i] = _mm512_inserti64x4(_mm512_castsi256_si512(key[i]), key[i + 4], 1);
    for (int i = 0; i < 2; i++) {
        const __m512i a = i ? _mm512_unpackhi_epi64(x[0], x[1])
                            : _mm512_unpacklo_epi64(x[0], x[1]);
        const __m512i b = i ? _mm512_unpackhi_epi64(x[2], x[3])
                            : _mm512_unpacklo_epi64(x[2], x[3]);
        word[i] = _mm512_permutex2var_epi64(a, first, b);
        word[i + 2] = _mm512_permutex2var_epi64(a, second, b);
    }
}

/* The clamped multipliers. */
ISA static inline struct number multipliers(const uint8_t (*keys)[64], size_t n,
                                            __m512i pad[2])
{
    __m512i word[4];

    key_words(keys, n, word);
    pad[0] = word[2];
    pad[1] = word[3];
    return clamped(word[0], word[1]);
}

/* Computes the powers of r, and those that the longest text needs of the steps. */
ISA static inline void prepare_powers(struct poly1305_scratch *s,
                                      const struct number *r, size_t groups)
{
    struct number power[GROUP + 1], step;

    power[1] = *r;
    s->power[0] = factor_of(r);
    power[2] = multiply(r, &s->power[0]);
    s->power[1] = factor_of(&power[2]);
    for (int i = 1; i <= 2; i++) {
        power[2 + i] = multiply(&power[i], &s->power[1]);
        s->power[1 + i] = factor_of(&power[2 + i]);
    }
    for (int i = 1; i <= 4; i++) {
        power[4 + i] = multiply(&power[i], &s->power[3]);
        s->power[3 + i] = factor_of(&power[4 + i]);
    }
    if (groups <= 1)
        return;
    s->step[0] = s->power[7];
    if (groups <= 2)
        return;
    step = multiply(&power[8], &s->step[0]);
    s->step[1] = factor_of(&step);
    if (groups <= 3)
        return;
    power[8] = multiply(&power[8], &s->step[1]);
    s->step[2] = factor_of(&power[8]);
    step = multiply(&step, &s->step[1]);
    s->step[3] = factor_of(&step);
}

/* h[0] r^8 + ... + h[7] r of each text */
ISA static inline struct number end_sums(const struct poly1305_scratch *s)
{
    static const uint8_t block[GROUP] = {0, 4, 1, 5, 2, 6, 3, 7}; /* see group_of() */
    struct products p = no_products(), q = no_products();
    __m512i h[GROUP];

    for (int limb = 0; limb < 3; limb++) {
        for (int text = 0; text < TEXTS; text++)
            h[text] = s->sum[text].x[limb];
        transpose8(h);
        for (int i = 0; i < GROUP; i += 2) { /* two sums wait less for themselves */
            multiply_add_limb(&p, limb, h[i], &s->power[GROUP - 1 - block[i]]);
            multiply_add_limb(&q, limb, h[i + 1], &s->power[GROUP - 1 - block[i + 1]]);
        }
    }
    add_products(&p, &q);
    return reduce(&p);
}

/* ---- one text alone */

/* a in the lanes of `mask`, else b */
ISA static inline struct number choose(__mmask8 mask, const struct number *a,
                                       const struct number *b)
{
    struct number r;

    for (int i = 0; i < 3; i++)
        r.x[i] = _mm512_mask_mov_epi64(b->x[i], mask, a->x[i]);
    return r;
}

/* Computes the steps that a text of so many groups needs; returns what each lane of
 * its sum is multiplied by: r^8, r^4, r^7, ... in the order of group_of(). */
ISA static inline struct factor prepare_alone(struct poly1305_scratch *s,
                                              const struct number *r, size_t groups)
{
    struct number power = *r, all = *r; /* r^2, r^4, ... in all lanes; the result */
    struct factor factor = factor_of(r);
    static const __mmask8 with[3] = {0x33, 0x0f, 0x55}; /* bits of the exponent - 1 */

    for (int bit = 0; bit < 3; bit++) {
        const struct number times = multiply(&all, &factor);
        all = choose(with[bit], &times, &all);
        power = multiply(&power, &factor);
        factor = factor_of(&power);
    }
    s->step[0] = factor;
    for (size_t k = 1; k < GROUPS_AT_ONCE && k < groups; k++) {
        power = multiply(&power, &factor);
        s->step[k] = factor_of(&power);
    }
    return factor_of(&all);
}

/* The tag of a text of several groups. */
ISA static inline void lone_tag(struct poly1305_scratch *s, const uint8_t key[64],
                                const struct text *t, uint8_t tag[16])
{
    struct poly1305 p;
    struct products product = no_products();
    struct number h;
    struct factor end;

    poly1305_init(&p, key);
    for (int i = 0; i < 3; i++)
        h.x[i] = _mm512_set1_epi64((long long)p.r[i]);
    end = prepare_alone(s, &h, text_groups(t->length) - 1);
    h = text_sum(s, 0, t);
    multiply_add(&product, &h, &end);
    h = reduce(&product);
    for (int i = 0; i < 3; i++)
        p.h[i] = (uint64_t)_mm512_reduce_add_epi64(h.x[i]);
    /* carry once around; h[1] may keep one bit too many */
    p.h[1] += p.h[0] >> 44;
    p.h[2] += p.h[1] >> 44;
    p.h[0] = (p.h[0] & MASK44) + 5 * (p.h[2] >> 42);
    p.h[1] = (p.h[1] & MASK44) + (p.h[0] >> 44);
    p.h[0] &= MASK44;
    p.h[2] &= MASK42;
    poly1305_final(&p, tag);
    secret_wipe(&p, sizeof p);
}

/* Few blocks are done sooner one by one than powers of r are computed. */
#define SCALAR_BLOCKS 12

/* The sums of several texts, not all of them short. */
ISA static inline struct number long_sums(struct poly1305_scratch *s,
                                          const struct text *texts, size_t n,
                                          uint32_t longest, const struct number *r)
{
    prepare_powers(s, r, text_groups(longest));
    for (size_t i = 0; i < n; i++)
        s->sum[i] = text_sum(s, i, &texts[i]);
    for (size_t i = n; i < TEXTS; i++)
        s->sum[i] = no_number();
    return end_sums(s);
}

/* The tags of n texts, 1 to TEXTS, each under the first 32 bytes of its key; all TEXTS
 * tags are written.  Returns how many bytes of the scratch it used, which the caller
 * wipes. */
ISA static size_t poly1305_tags(struct poly1305_scratch *s, const uint8_t (*keys)[64],
                                const struct text *texts, size_t n,
                                uint8_t (*tags)[16])
{
    uint32_t longest = 0;
    __m512i pad[2], even, odd;
    struct number r, h;
    bool are_short;

    for (size_t i = 0; i < n; i++)
        longest = texts[i].length > longest ? texts[i].length : longest;
    if (n == 1 && text_blocks16(longest) <= SCALAR_BLOCKS) {
        scalar_tag(keys[0], &texts[0], tags[0]);
        return 0;
    }
    if (n == 1) {
        lone_tag(s, keys[0], &texts[0], tags[0]);
        return sizeof s->step;
    }
    r = multipliers(keys, n, pad);
    are_short = longest <= (n < TEXTS ? SHORT_BYTES : SHORT_BYTES_ALL);
    if (are_short)
        h = short_sums(texts, n, longest, &r);
    else
        h = long_sums(s, texts, n, longest, &r);
    finish(&h, pad, &even, &odd);
    store_tags(even, odd, tags);
    return are_short ? 0 : sizeof *s;
}

#endif
