/* SPDX-License-Identifier: MIT
 *
 * ChaCha20-Poly1305 (RFC 8439) in plain C: the specification that the other
 * kernels are compared with, and the one every machine can run.
 *
 * One packet, as section 2.8 has it with empty AAD and the nonce of WireGuard
 * (4 zero bytes, then the counter as LE64, R3):
 *
 *     one-time key = first 32 bytes of ChaCha20 block 0
 *     ciphertext   = plaintext ^ ChaCha20 blocks 1, 2, ...
 *     tag          = Poly1305(one-time key,
 *                        ciphertext | zeros up to 16 | LE64 0 | LE64 len)
 *
 * Constant time: only lengths, counters and the verdict on a tag steer branches
 * and addresses.
 */
#include "aead.h"

#include <string.h>

#include "../secret.h"
#include "bytes.h"
#include "chacha_scalar.h"

/* POLY1305_32 chooses the fallback on any machine, for the tests. */
#if defined(__SIZEOF_INT128__) && !defined(POLY1305_32)
#include "poly1305_64.h"
#else
#include "poly1305_32.h"
#endif

#define BLOCK CHACHA_BLOCK
#define TAG DATA_TAG_LEN

/* ---- the AEAD (section 2.8) */

/* Everything secret of one batch; wiped at its end. */
struct work {
    struct chacha chacha;
    struct poly1305 poly;
    uint8_t block[BLOCK];
    uint8_t tag[TAG];
};

/* Starts a packet: the one-time key comes from block 0, block 1 is next. */
static void start(struct work *w, uint64_t counter)
{
    uint32_t *word = w->chacha.word;

    word[12] = 0; /* block number */
    word[13] = 0; /* the four zero bytes of the nonce */
    word[14] = (uint32_t)counter;
    word[15] = (uint32_t)(counter >> 32);
    memset(w->block, 0, sizeof w->block);
    chacha_xor(&w->chacha, w->block, w->block, sizeof w->block);
    poly1305_init(&w->poly, w->block);
}

/* w->tag = the tag of the ciphertext, under the one-time key of start() */
static void authenticate(struct work *w, const uint8_t *ciphertext, size_t len)
{
    const size_t whole = len / 16, rest = len % 16;
    uint8_t last[16] = {0};

    poly1305_blocks(&w->poly, ciphertext, whole);
    if (rest > 0) {
        memcpy(last, ciphertext + 16 * whole, rest);
        poly1305_blocks(&w->poly, last, 1);
    }
    store64(last, 0); /* length of the AAD */
    store64(last + 8, len);
    poly1305_blocks(&w->poly, last, 1);
    poly1305_final(&w->poly, w->tag);
}

/* Not inlined: so that secret_burn_stack() reaches what they spilled. */
__attribute__((noinline)) static void seal_one(struct work *w, struct aead_op *op)
{
    start(w, op->nonce);
    chacha_xor(&w->chacha, op->dst, op->src, op->len);
    authenticate(w, op->dst, op->len);
    memcpy(op->dst + op->len, w->tag, TAG);
}

__attribute__((noinline)) static void open_one(struct work *w, struct aead_op *op)
{
    start(w, op->nonce);
    authenticate(w, op->src, op->len);
    op->ok = secret_equal(w->tag, op->src + op->len, TAG);
    secret_declassify(&op->ok, sizeof op->ok);
    if (op->ok)
        chacha_xor(&w->chacha, op->dst, op->src, op->len);
    else if (op->dst != op->src)
        memset(op->dst, 0, op->len);
}

static void scalar_seal_batch(const uint8_t key[32], struct aead_op *ops, size_t n)
{
    struct work w;

    chacha_init(&w.chacha, key);
    for (size_t i = 0; i < n; i++)
        seal_one(&w, &ops[i]);
    secret_burn_stack();
    secret_wipe(&w, sizeof w);
}

static size_t scalar_open_batch(const uint8_t key[32], struct aead_op *ops, size_t n)
{
    struct work w;
    size_t good = 0;

    chacha_init(&w.chacha, key);
    for (size_t i = 0; i < n; i++) {
        open_one(&w, &ops[i]);
        good += ops[i].ok;
    }
    secret_burn_stack();
    secret_wipe(&w, sizeof w);
    return good;
}

static int scalar_supported(void)
{
    return 1;
}

const struct aead_kernel aead_scalar = {
    .name = "scalar",
    .supported = scalar_supported,
    .seal_batch = scalar_seal_batch,
    .open_batch = scalar_open_batch,
};
