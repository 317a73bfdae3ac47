/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) of up to eight short texts with AVX-512 IFMA: one
 * text per lane, two blocks to a reduction,
 *
 *     h = (h + b0) r^2 + b1 r.
 *
 * A text that is shorter than the longest has blocks missing in front, which leave its
 * h at zero.  So has every text one, since data are taken by four blocks and then comes
 * the block with the length.
 */
#ifndef TUNNEL_KERNELS_POLY1305_SHORT_AVX512_H
#define TUNNEL_KERNELS_POLY1305_SHORT_AVX512_H

#include <immintrin.h>

#include "number_avx512.h"
#include "text.h"

#define PART 64 /* bytes of a text that are loaded at once: four blocks */
/* Texts up to this are done sooner without more powers of r: few of them, and as many
 * as there are lanes. */
#define SHORT_BYTES 256
#define SHORT_BYTES_ALL 512

/* Rows become columns: x[i] lane j  ->  x[j] lane i. */
ISA static inline void transpose8(__m512i x[8])
{
    __m512i t[8];

    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_epi64(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        const __m512i even = _mm512_shuffle_i64x2(t[i], t[i + 2], 0x88);
        const __m512i odd = _mm512_shuffle_i64x2(t[i], t[i + 2], 0xdd);
        const __m512i even2 = _mm512_shuffle_i64x2(t[i + 4], t[i + 6], 0x88);
        const __m512i odd2 = _mm512_shuffle_i64x2(t[i + 4], t[i + 6], 0xdd);
        x[i] = _mm512_shuffle_i64x2(even, even2, 0x88);
        x[i + 4] = _mm512_shuffle_i64x2(even, even2, 0xdd);
        x[i + 2] = _mm512_shuffle_i64x2(odd, odd2, 0x88);
        x[i + 6] = _mm512_shuffle_i64x2(odd, odd2, 0xdd);
    }
}

/* Blocks of data in a text, its length left out. */
static inline unsigned data_blocks(uint32_t length)
{
    return length / 16 + (length % 16 > 0);
}

/* The first n bytes at `at`, 0 to PART, then zeros; no other byte is touched. */
ISA static inline __m512i load_first(const uint8_t *at, size_t n)
{
    if (n >= PART)
        return _mm512_loadu_si512((const void *)at);
    return _mm512_maskz_loadu_epi8((UINT64_C(1) << n) - 1, at);
}

/* The same behind `front` zeros, a multiple of 8, and no longer than PART.  Loading
 * from at - front would do, were it not for the page before: masked bytes of a page
 * that is not present cost hundreds of nanoseconds. */
ISA static inline __m512i load_behind(const uint8_t *at, unsigned front, size_t n)
{
    const size_t room = PART - front;

    return _mm512_maskz_expand_epi64((__mmask8)(0xff << front / 8),
                                     load_first(at, n < room ? n : room));
}

/* Bytes `part` .. `part` + 63 of a text in front of which `missing` blocks are. */
ISA static inline __m512i load_part(const struct text *t, unsigned missing,
                                    unsigned part)
{
    const unsigned start = 16 * missing;

    if (start >= part + PART)
        return _mm512_setzero_si512();
    if (start > part)
        return load_behind(t->at, start - part, t->length);
    return load_first(t->at + (part - start), t->length - (part - start));
}

/* The block of each text; 2^128 larger in the lanes where it is present. */
ISA static inline struct number block_of(__m512i low, __m512i high, __mmask8 present)
{
    struct number b = limbs(low, high);

    b.x[2] = _mm512_mask_or_epi64(b.x[2], present, b.x[2],
                                  _mm512_set1_epi64(INT64_C(1) << 40));
    return b;
}

/* r, r^2 */
struct two_factors {
    struct factor first, second;
};

/* (h + a) r^2 + b r */
ISA static inline struct number two_blocks(const struct number *h,
                                           const struct two_factors *r,
                                           const struct number *a,
                                           const struct number *b)
{
    const struct number sum = add(h, a);
    struct products p = no_products();

    multiply_add(&p, b, &r->first);
    multiply_add(&p, &sum, &r->second);
    return reduce(&p);
}

ISA static inline __m512i eight(const uint64_t x[8])
{
    return _mm512_set_epi64((long long)x[7], (long long)x[6], (long long)x[5],
                            (long long)x[4], (long long)x[3], (long long)x[2],
                            (long long)x[1], (long long)x[0]);
}

