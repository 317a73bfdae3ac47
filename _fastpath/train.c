/* SPDX-License-Identifier: MIT
 *
 * Trains: datagrams of one size behind each other leave with one message.
 */
#define _GNU_SOURCE
#include "worker.h"

#define TRAIN_MAX 64         /* UDP_MAX_SEGMENTS of older kernels */
#define TRAIN_BYTES_V4 65507 /* what a UDP datagram may hold; IPv6: 20 more */

uint32_t wire_length(const struct datagram *d)
{
    return DATA_HEADER_LEN + d->length + DATA_TAG_LEN;
}

/* How many datagrams from `from` on make one train. */
static uint32_t train_length(const struct worker *w, uint32_t from)
{
    const struct outbox *o = &w->out;
    const struct datagram *first = &o->datagram[from];
    uint32_t stride = wire_length(first), bytes = stride, n = 1;

    while (from + n < o->count && n < TRAIN_MAX) {
        const struct datagram *d = &o->datagram[from + n];
        if (d->keypair->path != first->keypair->path || d->tos != first->tos ||
            d->slot != first->slot + bytes || wire_length(d) > stride ||
            bytes + wire_length(d) > TRAIN_BYTES_V4)
            break;
        n++;
        bytes += wire_length(d);
        if (wire_length(d) < stride)
            return n; /* a shorter one ends it (U5) */
    }
    return w->engine->uneven_trains ? 1 : n;
}

static bool trains_allowed(struct worker *w, uint32_t datagram)
{
    const struct datagram *first = &w->out.datagram[datagram];
    struct path *p = first->keypair->path;
    struct endpoint to;

    if (w->snapshot->connected || trains_refused(p, wire_length(first), w->now) ||
        !endpoint_read(p, &to))
        return false;
    return !atomic_load_explicit(&w->engine->gso_off[to.family == 6],
                                 memory_order_relaxed);
}

void send_out(struct worker *w)
{
    struct outbox *o = &w->out;
    uint32_t messages = 0, from = 0;
    int fd = -1;

    o->first[0] = 0;
    for (uint32_t i = 0; i < o->count; messages++) {
        uint32_t n = trains_allowed(w, i) ? train_length(w, i) : 1;
        const struct datagram *last = &o->datagram[i + n - 1];
        int its;

        o->first[messages + 1] = i + n;
        o->iov[messages] = (struct iovec){
            .iov_base = o->datagram[i].slot,
            .iov_len = (size_t)(last->slot + wire_length(last) - o->datagram[i].slot)};
        its = address_message(w, messages, n, true);
        if (its != fd) {
            if (fd >= 0)
                send_run(w, fd, from, messages);
            from = messages;
            fd = its;
        }
        i += n;
    }
    if (fd >= 0)
        send_run(w, fd, from, messages);
    o->count = o->sealed = o->used = 0;
}
