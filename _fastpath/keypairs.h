/* SPDX-License-Identifier: MIT
 *
 * The keys of a session, and the table that finds them by receiver index.
 */
#ifndef TUNNEL_KEYPAIRS_H
#define TUNNEL_KEYPAIRS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "epoch.h"
#include "replay.h"

#define REKEY_AFTER_MESSAGES (1ULL << 60)
#define REJECT_AFTER_MESSAGES (UINT64_MAX - (1ULL << 13))

struct path;

/* One session.  Lives in undumpable memory, wiped when freed. */
struct keypair {
    uint8_t send_key[32];
    uint8_t receive_key[32];
    struct path *path;
    uint64_t created;
    uint32_t local_index;
    uint32_t remote_index;
    bool initiator;
    _Atomic bool sending_invalid;
    _Atomic bool awaiting_confirmation;
    _Atomic bool dropped; /* by the control thread: not for `sending` any more */
    _Atomic bool last_minute_asked;
    _Atomic uint64_t send_counter;
    _Atomic uint64_t rekey_asked; /* when; 0 never */
    struct retired retired;
    struct replay_window window;  /* owned by the inbound worker */
};

struct keypair *keypair_new(void); /* zeroed; NULL without memory */
int keypair_release(void *keypair);

/* Saturating: the control thread's clock may be ahead of the batch's (R40). */
static inline uint64_t keypair_age(const struct keypair *k, uint64_t now)
{
    return now > k->created ? now - k->created : 0;
}

/* ---- the table of receiver indices (R9, R10) */

struct index_slots {
    struct retired retired;
    size_t mask;
    _Atomic(struct keypair *) slot[];
};

/* Open addressing on the random index itself.  One writer (the control thread);
 * readers load `slots` once per batch. */
struct index_table {
    _Atomic(struct index_slots *) slots;
    size_t live, used; /* used counts tombstones */
};

int index_init(struct index_table *t);
int index_insert(struct index_table *t, struct epoch *e, struct keypair *k);
void index_remove(struct index_table *t, struct keypair *k);
void index_finish(struct index_table *t); /* also releases the keypairs in it */

extern struct keypair index_tombstone;

static inline struct keypair *index_lookup(struct index_table *t, uint32_t index)
{
    struct index_slots *s = atomic_load_explicit(&t->slots, memory_order_acquire);

    for (size_t i = index & s->mask;; i = (i + 1) & s->mask) {
        struct keypair *k = atomic_load_explicit(&s->slot[i], memory_order_acquire);
        if (!k)
            return NULL;
        if (k != &index_tombstone && k->local_index == index)
            return k;
    }
}

#endif
