/* SPDX-License-Identifier: MIT
 *
 * Outbound: TUN -> route -> seal -> socket.  Stage numbers are those of pump.pyx.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#define ICMP_PER_SECOND 100
#define ASK_AGAIN 200000000u /* ns */

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

static bool usable(struct worker *w, struct keypair *k)
{
    return k && !atomic_load_explicit(&k->sending_invalid, memory_order_relaxed) &&
           keypair_age(k, w->now) < w->engine->timing.reject_after_time &&
           atomic_load_explicit(&k->send_counter, memory_order_relaxed) <
               REJECT_AFTER_MESSAGES;
}

/* R25: ask for a new session, at most every REKEY_TIMEOUT. */
static void keep_key_fresh(struct worker *w, struct keypair *k)
{
    const struct timing *t = &w->engine->timing;
    uint64_t asked;

    if (!(k->initiator && keypair_age(k, w->now) >= t->rekey_after_time) &&
        atomic_load_explicit(&k->send_counter, memory_order_relaxed) <=
            REKEY_AFTER_MESSAGES)
        return;
    asked = atomic_load_explicit(&k->rekey_asked, memory_order_relaxed);
    if (asked && w->now - asked < t->rekey_timeout)
        return;
    atomic_store_explicit(&k->rekey_asked, w->now, memory_order_relaxed);
    post(w, k->path, EVENT_REKEY);
}

static void stage(struct worker *w, struct path *p, const uint8_t *packet,
                  uint32_t length)
{
    enum drop_reason reason =
        path_stage(p, &w->engine->staged_bytes, packet, length);

    if (reason)
        drop(w, reason);
    /* told at the first packet, then now and again, not for each one of a flood */
    if (atomic_load_explicit(&p->staged_count, memory_order_relaxed) > 1 &&
        w->now - p->asked_for_session < ASK_AGAIN)
        return;
    p->asked_for_session = w->now;
    post(w, p, EVENT_NEEDS_SESSION);
}

/* ---- 4: counters and headers, then all of one keypair at once */

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

static void flush(struct worker *w)
{
    seal(w);
    send_out(w);
}

/* Where a packet of up to `length` bytes goes, header included; flushes for room. */
static uint8_t *out_room(struct worker *w, uint32_t length)
{
    struct outbox *o = &w->out;
    uint32_t need = SLOT_PACKET_OFFSET + length + PADDING_MULTIPLE + DATA_TAG_LEN;

    if (o->count == OUT_MAX || o->used + need > ARENA_BYTES)
        flush(w);
    return o->arena + o->used;
}

/* The packet is in place behind the header of the slot that out_room gave. */
static void out_add(struct worker *w, struct keypair *k, uint32_t length, uint8_t tos)
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

/* ---- staged packets and commands */

static void send_staged(struct worker *w, struct path *p, struct keypair *k)
{
    struct staged *s;

    while (usable(w, k) && (s = path_unstage(p, &w->engine->staged_bytes))) {
        uint8_t *slot = out_room(w, s->length);
        memcpy(slot + SLOT_PACKET_OFFSET, s->slot + SLOT_PACKET_OFFSET, s->length);
        out_add(w, k, s->length, 0);
        free(s);
    }
    flush(w);
}

static void send_keepalive(struct worker *w, struct keypair *k)
{
    out_room(w, 0);
    out_add(w, k, 0, 0);
    flush(w);
}

static void purge(struct worker *w, struct path *p)
{
    count_add(&w->counters.drops[DROP_TX_PURGED],
              path_purge(p, &w->engine->staged_bytes));
}

static void run_command(struct worker *w, struct path *p, uint32_t bits)
{
    struct keypair *k = atomic_load(&p->sending);

    if (bits & COMMAND_PURGE || atomic_load(&p->dead))
        purge(w, p);
    if (!(bits & (COMMAND_FLUSH | COMMAND_KEEPALIVE)))
        return;
    if (!usable(w, k)) {
        /* a keepalive without a session asks for one */
        if (p->staged_first || bits & COMMAND_KEEPALIVE)
            post(w, p, EVENT_NEEDS_SESSION);
    } else if (p->staged_first) {
        send_staged(w, p, k);
    } else if (bits & COMMAND_KEEPALIVE) {
        send_keepalive(w, k);
    }
}

void run_commands(struct worker *w)
{
    struct path *p = stack_take(&w->engine->commands), *next;

    for (; p; p = next) {
        next = p->command_next;
        run_command(w, p, command_begin(p));
        command_end(&w->engine->commands, p);
    }
}

/* ---- 2, 3: validate and route */

static void unreachable(struct worker *w, const uint8_t *packet,
                        const struct ip_view *v)
{
    uint8_t room[SLOT_PACKET_OFFSET + ICMP_REPLY_MAX];
    uint32_t length;

    if (w->now - w->icmp_refill >= 1000000000u) {
        w->icmp_refill = w->now;
        w->icmp_tokens = ICMP_PER_SECOND;
    }
    if (!w->icmp_tokens)
        return;
    length = icmp_unreachable(packet, v, room + SLOT_PACKET_OFFSET);
    if (!length)
        return;
    w->icmp_tokens--;
    tun_write(w, room + SLOT_PACKET_OFFSET, length);
}

