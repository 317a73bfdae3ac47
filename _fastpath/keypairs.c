/* SPDX-License-Identifier: MIT
 *
 * Keypair memory and the receiver index table.  Keypairs come from pages of their
 * own that stay out of core dumps and, where the limit allows, out of swap.
 */
#define _GNU_SOURCE
#include "keypairs.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_KEYPAIRS 32
#define INDEX_MIN 256

/* Control thread only (the one that owns the pumps of this process); the lock is
 * for two pumps in two threads. */
static atomic_flag pool_busy = ATOMIC_FLAG_INIT;
static struct pool_entry {
    struct pool_entry *next;
} *pool;

static void pool_lock(void)
{
    while (atomic_flag_test_and_set_explicit(&pool_busy, memory_order_acquire))
        ;
}

static void pool_unlock(void)
{
    atomic_flag_clear_explicit(&pool_busy, memory_order_release);
}

static size_t keypair_stride(void)
{
    return (sizeof(struct keypair) + 63) & ~(size_t)63;
}

static void pool_grow(void)
{
    size_t bytes = (PAGE_KEYPAIRS * keypair_stride() + 4095) & ~(size_t)4095;
    char *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (area == MAP_FAILED)
        return;
    madvise(area, bytes, MADV_DONTDUMP);
    madvise(area, bytes, MADV_DONTFORK);
    (void)!mlock2(area, bytes, MLOCK_ONFAULT); /* best effort: RLIMIT_MEMLOCK */
    for (size_t at = 0; at + keypair_stride() <= bytes; at += keypair_stride()) {
        struct pool_entry *entry = (struct pool_entry *)(area + at);
        entry->next = pool;
        pool = entry;
    }
}

struct keypair *keypair_new(void)
{
    struct pool_entry *entry;

    pool_lock();
    if (!pool)
        pool_grow();
    entry = pool;
    if (entry)
        pool = entry->next;
    pool_unlock();
    if (entry)
        memset(entry, 0, sizeof(struct keypair));
    return (struct keypair *)entry;
}

int keypair_release(void *keypair)
{
    struct pool_entry *entry = keypair;

    explicit_bzero(keypair, sizeof(struct keypair));
    pool_lock();
    entry->next = pool;
    pool = entry;
    pool_unlock();
    return 1;
}

/* ---- index table */

struct keypair index_tombstone;

static int slots_release(void *slots)
{
    free(slots);
    return 1;
}

static struct index_slots *slots_new(size_t count)
{
    struct index_slots *s = calloc(1, sizeof *s + count * sizeof s->slot[0]);

    if (s)
        s->mask = count - 1;
    return s;
}

static void slots_put(struct index_slots *s, struct keypair *k)
{
    size_t i = k->local_index & s->mask;

    while (atomic_load_explicit(&s->slot[i], memory_order_relaxed))
        i = (i + 1) & s->mask;
    atomic_store_explicit(&s->slot[i], k, memory_order_release);
}

int index_init(struct index_table *t)
{
    struct index_slots *s = slots_new(INDEX_MIN);

    if (!s)
        return -1;
    atomic_store(&t->slots, s);
    t->live = t->used = 0;
    return 0;
}

/* A table of at most a quarter full, without tombstones; readers move over at
 * their next batch. */
static int rebuild(struct index_table *t, struct epoch *e)
{
    struct index_slots *old = atomic_load(&t->slots), *fresh;
    size_t count = INDEX_MIN;

    while (count < 4 * (t->live + 1))
        count *= 2;
    fresh = slots_new(count);
    if (!fresh)
        return -1;
    for (size_t i = 0; i <= old->mask; i++) {
        struct keypair *k = atomic_load_explicit(&old->slot[i], memory_order_relaxed);
        if (k && k != &index_tombstone)
            slots_put(fresh, k);
    }
    atomic_store(&t->slots, fresh);
    epoch_retire(e, &old->retired, old, slots_release);
    t->used = t->live;
    return 0;
}

int index_insert(struct index_table *t, struct epoch *e, struct keypair *k)
{
    struct index_slots *s = atomic_load(&t->slots);

    if (2 * (t->used + 1) > s->mask + 1 && rebuild(t, e))
        return -1;
    slots_put(atomic_load(&t->slots), k);
    t->live++;
    t->used++;
    return 0;
}

void index_remove(struct index_table *t, struct keypair *k)
{
    struct index_slots *s = atomic_load(&t->slots);

    for (size_t i = k->local_index & s->mask;; i = (i + 1) & s->mask) {
        struct keypair *found = atomic_load_explicit(&s->slot[i], memory_order_relaxed);
        if (!found)
            return;
        if (found == k) {
            atomic_store(&s->slot[i], &index_tombstone);
            t->live--;
            return;
        }
    }
}

void index_finish(struct index_table *t)
{
    struct index_slots *s = atomic_load(&t->slots);

    for (size_t i = 0; i <= s->mask; i++) {
        struct keypair *k = atomic_load(&s->slot[i]);
        if (k && k != &index_tombstone)
            keypair_release(k);
    }
    free(s);
    atomic_store(&t->slots, NULL);
}
