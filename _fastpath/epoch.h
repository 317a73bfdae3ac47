/* SPDX-License-Identifier: MIT
 *
 * Quiescent-state reclamation.  Workers read shared structures without locks;
 * the control thread unpublishes an object, retires it, and frees it once every
 * worker has passed a batch boundary (or sleeps in poll, which counts as one).
 *
 * Dekker's argument carries it: the control thread unpublishes, then reads
 * `seen`; a worker stores `seen`, then loads pointers; all sequentially
 * consistent, so one of the two sees the other.
 */
#ifndef TUNNEL_EPOCH_H
#define TUNNEL_EPOCH_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define EPOCH_READERS 32 /* two for each of at most 16 lanes */
#define EPOCH_OFFLINE 0

struct epoch_reader {
    _Alignas(64) _Atomic uint64_t seen;
};

/* Embedded in the object, so that retiring needs no memory and cannot fail. */
struct retired {
    struct retired *next;
    uint64_t tag;
    void *object;
    /* returns 0 when something still refers to the object: tried again later */
    int (*release)(void *object);
};

struct epoch {
    _Atomic uint64_t now; /* starts at 1 */
    struct epoch_reader readers[EPOCH_READERS];
    /* the rest belongs to the control thread */
    struct retired *oldest, *newest;
    size_t waiting;
};

/* Worker: at each batch boundary.  Everything loaded after it stays valid until
 * the next call of either function. */
static inline void epoch_enter(struct epoch *e, unsigned reader)
{
    atomic_store(&e->readers[reader].seen, atomic_load(&e->now));
}

/* Worker: before it blocks, and when it ends. */
static inline void epoch_leave(struct epoch *e, unsigned reader)
{
    atomic_store(&e->readers[reader].seen, EPOCH_OFFLINE);
}

void epoch_init(struct epoch *e);
/* Control thread, after unpublishing. */
void epoch_retire(struct epoch *e, struct retired *r, void *object,
                  int (*release)(void *));
/* Control thread: has every worker passed a batch boundary since `tag`? */
uint64_t epoch_tag(struct epoch *e);
int epoch_passed(struct epoch *e, uint64_t tag);
/* Control thread: frees what no worker can read any more. */
void epoch_reclaim(struct epoch *e);
/* Control thread, after all workers have ended: frees everything. */
void epoch_finish(struct epoch *e);

#endif
