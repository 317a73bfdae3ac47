/* SPDX-License-Identifier: MIT
 *
 * The last stage of either direction: datagrams to the sockets, packets to the TUN.
 * Transient errors cost at most the datagram they concern.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

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

/* Fills message i; returns its descriptor, or -1 with the drop counted. */
static int address_datagram(struct worker *w, struct batch *b, size_t i)
{
    struct datagram *d = &b->datagram[i];
    struct msghdr *m = &b->message[i].msg_hdr;
    struct endpoint to;
    int fd;

    m->msg_name = NULL;
    m->msg_namelen = 0;
    m->msg_control = NULL;
    m->msg_controllen = 0;
    if (w->snapshot->connected)
        return w->snapshot->fd[0];
    if (!endpoint_read(d->keypair->path, &to)) {
        drop(w, DROP_TX_NO_ENDPOINT);
        return -1;
    }
    fd = w->snapshot->fd[to.family == 6];
    if (fd < 0) {
        drop(w, DROP_TX_NO_SOCKET);
        return -1;
    }
    set_address(&to, &b->address[i], m);
    m->msg_control = b->control[i];
    set_source(&to, m);
    if (d->tos) {
        int level = to.family == 4 ? IPPROTO_IP : IPPROTO_IPV6;
        int type = to.family == 4 ? IP_TOS : IPV6_TCLASS, tos = d->tos;
        memcpy(add_control(m, level, type, sizeof tos), &tos, sizeof tos);
    }
    if (!m->msg_controllen)
        m->msg_control = NULL;
    return fd;
}

static void sent(struct worker *w, struct batch *b, size_t i)
{
    struct datagram *d = &b->datagram[i];
    struct path *p = d->keypair->path;

    count_add(&w->counters.udp_sent, 1);
    atomic_fetch_add_explicit(&p->tx_bytes, b->iov[i].iov_len, memory_order_relaxed);
    post(w, p, path_sent(p, w->now, !d->keepalive));
}

static void wait_for_room(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    poll(&p, 1, 1);
}

/* What to do about an error of message i: true to try it again. */
static bool try_again(struct worker *w, struct batch *b, size_t i, int fd, int *tries)
{
    struct datagram *d = &b->datagram[i];
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
        if (!endpoint_read(d->keypair->path, &to) || !to.source_family ||
            w->snapshot->connected)
            return false;
        endpoint_clear_source(d->keypair->path);
        return address_datagram(w, b, i) == fd;
    default:
        return false;
    }
}

static void send_run(struct worker *w, struct batch *b, int fd, size_t from, size_t to)
{
    int tries = 0;

    while (from < to) {
        int n = sendmmsg(fd, &b->message[from], (unsigned)(to - from), MSG_DONTWAIT);
        if (n > 0) {
            /* fewer than asked is no error: go on with the rest (R64) */
            for (; n > 0; n--)
                sent(w, b, from++);
            tries = 0;
        } else if (!try_again(w, b, from, fd, &tries)) {
            drop(w, DROP_TX_SOCKET);
            from++;
            tries = 0;
        }
    }
}

void send_batch(struct worker *w, struct batch *b)
{
    size_t from = 0;
    int fd = -1;

    for (size_t i = 0; i < b->count; i++) {
        struct datagram *d = &b->datagram[i];
        int its;

        b->iov[i] = (struct iovec){
            .iov_base = d->slot,
            .iov_len = DATA_HEADER_LEN + d->length + DATA_TAG_LEN,
        };
        b->message[i].msg_hdr = (struct msghdr){.msg_iov = &b->iov[i], .msg_iovlen = 1};
        its = address_datagram(w, b, i);
        if (its != fd) {
            if (fd >= 0)
                send_run(w, b, fd, from, i);
            from = i;
            fd = its;
        }
    }
    if (fd >= 0)
        send_run(w, b, fd, from, b->count);
    for (size_t i = 0; i < b->count; i++)
        free(b->datagram[i].staged);
    b->count = 0;
}

/* `packet` has VNET_HDR_LEN writable bytes in front of it. */
void tun_write(struct worker *w, uint8_t *packet, uint32_t length)
{
    struct engine *e = w->engine;

    memset(packet - VNET_HDR_LEN, 0, VNET_HDR_LEN); /* never an old one (G10) */
    for (int tries = 0;;) {
        ssize_t n = write(e->tun_fd, packet - VNET_HDR_LEN, VNET_HDR_LEN + length);
        if (n >= 0) {
            count_add(&w->counters.tun_written, 1);
            return;
        }
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && ++tries <= WAIT_TRIES) {
            wait_for_room(e->tun_fd);
            continue;
        }
        break;
    }
    drop(w, DROP_RX_TUN); /* EIO: the interface is down */
    if (errno == EBADFD || errno == EPIPE || errno == ECONNRESET) {
        atomic_store(&e->tun_gone, true);
        engine_signal(e);
    }
}
