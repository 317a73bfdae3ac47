/* SPDX-License-Identifier: MIT
 *
 * Outbound: TUN -> route -> seal -> socket.  Stage numbers are those of pump.pyx.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <stdlib.h>
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

/* ---- 4: header, padding, counter; then all of one keypair at once */

static void write_header(struct datagram *d, uint64_t counter, uint32_t mtu)
{
    uint32_t padded = padded_length(d->length, mtu);
    uint8_t *s = d->slot;
    uint32_t type = 4; /* little endian machines only, see pump.pyx */

    memset(s + SLOT_PACKET_OFFSET + d->length, 0, padded - d->length);
    d->length = padded;
    memcpy(s, &type, 4);
    memcpy(s + 4, &d->keypair->remote_index, 4);
    memcpy(s + 8, &counter, 8);
}

/* Seals datagrams [from, count), all of one keypair.  Those past the counter limit
 * are dropped from the batch: staged again, a handshake follows (R28). */
static void seal_group(struct worker *w, struct batch *b, size_t from)
{
    size_t n = b->count - from;
    struct keypair *k;
    uint64_t counter;

    if (!n)
        return;
    k = b->datagram[from].keypair;
    counter = atomic_fetch_add(&k->send_counter, n);
    for (size_t i = 0; i < n; i++) {
        struct datagram *d = &b->datagram[from + i];
        if (counter + i >= REJECT_AFTER_MESSAGES || counter + i < counter) {
            atomic_store(&k->sending_invalid, true);
            for (size_t j = from + i; j < b->count; j++) {
                struct datagram *late = &b->datagram[j];
                if (!late->keepalive)
                    stage(w, k->path, late->slot + SLOT_PACKET_OFFSET, late->length);
                free(late->staged);
            }
            b->count = from + i;
            n = i;
            break;
        }
        write_header(d, counter + i, w->snapshot->mtu);
        b->op[i] = (struct aead_op){
            .src = d->slot + SLOT_PACKET_OFFSET,
            .dst = d->slot + SLOT_PACKET_OFFSET,
            .len = d->length,
            .nonce = counter + i,
        };
    }
    if (n)
        w->engine->aead->seal_batch(k->send_key, b->op, n);
    keep_key_fresh(w, k);
}

/* ---- staged packets and commands */

static void send_staged(struct worker *w, struct path *p, struct keypair *k)
{
    struct batch *b = &w->out;
    struct staged *s;

    do {
        while (b->count < BATCH_MAX &&
               (s = path_unstage(p, &w->engine->staged_bytes))) {
            b->datagram[b->count++] = (struct datagram){
                .slot = s->slot, .length = s->length, .keypair = k, .staged = s};
        }
        seal_group(w, b, 0);
        send_batch(w, b);
    } while (p->staged_first && usable(w, k));
}

static void send_keepalive(struct worker *w, struct keypair *k)
{
    struct batch *b = &w->out;

    b->datagram[0] = (struct datagram){
        .slot = batch_slot(b, 0), .keypair = k, .keepalive = true};
    b->count = 1;
    seal_group(w, b, 0);
    send_batch(w, b);
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

/* The packet's datagram in the batch, or false when it went another way. */
static bool classify(struct worker *w, uint8_t *slot, uint32_t length,
                     struct datagram *d)
{
    struct vnet_header vnet;
    struct ip_view v;
    uint8_t *packet = slot + SLOT_PACKET_OFFSET;
    struct path *p;

    memcpy(&vnet, slot + SLOT_VNET_OFFSET, VNET_HDR_LEN);
    if (!vnet_complete(&vnet, packet, length)) {
        drop(w, DROP_TX_VNET_HEADER);
        return false;
    }
    if (!ip_parse(packet, length, &v)) {
        drop(w, DROP_TX_MALFORMED);
        return false;
    }
    p = route(w, packet, &v);
    if (!p)
        return false;
    *d = (struct datagram){
        .slot = slot, .length = length, .tos = v.tos & 3,
        .keypair = atomic_load_explicit(&p->sending, memory_order_acquire)};
    if (!usable(w, d->keypair)) {
        stage(w, p, packet, length);
        return false;
    }
    if (p->staged_first) {
        /* behind those that wait already, so that order holds (R30) */
        stage(w, p, packet, length);
        commands_push(&w->engine->commands, p, COMMAND_FLUSH);
        return false;
    }
    return true;
}

/* ---- 1: drain the TUN */

static ssize_t tun_read(struct worker *w, uint8_t *slot)
{
    struct engine *e = w->engine;
    ssize_t n;

    do
        n = read(e->tun_fd, slot + SLOT_VNET_OFFSET, VNET_HDR_LEN + 65536);
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
    struct batch *b = &w->out;
    size_t read = 0, group = 0;

    if (atomic_load_explicit(&w->engine->tun_gone, memory_order_relaxed))
        return 0;
    for (; read < BATCH_MAX; read++) {
        struct datagram d;
        uint8_t *slot = batch_slot(b, read);
        ssize_t length = tun_read(w, slot);

        if (length < 0)
            break;
        if (!classify(w, slot, (uint32_t)length, &d))
            continue;
        if (b->count > group && b->datagram[b->count - 1].keypair != d.keypair) {
            seal_group(w, b, group);
            group = b->count;
        }
        b->datagram[b->count++] = d;
    }
    seal_group(w, b, group);
    send_batch(w, b);
    count_add(&w->counters.tun_read, read);
    return read;
}
