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

/* More than TEXTS - 1 packets without a tag and one packet per lane */
#define RING 64

/* Everything secret of one call; wiped at its end. */
struct work {
    uint32_t words[12] __attribute__((aligned(64))); /* constants and key */
    uint8_t nowhere[BLOCK] __attribute__((aligned(64)));
    struct lanes lanes;
    size_t passes; /* how often the lanes were computed */
    uint8_t key[RING][BLOCK] __attribute__((aligned(64)));
    uint8_t ahead[LANES][BLOCK]; /* keystream of unverified packets */
    size_t ahead_most;
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
}

/* As secret_burn_stack(), for frames full of vectors: at most 2.2 KB with gcc -O3. */
ISA __attribute__((noinline)) static void burn_stack(void)
{
    uint8_t below[2560]; /* not aligned: that would leave a gap */
    wipe_blocks(below, sizeof below);
}

/* Wipes what n packets have used. */
ISA static void work_wipe(struct work *w, size_t n)
{
    const size_t poly = poly1305_secret_bytes(n), rows = sizeof w->rows;

    wipe_blocks(w->words, 2 * BLOCK); /* and nowhere */
    wipe_blocks(w->rows, poly > rows ? poly : rows); /* and poly */
    wipe_blocks(w->lanes.copy, w->lanes.shorts_most * BLOCK);
    wipe_blocks(w->key, (n < RING ? n : RING) * BLOCK);
    wipe_blocks(w->ahead, w->ahead_most * BLOCK);
    burn_stack();
}

/* ---- blocks through the lanes */

/* Computes the lanes, however many are used. */
ISA __attribute__((noinline)) static void flush(struct work *w)
{
    struct lanes *l = &w->lanes;

    if (l->used == 0)
        return;
    for (size_t i = l->used; i < LANES; i++) {
        l->src[i] = address(zeros);
        l->dst[i] = address(w->nowhere);
    }
    chacha_xor_lanes(w->words, l, w->rows);
    lanes_release(l);
    w->passes++;
}

ISA static inline void add_run(struct work *w, struct run r)
{
    while (r.count > 0) {
        lanes_take(&w->lanes, &r);
        if (w->lanes.used == LANES)
            flush(w);
    }
}

/* Blocks first, first + 1, ... of the packet's keystream, to dst. */
ISA static inline void add_keystream(struct work *w, const struct aead_op *op,
                                     uint32_t first, size_t count, uint8_t *dst)
{
    add_run(w, (struct run){.counter = op->nonce, .block = first, .count = count,
                            .src = address(zeros), .dst = address(dst)});
}

/* The last block of the packet, if it is shorter than the others. */
ISA static inline void add_short(struct work *w, const struct aead_op *op)
{
    const size_t whole = op->len / BLOCK, rest = op->len % BLOCK;

    if (rest > 0) {
        const uint64_t copy = address(lanes_borrow(&w->lanes, op->dst + whole * BLOCK,
                                                   op->src + whole * BLOCK, rest));
        add_run(w, (struct run){.counter = op->nonce, .block = (uint32_t)whole + 1,
                                .count = 1, .src = copy, .dst = copy});
    }
}

/* The packet's text, without its first `done` blocks. */
ISA static inline void add_text(struct work *w, const struct aead_op *op, size_t done)
{
    const size_t whole = op->len / BLOCK;

    if (done > whole)
        return;
    add_run(w, (struct run){.counter = op->nonce, .block = (uint32_t)done + 1,
                            .count = whole - done,
                            .src = address(op->src) + done * BLOCK,
                            .moving = UINT64_MAX,
                            .dst = address(op->dst) + done * BLOCK});
    add_short(w, op);
}

/* The whole packet: its one-time key, block 0, goes to `key`. */
ISA static inline void add_packet(struct work *w, const struct aead_op *op,
                                  uint8_t *key)
{
    struct lanes *l = &w->lanes;
    const size_t lane = l->used;
    struct run r = {.counter = op->nonce, .block = 0, .count = 1 + op->len / BLOCK,
                    .src = address(op->src) - BLOCK, .moving = UINT64_MAX,
                    .dst = address(op->dst) - BLOCK};

    lanes_take(l, &r);
    l->src[lane] = address(zeros);
    l->dst[lane] = address(key);
    if (l->used == LANES)
        flush(w);
    add_run(w, r);
    add_short(w, op);
}

#endif
