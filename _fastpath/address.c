/* SPDX-License-Identifier: MIT
 *
 * Where a message goes and where it says it comes from: socket addresses and control
 * messages (PKTINFO, TOS, UDP_SEGMENT).
 */
#define _GNU_SOURCE
#include "worker.h"

#include <arpa/inet.h>
#include <netinet/udp.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

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

static bool link_local(const uint8_t *ipv6)
{
    return ipv6[0] == 0xfe && (ipv6[1] & 0xc0) == 0x80;
}

/* First of the control messages.  The address only: the route chooses the interface, as
 * in the kernel's own module (R62), but for addresses that mean nothing without one. */
static void set_source(const struct endpoint *to, struct msghdr *m)
{
    if (to->source_family == 4) {
        struct in_pktinfo *info =
            add_control(m, IPPROTO_IP, IP_PKTINFO, sizeof *info);
        memcpy(&info->ipi_spec_dst, to->source, 4);
    } else if (to->source_family == 6) {
        struct in6_pktinfo *info =
            add_control(m, IPPROTO_IPV6, IPV6_PKTINFO, sizeof *info);
        memcpy(&info->ipi6_addr, to->source, 16);
        if (link_local(to->source))
            info->ipi6_ifindex = to->source_ifindex;
    }
}

bool message_has_source(struct worker *w, uint32_t m)
{
    const struct cmsghdr *c = CMSG_FIRSTHDR(&w->out.message[m].msg_hdr);

    return c && (c->cmsg_level == IPPROTO_IP ? c->cmsg_type == IP_PKTINFO
                                             : c->cmsg_type == IPV6_PKTINFO);
}

int address_message(struct worker *w, uint32_t m, uint32_t n, bool source)
{
    struct outbox *o = &w->out;
    struct datagram *d = &o->datagram[o->first[m]];
    struct msghdr *h = &o->message[m].msg_hdr;
    struct endpoint to;
    int fd, level;

    *h = (struct msghdr){.msg_iov = &o->iov[m], .msg_iovlen = 1};
    if (w->snapshot->connected)
        return w->send_fd[0];
    if (!endpoint_read(d->keypair->path, &to)) {
        count_add(&w->counters.drops[DROP_TX_NO_ENDPOINT], n);
        return -1;
    }
    fd = w->send_fd[to.family == 6];
    if (fd < 0) {
        count_add(&w->counters.drops[DROP_TX_NO_SOCKET], n);
        return -1;
    }
    set_address(&to, &o->address[m], h);
    h->msg_control = o->control[m];
    if (source)
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
