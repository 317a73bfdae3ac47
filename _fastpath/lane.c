/* SPDX-License-Identifier: MIT
 *
 * Lanes: their descriptors, and what they hand to each other.
 *
 * A packet that a lane reads for a peer of another one goes through the ring between
 * the two, whole, and is routed (or looked up) again there: nothing that a snapshot
 * may free is kept in a ring.  All packets of one TUN queue, or of one socket, to one
 * peer pass the same ring, so their order holds.
 *
 * Who sleeps says so first and then looks at its rings; who pushes looks next whether
 * the other sleeps; all sequentially consistent, so that one of them sees the other.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void eventfd_raise(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void engine_signal(struct engine *e)
{
    if (!atomic_exchange(&e->event_signalled, true))
        eventfd_raise(e->event_fd);
}

void post(struct worker *w, struct path *p, uint32_t events)
{
    if (events && events_push(&w->engine->events, p, events))
        engine_signal(w->engine);
}

void lane_wake(struct lane *l, bool helper_too)
{
    eventfd_raise(l->wake_fd);
    if (helper_too)
        eventfd_raise(l->help_fd);
}

/* ---- life */

int lane_init(struct lane *l, unsigned number)
{
    l->number = number;
    l->tun_fd = -1;
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    l->help_fd = eventfd(0, EFD_CLOEXEC);
    return l->wake_fd < 0 || l->help_fd < 0 ? -1 : 0;
}

void lane_finish(struct lane *l)
{
    int *fd[] = {&l->tun_fd, &l->wake_fd, &l->help_fd};

    for (int i = 0; i < 3; i++) {
        if (*fd[i] >= 0)
            close(*fd[i]);
        *fd[i] = -1;
    }
    for (int d = OUTBOUND; d <= INBOUND; d++)
        for (int i = 0; i < LANES_MAX; i++)
            ring_finish(&l->from[d][i]);
}

unsigned lane_of_address(const uint8_t *address, unsigned bytes, unsigned lanes)
{
    uint32_t mixed = 0;

    for (unsigned i = 0; i < bytes; i += 4)
        mixed ^= (uint32_t)address[i] << 24 | (uint32_t)address[i + 1] << 16 |
                 (uint32_t)address[i + 2] << 8 | address[i + 3];
    mixed *= 0x9e3779b1u; /* neighbours fall far apart */
    return (mixed >> 16) % lanes;
}

/* ---- the helper of each lane */

void hand_over(struct worker *w)
{
    atomic_store(&w->lane->helper_sends, true);
    eventfd_raise(w->lane->help_fd);
}

void hand_back(struct worker *w)
{
    atomic_store(&w->lane->helper_sends, false);
    lane_wake(w->lane, false);
}

/* ---- from lane to lane */

static const enum drop_reason full[] = {
    [OUTBOUND] = DROP_TX_LANE_FULL,
    [INBOUND] = DROP_RX_LANE_FULL,
};

uint8_t *hand_room(struct worker *w, enum direction d, unsigned lane, uint32_t length)
{
    struct ring *r = &w->engine->lane[lane].from[d][w->number];
    uint8_t *room = ring_room(r, length);

    if (!room)
        drop(w, full[d]);
    return room;
}

/* Only the owner of the direction runs the ring empty: it is the one to wake. */
static void wake_owner(struct lane *l, enum direction d)
{
    bool helper = d == OUTBOUND && atomic_load(&l->helper_sends);
    enum lane_thread owner = helper ? LANE_HELPER : LANE_WORKER;

    if (atomic_load(&l->asleep[owner]) && atomic_exchange(&l->asleep[owner], false))
        eventfd_raise(helper ? l->help_fd : l->wake_fd);
}

void hand_push(struct worker *w, enum direction d, unsigned lane, uint32_t length)
{
    struct lane *to = &w->engine->lane[lane];

    ring_push(&to->from[d][w->number], length);
    count_add(&w->counters.handed, 1);
    wake_owner(to, d);
}

void hand_packet(struct worker *w, unsigned lane, const struct vnet_header *h,
                 const uint8_t *packet, uint32_t length)
{
    uint8_t *room = hand_room(w, OUTBOUND, lane, SLOT_PACKET_OFFSET + length);

    if (!room)
        return;
    if (h)
        memcpy(room + SLOT_VNET_OFFSET, h, VNET_HDR_LEN);
    else
        memset(room + SLOT_VNET_OFFSET, 0, VNET_HDR_LEN);
    memcpy(room + SLOT_PACKET_OFFSET, packet, length);
    hand_push(w, OUTBOUND, lane, SLOT_PACKET_OFFSET + length);
}

bool handed_waiting(struct lane *l, enum direction d)
{
    for (int i = 0; i < LANES_MAX; i++)
        if (ring_waiting(&l->from[d][i]))
            return true;
    return false;
}
