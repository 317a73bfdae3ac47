/* SPDX-License-Identifier: MIT
 *
 * Sealing and opening one packet, for lone_avx512.h: its text and tag, and the order in
 * which ChaCha20 and Poly1305 take turns.
 */
#ifndef TUNNEL_KERNELS_LONE_PACKET_AVX512_H
#define TUNNEL_KERNELS_LONE_PACKET_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../secret.h"
#include "aead.h"
#include "bytes.h"
#include "lanes.h"
#include "lone_chacha_avx512.h"
#include "lone_poly_avx512.h"

/* Blocks of text in a pass that has block 0 too. */
#define LONE_FIRST(states) (4 * (states) - 1)
/* Blocks of Poly1305 that go one by one at least: these and seven more fit the second
 * pass, of `states`, and are there after the first. */
#define LONE_HEAD(states) ((states) > 1 ? 21 : 13)

/* ---- text and tag */

/* what is not yet encrypted or decrypted */
struct lone_text {
    const uint8_t *src;
    uint8_t *dst;
    size_t left;
};

INLINE struct lone_text lone_text_of(const struct aead_op *op)
{
    return (struct lone_text){op->src, op->dst, op->len};
}

/* dst = src ^ stream for the next block, if there is one; returns what it wrote, with
 * zeros behind. */
ISA INLINE __m512i lone_xor(struct lone_text *t, __m512i stream)
{
    if (t->left >= BLOCK) {
        stream = _mm512_xor_si512(stream, _mm512_loadu_si512((const void *)t->src));
        _mm512_storeu_si512((void *)t->dst, stream);
        t->left -= BLOCK;
    } else if (t->left > 0) {
        const __mmask64 mask = (UINT64_C(1) << t->left) - 1;
        stream = _mm512_xor_si512(stream, _mm512_maskz_loadu_epi8(mask, t->src));
        stream = _mm512_maskz_mov_epi8(mask, stream);
        _mm512_mask_storeu_epi8(t->dst, mask, stream);
        t->left = 0;
    }
    t->src += BLOCK;
    t->dst += BLOCK;
    return stream;
}

ISA INLINE void lone_xor_3(struct lone_text *t, const __m512i stream[3])
{
    lone_xor(t, stream[0]);
    lone_xor(t, stream[1]);
    lone_xor(t, stream[2]);
}

ISA INLINE void lone_xor_4(struct lone_text *t, const __m512i stream[4])
{
    lone_xor(t, stream[0]);
    lone_xor_3(t, stream + 1);
}

/* What lone_rows() has computed from block 0 on, and lone_pass(). */
ISA INLINE void lone_xor_first(struct lone_text *t, int states,
                               const __m512i stream[12])
{
    lone_xor_3(t, stream + 1);
    if (states > 1)
        lone_xor_4(t, stream + 4);
    if (states > 2)
        lone_xor_4(t, stream + 8);
}

ISA INLINE void lone_xor_pass(struct lone_text *t, int states, const __m512i stream[16])
{
    lone_xor_4(t, stream);
    if (states > 1)
        lone_xor_4(t, stream + 4);
    if (states > 2)
        lone_xor_4(t, stream + 8);
    if (states > 3)
        lone_xor_4(t, stream + 12);
}

/* ---- the tag */

ISA INLINE void lone_put_tag(const struct aead_op *op, struct tag tag)
{
    store64(op->dst + op->len, tag.low);
    store64(op->dst + op->len + 8, tag.high);
}

/* Sets op->ok and returns it. */
ISA INLINE uint32_t lone_verdict(struct aead_op *op, struct tag tag)
{
    const uint64_t wrong = (tag.low ^ load64(op->src + op->len)) |
                           (tag.high ^ load64(op->src + op->len + 8));

    op->ok = (uint32_t)(((wrong | (0 - wrong)) >> 63) ^ 1);
    secret_declassify(&op->ok, sizeof op->ok);
    return op->ok;
}

/* The end of a forged packet; returns how many are good. */
INLINE size_t lone_refuse(const struct aead_op *op)
{
    if (op->dst != op->src)
        memset(op->dst, 0, op->len);
    return 0;
}

