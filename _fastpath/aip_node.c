/* SPDX-License-Identifier: MIT
 *
 * Memory of the routing table's nodes; the constants of its look-up.
 */
#include "aip_node.h"

#include <stdatomic.h>
#include <stdlib.h>

#define NETMASK(n) {(n) < 64 ? ~(~0ULL >> ((n) & 63)) : ~0ULL, \
                    (n) < 64 ? 0 : (n) < 128 ? ~(~0ULL >> ((n) & 63)) : ~0ULL}
#define NETMASK4(n) NETMASK(n), NETMASK(n + 1), NETMASK(n + 2), NETMASK(n + 3)
#define NETMASK16(n) NETMASK4(n), NETMASK4(n + 4), NETMASK4(n + 8), NETMASK4(n + 12)
const uint64_t aip_mask[129][2] = {
    NETMASK16(0),  NETMASK16(16), NETMASK16(32), NETMASK16(48),  NETMASK16(64),
    NETMASK16(80), NETMASK16(96), NETMASK16(112), NETMASK(128),
};

#define UP(s, n) 1ULL << ((64 + (s)) >> (n))
#define ONE(s) UP(s, 1) | UP(s, 2) | UP(s, 3) | UP(s, 4) | UP(s, 5) | UP(s, 6)
#define FOUR(s) ONE(s), ONE((s) + 1), ONE((s) + 2), ONE((s) + 3)
#define SIXTEEN(s) FOUR(s), FOUR((s) + 4), FOUR((s) + 8), FOUR((s) + 12)
const uint64_t aip_ancestors[64] = {SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48)};

bool aip_has_popcnt;

__attribute__((constructor)) static void find_popcnt(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    aip_has_popcnt = __builtin_cpu_supports("popcnt");
#endif
}

/* ---- memory */

static _Atomic long test_fail_after = -1;
static _Atomic size_t test_allocations;

void aip_test_fail_after(long n) { test_fail_after = n; }

size_t aip_test_allocations(void) { return test_allocations; }

void *aip_allocate(size_t size)
{
    long left = atomic_load_explicit(&test_fail_after, memory_order_relaxed);
    void *p;

    if (left == 0)
        return NULL;
    if (left > 0)
        atomic_store_explicit(&test_fail_after, left - 1, memory_order_relaxed);
    p = malloc(size);
    if (p)
        atomic_fetch_add_explicit(&test_allocations, 1, memory_order_relaxed);
    return p;
}

void aip_release(void *p)
{
    atomic_fetch_sub_explicit(&test_allocations, 1, memory_order_relaxed);
    free(p);
}

/* ---- nodes */

struct aip_node *aip_node_new(struct aip *t, int family, uint64_t internal,
                              uint64_t external)
{
    size_t size = node_size(family, internal, external);
    struct aip_node *n = aip_allocate(size);

    if (n) {
        *n = (struct aip_node){internal, external, t->transaction, NULL};
        t->working.bytes += size;
    }
    return n;
}

void aip_node_drop(struct aip *t, int family, struct aip_node *n)
{
    t->working.bytes -= node_size(family, n->internal, n->external);
    if (n->made == t->transaction) {
        aip_release(n);
    } else {
        n->next = t->garbage;
        t->garbage = n;
    }
}

struct aip_node *aip_node_change(struct aip *t, int family, void **link,
                                 uint64_t internal, uint64_t external)
{
    struct aip_node *old = *link, *n = aip_node_new(t, family, internal, external);

    if (!n)
        return NULL;
    copy_array(node_entry(family, n, 0), node_entry(family, old, 0),
               entry_size(family), old->external, external);
    copy_array((char *)node_values(family, n), (char *)node_values(family, old),
               sizeof(void *), old->internal, internal);
    *link = n;
    aip_node_drop(t, family, old);
    return n;
}

struct aip_node *aip_node_own(struct aip *t, int family, void **link)
{
    struct aip_node *n = *link;

    if (n->made == t->transaction)
        return n;
    return aip_node_change(t, family, link, n->internal, n->external);
}

struct aip_node *aip_node_of(struct aip *t, int family, unsigned position,
                             const struct aip_item *a, const struct aip_item *b)
{
    const struct aip_item *items[2] = {a, b};
    uint64_t bitmap[2] = {0, 0};
    struct aip_node *n;

    for (int i = 0; i < 2 && items[i]; i++)
        bitmap[item_is_internal(items[i], position)] |= item_bit(items[i], position);
    n = aip_node_new(t, family, bitmap[1], bitmap[0]);
    for (int i = 0; n && i < 2 && items[i]; i++)
        node_put(family, n, position, items[i]);
    return n;
}

void aip_tree_free(int family, struct aip_node *root, uint64_t made)
{
    struct aip_node *todo = NULL;

    if (root && root->made >= made) {
        root->next = NULL;
        todo = root;
    }
    while (todo) {
        struct aip_node *n = todo;

        todo = n->next;
        for (size_t i = 0; i < aip_popcount(n->external); i++) {
            struct aip_item e = entry_get(family, node_entry(family, n, i));
            struct aip_node *below = e.to;
            if (!e.leaf && below->made >= made) {
                below->next = todo;
                todo = below;
            }
        }
        aip_release(n);
    }
}

