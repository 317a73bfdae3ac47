/* SPDX-License-Identifier: MIT
 *
 * Where a peer is, and our address that it last talked to.
 */
#include "endpoint.h"

#include "path.h"

/* A seqlock: the packet path reads, roaming and the control thread write, both
 * rarely. */

bool endpoint_read(struct path *p, struct endpoint *out)
{
    for (;;) {
        uint32_t before =
            atomic_load_explicit(&p->endpoint_sequence, memory_order_acquire);
        if (before & 1)
            continue;
        memcpy(out, &p->endpoint, sizeof *out);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&p->endpoint_sequence, memory_order_relaxed) == before)
            return out->family != 0;
    }
}

static uint32_t endpoint_lock(struct path *p)
{
    for (;;) {
        uint32_t even = atomic_load(&p->endpoint_sequence) & ~1u;
        if (atomic_compare_exchange_weak(&p->endpoint_sequence, &even, even + 1)) {
            atomic_thread_fence(memory_order_release);
            return even + 2;
        }
    }
}

static void endpoint_unlock(struct path *p, uint32_t done)
{
    atomic_store_explicit(&p->endpoint_sequence, done, memory_order_release);
}

/* Under the lock. Another way to the peer may take larger datagrams. */
static void put(struct path *p, const struct endpoint *e)
{
    memcpy(&p->endpoint, e, sizeof *e);
    atomic_store_explicit(&p->refused_size, 0, memory_order_relaxed);
}

static void without_source(struct endpoint *e)
{
    memset(e->source, 0, sizeof e->source);
    e->source_ifindex = 0;
    e->source_family = 0;
}

static bool same_source(const struct endpoint *a, const struct endpoint *b)
{
    return a->source_family == b->source_family &&
           a->source_ifindex == b->source_ifindex &&
           !memcmp(a->source, b->source, sizeof a->source);
}

void endpoint_write(struct path *p, const struct endpoint *e)
{
    uint32_t done = endpoint_lock(p);

    put(p, e);
    without_source(&p->refused);
    endpoint_unlock(p, done);
}

uint32_t endpoint_learn(struct path *p, const struct endpoint *from)
{
    struct endpoint e = *from;
    uint32_t done = endpoint_lock(p), events = 0;
    bool moved = memcmp(p->endpoint.address, e.address, sizeof e.address) ||
                 p->endpoint.port != e.port || p->endpoint.family != e.family;

    if (moved)
        without_source(&p->refused);
    else if (e.source_family && same_source(&e, &p->refused))
        without_source(&e);
    if (moved)
        events |= EVENT_ROAMED;
    if (e.source_family == 4 && (moved || !same_source(&e, &p->endpoint)))
        events |= EVENT_SOURCE;
    if (memcmp(&p->endpoint, &e, sizeof e))
        put(p, &e);
    endpoint_unlock(p, done);
    return events;
}

void endpoint_clear_source(struct path *p)
{
    struct endpoint e;
    uint32_t done = endpoint_lock(p);

    e = p->endpoint;
    without_source(&e);
    put(p, &e);
    endpoint_unlock(p, done);
}

bool endpoint_judge_source(struct path *p, const struct endpoint *asked, bool good)
{
    struct endpoint e;
    uint32_t done = endpoint_lock(p);
    bool changed = asked->source_family &&
                   same_source(good ? &p->refused : &p->endpoint, asked);

    if (changed && good) {
        without_source(&p->refused);
    } else if (changed) {
        p->refused = p->endpoint;
        e = p->endpoint;
        without_source(&e);
        put(p, &e);
    }
    endpoint_unlock(p, done);
    return changed;
}

bool endpoint_question(struct path *p, struct endpoint *out)
{
    uint32_t done = endpoint_lock(p);
    const struct endpoint *asked =
        p->endpoint.source_family ? &p->endpoint : &p->refused;

    *out = p->endpoint;
    memcpy(out->source, asked->source, sizeof out->source);
    out->source_ifindex = asked->source_ifindex;
    out->source_family = asked->source_family;
    endpoint_unlock(p, done);
    return out->family && out->source_family;
}
