/* SPDX-License-Identifier: MIT
 *
 * Where a peer is, and our address that it last talked to.
 */
#include "endpoint.h"

#include "path.h"

#define ROAMED_EVERY 1000000000ULL /* ns */

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

static bool same_place(const struct endpoint *a, const struct endpoint *b)
{
    return a->family == b->family && a->port == b->port &&
           !memcmp(a->address, b->address, sizeof a->address);
}

/* Under the lock. The way to another place may take larger datagrams. */
static void put(struct path *p, const struct endpoint *e)
{
    if (!same_place(&p->endpoint, e))
        atomic_store_explicit(&p->refused_size, 0, memory_order_relaxed);
    memcpy(&p->endpoint, e, sizeof *e);
}

static void without_source(struct endpoint *e)
{
    memset(e->source, 0, sizeof e->source);
    e->source_ifindex = 0;
    e->source_family = 0;
}

static void set_source(struct endpoint *e, const struct endpoint *with)
{
    memcpy(e->source, with->source, sizeof e->source);
    e->source_ifindex = with->source_ifindex;
    e->source_family = with->source_family;
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
    bool moved = !same_place(&p->endpoint, &e);

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

uint32_t endpoint_meet(struct path *p, const struct endpoint *from, uint64_t now)
{
    uint32_t events = endpoint_learn(p, from);

    if (events & EVENT_SOURCE &&
        atomic_fetch_or(&p->quiet, EVENT_SOURCE) & EVENT_SOURCE)
        events ^= EVENT_SOURCE;
    if (events & EVENT_ROAMED && now - p->roamed_told < ROAMED_EVERY)
        events ^= EVENT_ROAMED;
    else if (events & EVENT_ROAMED)
        p->roamed_told = now;
    return events;
}

void endpoint_clear_source(struct path *p)
{
    uint32_t done = endpoint_lock(p);

    without_source(&p->endpoint);
    endpoint_unlock(p, done);
}

void endpoint_forget_source(struct path *p)
{
    uint32_t done = endpoint_lock(p);

    without_source(&p->endpoint);
    without_source(&p->refused);
    endpoint_unlock(p, done);
}

bool endpoint_judge_source(struct path *p, const struct endpoint *asked, bool good)
{
    uint32_t done = endpoint_lock(p);
    bool changed = asked->source_family &&
                   same_source(good ? &p->refused : &p->endpoint, asked);

    if (changed && good) {
        if (!p->endpoint.source_family)
            set_source(&p->endpoint, &p->refused);
        without_source(&p->refused);
    } else if (changed) {
        set_source(&p->refused, &p->endpoint);
        without_source(&p->endpoint);
    }
    endpoint_unlock(p, done);
    return changed;
}

unsigned endpoint_questions(struct path *p, struct endpoint out[2])
{
    uint32_t done;
    unsigned n = 0;

    /* before it reads: what is learned from here on is told again */
    atomic_fetch_and(&p->quiet, ~(uint32_t)EVENT_SOURCE);
    done = endpoint_lock(p);
    if (p->endpoint.family && p->endpoint.source_family)
        out[n++] = p->endpoint;
    if (p->endpoint.family && p->refused.source_family) {
        out[n] = p->endpoint;
        set_source(&out[n++], &p->refused);
    }
    endpoint_unlock(p, done);
    return n;
}
