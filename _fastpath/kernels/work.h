/* SPDX-License-Identifier: MIT
 *
 * The work area of a vector kernel, and the way of blocks through its lanes.  See
 * batch.h for what the including file defines.
 */
#ifndef TUNNEL_KERNELS_WORK_H
#define TUNNEL_KERNELS_WORK_H

#include <string.h>

#include "../secret.h"
#include "aead.h"
#include "bytes.h"
#include "lanes.h"
#include "text.h"

#define TAG DATA_TAG_LEN
/* More than TEXTS - 1 packets without a tag and one packet per lane */
#define RING 64

ISA static inline size_t text_blocks(const struct aead_op *op)
{
    return ((size_t)op->len + BLOCK - 1) / BLOCK;
}

/* 1 when the tags are equal, else 0, in the same time. */
static inline uint32_t tag_equal(const uint8_t a[TAG], const uint8_t b[TAG])
{
    const uint64_t difference =
        (load64(a) ^ load64(b)) | (load64(a + 8) ^ load64(b + 8));
    return (uint32_t)(~(difference | (0 - difference)) >> 63);
}

/* Sets ok. */
static inline void check_tag(struct aead_op *op, const uint8_t tag[TAG])
{
    op->ok = tag_equal(tag, op->src + op->len);
    secret_declassify(&op->ok, sizeof op->ok);
}

#ifdef HASHING_PASSES
#include "hasher_avx512.h"
#endif

/* Everything secret of one call; wiped at its end. */
struct work {
    uint32_t words[12] __attribute__((aligned(64))); /* constants and key */
    uint8_t nowhere[BLOCK] __attribute__((aligned(64)));
    struct lanes lanes;
#ifdef HASHING_PASSES
    struct hasher hasher;
#endif
    size_t passes; /* how often the lanes were computed */
    uint8_t key[RING][BLOCK] __attribute__((aligned(64)));
    uint8_t ahead[LANES][BLOCK]; /* keystream of unverified packets */
    size_t ahead_most;
    size_t turn_most; /* bytes of what follows that were used */
    union { /* of ChaCha20 and of Poly1305, which take turns */
        vector rows[16 * LANES * 4 / sizeof(vector)];
        struct poly1305_scratch poly;
    } __attribute__((aligned(64)));
};

static const uint8_t zeros[BLOCK] __attribute__((aligned(64)));

ISA static void work_init(struct work *w, const uint8_t key[32])
{
    static const uint32_t constants[4] = {
        0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, /* "expand 32-byte k" */
    };
    for (int i = 0; i < 4; i++)
        w->words[i] = constants[i];
    for (int i = 0; i < 8; i++)
        w->words[4 + i] = load32(key + 4 * i);
    w->lanes.used = 0;
    w->lanes.shorts = 0;
    w->lanes.shorts_most = 0;
    w->passes = 0;
    w->ahead_most = 0;
    w->turn_most = 0;
#ifdef HASHING_PASSES
    w->hasher.ops = NULL;
#endif
}

ISA static inline void turn_used(struct work *w, size_t bytes)
{
    if (w->turn_most < bytes)
        w->turn_most = bytes;
}

/* As secret_burn_stack(), for frames full of vectors: at -O3 at most 2.2 KB of gcc 12,
 * and 3 KB of gcc 16. */
ISA __attribute__((noinline)) static void burn_stack(void)
{
    uint8_t below[4096]; /* not aligned: that would leave a gap */
    wipe_blocks(below, sizeof below);
}

/* Wipes what was used by all packets, of which n went the general way. */
ISA static void work_wipe(struct work *w, size_t n)
{
    wipe_blocks(w->words, 2 * BLOCK); /* and nowhere */
    wipe_blocks(w->rows, w->turn_most); /* and poly */
    wipe_blocks(w->lanes.copy, w->lanes.shorts_most * BLOCK);
    wipe_blocks(w->key, (n < RING ? n : RING) * BLOCK);
    wipe_blocks(w->ahead, w->ahead_most * BLOCK);
#ifdef HASHING_PASSES
    if (w->hasher.ops != NULL)
        wipe_blocks(w->hasher.stream, sizeof w->hasher.stream);
#endif
    if (n > 0)
        burn_stack();
}

/* ---- blocks through the lanes */

/* Returns how many bytes of the rows it used. */
ISA static inline size_t xor_lanes(struct work *w)
{
#ifdef HASHING_PASSES
    if (w->hasher.ops != NULL)
        return chacha_xor_lanes_hashing(&w->hasher, w->words, &w->lanes, w->rows);
#endif
    return chacha_xor_lanes(w->words, &w->lanes, w->rows);
}

/* Computes the lanes, however many are used. */
ISA __attribute__((noinline)) static void flush(struct work *w)
{
    struct lanes *l = &w->lanes;

    if (l->used == 0)
        return;
    for (size_t i = l->used; i < chacha_width(l->used); i++) {
        l->src[i] = address(zeros);
        l->dst[i] = address(w->nowhere);
    }
    turn_used(w, xor_lanes(w));
    lanes_release(l);
    w->passes++;
}

ISA static inline void add_block(struct work *w, struct run r)
{
    lanes_take_one(&w->lanes, &r);
    if (w->lanes.used == LANES)
        flush(w);
}

ISA static inline void add_run(struct work *w, struct run r)
{
    while (r.count > 0) {
        lanes_take(&w->lanes, &r);
        if (w->lanes.used == LANES)
            flush(w);
    }
}

/* The first `count` blocks of the keystream for the packet's text, to dst. */
ISA static inline void add_keystream(struct work *w, const struct aead_op *op,
                                     size_t count, uint8_t *dst)
{
    add_run(w, (struct run){.counter = op->nonce, .block = 1, .count = count,
                            .src = address(zeros), .dst = address(dst)});
}

/* The packet's one-time key, block 0, to dst. */
ISA static inline void add_key(struct work *w, const struct aead_op *op, uint8_t *dst)
{
    add_block(w, (struct run){
                     .counter = op->nonce, .src = address(zeros), .dst = address(dst)});
}

/* The last block of the packet, if it is shorter than the others. */
ISA static inline void add_short(struct work *w, const struct aead_op *op)
{
    const size_t whole = op->len / BLOCK, rest = op->len % BLOCK;

    if (rest > 0) {
        const uint64_t copy = address(lanes_borrow(&w->lanes, op->dst + whole * BLOCK,
                                                   op->src + whole * BLOCK, rest));
        add_block(w, (struct run){.counter = op->nonce, .block = (uint32_t)whole + 1,
                                  .src = copy, .dst = copy});
    }
}

/* The packet's text, without its first `done` blocks. */
ISA static inline void add_text(struct work *w, const struct aead_op *op, size_t done)
{
    const size_t whole = op->len / BLOCK;
    const struct run r = {.counter = op->nonce, .block = (uint32_t)done + 1,
                          .count = whole - done,
                          .src = address(op->src) + done * BLOCK,
                          .moving = UINT64_MAX,
                          .dst = address(op->dst) + done * BLOCK};

    if (done > whole)
        return;
    if (r.count == 1)
        add_block(w, r);
    else
        add_run(w, r);
    add_short(w, op);
}

/* The whole packet: its one-time key, block 0, goes to `key`. */
ISA static inline void add_packet(struct work *w, const struct aead_op *op,
                                  uint8_t *key)
{
    add_key(w, op, key);
    add_text(w, op, 0);
}

#endif
