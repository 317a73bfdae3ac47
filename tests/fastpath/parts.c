/* SPDX-License-Identifier: MIT
 *
 * The scalar kernel taken apart for the tests: ChaCha20 with any nonce and Poly1305
 * by itself, as the published vectors need them, and a search for secrets that a
 * call left on its stack.  Built as a shared library by parts.py.
 */
#include "../../_fastpath/kernels/scalar.c"

#include <pthread.h>
#include <stdlib.h>

void part_chacha20(const uint8_t key[32], const uint8_t nonce[12], uint32_t block,
                   uint8_t *dst, const uint8_t *src, size_t len)
{
    struct chacha c;

    chacha_init(&c, key);
    c.word[12] = block;
    for (int i = 0; i < 3; i++)
        c.word[13 + i] = load32(nonce + 4 * i);
    chacha_xor(&c, dst, src, len);
}

void part_poly1305(const uint8_t key[32], const uint8_t *m, size_t blocks,
                   uint8_t tag[16])
{
    struct poly1305 p;

    poly1305_init(&p, key);
    poly1305_blocks(&p, m, blocks);
    poly1305_final(&p, tag);
}

/* Which multiplication was compiled in: bits of a Poly1305 limb. */
int part_limb_bits(void)
{
#ifdef TUNNEL_KERNELS_POLY1305_64_H
    return 44;
#else
    return 26;
#endif
}

/* ---- what a call leaves on the stack */

#define STACK (256 * 1024)
#define RUN 8 /* so many bytes of a secret in a row are no accident */

struct call {
    const uint8_t *key;
    struct aead_op *op;
    int what; /* 0 seal, 1 open, 2 a function that forgets to wipe */
};

__attribute__((noinline)) static void forget(const uint8_t *key)
{
    uint8_t copy[32];
    memcpy(copy, key, sizeof copy);
    __asm__ volatile("" : : "r"(copy) : "memory");
}

static void *run(void *argument)
{
    const struct call *call = argument;
    if (call->what == 0)
        aead_scalar.seal_batch(call->key, call->op, 1);
    else if (call->what == 1)
        aead_scalar.open_batch(call->key, call->op, 1);
    else
        forget(call->key);
    return NULL;
}

static int occurs(const uint8_t *stack, const void *secret, size_t len)
{
    const uint8_t *bytes = secret;
    int found = 0;
    for (size_t i = 0; i + RUN <= len; i += 4)
        found += memmem(stack, STACK, bytes + i, RUN) != NULL;
    return found;
}

/* How many runs of secret bytes are on the stack after the call; -1: no thread. */
int part_residue(const uint8_t key[32], uint64_t counter, uint8_t *data, uint32_t len,
                 int what)
{
    struct aead_op op = {.src = data, .dst = data, .len = len, .nonce = counter};
    struct call call = {key, &op, what};
    pthread_attr_t attributes;
    pthread_t thread;
    int found = -1;

    uint8_t *stack = aligned_alloc(4096, STACK);
    if (stack == NULL)
        return -1;
    memset(stack, 0, STACK);
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, stack, STACK) == 0 &&
        pthread_create(&thread, &attributes, run, &call) == 0) {
        pthread_join(thread, NULL);

        /* the key, its one-time key and multiplier, and what the rounds made of
         * the first block: adding the input to that is all that hides the key */
        struct work w;
        uint32_t rounds[16];
        chacha_init(&w.chacha, key);
        start(&w, counter);
        found = occurs(stack, key, 32) + occurs(stack, w.block, BLOCK) +
                occurs(stack, w.poly.r, sizeof w.poly.r);
        w.chacha.word[12] = 0; /* block number */
        for (int i = 0; i < 16; i++)
            rounds[i] = load32(w.block + 4 * i) - w.chacha.word[i];
        found += occurs(stack, rounds, sizeof rounds);
    }
    pthread_attr_destroy(&attributes);
    free(stack);
    return found;
}
