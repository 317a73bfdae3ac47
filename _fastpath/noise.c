/* SPDX-License-Identifier: MIT
 *
 * Noise's symmetric state: HMAC (RFC 2104), HKDF (RFC 5869) and AEAD (RFC 8439).
 */
#include "noise.h"

#include <string.h>

#include "b2s.h"
#include "kernels/chacha_scalar.h"
#include "secret.h"

#if defined(__SIZEOF_INT128__) && !defined(POLY1305_32)
#include "kernels/poly1305_64.h"
#else
#include "kernels/poly1305_32.h"
#endif

#define KEY SYMMETRIC_KEY
#define TAG SYMMETRIC_TAG
#define POLY_BLOCK 16

/* ---- HMAC and HKDF */

/* Both hashes of HMAC, with the key's block behind them. */
struct hmac {
    struct b2s inner, outer;
};

/* alone: nothing follows the key's block, which is then the last one */
static void keyed(struct b2s *hash, const uint8_t key[KEY], uint8_t pad, int alone)
{
    uint8_t block[B2S_BLOCK];

    memset(block, pad, sizeof block);
    for (int i = 0; i < KEY; i++)
        block[i] ^= key[i];
    b2s_init(hash, B2S_HASH_MAX, NULL, 0);
    if (alone)
        b2s_update(hash, block, sizeof block);
    else
        b2s_block(hash, block);
    secret_wipe(block, sizeof block);
}

/* empty: the data will be */
static void hmac_init(struct hmac *h, const uint8_t key[KEY], int empty)
{
    keyed(&h->inner, key, 0x36, empty);
    keyed(&h->outer, key, 0x5c, 0);
}

/* mac = HMAC(key, data | last); h can be used again.  last: -1 is none */
static void hmac_of(const struct hmac *h, const uint8_t *data, size_t len, int last,
                    uint8_t mac[KEY])
{
    struct hmac copy = *h;
    const uint8_t byte = (uint8_t)last;

    b2s_update(&copy.inner, data, len);
    if (last >= 0)
        b2s_update(&copy.inner, &byte, 1);
    b2s_final(&copy.inner, mac);
    b2s_update(&copy.outer, mac, KEY);
    b2s_final(&copy.outer, mac);
}

/* KDF_n: out[0..count) are what HKDF gives for the data under the key.  key may be an
 * output. */
static void kdf(const uint8_t *key, const uint8_t *data, size_t len,
                uint8_t *const *out, int count)
{
    struct hmac h;
    uint8_t secret[KEY];

    hmac_init(&h, key, len == 0);
    hmac_of(&h, data, len, -1, secret);
    hmac_init(&h, secret, 0);
    for (int i = 0; i < count; i++)
        hmac_of(&h, i ? out[i - 1] : secret, i ? KEY : 0, i + 1, out[i]);
    secret_wipe(secret, sizeof secret);
    secret_wipe(&h, sizeof h);
}

/* ---- the AEAD, with nonce 0 and the running hash as associated data */

struct aead {
    struct chacha chacha;
    struct poly1305 poly;
    uint8_t first[CHACHA_BLOCK], tag[TAG];
};

static void start(struct aead *a, const uint8_t key[KEY])
{
    memset(a->first, 0, sizeof a->first);
    chacha_init(&a->chacha, key);
    chacha_xor(&a->chacha, a->first, a->first, sizeof a->first);
    poly1305_init(&a->poly, a->first);
}

/* a->tag = the tag of the associated data (KEY bytes) and the ciphertext */
static void authenticate(struct aead *a, const uint8_t associated[KEY],
                         const uint8_t *ciphertext, size_t len)
{
    const size_t whole = len / POLY_BLOCK, rest = len % POLY_BLOCK;
    uint8_t last[POLY_BLOCK] = {0};

    poly1305_blocks(&a->poly, associated, KEY / POLY_BLOCK);
    poly1305_blocks(&a->poly, ciphertext, whole);
    if (rest > 0) {
        memcpy(last, ciphertext + POLY_BLOCK * whole, rest);
        poly1305_blocks(&a->poly, last, 1);
    }
    store64(last, KEY);
    store64(last + 8, len);
    poly1305_blocks(&a->poly, last, 1);
    poly1305_final(&a->poly, a->tag);
}

void symmetric_seal(struct symmetric *s, uint8_t *dst, const uint8_t *src, size_t len)
{
    struct aead a;

    start(&a, s->key);
    chacha_xor(&a.chacha, dst, src, len);
    authenticate(&a, s->hash, dst, len);
    memcpy(dst + len, a.tag, TAG);
    symmetric_mix_hash(s, dst, len + TAG);
    secret_wipe(&a, sizeof a);
}

int symmetric_open(struct symmetric *s, uint8_t *dst, const uint8_t *src, size_t len)
{
    struct aead a;
    uint32_t good;

    start(&a, s->key);
    authenticate(&a, s->hash, src, len);
    good = secret_equal(a.tag, src + len, TAG);
    secret_declassify(&good, sizeof good);
    if (good) {
        chacha_xor(&a.chacha, dst, src, len);
        symmetric_mix_hash(s, src, len + TAG);
    }
    secret_wipe(&a, sizeof a);
    return (int)good;
}

/* ---- the state */

void symmetric_mix_hash(struct symmetric *s, const uint8_t *data, size_t len)
{
    struct b2s hash;

    b2s_init(&hash, B2S_HASH_MAX, NULL, 0);
    b2s_update(&hash, s->hash, KEY);
    b2s_update(&hash, data, len);
    b2s_final(&hash, s->hash);
}

void symmetric_mix_chain(struct symmetric *s, const uint8_t *data, size_t len)
{
    uint8_t *const out[] = {s->chaining_key};

    kdf(s->chaining_key, data, len, out, 1);
}

void symmetric_mix_key(struct symmetric *s, const uint8_t *data, size_t len)
{
    uint8_t *const out[] = {s->chaining_key, s->key};

    kdf(s->chaining_key, data, len, out, 2);
}

void symmetric_mix_psk(struct symmetric *s, const uint8_t psk[KEY])
{
    uint8_t mixed[KEY];
    uint8_t *const out[] = {s->chaining_key, mixed, s->key};

    kdf(s->chaining_key, psk, KEY, out, 3);
    symmetric_mix_hash(s, mixed, KEY);
    secret_wipe(mixed, sizeof mixed);
}

void symmetric_split(const struct symmetric *s, uint8_t first[KEY], uint8_t second[KEY])
{
    uint8_t *const out[] = {first, second};

    kdf(s->chaining_key, NULL, 0, out, 2);
}
