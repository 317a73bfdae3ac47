/* SPDX-License-Identifier: MIT
 *
 * Inbound, stage 3 of pump.pyx: drain the socket, take messages apart, handshakes.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>

#include "b2s.h"

#define MAC_BYTES 16

/* ---- handshake messages: mac1 first, so that garbage never reaches Python (R43);
 * what has none has to be an answer that is awaited */

static bool mac1_matches(struct worker *w, const uint8_t *data, uint32_t length)
{
    uint32_t covered = length - 2 * MAC_BYTES;
    uint8_t mac[MAC_BYTES], different = 0;

    b2s_hash(mac, MAC_BYTES, w->snapshot->mac1_key, 32, data, covered);
    for (int i = 0; i < MAC_BYTES; i++)
        different |= mac[i] ^ data[covered + i];
    return different == 0;
}

/* Types 1 and 2. */
static void handshake_message(struct worker *w, struct arrival *d)
{
    if (!w->snapshot->has_key)
        drop(w, DROP_RX_NO_KEY);
    else if (!mac1_matches(w, d->slot, d->length))
        drop(w, DROP_RX_MAC1);
    else if (!handshake_push(w->engine, d->from, d->slot,
                             (uint16_t)d->length))
        drop(w, DROP_RX_HANDSHAKE_FULL);
}

/* Type 3: only one that is awaited, and each once (R47). */
static void cookie_reply(struct worker *w, struct arrival *d)
{
    struct awaited_cookie *taken = NULL;
    enum drop_reason why;

    if (!w->snapshot->has_key) {
        drop(w, DROP_RX_NO_KEY);
        return;
    }
    why = cookie_take(&w->engine->cookies, d->slot, &taken);
    if (why != DROP_NONE) {
        drop(w, why);
    } else if (!handshake_push(w->engine, d->from, d->slot, COOKIE_REPLY_LEN)) {
        drop(w, DROP_RX_HANDSHAKE_FULL);
        cookie_give_back(taken);
    }
}

/* R1: the type with its reserved bytes, and the exact length. */
static void take_datagram(struct worker *w, struct arrival *d)
{
    uint32_t type;

    if (d->length < DATA_HEADER_LEN + DATA_TAG_LEN) {
        drop(w, DROP_RX_LENGTH);
        return;
    }
    memcpy(&type, d->slot, 4);
    if (type == 4)
        take_data(w, d);
    else if (type < 1 || type > 3)
        drop(w, DROP_RX_TYPE);
    else if (d->length != (type == 1 ? 148u : type == 2 ? 92u : COOKIE_REPLY_LEN))
        drop(w, DROP_RX_LENGTH);
    else if (type == 3)
        cookie_reply(w, d);
    else
        handshake_message(w, d);
}

/* ---- 3: drain the socket */

static int receive(struct worker *w, int fd)
{
    struct inbox *in = &w->in;
    int n;

    for (uint32_t i = 0; i < IN_MESSAGES; i++) {
        in->iov[i] = (struct iovec){
            .iov_base = in->buffers + (size_t)i * IN_BYTES, .iov_len = IN_BYTES};
        in->message[i].msg_hdr = (struct msghdr){
            .msg_name = &in->address[i], .msg_namelen = sizeof in->address[i],
            .msg_iov = &in->iov[i], .msg_iovlen = 1,
            .msg_control = in->control[i], .msg_controllen = CONTROL_BYTES};
    }
    do /* ECONNREFUSED and the like are answers to earlier sends: look again */
        n = recvmmsg(fd, in->message, IN_MESSAGES, MSG_DONTWAIT, NULL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? 0 : n;
}

/* The datagrams of one message: all of one size but the last (U11). */
static size_t take_message(struct worker *w, uint32_t m)
{
    struct inbox *in = &w->in;
    uint32_t length = in->message[m].msg_len, segment = read_source(w, m);
    uint8_t *at = in->buffers + (size_t)m * IN_BYTES;
    size_t n = 0;

    if (in->message[m].msg_hdr.msg_flags & MSG_TRUNC) {
        drop(w, DROP_RX_TRUNCATED);
        return 1;
    }
    if (!segment || segment > length)
        segment = length;
    do {
        struct arrival d = {
            .slot = at, .length = length < segment ? length : segment,
            .tos = in->tos[m], .from = &in->from[m]};
        take_datagram(w, &d);
        at += d.length;
        length -= d.length;
        n++;
    } while (length);
    return n;
}

size_t inbound(struct worker *w, int family)
{
    int fd = w->receive_fd[family], n;
    size_t datagrams = 0;

    n = fd < 0 || !(w->look & LOOK_SOCKET(family)) ? 0 : receive(w, fd);
    if (n == 0)
        return 0;
    for (int i = 0; i < n; i++) {
        w->carried += w->in.message[i].msg_len;
        datagrams += take_message(w, (uint32_t)i);
    }
    deliver_all(w);
    count_add(&w->counters.udp_received, datagrams);
    count_add(&w->counters.udp_receives, (uint64_t)n);
    return datagrams;
}

/* What other lanes received for peers of this one: data messages only. */
size_t inbound_handed(struct worker *w)
{
    size_t taken = 0;

    for (unsigned i = 0; i < w->engine->lanes; i++) {
        struct ring *r = &w->lane->from[INBOUND][i];
        uint32_t length, n = 0;
        uint8_t *record;

        for (; n < BATCH_MAX && (record = ring_take(r, &length)); n++) {
            const struct stray *s = (const struct stray *)record;
            struct arrival d = {
                .slot = record + sizeof *s, .length = length - (uint32_t)sizeof *s,
                .tos = s->tos, .from = &s->from};
            take_data(w, &d);
            w->carried += length;
        }
        if (n) {
            deliver_all(w); /* packets are merged where they lie */
            ring_release(r);
        }
        taken += n;
    }
    return taken;
}
