/* SPDX-License-Identifier: MIT
 *
 * Bounded ring of records between two threads: one producer, one consumer, no lock.
 * A record lies in one piece, so that the consumer works on it where it is; what is
 * left at the end of the area is skipped.  `head` and `tail` count bytes for ever.
 */
#ifndef TUNNEL_RING_H
#define TUNNEL_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RING_BYTES (4u << 20)    /* mapped with the first record, touched as used */
#define RING_ALIGN 16u           /* of records, and the size of their headers */
#define RING_RECORD_MAX (1u << 17)

struct ring {
    _Atomic(uint8_t *) area;
    _Alignas(64) _Atomic uint64_t head; /* the producer's */
    uint64_t start;                     /* of the record being written */
    uint64_t tail_seen;
    _Alignas(64) _Atomic uint64_t tail; /* the consumer's: free up to here */
    uint64_t next;                      /* taken up to here */
};

/* Producer: room for a record of `length` (1..RING_RECORD_MAX) bytes, aligned to
 * RING_ALIGN, to be filled and pushed; NULL: full, or no memory.  A ring that runs
 * empty beyond its middle starts again at the front, where its memory is warm; half
 * of it at least is there for records. */
uint8_t *ring_room(struct ring *r, uint32_t length);
void ring_push(struct ring *r, uint32_t length);

/* Consumer: the next record, NULL: none; it stays valid until ring_release, which
 * frees all that were taken. */
uint8_t *ring_take(struct ring *r, uint32_t *length);
void ring_release(struct ring *r);

/* Consumer: has the producer pushed anything that was not taken? */
static inline bool ring_waiting(struct ring *r)
{
    return atomic_load(&r->head) != r->next;
}

/* After both have ended. */
void ring_finish(struct ring *r);

#endif
