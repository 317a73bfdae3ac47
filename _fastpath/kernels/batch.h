/* SPDX-License-Identifier: MIT
 *
 * How a vector kernel works through a batch.  The including file defines ISA and
 * LANES (see lanes.h) and, before this file, its parts:
 *
 *     vector               the type of a register
 *     short_copy           memcpy of less than BLOCK bytes
 *     clear_registers      zeroes the vector registers
 *     chacha_xor_lanes     ChaCha20 of the lanes, chacha_width of them
 *     poly1305_tags        Poly1305 of up to TEXTS ciphertexts, with a
 *                          struct poly1305_scratch to work in
 *     HASHING_PASSES       if larger batches go as in hashing_batch_avx512.h, and small
 *                          packets as in small_batch_avx512.h
 *
 * Sealing: the blocks of all packets go through the lanes without a gap, block 0 (the
 * one-time key) in front of each packet's own; as soon as TEXTS packets are encrypted,
 * they get their tags, while they are in the cache.
 *
 * Opening: groups of packets that fit the cache.  First the one-time keys of the group;
 * lanes left over compute keystream ahead, which is put aside.  Then the tags, and the
 * rest of the keystream only for the packets that are genuine.
 *
 * Lengths, counters and verdicts on tags are public; nothing else steers a branch.
 */
#ifndef TUNNEL_KERNELS_BATCH_H
#define TUNNEL_KERNELS_BATCH_H

#include "work.h"

/* A group to open is at most so many packets and blocks (8 packets of 1600 bytes) */
#define OPEN_PACKETS 32
#define OPEN_BLOCKS 208

/* ---- sealing */

ISA __attribute__((noinline)) static void add_tags(struct work *w,
                                                   const struct aead_op *ops, size_t n,
                                                   const uint8_t (*key)[BLOCK])
{
    struct text text[TEXTS] = {{0}};
    uint8_t tag[TEXTS][TAG];

    for (size_t i = 0; i < n; i++)
        text[i] = (struct text){ops[i].dst, ops[i].len};
    turn_used(w, poly1305_tags(&w->poly, key, text, n, tag));
    for (size_t i = 0; i < n; i++)
        memcpy(ops[i].dst + ops[i].len, tag[i], TAG);
}

ISA static void work_seal(struct work *w, const struct aead_op *ops, size_t n)
{
    size_t encrypted = 0, tagged = 0;

    for (size_t i = 0; i < n; i++) {
        const size_t passes = w->passes;
        add_packet(w, &ops[i], w->key[i % RING]);
        if (w->passes != passes)
            encrypted = i + (w->lanes.used == 0);
        for (; encrypted - tagged >= TEXTS; tagged += TEXTS)
            add_tags(w, ops + tagged, TEXTS, w->key + tagged % RING);
    }
    flush(w);
    for (; tagged < n; tagged += TEXTS)
        add_tags(w, ops + tagged, n - tagged < TEXTS ? n - tagged : TEXTS,
                 w->key + tagged % RING);
}

/* ---- opening */

/* How many of the packets are opened together: a multiple of TEXTS if possible. */
ISA static size_t open_group_size(const struct aead_op *ops, size_t n)
{
    size_t count = 0, blocks = 0;

    while (count < n && count < OPEN_PACKETS) {
        blocks += 1 + text_blocks(&ops[count]);
        if (count > 0 && blocks > OPEN_BLOCKS)
            break;
        count++;
    }
    return count < n && count > TEXTS ? count - count % TEXTS : count;
}

/* Computes one-time keys, and keystream ahead in lanes that would be idle: ahead[i]
 * blocks. */
ISA static void make_keys(struct work *w, const struct aead_op *ops, size_t n,
                          size_t *ahead)
{
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        add_key(w, &ops[i], w->key[i]);
        ahead[i] = 0;
    }
    for (size_t i = 0; i < n && w->lanes.used > 0; i++) {
        const size_t idle = LANES - w->lanes.used, wanted = text_blocks(&ops[i]);
        ahead[i] = wanted < idle ? wanted : idle;
        add_keystream(w, &ops[i], ahead[i], w->ahead[used]);
        used += ahead[i];
    }
    if (w->ahead_most < used)
        w->ahead_most = used;
    flush(w);
}

