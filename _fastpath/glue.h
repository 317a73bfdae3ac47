/* SPDX-License-Identifier: MIT
 *
 * Small things that Cython cannot say about C11 atomics.
 */
#ifndef TUNNEL_GLUE_H
#define TUNNEL_GLUE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker.h"

/* calloc() at the start of a cache line, for what has members that must be there. */
static inline void *zeroed_lines(size_t bytes)
{
    const size_t whole = (bytes + 63) / 64 * 64;
    void *area = aligned_alloc(64, whole);

    return area ? memset(area, 0, whole) : NULL;
}

static inline void add_relaxed(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint32_t take_bits(_Atomic uint32_t *bits)
{
    return atomic_exchange(bits, 0);
}

/* Lowers the event descriptor before looking, so that nothing is missed. */
static inline void acknowledge(struct engine *e)
{
    uint64_t n;

    while (read(e->event_fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
    atomic_store(&e->event_signalled, false);
}

#endif
