/* SPDX-License-Identifier: MIT
 *
 * How larger batches go: the passes of ChaCha20 take the Poly1305 of other packets with
 * them (hasher_avx512.h), which costs almost nothing.  They take three quarters of it;
 * when TEXTS packets more wait than soon find a place, these get their tags together.
 *
 * Sealing: packets wait once they are encrypted.  Opening: packets wait once their
 * one-time keys are there, and are decrypted in the order in which they were proven.
 */
#ifndef TUNNEL_KERNELS_HASHING_BATCH_AVX512_H
#define TUNNEL_KERNELS_HASHING_BATCH_AVX512_H

#include "work.h"
#include "x86.h"

#define SOON 2      /* packets that are left for the next pass */
#define KEYS_LOW 16 /* so few keys left: as many more are made */
#define MEAN 12     /* blocks of a packet from which this is faster */

/* Measured only on Zen 4 (family 0x19), where it saves a seventh.  Zen 5 (0x1a) does
 * twice as many vector instructions in a cycle, with half the time between them; it
 * keeps the general way, with which it was measured, and so do its successors. */
int aead_avx512_hashing_pays(unsigned amd)
{
    return amd < 0x1a;
}

/* 0: no; -1: nobody asked yet */
int aead_avx512_hashing = -1;

static void hashing_choose(void)
{
    if (aead_avx512_hashing < 0)
        aead_avx512_hashing = aead_avx512_hashing_pays(amd_family());
}

/* Whether enough is encrypted or decrypted while other packets wait. */
ISA static bool worth_hashing(const struct aead_op *ops, size_t n)
{
    size_t blocks = 0;

    if (n <= TEXTS || aead_avx512_hashing == 0)
        return false;
    for (size_t i = 0; i < n; i++)
        blocks += text_blocks(&ops[i]);
    return blocks >= MEAN * n;
}

/* The tags of up to TEXTS packets that wait. */
ISA __attribute__((noinline)) static void hash_together(struct work *w)
{
    struct hasher *h = &w->hasher;
    const size_t waiting = h->ready - h->next, n = waiting < TEXTS ? waiting : TEXTS;
    const size_t at = h->next % RING;
    struct aead_op *ops = h->ops + h->next;
    const uint8_t (*key)[BLOCK] = (const void *)(w->key + at);

    if (at + n > RING) { /* around the end */
        for (size_t i = 0; i < n; i++)
            memcpy(w->ahead[i], w->key[(at + i) % RING], BLOCK);
        w->ahead_most = TEXTS;
        key = (const void *)w->ahead;
    }
    h->next += n;
    if (!h->opening) {
        add_tags(w, ops, n, key);
        return;
    }
    check_tags(w, ops, n, key);
    for (size_t i = 0; i < n; i++) {
        h->blocks -= text_blocks(&ops[i]);
        hasher_opened(h, &ops[i]);
    }
}

ISA static void hashing_seal(struct work *w, struct aead_op *ops, size_t n)
{
    struct hasher *h = &w->hasher;

    hasher_init(h, ops, n, (const void *)w->key, false);
    for (size_t i = 0; i < n; i++) {
        const size_t passes = w->passes;
        add_packet(w, &ops[i], w->key[i % RING]);
        if (w->passes != passes)
            h->ready = i + (w->lanes.used == 0);
        while (h->ready - h->next >= TEXTS + SOON)
            hash_together(w);
    }
    flush(w);
    h->ready = n;
    hasher_finish(h);
    while (h->next < n)
        hash_together(w);
}

ISA static size_t hashing_open(struct work *w, struct aead_op *ops, size_t n)
{
    struct hasher *h = &w->hasher;
    size_t keyed = 0, passes = 0;

    hasher_init(h, ops, n, (const void *)w->key, true);
    for (;;) {
        if (keyed < n && keyed - h->next < KEYS_LOW) {
            const size_t wanted = keyed + (keyed ? KEYS_LOW : LANES);
            for (; keyed < n && keyed < wanted; keyed++)
                add_key(w, &ops[keyed], w->key[keyed % RING]);
            passes = w->passes;
        }
        if (w->passes != passes || w->lanes.used == 0)
            h->ready = keyed;
        if (h->first_proven != h->end_proven)
            add_text(w, h->proven[h->first_proven++ % RING], 0);
        else if (h->next < h->ready)
            hash_together(w);
        else if (h->ready < keyed)
            flush(w);
        else if (hasher_waits(h))
            hasher_finish(h);
        else
            break;
    }
    flush(w);
    return h->good;
}

#endif