/* Sets ok of up to TEXTS packets; returns how many are good. */
ISA __attribute__((noinline)) static size_t check_tags(struct work *w,
                                                       struct aead_op *ops, size_t n,
                                                       const uint8_t (*key)[BLOCK])
{
    struct text text[TEXTS] = {{0}};
    uint8_t tag[TEXTS][TAG];
    size_t good = 0;

    for (size_t i = 0; i < n; i++)
        text[i] = (struct text){ops[i].src, ops[i].len};
    turn_used(w, poly1305_tags(&w->poly, key, text, n, tag));
    for (size_t i = 0; i < n; i++) {
        check_tag(&ops[i], tag[i]);
        good += ops[i].ok;
    }
    return good;
}

/* dst = src ^ the keystream that was put aside */
ISA static void use_ahead(const struct aead_op *op, const uint8_t (*stream)[BLOCK],
                          size_t blocks)
{
    const size_t whole = op->len / BLOCK;
    uint8_t last[BLOCK];

    for (size_t i = 0; i < blocks; i++) {
        const uint8_t *src = op->src + i * BLOCK;
        uint8_t *dst = op->dst + i * BLOCK;
        if (i < whole) {
            for (size_t j = 0; j < BLOCK; j++)
                dst[j] = src[j] ^ stream[i][j];
        } else {
            short_copy(last, src, op->len % BLOCK);
            for (size_t j = 0; j < BLOCK; j++)
                last[j] ^= stream[i][j];
            short_copy(dst, last, op->len % BLOCK);
            secret_wipe(last, sizeof last);
        }
    }
}

ISA static size_t open_group(struct work *w, struct aead_op *ops, size_t n)
{
    size_t ahead[OPEN_PACKETS], used = 0, good = 0;

    make_keys(w, ops, n, ahead);
    for (size_t i = 0; i < n; i += TEXTS)
        good += check_tags(w, ops + i, n - i < TEXTS ? n - i : TEXTS, w->key + i);
    for (size_t i = 0; i < n; i++) {
        if (ops[i].ok) {
            if (ahead[i] > 0)
                use_ahead(&ops[i], w->ahead + used, ahead[i]);
            add_text(w, &ops[i], ahead[i]);
        } else if (ops[i].dst != ops[i].src) {
            memset(ops[i].dst, 0, ops[i].len);
        }
        used += ahead[i];
    }
    return good;
}

ISA static size_t work_open(struct work *w, struct aead_op *ops, size_t n)
{
    size_t good = 0, size;

    for (size_t i = 0; i < n; i += size) {
        size = open_group_size(ops + i, n - i);
        good += open_group(w, ops + i, size);
    }
    flush(w);
    return good;
}

#ifdef HASHING_PASSES
#include "hashing_batch_avx512.h"
#include "small_batch_avx512.h"
#endif

/* ---- the kernel's functions */

ISA static void batch_seal(const uint8_t key[32], struct aead_op *ops, size_t n)
{
    struct work w;

    work_init(&w, key);
#ifdef HASHING_PASSES
    const size_t done = small_seal(&w, ops, n);
    ops += done;
    n -= done;
    if (worth_hashing(ops, n))
        hashing_seal(&w, ops, n);
    else
#endif
    work_seal(&w, ops, n);
    work_wipe(&w, n);
    clear_registers();
}

ISA static size_t batch_open(const uint8_t key[32], struct aead_op *ops, size_t n)
{
    struct work w;
    size_t good = 0;

    work_init(&w, key);
#ifdef HASHING_PASSES
    const size_t done = small_open(&w, ops, n, &good);
    ops += done;
    n -= done;
    if (worth_hashing(ops, n))
        good += hashing_open(&w, ops, n);
    else
#endif
    good += work_open(&w, ops, n);
    work_wipe(&w, n);
    clear_registers();
    return good;
}

#endif
