/* SPDX-License-Identifier: MIT
 *
 * Inbound, stages 4 to 7 of pump.pyx: keypair, open, window, source check, TUN.
 */
#define _GNU_SOURCE
#include "worker.h"

/* ---- 6: after authentication */

/* The rules that a packet follows once its tag was good, in the kernel's order
 * (receive.c wg_packet_consume_data_done).  False: not for the TUN. */
static bool authenticated(struct worker *w, struct arrival *d, uint32_t length)
{
    const struct timing *t = &w->engine->timing;
    const struct endpoint *from = d->from;
    struct keypair *k = d->keypair;
    struct path *p = k->path;
    uint32_t events = 0;

    if (!atomic_load_explicit(&p->dead, memory_order_relaxed)) {
        struct endpoint known;
        if (!endpoint_read(p, &known) || memcmp(&known, from, sizeof known))
            events |= endpoint_meet(p, from, w->now);
    }
    if (atomic_load_explicit(&k->awaiting_confirmation, memory_order_relaxed) &&
        atomic_exchange(&k->awaiting_confirmation, false)) {
        path_confirm(p, k); /* at once: an answer may follow in this batch */
        events |= EVENT_CONFIRMED;
    }
    if (k->initiator && keypair_age(k, w->now) >= t->last_minute &&
        !atomic_exchange(&k->last_minute_asked, true))
        events |= EVENT_LAST_MINUTE;
    atomic_fetch_add_explicit(&p->rx_bytes, d->length, memory_order_relaxed);
    path_received(p, w->now);
    if (length)
        events |= path_received_data(p, w->now);
    post(w, p, events);
    return length != 0;
}

static bool window_accepts(struct worker *w, struct keypair *k, uint64_t counter)
{
    switch (replay_check_and_update(&k->window, counter, REJECT_AFTER_MESSAGES)) {
    case REPLAY_OK:
        return true;
    case REPLAY_DUPLICATE:
        drop(w, DROP_RX_REPLAY);
        return false;
    case REPLAY_LIMIT:
        drop(w, DROP_RX_COUNTER);
        return false;
    default:
        drop(w, DROP_RX_TOO_OLD);
        return false;
    }
}

/* ---- 7: inner packet: whole, from an address of this peer, to the TUN */

static void give(struct worker *w, uint8_t *packet, const struct ip_view *v)
{
    struct gro *g = &w->in.gro;
    struct gro_item *before;

    if (atomic_load_explicit(&w->engine->tun_gone, memory_order_relaxed))
        return;
    while (g->tcp || g->udp) {
        if (gro_take(g, packet, v, &before))
            return;
        if (!before)
            break;
        tun_write_merged(w, before);
    }
    tun_write(w, packet, v->length);
}

static void deliver(struct worker *w, struct arrival *d, uint32_t length)
{
    uint8_t *packet = d->slot + SLOT_PACKET_OFFSET;
    struct ip_view v;
    struct path *owner;

    if (!ip_parse(packet, length, &v)) {
        drop(w, DROP_RX_MALFORMED);
        return;
    }
    /* longest prefix over the whole table, not this peer's list (R53) */
    owner = aip_memo_lookup(&w->source_memo, &w->snapshot->routes, v.version, v.source);
    if (owner != d->keypair->path) {
        drop(w, DROP_RX_SOURCE);
        return;
    }
    ecn_decapsulate(packet, &v, d->tos);
    give(w, packet, &v);
}

static void flush_merged(struct worker *w)
{
    for (uint32_t i = 0; i < GRO_FLOWS; i++)
        if (w->in.gro.item[i].pieces)
            tun_write_merged(w, &w->in.gro.item[i]);
}

/* ---- 5: open a run of one keypair */

static void open_group(struct worker *w)
{
    struct inbox *in = &w->in;
    struct keypair *k;

    if (!in->count)
        return;
    k = in->arrival[0].keypair;
    w->engine->aead->open_batch(k->receive_key, in->op, in->count);
    for (uint32_t i = 0; i < in->count; i++) {
        struct arrival *d = &in->arrival[i];
        struct aead_op *op = &in->op[i];
        if (!op->ok)
            drop(w, DROP_RX_AUTH);
        else if (window_accepts(w, k, op->nonce) && authenticated(w, d, op->len))
            deliver(w, d, op->len);
    }
    in->count = 0;
}

/* ---- 4: which keypair */

static struct keypair *find_keypair(struct worker *w, const struct arrival *d,
                                    uint64_t counter)
{
    uint32_t index;
    struct keypair *k;

    memcpy(&index, d->slot + 4, 4);
    k = index_lookup(&w->engine->index, index);
    if (!k) {
        drop(w, DROP_RX_INDEX);
        return NULL;
    }
    if (keypair_age(k, w->now) >= w->engine->timing.reject_after_time) {
        drop(w, DROP_RX_EXPIRED);
        return NULL;
    }
    if (counter >= REJECT_AFTER_MESSAGES) {
        drop(w, DROP_RX_COUNTER);
        return NULL;
    }
    return k;
}

/* It came in on the wrong socket: to the owner of the replay window. */
static void hand_datagram(struct worker *w, const struct arrival *d)
{
    unsigned lane = d->keypair->path->lane;
    uint32_t length = (uint32_t)sizeof(struct stray) + d->length;
    uint8_t *room = hand_room(w, INBOUND, lane, length);

    if (!room)
        return;
    *(struct stray *)room = (struct stray){.from = *d->from, .tos = d->tos};
    memcpy(room + sizeof(struct stray), d->slot, d->length);
    hand_push(w, INBOUND, lane, length);
}

void take_data(struct worker *w, struct arrival *d)
{
    struct inbox *in = &w->in;
    uint64_t counter;

    memcpy(&counter, d->slot + 8, 8);
    d->keypair = find_keypair(w, d, counter);
    if (!d->keypair)
        return;
    if (d->keypair->path->lane != w->number) {
        hand_datagram(w, d);
        return;
    }
    if (in->count == BATCH_MAX ||
        (in->count && in->arrival[0].keypair != d->keypair))
        open_group(w);
    in->op[in->count] = (struct aead_op){
        .src = d->slot + SLOT_PACKET_OFFSET,
        .dst = d->slot + SLOT_PACKET_OFFSET,
        .len = d->length - DATA_HEADER_LEN - DATA_TAG_LEN,
        .nonce = counter,
    };
    in->arrival[in->count++] = *d;
}

void deliver_all(struct worker *w)
{
    open_group(w);
    flush_merged(w);
}
