/* SPDX-License-Identifier: MIT
 *
 * The table of awaited cookie replies, and their tag: XChaCha20-Poly1305
 * (draft-irtf-cfrg-xchacha-03), of which only Poly1305's key is needed here.
 */
#define _GNU_SOURCE
#include "cookies.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "engine.h"
#include "kernels/chacha_scalar.h"

#if defined(__SIZEOF_INT128__) && !defined(POLY1305_32)
#include "kernels/poly1305_64.h"
#else
#include "kernels/poly1305_32.h"
#endif

#define TABLE_BYTES (COOKIE_BUCKETS * sizeof(_Atomic(struct awaited_cookie *)))

/* type, receiver index, nonce, sealed cookie, tag */
#define AT_INDEX 4
#define AT_NONCE 8
#define AT_COOKIE 32
#define AT_TAG 48

/* ---- authenticity */

/* HChaCha20: the rounds over key and nonce without the final addition, which is taken
 * back; the first and the last row are the subkey. */
static void subkey_of(const uint8_t key[32], const uint8_t nonce[16], uint8_t out[32])
{
    struct chacha c;
    uint32_t before[16], x[16];

    chacha_init(&c, key);
    for (int i = 0; i < 4; i++)
        c.word[12 + i] = load32(nonce + 4 * i);
    memcpy(before, c.word, sizeof before);
    chacha_block(&c, x);
    for (int i = 0; i < 4; i++) {
        store32(out + 4 * i, x[i] - before[i]);
        store32(out + 16 + 4 * i, x[12 + i] - before[12 + i]);
    }
}

/* Of block 0, under the subkey and the nonce's last 8 bytes. */
static void poly_key_of(const uint8_t key[32], const uint8_t nonce[24], uint8_t out[32])
{
    struct chacha c;
    uint8_t subkey[32];
    uint32_t x[16];

    subkey_of(key, nonce, subkey);
    chacha_init(&c, subkey);
    c.word[14] = load32(nonce + 16);
    c.word[15] = load32(nonce + 20);
    chacha_block(&c, x);
    for (int i = 0; i < 8; i++)
        store32(out + 4 * i, x[i]);
}

static bool authentic(const struct awaited_cookie *c, const uint8_t *reply)
{
    struct poly1305 poly;
    uint8_t key[32], lengths[16], tag[16];

    poly_key_of(c->key, reply + AT_NONCE, key);
    poly1305_init(&poly, key);
    poly1305_blocks(&poly, c->mac1, 1);
    poly1305_blocks(&poly, reply + AT_COOKIE, 1);
    store64(lengths, 16);
    store64(lengths + 8, 16);
    poly1305_blocks(&poly, lengths, 1);
    poly1305_final(&poly, tag);
    return secret_equal(tag, reply + AT_TAG, sizeof tag);
}

/* ---- the table */

static _Atomic(struct awaited_cookie *) *bucket_of(struct awaited_cookies *t,
                                                   uint32_t index)
{
    return &t->bucket[index >> 16]; /* the lower half names the lane */
}

int cookies_init(struct awaited_cookies *t)
{
    t->bucket = reserve(TABLE_BYTES);
    return t->bucket ? 0 : -1;
}

void cookies_finish(struct awaited_cookies *t)
{
    if (!t->bucket)
        return;
    for (uint32_t i = 0; i < COOKIE_BUCKETS; i++) {
        struct awaited_cookie *c = atomic_load(&t->bucket[i]), *next;
        for (; c; c = next) {
            next = atomic_load(&c->next);
            free(c);
        }
    }
    munmap(t->bucket, TABLE_BYTES);
    t->bucket = NULL;
}

struct awaited_cookie *cookie_await(struct awaited_cookies *t, uint32_t index,
                                    const uint8_t mac1[16], const uint8_t key[32])
{
    _Atomic(struct awaited_cookie *) *first = bucket_of(t, index);
    struct awaited_cookie *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->index = index;
    memcpy(c->mac1, mac1, sizeof c->mac1);
    memcpy(c->key, key, sizeof c->key);
    atomic_init(&c->next, atomic_load_explicit(first, memory_order_relaxed));
    atomic_store_explicit(first, c, memory_order_release);
    return c;
}

static int release(void *cookie)
{
    free(cookie);
    return 1;
}

void cookie_forget(struct awaited_cookies *t, struct epoch *e,
                   struct awaited_cookie *c)
{
    _Atomic(struct awaited_cookie *) *link = bucket_of(t, c->index);
    struct awaited_cookie *at;

    while ((at = atomic_load_explicit(link, memory_order_relaxed)) != c)
        link = &at->next;
    atomic_store(link, atomic_load_explicit(&c->next, memory_order_relaxed));
    epoch_retire(e, &c->retired, c, release);
}

enum drop_reason cookie_take(struct awaited_cookies *t,
                             const uint8_t reply[COOKIE_REPLY_LEN],
                             struct awaited_cookie **taken)
{
    enum drop_reason why = DROP_RX_INDEX;
    uint32_t index = load32(reply + AT_INDEX);
    struct awaited_cookie *c =
        atomic_load_explicit(bucket_of(t, index), memory_order_acquire);

    for (; c; c = atomic_load_explicit(&c->next, memory_order_acquire)) {
        if (c->index != index || atomic_load_explicit(&c->taken, memory_order_relaxed))
            continue;
        why = DROP_RX_AUTH;
        if (authentic(c, reply) && !atomic_exchange(&c->taken, true)) {
            *taken = c;
            return DROP_NONE;
        }
    }
    return why;
}

void cookie_give_back(struct awaited_cookie *c)
{
    atomic_store(&c->taken, false);
}
