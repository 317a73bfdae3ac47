/* SPDX-License-Identifier: MIT
 *
 * Outbound, stage 4 of pump.pyx: counters and headers, then all of one keypair at once.
 */
#define _GNU_SOURCE
#include "worker.h"

/* R60: to the next 16, never past the MTU. */
static uint32_t padded_length(uint32_t length, uint32_t mtu)
{
    uint32_t last = length, padded;

    if (mtu && last > mtu)
        last %= mtu;
    padded = (last + PADDING_MULTIPLE - 1) & ~(uint32_t)(PADDING_MULTIPLE - 1);
    if (mtu && padded > mtu)
        padded = mtu > last ? mtu : last;
    return length - last + padded;
}

bool usable(struct worker *w, struct keypair *k)
{
    return k && !atomic_load_explicit(&k->sending_invalid, memory_order_relaxed) &&
           keypair_age(k, w->now) < w->engine->timing.reject_after_time &&
           atomic_load_explicit(&k->send_counter, memory_order_relaxed) <
               REJECT_AFTER_MESSAGES;
}

/* R25: ask for a new session, at most every REKEY_TIMEOUT. */
static void keep_key_fresh(struct worker *w, struct keypair *k)
{
    const struct snapshot *s = w->snapshot;
    uint64_t asked;

    if (!(k->initiator && keypair_age(k, w->now) >= s->rekey_after_time) &&
        atomic_load_explicit(&k->send_counter, memory_order_relaxed) <=
            s->rekey_after_messages)
        return;
    asked = atomic_load_explicit(&k->rekey_asked, memory_order_relaxed);
    if (asked && w->now - asked < w->engine->timing.rekey_timeout)
        return;
    atomic_store_explicit(&k->rekey_asked, w->now, memory_order_relaxed);
    post(w, k->path, EVENT_REKEY);
}

static void write_header(struct datagram *d, uint64_t counter)
{
    uint8_t *s = d->slot;
    uint32_t type = 4; /* little endian machines only, see pump.pyx */

    memcpy(s, &type, 4);
    memcpy(s + 4, &d->keypair->remote_index, 4);
    memcpy(s + 8, &counter, 8);
}

/* Past the counter limit: out of the box, staged again, a handshake follows (R28). */
static void give_up_group(struct worker *w, struct keypair *k, uint32_t from)
{
    struct outbox *o = &w->out;

    atomic_store(&k->sending_invalid, true);
    for (uint32_t i = from; i < o->count; i++) {
        struct datagram *d = &o->datagram[i];
        if (!d->keepalive)
            stage(w, k->path, d->slot + SLOT_PACKET_OFFSET, d->inner);
    }
    o->count = from;
}

/* Seals what is not sealed yet; it is all of one keypair. */
static void seal(struct worker *w)
{
    struct outbox *o = &w->out;
    uint32_t from = o->sealed, n = o->count - from;
    struct keypair *k;
    uint64_t counter;

    if (!n)
        return;
    k = o->datagram[from].keypair;
    counter = atomic_fetch_add(&k->send_counter, n);
    if (counter >= REJECT_AFTER_MESSAGES || counter + n > REJECT_AFTER_MESSAGES) {
        uint64_t left = counter < REJECT_AFTER_MESSAGES
                            ? REJECT_AFTER_MESSAGES - counter
                            : 0;
        give_up_group(w, k, from + (uint32_t)left);
        n = (uint32_t)left;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct datagram *d = &o->datagram[from + i];
        write_header(d, counter + i);
        o->op[i] = (struct aead_op){
            .src = d->slot + SLOT_PACKET_OFFSET,
            .dst = d->slot + SLOT_PACKET_OFFSET,
            .len = d->length,
            .nonce = counter + i,
        };
    }
    if (n)
        w->engine->aead->seal_batch(k->send_key, o->op, n);
    o->sealed = o->count;
    keep_key_fresh(w, k);
}

void out_flush(struct worker *w)
{
    seal(w);
    send_out(w);
}

uint8_t *out_room(struct worker *w, uint32_t length)
{
    struct outbox *o = &w->out;
    uint32_t need = SLOT_PACKET_OFFSET + length + PADDING_MULTIPLE + DATA_TAG_LEN;

    if (o->count == OUT_MAX || o->used + need > ARENA_BYTES)
        out_flush(w);
    return o->arena + o->used;
}

void out_add(struct worker *w, struct keypair *k, uint32_t length, uint8_t tos)
{
    struct outbox *o = &w->out;
    uint8_t *slot = o->arena + o->used;
    uint32_t padded = padded_length(length, w->snapshot->mtu);

    if (o->count > o->sealed && o->datagram[o->count - 1].keypair != k)
        seal(w);
    memset(slot + SLOT_PACKET_OFFSET + length, 0, padded - length);
    o->datagram[o->count++] = (struct datagram){
        .slot = slot, .length = padded, .inner = length, .tos = tos, .keypair = k,
        .keepalive = length == 0};
    o->used += SLOT_PACKET_OFFSET + padded + DATA_TAG_LEN;
}
