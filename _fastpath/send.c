/* SPDX-License-Identifier: MIT
 *
 * The last stage of either direction: datagrams to the sockets, packets to the TUN.
 * Transient errors cost at most the datagram they concern.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define WAIT_TRIES 20 /* of 1 ms, for room in a full send buffer */

static void set_address(const struct endpoint *to, struct sockaddr_in6 *room,
                        struct msghdr *m)
{
    memset(room, 0, sizeof *room);
    if (to->family == 4) {
        struct sockaddr_in *a = (struct sockaddr_in *)room;
        a->sin_family = AF_INET;
        a->sin_port = htons(to->port);
        memcpy(&a->sin_addr, to->address, 4);
        m->msg_namelen = sizeof *a;
    } else {
        room->sin6_family = AF_INET6;
        room->sin6_port = htons(to->port);
        room->sin6_scope_id = to->scope_id;
        memcpy(&room->sin6_addr, to->address, 16);
        m->msg_namelen = sizeof *room;
    }
    m->msg_name = room;
}

static void *add_control(struct msghdr *m, int level, int type, size_t size)
{
    struct cmsghdr *c =
        (struct cmsghdr *)((uint8_t *)m->msg_control + m->msg_controllen);

    /* padding included: stale bytes between messages are EINVAL to some kernels */
    memset(c, 0, CMSG_SPACE(size));
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(size);
    m->msg_controllen += CMSG_SPACE(size);
    return CMSG_DATA(c);
}

static void set_source(const struct endpoint *to, struct msghdr *m)
{
    if (to->source_family == 4) {
        struct in_pktinfo *info =
            add_control(m, IPPROTO_IP, IP_PKTINFO, sizeof *info);
        memcpy(&info->ipi_spec_dst, to->source, 4);
        info->ipi_ifindex = (int)to->source_ifindex;
    } else if (to->source_family == 6) {
        struct in6_pktinfo *info =
            add_control(m, IPPROTO_IPV6, IPV6_PKTINFO, sizeof *info);
        memcpy(&info->ipi6_addr, to->source, 16);
        info->ipi6_ifindex = to->source_ifindex;
    }
}

/* ---- trains: datagrams of one size behind each other leave with one message */

#define TRAIN_MAX 64         /* UDP_MAX_SEGMENTS of older kernels */
#define TRAIN_BYTES_V4 65507 /* what a UDP datagram may hold; IPv6: 20 more */

static uint32_t wire_length(const struct datagram *d)
{
    return DATA_HEADER_LEN + d->length + DATA_TAG_LEN;
}

/* How many datagrams from `from` on make one train. */
static uint32_t train_length(const struct outbox *o, uint32_t from)
{
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
            break; /* a shorter one ends it (U5) */
    }
    return n;
}

/* Fills message m for `n` datagrams; returns its descriptor, or -1 with the drops
 * counted. */
static int address_message(struct worker *w, uint32_t m, uint32_t n)
{
    struct outbox *o = &w->out;
    struct datagram *d = &o->datagram[o->first[m]];
    struct msghdr *h = &o->message[m].msg_hdr;
    struct endpoint to;
    int fd, level;

    *h = (struct msghdr){.msg_iov = &o->iov[m], .msg_iovlen = 1};
    if (w->snapshot->connected)
        return w->snapshot->fd[0];
    if (!endpoint_read(d->keypair->path, &to)) {
        count_add(&w->counters.drops[DROP_TX_NO_ENDPOINT], n);
        return -1;
    }
    fd = w->snapshot->fd[to.family == 6];
    if (fd < 0) {
        count_add(&w->counters.drops[DROP_TX_NO_SOCKET], n);
        return -1;
    }
    set_address(&to, &o->address[m], h);
    h->msg_control = o->control[m];
    set_source(&to, h);
    level = to.family == 4 ? IPPROTO_IP : IPPROTO_IPV6;
    if (d->tos) {
        int type = to.family == 4 ? IP_TOS : IPV6_TCLASS, tos = d->tos;
        memcpy(add_control(h, level, type, sizeof tos), &tos, sizeof tos);
    }
    if (n > 1) {
        uint16_t size = (uint16_t)wire_length(d);
        memcpy(add_control(h, SOL_UDP, UDP_SEGMENT, sizeof size), &size, sizeof size);
    }
    if (!h->msg_controllen)
        h->msg_control = NULL;
    return fd;
}

static uint32_t message_count(const struct outbox *o, uint32_t m)
{
    return o->first[m + 1] - o->first[m];
}

static void sent(struct worker *w, uint32_t from, uint32_t n)
{
    struct outbox *o = &w->out;
    struct path *p = o->datagram[from].keypair->path;
    uint64_t bytes = 0;
    bool data = false;

    for (uint32_t i = from; i < from + n; i++) {
        bytes += wire_length(&o->datagram[i]);
        data |= !o->datagram[i].keepalive;
    }
    count_add(&w->counters.udp_sent, n);
    count_add(&w->counters.udp_sends, 1);
    atomic_fetch_add_explicit(&p->tx_bytes, bytes, memory_order_relaxed);
    post(w, p, path_sent(p, w->now, data));
}

static void wait_for_room(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    poll(&p, 1, 1);
}

