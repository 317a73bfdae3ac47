/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "ring.h"

#include <stddef.h>
#include <sys/mman.h>

#define SKIP UINT32_MAX              /* as a length: go on at the front */
#define RESTART (RING_BYTES / 2)     /* an empty ring beyond this starts anew */

static uint32_t size_of(uint32_t length)
{
    return RING_ALIGN + ((length + RING_ALIGN - 1) & ~(RING_ALIGN - 1));
}

static uint32_t *length_at(uint8_t *area, uint64_t position)
{
    return (uint32_t *)(area + position % RING_BYTES);
}

static uint8_t *map_area(struct ring *r)
{
    uint8_t *area = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (area == MAP_FAILED)
        return NULL;
    madvise(area, RING_BYTES, MADV_DONTDUMP);
    atomic_store_explicit(&r->area, area, memory_order_release);
    return area;
}

static bool fits(struct ring *r, uint64_t end)
{
    if (end - r->tail_seen <= RING_BYTES)
        return true;
    r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
    return end - r->tail_seen <= RING_BYTES;
}

uint8_t *ring_room(struct ring *r, uint32_t length)
{
    uint8_t *area = atomic_load_explicit(&r->area, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed), start = head;
    uint32_t at = (uint32_t)(head % RING_BYTES), need = size_of(length);
    bool restart = at + need > RING_BYTES;

    if (!area && !(area = map_area(r)))
        return NULL;
    if (!restart && at > RESTART)
        restart = atomic_load_explicit(&r->tail, memory_order_acquire) == head;
    if (restart)
        start += RING_BYTES - at;
    if (!fits(r, start + need))
        return NULL;
    if (restart)
        *length_at(area, head) = SKIP;
    r->start = start;
    return area + start % RING_BYTES + RING_ALIGN;
}

void ring_push(struct ring *r, uint32_t length)
{
    uint8_t *area = atomic_load_explicit(&r->area, memory_order_relaxed);

    *length_at(area, r->start) = length;
    /* sequentially consistent: the producer looks next whether the consumer sleeps */
    atomic_store(&r->head, r->start + size_of(length));
}

uint8_t *ring_take(struct ring *r, uint32_t *length)
{
    uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    uint8_t *area = atomic_load_explicit(&r->area, memory_order_acquire);
    uint8_t *record;

    if (r->next == head)
        return NULL;
    if (*length_at(area, r->next) == SKIP) {
        bool all_released = atomic_load_explicit(&r->tail, memory_order_relaxed) ==
                            r->next;
        r->next += RING_BYTES - r->next % RING_BYTES;
        if (all_released)
            ring_release(r);
    }
    *length = *length_at(area, r->next);
    record = area + r->next % RING_BYTES + RING_ALIGN;
    r->next += size_of(*length);
    return record;
}

void ring_release(struct ring *r)
{
    atomic_store_explicit(&r->tail, r->next, memory_order_release);
}

void ring_finish(struct ring *r)
{
    uint8_t *area = atomic_exchange(&r->area, NULL);

    if (area)
        munmap(area, RING_BYTES);
}
