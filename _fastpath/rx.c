/* SPDX-License-Identifier: MIT
 *
 * Inbound: socket -> index -> open -> window -> source check -> TUN.  Stage numbers
 * are those of pump.pyx.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <arpa/inet.h>
#include <errno.h>

#include "b2s.h"

#define MAC_BYTES 16

/* ---- where a datagram came from */

static void read_control(struct msghdr *m, struct datagram *d)
{
    struct endpoint *from = &d->from;

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
            d->tos = *CMSG_DATA(c);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            int tclass;
            memcpy(&tclass, CMSG_DATA(c), sizeof tclass);
            d->tos = (uint8_t)tclass;
        }
    }
}

static void read_address(struct worker *w, struct batch *b, size_t i)
{
    struct datagram *d = &b->datagram[i];
    struct msghdr *m = &b->message[i].msg_hdr;
    struct endpoint *from = &d->from;

    if (w->snapshot->connected) {
        *from = w->snapshot->far_end;
        return;
    }
    memset(from, 0, sizeof *from);
    if (b->address[i].sin6_family == AF_INET6) {
        struct sockaddr_in6 *a = &b->address[i];
        memcpy(from->address, &a->sin6_addr, 16);
        from->port = ntohs(a->sin6_port);
        from->scope_id = a->sin6_scope_id;
        from->family = 6;
    } else {
        struct sockaddr_in *a = (struct sockaddr_in *)&b->address[i];
        memcpy(from->address, &a->sin_addr, 4);
        from->port = ntohs(a->sin_port);
        from->family = 4;
    }
    read_control(m, d);
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

static void handshake_message(struct worker *w, struct datagram *d, bool has_mac)
{
    if (!w->snapshot->has_key)
        drop(w, DROP_RX_NO_KEY);
    else if (has_mac && !mac1_matches(w, d->slot, d->length))
        drop(w, DROP_RX_MAC1);
    else if (!handshake_push(w->engine, &d->from, d->slot, (uint16_t)d->length))
        drop(w, DROP_RX_HANDSHAKE_FULL);
}

/* ---- 6: after authentication */

/* The rules that a packet follows once its tag was good, in the kernel's order
 * (receive.c wg_packet_consume_data_done).  False: not for the TUN. */
static bool authenticated(struct worker *w, struct datagram *d, uint32_t length)
{
    const struct timing *t = &w->engine->timing;
    struct keypair *k = d->keypair;
    struct path *p = k->path;
    uint32_t events = 0;

    if (!atomic_load_explicit(&p->dead, memory_order_relaxed)) {
        struct endpoint known;
        if (!endpoint_read(p, &known) || memcmp(&known, &d->from, sizeof known)) {
            if (memcmp(known.address, d->from.address, 16) ||
                known.port != d->from.port || known.family != d->from.family)
                events |= EVENT_ROAMED;
            endpoint_write(p, &d->from);
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

static void deliver(struct worker *w, struct datagram *d, uint32_t length)
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
    if (owner != d->keypair->path) {
        drop(w, DROP_RX_SOURCE);
        return;
    }
    if (!ecn_decapsulate(packet, &v, d->tos)) {
        drop(w, DROP_RX_ECN);
        return;
    }
    if (!atomic_load_explicit(&w->engine->tun_gone, memory_order_relaxed))
        tun_write(w, packet, v.length);
}

/* ---- 5: open a run of one keypair */

static void open_group(struct worker *w, struct batch *b, const uint16_t *member,
                       size_t n)
{
    struct keypair *k;

    if (!n)
        return;
    k = b->datagram[member[0]].keypair;
    w->engine->aead->open_batch(k->receive_key, b->op, n);
    for (size_t i = 0; i < n; i++) {
        struct datagram *d = &b->datagram[member[i]];
        struct aead_op *op = &b->op[i];
        if (!op->ok)
            drop(w, DROP_RX_AUTH);
        else if (window_accepts(w, k, op->nonce) && authenticated(w, d, op->len))
            deliver(w, d, op->len);
    }
}

/* ---- 4: which keypair */

static struct keypair *find_keypair(struct worker *w, const struct datagram *d,
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

/* Data datagrams become operations; true when the datagram is one. */
static bool data_message(struct worker *w, struct datagram *d, struct aead_op *op)
{
    uint64_t counter;

    memcpy(&counter, d->slot + 8, 8);
    d->keypair = find_keypair(w, d, counter);
    if (!d->keypair)
        return false;
    *op = (struct aead_op){
        .src = d->slot + SLOT_PACKET_OFFSET,
        .dst = d->slot + SLOT_PACKET_OFFSET,
        .len = d->length - DATA_HEADER_LEN - DATA_TAG_LEN,
        .nonce = counter,
    };
    return true;
}

/* R1: the type with its reserved bytes, and the exact length. */
static bool is_data(struct worker *w, struct datagram *d)
{
    uint32_t type;

    if (d->length < DATA_HEADER_LEN + DATA_TAG_LEN) {
        drop(w, DROP_RX_LENGTH);
        return false;
    }
    memcpy(&type, d->slot, 4);
    if (type == 4)
        return true;
    if (type < 1 || type > 3)
        drop(w, DROP_RX_TYPE);
    else if (d->length != (type == 1 ? 148u : type == 2 ? 92u : 64u))
        drop(w, DROP_RX_LENGTH);
    else
        handshake_message(w, d, type != 3);
    return false;
}

/* ---- 3: drain the socket */

static int receive(struct worker *w, struct batch *b, int fd)
{
    int n;

    for (size_t i = 0; i < BATCH_MAX; i++) {
        b->iov[i] = (struct iovec){.iov_base = batch_slot(b, i), .iov_len = 65536};
        b->message[i].msg_hdr = (struct msghdr){
            .msg_name = &b->address[i], .msg_namelen = sizeof b->address[i],
            .msg_iov = &b->iov[i], .msg_iovlen = 1,
            .msg_control = b->control[i], .msg_controllen = CONTROL_BYTES};
    }
    do /* ECONNREFUSED and the like are answers to earlier sends: look again */
        n = recvmmsg(fd, b->message, BATCH_MAX, MSG_DONTWAIT, NULL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? 0 : n;
}

size_t inbound(struct worker *w, int family)
{
    struct batch *b = &w->in;
    uint16_t member[BATCH_MAX];
    size_t group = 0;
    int fd = w->snapshot->fd[family], n;

    n = fd < 0 ? 0 : receive(w, b, fd);
    for (int i = 0; i < n; i++) {
        struct datagram *d = &b->datagram[i];

        *d = (struct datagram){.slot = batch_slot(b, (size_t)i),
                               .length = b->message[i].msg_len};
        if (b->message[i].msg_hdr.msg_flags & MSG_TRUNC) {
            drop(w, DROP_RX_TRUNCATED);
            continue;
        }
        read_address(w, b, (size_t)i);
        if (!is_data(w, d) || !data_message(w, d, &b->op[group]))
            continue;
        if (group && b->datagram[member[0]].keypair != d->keypair) {
            struct aead_op first = b->op[group];
            open_group(w, b, member, group);
            b->op[0] = first;
            group = 0;
        }
        member[group++] = (uint16_t)i;
    }
    open_group(w, b, member, group);
    count_add(&w->counters.udp_received, (uint64_t)n);
    return (size_t)n;
}