/* What to do about an error of message m: true to try it again. */
static bool try_again(struct worker *w, uint32_t m, int fd, int *tries)
{
    struct outbox *o = &w->out;
    struct path *p = o->datagram[o->first[m]].keypair->path;
    struct endpoint to;

    switch (errno) {
    case EINTR:
        return true;
    case EAGAIN:
    case ENOBUFS:
        if (++*tries > WAIT_TRIES)
            return false;
        wait_for_room(fd);
        return true;
    case ECONNREFUSED: /* an earlier datagram's answer; this one was not sent */
        return ++*tries <= 2;
    case EINVAL:
    case ENETUNREACH:
    case EADDRNOTAVAIL: /* the sticky source is no longer ours (U13) */
        if (w->snapshot->connected || !endpoint_read(p, &to) || !to.source_family)
            return false;
        endpoint_clear_source(p);
        return address_message(w, m, message_count(o, m)) == fd;
    default:
        return false;
    }
}

/* One message as it stands; false with errno set. */
static bool send_one(struct worker *w, uint32_t m, int fd)
{
    int tries = 0;

    while (sendmsg(fd, &w->out.message[m].msg_hdr, MSG_DONTWAIT) < 0)
        if (!try_again(w, m, fd, &tries))
            return false;
    return true;
}

/* A train that the kernel refused: its datagrams one by one (U7, U8).  If those go
 * out, trains are what this socket cannot do: no more of them. */
static void send_singly(struct worker *w, uint32_t m, int fd, int error)
{
    struct outbox *o = &w->out;
    uint32_t from = o->first[m], n = message_count(o, m), good = 0;
    struct iovec whole = o->iov[m];

    for (uint32_t i = from; i < from + n; i++) {
        o->first[m] = i;
        o->iov[m] = (struct iovec){
            .iov_base = o->datagram[i].slot, .iov_len = wire_length(&o->datagram[i])};
        if (address_message(w, m, 1) == fd && send_one(w, m, fd)) {
            sent(w, i, 1);
            good++;
        } else {
            drop(w, DROP_TX_SOCKET);
        }
    }
    o->first[m] = from;
    o->iov[m] = whole;
    if (good && (error == EIO || error == EINVAL))
        atomic_store(&w->engine->gso_off[fd == w->snapshot->fd[1]], true);
}

static void send_run(struct worker *w, int fd, uint32_t from, uint32_t to)
{
    struct outbox *o = &w->out;
    int tries = 0;

    while (from < to) {
        int n = sendmmsg(fd, &o->message[from], to - from, MSG_DONTWAIT);
        if (n > 0) {
            /* fewer than asked is no error: go on with the rest (R64) */
            for (; n > 0; n--, from++)
                sent(w, o->first[from], message_count(o, from));
            tries = 0;
        } else if (!try_again(w, from, fd, &tries)) {
            if (message_count(o, from) > 1)
                send_singly(w, from, fd, errno);
            else
                drop(w, DROP_TX_SOCKET);
            from++;
            tries = 0;
        }
    }
}

static bool trains_allowed(struct worker *w, uint32_t datagram)
{
    struct endpoint to;

    if (w->snapshot->connected ||
        !endpoint_read(w->out.datagram[datagram].keypair->path, &to))
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
        uint32_t n = trains_allowed(w, i) ? train_length(o, i) : 1;
        const struct datagram *last = &o->datagram[i + n - 1];
        int its;

        o->first[messages + 1] = i + n;
        o->iov[messages] = (struct iovec){
            .iov_base = o->datagram[i].slot,
            .iov_len = (size_t)(last->slot + wire_length(last) - o->datagram[i].slot)};
        its = address_message(w, messages, n);
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

/* ---- to the TUN */

/* One write; false with errno set, the device's end noticed. */
static bool tun_writev(struct worker *w, const struct iovec *piece, int pieces)
{
    struct engine *e = w->engine;

    for (int tries = 0; writev(e->tun_fd, piece, pieces) < 0;) {
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && !w->tun_full && ++tries <= WAIT_TRIES) {
            wait_for_room(e->tun_fd);
            continue;
        }
        w->tun_full = errno == EAGAIN;
        if (errno == EBADFD || errno == EPIPE || errno == ECONNRESET) {
            atomic_store(&e->tun_gone, true);
            engine_signal(e);
        }
        return false; /* EIO: the interface is down */
    }
    w->tun_full = false;
    count_add(&w->counters.tun_writes, 1);
    return true;
}

/* `packet` has VNET_HDR_LEN writable bytes in front of it. */
void tun_write(struct worker *w, uint8_t *packet, uint32_t length)
{
    struct iovec piece = {.iov_base = packet - VNET_HDR_LEN,
                          .iov_len = VNET_HDR_LEN + length};

    memset(packet - VNET_HDR_LEN, 0, VNET_HDR_LEN); /* never an old one (G10) */
    if (tun_writev(w, &piece, 1))
        count_add(&w->counters.tun_written, 1);
    else
        drop(w, DROP_RX_TUN);
}

#define GRO_REFUSALS 3 /* then merging is off (E6) */

void tun_write_merged(struct worker *w, struct gro_item *item)
{
    uint32_t pieces = item->pieces;

    gro_finish(item);
    if (tun_writev(w, item->piece, (int)pieces)) {
        count_add(&w->counters.tun_written, pieces);
    } else if (pieces > 1 && errno == EINVAL) {
        gro_undo(item);
        for (uint32_t i = 0; i < pieces; i++)
            tun_write(w, item->packet[i], gro_piece_length(item, i));
        if (atomic_fetch_add(&w->engine->gro_refused, 1) + 1 >= GRO_REFUSALS)
            w->in.gro.tcp = w->in.gro.udp = false;
    } else {
        count_add(&w->counters.drops[DROP_RX_TUN], pieces);
    }
    item->pieces = 0;
}
