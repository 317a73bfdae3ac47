/* SPDX-License-Identifier: MIT
 *
 * Inbound: socket -> index -> open -> window -> source check -> TUN.  Stage numbers
 * are those of pump.pyx.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>

#include "b2s.h"

#define MAC_BYTES 16
#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* ---- where a datagram came from */

/* Returns the size of the message's datagrams (0: it is one). */
static uint32_t read_control(struct msghdr *m, struct endpoint *from, uint8_t *tos)
{
    uint32_t segment = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            memcpy(from->source, &info.ipi_spec_dst, 4);
            from->source_ifindex = (uint32_t)info.ipi_ifindex;
            from->source_family = 4;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            memcpy(from->source, &info.ipi6_addr, 16);
            from->source_ifindex = info.ipi6_ifindex;
            from->source_family = 6;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            *tos = *CMSG_DATA(c);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            int tclass;
            memcpy(&tclass, CMSG_DATA(c), sizeof tclass);
            *tos = (uint8_t)tclass;
        } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            segment = size > 0 ? (uint32_t)size : 0;
        }
    }
    return segment;
}

static uint32_t read_address(struct worker *w, uint32_t m)
{
    struct inbox *in = &w->in;
    struct endpoint *from = &in->from[m];
    struct msghdr *h = &in->message[m].msg_hdr;

    in->tos[m] = 0;
    if (w->snapshot->connected) {
        *from = w->snapshot->far_end;
        return 0;
    }
    memset(from, 0, sizeof *from);
    if (in->address[m].sin6_family == AF_INET6) {
        struct sockaddr_in6 *a = &in->address[m];
        memcpy(from->address, &a->sin6_addr, 16);
        from->port = ntohs(a->sin6_port);
        from->scope_id = a->sin6_scope_id;
        from->family = 6;
    } else {
        struct sockaddr_in *a = (struct sockaddr_in *)&in->address[m];
        memcpy(from->address, &a->sin_addr, 4);
        from->port = ntohs(a->sin_port);
        from->family = 4;
    }
    return read_control(h, from, &in->tos[m]);
}

/* ---- handshake messages: mac1 first, so that garbage never reaches Python (R43) */

static bool mac1_matches(struct worker *w, const uint8_t *data, uint32_t length)
{
    uint32_t covered = length - 2 * MAC_BYTES;
    uint8_t mac[MAC_BYTES], different = 0;

    b2s_hash(mac, MAC_BYTES, w->snapshot->mac1_key, 32, data, covered);
    for (int i = 0; i < MAC_BYTES; i++)
        different |= mac[i] ^ data[covered + i];
    return different == 0;
}

static void handshake_message(struct worker *w, struct arrival *d, bool has_mac)
{
    if (!w->snapshot->has_key)
        drop(w, DROP_RX_NO_KEY);
    else if (has_mac && !mac1_matches(w, d->slot, d->length))
        drop(w, DROP_RX_MAC1);
    else if (!handshake_push(w->engine, &w->in.from[d->message], d->slot,
                             (uint16_t)d->length))
        drop(w, DROP_RX_HANDSHAKE_FULL);
}

/* ---- 6: after authentication */

/* The rules that a packet follows once its tag was good, in the kernel's order
 * (receive.c wg_packet_consume_data_done).  False: not for the TUN. */
static bool authenticated(struct worker *w, struct arrival *d, uint32_t length)
{
    const struct timing *t = &w->engine->timing;
    const struct endpoint *from = &w->in.from[d->message];
    struct keypair *k = d->keypair;
    struct path *p = k->path;
    uint32_t events = 0;

    if (!atomic_load_explicit(&p->dead, memory_order_relaxed)) {
        struct endpoint known;
        if (!endpoint_read(p, &known) || memcmp(&known, from, sizeof known)) {
            if (memcmp(known.address, from->address, 16) || known.port != from->port ||
                known.family != from->family)
                events |= EVENT_ROAMED;
            endpoint_write(p, from);
        }
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
    owner = v.version == 4 ? aip_lookup4(&w->snapshot->routes, v.source)
                           : aip_lookup6(&w->snapshot->routes, v.source);
    if (owner != d->keypair->path)
        drop(w, DROP_RX_SOURCE);
    else if (!ecn_decapsulate(packet, &v, w->in.tos[d->message]))
        drop(w, DROP_RX_ECN);
    else
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

static void data_message(struct worker *w, struct arrival *d)
{
    struct inbox *in = &w->in;
    uint64_t counter;

    memcpy(&counter, d->slot + 8, 8);
    d->keypair = find_keypair(w, d, counter);
    if (!d->keypair)
        return;
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
        data_message(w, d);
    else if (type < 1 || type > 3)
        drop(w, DROP_RX_TYPE);
    else if (d->length != (type == 1 ? 148u : type == 2 ? 92u : 64u))
        drop(w, DROP_RX_LENGTH);
    else
        handshake_message(w, d, type != 3);
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
    uint32_t length = in->message[m].msg_len, segment = read_address(w, m);
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
            .slot = at, .message = m, .length = length < segment ? length : segment};
        take_datagram(w, &d);
        at += d.length;
        length -= d.length;
        n++;
    } while (length);
    return n;
}

size_t inbound(struct worker *w, int family)
{
    int fd = w->snapshot->fd[family], n;
    size_t datagrams = 0;

    n = fd < 0 ? 0 : receive(w, fd);
    if (n == 0)
        return 0;
    for (int i = 0; i < n; i++)
        datagrams += take_message(w, (uint32_t)i);
    open_group(w);
    flush_merged(w);
    count_add(&w->counters.udp_received, datagrams);
    count_add(&w->counters.udp_receives, (uint64_t)n);
    return datagrams;
}
