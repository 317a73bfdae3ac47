/* SPDX-License-Identifier: MIT
 *
 * BLAKE2s as RFC 7693 section 3 writes it, on 32-bit words.
 */
#include "b2s.h"

#include <stdatomic.h>
#include <string.h>

/* B2S_PLAIN chooses plain C on any machine, for the tests. */
#if defined(__x86_64__) && !defined(B2S_PLAIN)
#define B2S_VECTORS
#include "kernels/b2s_avx512.h"
#endif
#include "kernels/bytes.h"
#include "secret.h"

static const uint32_t IV[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

/* section 2.7: which message word goes where in each round */
static const uint8_t SIGMA[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

static inline uint32_t rotate_right(uint32_t v, int n)
{
    return v >> n | v << (32 - n);
}

/* section 3.1, mixing function G */
#define G(a, b, c, d, x, y)                          \
    do {                                             \
        v[a] += v[b] + (x);                          \
        v[d] = rotate_right(v[d] ^ v[a], 16);        \
        v[c] += v[d];                                \
        v[b] = rotate_right(v[b] ^ v[c], 12);        \
        v[a] += v[b] + (y);                          \
        v[d] = rotate_right(v[d] ^ v[a], 8);         \
        v[c] += v[d];                                \
        v[b] = rotate_right(v[b] ^ v[c], 7);         \
    } while (0)

/* section 3.2, compression function F; s->count includes the block */
static void compress_plain(struct b2s *s, const uint8_t *block, uint32_t last)
{
    uint32_t m[16], v[16];

    for (int i = 0; i < 16; i++)
        m[i] = load32(block + 4 * i);
    for (int i = 0; i < 8; i++) {
        v[i] = s->h[i];
        v[i + 8] = IV[i];
    }
    v[12] ^= (uint32_t)s->count;
    v[13] ^= (uint32_t)(s->count >> 32);
    v[14] ^= last;

    for (int round = 0; round < 10; round++) {
        const uint8_t *word = SIGMA[round];
        G(0, 4, 8, 12, m[word[0]], m[word[1]]);
        G(1, 5, 9, 13, m[word[2]], m[word[3]]);
        G(2, 6, 10, 14, m[word[4]], m[word[5]]);
        G(3, 7, 11, 15, m[word[6]], m[word[7]]);
        G(0, 5, 10, 15, m[word[8]], m[word[9]]);
        G(1, 6, 11, 12, m[word[10]], m[word[11]]);
        G(2, 7, 8, 13, m[word[12]], m[word[13]]);
        G(3, 4, 9, 14, m[word[14]], m[word[15]]);
    }
    for (int i = 0; i < 8; i++)
        s->h[i] ^= v[i] ^ v[i + 8];
    secret_wipe(m, sizeof m);
    secret_wipe(v, sizeof v);
}

/* bytes: how many of the block count */
static void compress(struct b2s *s, const uint8_t *block, size_t bytes, uint32_t last)
{
    s->count += bytes;
#ifdef B2S_VECTORS
    static atomic_int vectors; /* 0: not asked yet, 1: yes, 2: no */
    int known = atomic_load_explicit(&vectors, memory_order_relaxed);
    if (known == 0) {
        known = b2s_avx512_supported() ? 1 : 2;
        atomic_store_explicit(&vectors, known, memory_order_relaxed);
    }
    if (known == 1) {
        const uint32_t mixed[4] = {
            (uint32_t)s->count, (uint32_t)(s->count >> 32), last,
        };
        compress_avx512(s->h, block, IV, mixed);
        return;
    }
#endif
    compress_plain(s, block, last);
}

void b2s_init(struct b2s *s, size_t size, const uint8_t *key, size_t key_len)
{
    memset(s, 0, sizeof *s);
    s->size = size;
    for (int i = 0; i < 8; i++)
        s->h[i] = IV[i];
    /* parameter block: hash size, key size, fanout 1, depth 1 */
    s->h[0] ^= (uint32_t)size | (uint32_t)key_len << 8 | UINT32_C(0x01010000);
    if (key_len > 0) {
        memcpy(s->block, key, key_len);
        s->used = B2S_BLOCK; /* the key fills a block of its own */
    }
}

void b2s_update(struct b2s *s, const uint8_t *data, size_t len)
{
    while (len > 0) {
        /* a full block is compressed only once something follows it */
        if (s->used == B2S_BLOCK) {
            compress(s, s->block, B2S_BLOCK, 0);
            s->used = 0;
        }
        const size_t room = B2S_BLOCK - s->used;
        const size_t take = len < room ? len : room;
        memcpy(s->block + s->used, data, take);
        s->used += take;
        data += take;
        len -= take;
    }
}

void b2s_block(struct b2s *s, const uint8_t block[B2S_BLOCK])
{
    compress(s, block, B2S_BLOCK, 0);
}

void b2s_final(struct b2s *s, uint8_t *hash)
{
    uint8_t words[B2S_HASH_MAX];

    memset(s->block + s->used, 0, B2S_BLOCK - s->used);
    compress(s, s->block, s->used, UINT32_MAX);
    for (int i = 0; i < 8; i++)
        store32(words + 4 * i, s->h[i]);
    memcpy(hash, words, s->size);
    secret_wipe(words, sizeof words);
    secret_wipe(s, sizeof *s);
}

void b2s_hash(uint8_t *hash, size_t size, const uint8_t *key, size_t key_len,
              const uint8_t *data, size_t len)
{
    struct b2s s;

    b2s_init(&s, size, key, key_len);
    b2s_update(&s, data, len);
    b2s_final(&s, hash);
}
