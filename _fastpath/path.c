/* SPDX-License-Identifier: MIT */
#include "path.h"

#include <stdlib.h>

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
    /* the workers may have ended before its last COMMAND_PURGE */
    for (struct staged *s = p->staged_first, *next; s; s = next) {
        next = s->next;
        free(s);
    }
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
    uint32_t count;

    /* by a snapshot that still has it; its last COMMAND_PURGE may have been run */
    if (atomic_load(&p->dead))
        return DROP_TX_PEER_GONE;
    count = atomic_load_explicit(&p->staged_count, memory_order_relaxed);
    if (count >= STAGED_ALWAYS &&
        atomic_load_explicit(budget, memory_order_relaxed) + staged_bytes(length) >
            MAX_STAGED_BYTES)
        return DROP_TX_NO_MEMORY;
    s = malloc(staged_bytes(length));
    if (!s)
        return DROP_TX_NO_MEMORY;
    if (count >= MAX_STAGED_PACKETS) {
        free(path_unstage(p, budget));
        dropped = DROP_TX_STAGED_FULL;
    }
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
