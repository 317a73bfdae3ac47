/* SPDX-License-Identifier: MIT */
#include "path.h"

#include <stdlib.h>

/* ---- endpoint: a seqlock; the packet path reads, roaming and the control thread
 * write, both rarely */

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

/* ---- stacks */

static bool push(struct path_stack *s, struct path *p, struct path **link)
{
    struct path *top = atomic_load(&s->top);

    do
        *link = top;
    while (!atomic_compare_exchange_weak(&s->top, &top, p));
    return top == NULL;
}

bool events_push(struct path_stack *s, struct path *p, uint32_t bits)
{
    return !atomic_fetch_or(&p->events, bits) && push(s, p, &p->event_next);
}

bool commands_push(struct path_stack *s, struct path *p, uint32_t bits)
{
    return !atomic_fetch_or(&p->commands, bits) && push(s, p, &p->command_next);
}

uint32_t command_begin(struct path *p)
{
    return atomic_exchange(&p->commands, COMMAND_RUNNING);
}

void command_end(struct path_stack *s, struct path *p)
{
    const uint32_t others = ~(uint32_t)COMMAND_RUNNING;

    /* what came meanwhile found the path busy and left it to us */
    if (atomic_fetch_and(&p->commands, others) & others)
        push(s, p, &p->command_next);
}

void events_clear(struct path_stack *s)
{
    for (struct path *p = stack_take(s), *next; p; p = next) {
        next = p->event_next;
        atomic_store(&p->events, 0);
    }
}

void commands_clear(struct path_stack *s)
{
    for (struct path *p = stack_take(s), *next; p; p = next) {
        next = p->command_next;
        atomic_store(&p->commands, 0);
    }
}

struct path *stack_take(struct path_stack *s)
{
    return atomic_load_explicit(&s->top, memory_order_relaxed)
               ? atomic_exchange(&s->top, NULL)
               : NULL;
}

/* ---- life */

struct path *path_new(void *owner, unsigned lane)
{
    struct path *p = calloc(1, sizeof *p);

    if (p) {
        p->owner = owner;
        p->lane = lane;
    }
    return p;
}

int path_release(void *path)
{
    struct path *p = path;

    /* still linked into a stack: its taker has to see it first */
    if (atomic_load(&p->events) || atomic_load(&p->commands))
        return 0;
    free(p);
    return 1;
}

uint64_t path_rearm(struct path *p, _Atomic uint64_t *fact, uint32_t event)
{
    uint64_t since = atomic_load(fact);

    if (since)
        return since;
    atomic_fetch_and(&p->quiet, ~event);
    /* it may have been set between the two: then we watch it, not the event */
    since = atomic_load(fact);
    if (since)
        atomic_fetch_or(&p->quiet, event);
    return since;
}

/* ---- which keypair sends */

static void forget(_Atomic(struct keypair *) *slot, struct keypair *k)
{
    atomic_compare_exchange_strong(slot, &k, NULL);
}

void path_send_with(struct path *p, struct keypair *k)
{
    struct keypair *next = atomic_load(&p->next);

    if (next && (next == k || !k || next->created < k->created))
        forget(&p->next, next);
    atomic_store(&p->sending, k);
}

void path_send_without(struct path *p, struct keypair *k)
{
    /* either we see what path_confirm stored, or it sees the flag */
    atomic_store(&k->dropped, true);
    forget(&p->next, k);
    forget(&p->sending, k);
}

void path_confirm(struct path *p, struct keypair *k)
{
    struct keypair *expected = k;

    if (!atomic_compare_exchange_strong(&p->next, &expected, NULL))
        return;
    atomic_store(&p->sending, k);
    if (atomic_load(&k->dropped))
        forget(&p->sending, k);
}

/* ---- staging */

static uint32_t staged_bytes(uint32_t length)
{
    return (uint32_t)sizeof(struct staged) + SLOT_PACKET_OFFSET + length +
           PADDING_MULTIPLE + DATA_TAG_LEN;
}

struct staged *path_unstage(struct path *p, _Atomic uint64_t *budget)
{
    struct staged *s = p->staged_first;

    if (!s)
        return NULL;
    p->staged_first = s->next;
    if (!s->next)
        p->staged_last = NULL;
    atomic_fetch_sub_explicit(&p->staged_count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(budget, staged_bytes(s->length), memory_order_relaxed);
    return s;
}

uint32_t path_purge(struct path *p, _Atomic uint64_t *budget)
{
    struct staged *s;
    uint32_t n = 0;

    for (; (s = path_unstage(p, budget)); n++)
        free(s);
    return n;
}

enum drop_reason path_stage(struct path *p, _Atomic uint64_t *budget,
                            const uint8_t *packet, uint32_t length)
{
    enum drop_reason dropped = DROP_NONE;
    struct staged *s;

    /* by a snapshot that still has it; its last COMMAND_PURGE may have been run */
    if (atomic_load(&p->dead))
        return DROP_TX_PEER_GONE;
    if (atomic_load_explicit(budget, memory_order_relaxed) + staged_bytes(length) >
        MAX_STAGED_BYTES)
        return DROP_TX_NO_MEMORY;
    if (atomic_load_explicit(&p->staged_count, memory_order_relaxed) >=
        MAX_STAGED_PACKETS) {
        free(path_unstage(p, budget));
        dropped = DROP_TX_STAGED_FULL;
    }
    s = malloc(staged_bytes(length));
    if (!s)
        return DROP_TX_NO_MEMORY;
    s->next = NULL;
    s->length = length;
    memcpy(s->slot + SLOT_PACKET_OFFSET, packet, length);
    if (p->staged_last)
        p->staged_last->next = s;
    else
        p->staged_first = s;
    p->staged_last = s;
    atomic_fetch_add_explicit(&p->staged_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(budget, staged_bytes(length), memory_order_relaxed);
    return dropped;
}
