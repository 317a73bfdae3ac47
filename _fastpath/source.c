/* SPDX-License-Identifier: MIT
 *
 * Where a datagram came from: its address and the kernel's control messages.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <arpa/inet.h>
#include <netinet/udp.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

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

uint32_t read_source(struct worker *w, uint32_t m)
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