static struct path *route(struct worker *w, const uint8_t *packet,
                          const struct ip_view *v)
{
    struct path *p = v->version == 4
                         ? aip_lookup4(&w->snapshot->routes, v->destination)
                         : aip_lookup6(&w->snapshot->routes, v->destination);
    struct endpoint to;

    if (!p) {
        drop(w, DROP_TX_NO_ROUTE);
        unreachable(w, packet, v);
        return NULL;
    }
    if (!w->snapshot->connected && !endpoint_read(p, &to)) {
        drop(w, DROP_TX_NO_ENDPOINT);
        unreachable(w, packet, v);
        return NULL;
    }
    return p;
}

/* The keypair for packets to `p` now; NULL: they have to be staged. */
static struct keypair *session(struct worker *w, struct path *p)
{
    struct keypair *k = atomic_load_explicit(&p->sending, memory_order_acquire);

    if (!usable(w, k))
        return NULL;
    if (p->staged_first) {
        /* behind those that wait already, so that order holds (R30) */
        commands_push(&w->engine->commands, p, COMMAND_FLUSH);
        return NULL;
    }
    return k;
}

/* One packet, at `packet`, which is the arena's next slot or somewhere else. */
static void take_packet(struct worker *w, const struct vnet_header *h, uint8_t *packet,
                        uint32_t length)
{
    struct ip_view v;
    struct keypair *k;
    struct path *p;
    uint8_t *slot;

    if (!vnet_complete(h, packet, length)) {
        drop(w, DROP_TX_VNET_HEADER);
        return;
    }
    if (!ip_parse(packet, length, &v)) {
        drop(w, DROP_TX_MALFORMED);
        return;
    }
    p = route(w, packet, &v);
    if (!p)
        return;
    k = session(w, p);
    if (!k) {
        stage(w, p, packet, length);
        return;
    }
    slot = w->out.arena + w->out.used;
    if (packet != slot + SLOT_PACKET_OFFSET) {
        slot = out_room(w, length);
        memcpy(slot + SLOT_PACKET_OFFSET, packet, length);
    }
    out_add(w, k, length, v.tos & 3);
}

/* One large packet: all segments go the same way. */
static void take_large(struct worker *w, const struct vnet_header *h,
                       const uint8_t *packet, uint32_t length)
{
    struct gso_plan plan;
    struct ip_view v;
    struct keypair *k;
    struct path *p;

    if (!gso_plan(h, packet, length, &plan) || !ip_parse(packet, length, &v)) {
        drop(w, DROP_TX_VNET_HEADER);
        return;
    }
    p = route(w, packet, &v);
    if (!p)
        return;
    for (uint32_t i = 0; i < plan.segments; i++) {
        uint8_t *slot = out_room(w, plan.header + plan.size);
        uint32_t n = gso_segment(&plan, i, slot + SLOT_PACKET_OFFSET);
        k = session(w, p); /* it may wear out on the way */
        if (k)
            out_add(w, k, n, v.tos & 3);
        else
            stage(w, p, slot + SLOT_PACKET_OFFSET, n);
    }
}

/* ---- 1: drain the TUN */

/* A packet of up to DIRECT_BYTES lands in the arena behind room for its header;
 * a larger one goes on in `large`, with as much room in front. */
static ssize_t tun_read(struct worker *w, uint8_t *slot)
{
    struct engine *e = w->engine;
    struct iovec piece[2] = {
        {.iov_base = slot + SLOT_VNET_OFFSET, .iov_len = VNET_HDR_LEN + DIRECT_BYTES},
        {.iov_base = w->out.large + DIRECT_BYTES, .iov_len = 65536},
    };
    ssize_t n;

    do
        n = readv(e->tun_fd, piece, 2);
    while (n < 0 && errno == EINTR);
    if (n >= VNET_HDR_LEN)
        return n - VNET_HDR_LEN;
    if (n < 0 && (errno == EAGAIN || errno == EIO))
        return -1;
    if (n > 0)
        return 0;
    atomic_store(&e->tun_gone, true); /* end of file, EBADFD (E7), ECONNRESET */
    engine_signal(e);
    return -1;
}

size_t outbound(struct worker *w)
{
    size_t reads = 0;

    if (atomic_load_explicit(&w->engine->tun_gone, memory_order_relaxed))
        return 0;
    for (; reads < BATCH_MAX; reads++) {
        uint8_t *slot = out_room(w, DIRECT_BYTES), *packet = slot + SLOT_PACKET_OFFSET;
        ssize_t length = tun_read(w, slot);
        struct vnet_header h;

        if (length < 0)
            break;
        memcpy(&h, slot + SLOT_VNET_OFFSET, VNET_HDR_LEN);
        if (length > DIRECT_BYTES) {
            memcpy(w->out.large, packet, DIRECT_BYTES);
            packet = w->out.large;
        }
        if (h.gso_type != VNET_GSO_NONE && w->engine->tun_gso) {
            if (packet != w->out.large) {
                memcpy(w->out.large, packet, (size_t)length);
                packet = w->out.large;
            }
            take_large(w, &h, packet, (uint32_t)length);
        } else {
            take_packet(w, &h, packet, (uint32_t)length);
        }
    }
    flush(w);
    count_add(&w->counters.tun_read, reads);
    return reads;
}