/* The sums of n texts of at most `longest` bytes, partly reduced. */
ISA static inline struct number short_sums(const struct text *texts, size_t n,
                                           uint32_t longest, const struct number *r)
{
    const __m512i zero = _mm512_setzero_si512();
    const unsigned blocks = (data_blocks(longest) + 3) / 4 * 4;
    struct two_factors factor = {.first = factor_of(r)};
    struct number h = no_number(), before = no_number(), b[4];
    uint64_t length[TEXTS], missing[TEXTS];
    __m512i x[TEXTS], absent;

    h = multiply(r, &factor.first);
    factor.second = factor_of(&h);
    h = no_number();
    for (size_t i = 0; i < TEXTS; i++) {
        length[i] = i < n ? texts[i].length : 0;
        missing[i] = blocks - data_blocks((uint32_t)length[i]);
    }
    absent = eight(missing);
    for (unsigned part = 0; part < blocks; part += 4) {
        for (size_t i = 0; i < TEXTS; i++)
            x[i] = i < n ? load_part(&texts[i], (unsigned)missing[i], 16 * part) : zero;
        transpose8(x);
        for (unsigned i = 0; i < 4; i++)
            b[i] = block_of(x[2 * i], x[2 * i + 1],
                            _mm512_cmple_epu64_mask(absent,
                                                    _mm512_set1_epi64(part + i)));
        h = two_blocks(&h, &factor, &before, &b[0]);
        h = two_blocks(&h, &factor, &b[1], &b[2]);
        before = b[3];
    }
    b[0] = block_of(zero, eight(length), 0xff);
    return two_blocks(&h, &factor, &before, &b[0]);
}

/* ---- what all texts have */

/* The multipliers, of which these are the words. */
ISA static inline struct number clamped(__m512i low, __m512i high)
{
    return limbs(_mm512_and_si512(low, _mm512_set1_epi64(0x0ffffffc0fffffff)),
                 _mm512_and_si512(high, _mm512_set1_epi64(0x0ffffffc0ffffffc)));
}

/* ((h mod p) + pad) mod 2^128: the tags of lanes 0 2 4 6, and those of 1 3 5 7 */
ISA static inline void finish(const struct number *h, const __m512i pad[2],
                              __m512i *even, __m512i *odd)
{
    __m512i x[3] = {h->x[0], h->x[1], h->x[2]}, carry;

    /* once around, so that every limb has its width: where x[2] overflows it becomes
     * 0, and the carry out of x[0] ends in x[1] */
    carry = _mm512_srli_epi64(x[1], 44);
    x[1] = _mm512_and_si512(x[1], LIMB44);
    x[2] = PLUS(x[2], carry);
    carry = _mm512_srli_epi64(x[2], 42);
    x[2] = _mm512_and_si512(x[2], LIMB42);
    x[0] = PLUS(x[0], PLUS(carry, _mm512_slli_epi64(carry, 2)));
    x[1] = PLUS(x[1], _mm512_srli_epi64(x[0], 44));
    x[0] = _mm512_and_si512(x[0], LIMB44);

    /* g = x + 5; it reaches 2^130 exactly when x >= p, and is then x - p */
    __m512i g[3];
    g[0] = PLUS(x[0], _mm512_set1_epi64(5));
    g[1] = PLUS(x[1], _mm512_srli_epi64(g[0], 44));
    g[2] = PLUS(x[2], _mm512_srli_epi64(g[1], 44));
    const __mmask8 above =
        _mm512_cmpge_epu64_mask(g[2], _mm512_set1_epi64(INT64_C(1) << 42));
    x[0] = _mm512_mask_and_epi64(x[0], above, g[0], LIMB44);
    x[1] = _mm512_mask_and_epi64(x[1], above, g[1], LIMB44);
    x[2] = _mm512_mask_and_epi64(x[2], above, g[2], LIMB42);

    const __m512i low = _mm512_or_si512(x[0], _mm512_slli_epi64(x[1], 44));
    const __m512i high =
        _mm512_or_si512(_mm512_srli_epi64(x[1], 20), _mm512_slli_epi64(x[2], 24));
    const __m512i tag = PLUS(low, pad[0]);
    const __mmask8 over = _mm512_cmplt_epu64_mask(tag, low);
    const __m512i top = PLUS(high, pad[1]);
    const __m512i top1 = _mm512_mask_add_epi64(top, over, top, _mm512_set1_epi64(1));
    *even = _mm512_unpacklo_epi64(tag, top1);
    *odd = _mm512_unpackhi_epi64(tag, top1);
}

ISA static inline void store_tags(__m512i even, __m512i odd, uint8_t (*tags)[16])
{
#define STORE_TAGS(i)                                                                 \
    _mm_storeu_si128((void *)tags[2 * (i)], _mm512_extracti64x2_epi64(even, i));       \
    _mm_storeu_si128((void *)tags[2 * (i) + 1], _mm512_extracti64x2_epi64(odd, i))
    STORE_TAGS(0);
    STORE_TAGS(1);
    STORE_TAGS(2);
    STORE_TAGS(3);
}

#endif
