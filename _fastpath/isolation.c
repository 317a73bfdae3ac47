/* SPDX-License-Identifier: MIT
 *
 * A hub that keeps its peers apart: what the host forwards from one peer to another
 * is not sent, and its sender is told (ICMP, administratively prohibited).
 */
#define _GNU_SOURCE
#include "worker.h"

#include <stdlib.h>

#define ICMP_PER_SECOND 100
#define QUEUED_MOST 32 /* packets of a peer's own, behind which none is told */

bool icmp_allowed(struct worker *w)
{
    if (w->now - w->icmp_refill >= 1000000000u) {
        w->icmp_refill = w->now;
        w->icmp_tokens = ICMP_PER_SECOND;
    }
    return w->icmp_tokens != 0;
}

static bool is_own(const struct isolation *i, const struct ip_view *v)
{
    uint8_t length = v->version == 4 ? 4 : 16;

    for (uint32_t n = 0; n < i->count; n++)
        if (i->own[n].length == length &&
            !memcmp(i->own[n].bytes, v->source, length))
            return true;
    return false;
}

/* Goes to `from` with its next run of commands, in the order of everything else. */
static void tell(struct worker *w, const uint8_t *packet, const struct ip_view *v,
                 struct path *from)
{
    uint8_t reply[ICMP_REPLY_MAX];
    enum drop_reason reason;
    uint32_t length;

    if (!atomic_load_explicit(&from->sending, memory_order_acquire) ||
        atomic_load_explicit(&from->staged_count, memory_order_relaxed) > QUEUED_MOST ||
        !icmp_allowed(w))
        return;
    length = icmp_prohibited(packet, v, reply);
    if (!length)
        return;
    w->icmp_tokens--;
    reason = path_stage(from, &w->engine->staged_bytes, reply, length);
    if (reason) {
        drop(w, reason);
        return;
    }
    commands_push(&w->lane->commands, from, COMMAND_FLUSH);
}

bool isolated(struct worker *w, const struct vnet_header *h, const uint8_t *packet,
              const struct ip_view *v, struct path *to)
{
    const struct snapshot *s = w->snapshot;
    struct path *from = v->version == 4 ? aip_match4(&s->routes, v->source, true)
                                        : aip_match6(&s->routes, v->source, true);

    if (!from || from == to || is_own(s->isolation, v))
        return false;
    if (from->lane != w->number && icmp_allowed(w)) {
        /* its own lane tells it: only that one may stage packets for it */
        w->icmp_tokens--;
        hand_packet(w, from->lane, h, packet, v->length);
        return true;
    }
    drop(w, DROP_TX_ISOLATED);
    if (from->lane == w->number)
        tell(w, packet, v, from);
    return true;
}

struct isolation *isolation_new(uint32_t count)
{
    struct isolation *i = calloc(1, sizeof *i + count * sizeof i->own[0]);

    if (i)
        i->count = count;
    return i;
}

int isolation_release(void *isolation)
{
    free(isolation);
    return 1;
}