/* Assembler, because compilers take a string instruction, which is slow to begin. */
ISA INLINE void lone_wipe(void *p, size_t n)
{
    const __m512i zero = _mm512_setzero_si512();

    for (size_t i = 0; i < n; i += BLOCK)
        __asm__ volatile("vmovdqu64 %1, %0"
                         : "=m"(*(uint8_t(*)[BLOCK])((uint8_t *)p + i))
                         : "v"(zero));
}

/* ---- packets of one pass */

/* The next block of the text, if there is one, and its share of h. */
ISA INLINE void lone_seal_block(struct lone_text *t, __m512i stream, struct lone_sum *h,
                                const struct one_time_key *k)
{
    const size_t left = t->left;

    if (left > 0)
        lone_four(h, k, lone_xor(t, stream), left);
}

ISA INLINE void lone_seal_short(const uint8_t key[32], struct aead_op *op, int states)
{
    const struct lone_cipher c = {key, op->nonce};
    struct lone_text t = lone_text_of(op);
    struct lone_sum h = {{0, 0, 0}};
    struct one_time_key k;
    __m512i stream[12];

    lone_rows(&c, 0, states, stream, NULL);
    k = one_time_key_of(stream[0]);
    lone_seal_block(&t, stream[1], &h, &k);
    lone_seal_block(&t, stream[2], &h, &k);
    lone_seal_block(&t, stream[3], &h, &k);
    if (states > 1) {
        lone_seal_block(&t, stream[4], &h, &k);
        lone_seal_block(&t, stream[5], &h, &k);
        lone_seal_block(&t, stream[6], &h, &k);
        lone_seal_block(&t, stream[7], &h, &k);
    }
    lone_block(&h, &k, 0, op->len);
    lone_put_tag(op, lone_end(&h, &k));
}

ISA INLINE size_t lone_open_short(const uint8_t key[32], struct aead_op *op, int states)
{
    const struct lone_cipher c = {key, op->nonce};
    struct lone_text t = lone_text_of(op);
    struct lone_sum h;
    struct one_time_key k;
    __m512i stream[12];

    lone_rows(&c, 0, states, stream, NULL);
    k = one_time_key_of(stream[0]);
    h = lone_text_sum(&k, op->src, op->len);
    if (!lone_verdict(op, lone_end(&h, &k)))
        return lone_refuse(op);
    lone_xor_first(&t, states, stream);
    return 1;
}

/* ---- of two */

ISA INLINE void lone_seal_long(const uint8_t key[32], struct aead_op *op, int before,
                               int states, struct lone_powers *powers)
{
    const struct lone_cipher c = {key, op->nonce};
    struct lone_text t = lone_text_of(op);
    struct lone_poly p;
    struct one_time_key k;
    __m512i stream[16];

    lone_rows(&c, 0, before, stream, NULL);
    lone_xor_first(&t, before, stream);
    k = one_time_key_of(stream[0]);
    p = lone_poly_start(&k, op->dst, op->len, LONE_HEAD(states), powers);
    lone_pass(&c, LONE_FIRST(before), states, stream, &p);
    lone_xor_pass(&t, states, stream);
    lone_put_tag(op, lone_poly_tag(&p, op->dst + op->len, op->len));
    lone_wipe(powers, lone_powers_size(&p));
}

ISA INLINE size_t lone_open_long(const uint8_t key[32], struct aead_op *op, int before,
                                 int states, struct lone_powers *powers)
{
    const struct lone_cipher c = {key, op->nonce};
    struct lone_text t = lone_text_of(op);
    struct lone_poly p;
    struct one_time_key k;
    __m512i stream[12], next[16];
    struct tag tag;

    lone_rows(&c, 0, before, stream, NULL);
    k = one_time_key_of(stream[0]);
    p = lone_poly_start(&k, op->src, op->len, LONE_HEAD(states), powers);
    lone_pass(&c, LONE_FIRST(before), states, next, &p);
    tag = lone_poly_tag(&p, op->src + op->len, op->len);
    lone_wipe(powers, lone_powers_size(&p));
    if (!lone_verdict(op, tag))
        return lone_refuse(op);
    lone_xor_first(&t, before, stream);
    lone_xor_pass(&t, states, next);
    return 1;
}

#endif
