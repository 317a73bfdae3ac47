/* SPDX-License-Identifier: MIT
 *
 * Outbound: TUN -> route -> seal -> socket.  Stage numbers are those of pump.pyx.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- 2, 3: validate and route */

static void unreachable(struct worker *w, const uint8_t *packet,
                        const struct ip_view *v)
{
    uint8_t room[SLOT_PACKET_OFFSET + ICMP_REPLY_MAX];
    uint32_t length;

    if (!icmp_allowed(w))
        return;
    length = icmp_unreachable(packet, v, room + SLOT_PACKET_OFFSET);
    if (!length)
        return;
    w->icmp_tokens--;
    tun_write(w, room + SLOT_PACKET_OFFSET, length);
}

/* `h`: what is still to be done to the packet; NULL: nothing.  Returns NULL when the
 * packet goes no further here: it was dropped, or handed to its peer's lane. */
static struct path *route(struct worker *w, const struct vnet_header *h,
                          const uint8_t *packet, uint32_t length,
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
    if (w->snapshot->isolation && isolated(w, h, packet, v, p))
        return NULL;
    if (p->lane != w->number) {
        hand_packet(w, p->lane, h, packet, length);
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
        commands_push(&w->lane->commands, p, COMMAND_FLUSH);
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
    p = route(w, NULL, packet, length, &v);
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
    out_add(w, k, length, ecn_encapsulate(&v));
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
    p = route(w, h, packet, length, &v);
    if (!p)
        return;
    for (uint32_t i = 0; i < plan.segments; i++) {
        uint8_t *slot = out_room(w, plan.header + plan.size);
        uint32_t n = gso_segment(&plan, i, slot + SLOT_PACKET_OFFSET);
        k = session(w, p); /* it may wear out on the way */
        if (k)
            out_add(w, k, n, ecn_encapsulate(&v));
        else
            stage(w, p, slot + SLOT_PACKET_OFFSET, n);
    }
}

static bool large(struct worker *w, const uint8_t *vnet)
{
    return vnet[offsetof(struct vnet_header, gso_type)] != VNET_GSO_NONE &&
           w->engine->tun_gso;
}

static void take(struct worker *w, const uint8_t *vnet, uint8_t *packet,
                 uint32_t length)
{
    struct vnet_header h;

    memcpy(&h, vnet, VNET_HDR_LEN);
    if (large(w, vnet))
        take_large(w, &h, packet, length);
    else
        take_packet(w, &h, packet, length);
}

/* ---- 1: drain the TUN */

/* After a read that gave no packet: will none come any more?  EIO: it is down. */
static bool tun_is_gone(const struct worker *w, ssize_t n)
{
    if (n == 0)
        return true; /* end of file */
    if (n > 0 || errno == EAGAIN || errno == EIO)
        return false;
    /* EINVAL: the kernel could not describe one packet, and has dropped it.  All else,
     * EBADFD (E7) and ECONNRESET, is for good; so is a device that only refuses. */
    return errno != EINVAL || w->refused_reads == REFUSED_READS_MAX;
}

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
        n = readv(w->lane->tun_fd, piece, 2);
    while (n < 0 && errno == EINTR);
    if (n >= VNET_HDR_LEN) {
        w->refused_reads = 0;
        return n - VNET_HDR_LEN;
    }
    if (tun_is_gone(w, n)) {
        atomic_store(&e->tun_gone, true);
        engine_signal(e);
        return -1;
    }
    if (n < 0 && errno != EINVAL)
        return -1;
    w->refused_reads++;
    memset(slot + SLOT_VNET_OFFSET, 0xff, VNET_HDR_LEN); /* contradicts any packet */
    return 0;
}

/* What other lanes read for peers of this one. */
static size_t take_handed(struct worker *w)
{
    size_t taken = 0;

    for (unsigned i = 0; i < w->engine->lanes; i++) {
        struct ring *r = &w->lane->from[OUTBOUND][i];
        uint32_t length, n = 0;
        uint8_t *record;

        for (; n < BATCH_MAX && (record = ring_take(r, &length)); n++) {
            take(w, record + SLOT_VNET_OFFSET, record + SLOT_PACKET_OFFSET,
                 length - SLOT_PACKET_OFFSET);
            w->carried += length;
        }
        if (n)
            ring_release(r);
        taken += n;
    }
    return taken;
}

static size_t take_read(struct worker *w)
{
    size_t reads = 0;

    for (; reads < w->reads_left; reads++) {
        uint8_t *slot = out_room(w, DIRECT_BYTES), *packet = slot + SLOT_PACKET_OFFSET;
        ssize_t length = tun_read(w, slot);

        if (length < 0)
            break;
        if (length > DIRECT_BYTES || large(w, slot + SLOT_VNET_OFFSET)) {
            /* in one piece, and out of the way of its segments */
            memcpy(w->out.large, packet,
                   length < DIRECT_BYTES ? (size_t)length : DIRECT_BYTES);
            packet = w->out.large;
        }
        take(w, slot + SLOT_VNET_OFFSET, packet, (uint32_t)length);
        w->carried += (uint64_t)length;
    }
    count_add(&w->counters.tun_read, reads);
    return reads;
}

size_t outbound(struct worker *w)
{
    size_t moved = 0;

    if (atomic_load_explicit(&w->engine->tun_gone, memory_order_relaxed))
        return 0;
    if (w->engine->lanes > 1)
        moved = take_handed(w);
    if (w->lane->reads && w->look & LOOK_TUN)
        moved += take_read(w);
    out_flush(w);
    return moved;
}
