/* SPDX-License-Identifier: MIT
 *
 * Memory of the routing table's nodes, and making one out of another.
 */
#include "aip_node.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

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

static struct aip_node *node_new(struct aip *t, int family, struct aip_maps maps)
{
    size_t size = node_parts(family, maps).end;
    struct aip_node *n = aip_allocate(size);

    if (n) {
        *n = (struct aip_node){t->transaction, NULL};
        t->working.bytes += size;
    }
    return n;
}

void aip_node_drop(struct aip *t, int family, const struct aip_link *l)
{
    struct aip_node *n = l->to;

    t->working.bytes -= node_parts(family, l->has).end;
    if (n->made == t->transaction) {
        aip_release(n);
    } else {
        n->next = t->garbage;
        t->garbage = n;
    }
}

/* Copies an array of which everything from `head` to `tail` (in `from`) is replaced
 * by as much as brings its length from `was` to `is`, and left unwritten. */
static void copy_array(char *to, const char *from, size_t head, size_t tail, size_t was,
                       size_t is)
{
    memcpy(to, from, head);
    memcpy(to + is - (was - tail), from + tail, was - tail);
}

/* The same for what bit `bit` of a map stands for. */
static void copy_mapped(char *to, const char *from, size_t size, uint64_t was,
                        uint64_t is)
{
    uint64_t bit = was ^ is;
    size_t head = bit_index(was, bit), skip = (was & bit) != 0;

    if (!bit)
        head = aip_popcount(was);
    copy_array(to, from, head * size, (head + skip) * size, aip_popcount(was) * size,
               aip_popcount(is) * size);
}

static void copy_leaves(char *to, const char *from, size_t size, struct aip_maps was,
                        struct aip_maps is)
{
    uint64_t slot = (was.leaves ^ is.leaves) | (was.others ^ is.others);
    size_t all = aip_leaves(was, ~0ULL), head = all, tail = all;

    if (slot) {
        head = aip_leaves(was, slot - 1);
        tail = head + aip_leaves(was, slot);
    }
    copy_array(to, from, head * size, tail * size, all * size,
               aip_leaves(is, ~0ULL) * size);
}

static bool same_maps(struct aip_maps a, struct aip_maps b)
{
    return a.internal == b.internal && a.leaves == b.leaves && a.others == b.others;
}

static void copy_parts(int family, char *to, struct aip_maps is, const char *from,
                       struct aip_maps was)
{
    struct aip_parts t = node_parts(family, is), f = node_parts(family, was);

    memcpy(to + sizeof(struct aip_node), from + sizeof(struct aip_node),
           f.links - sizeof(struct aip_node));
    copy_mapped(to + t.links, from + f.links, sizeof(struct aip_link), aip_nodes(was),
                aip_nodes(is));
    copy_leaves(to + t.leaves, from + f.leaves, leaf_size(family), was, is);
    copy_mapped(to + t.values, from + f.values, sizeof(void *), was.internal,
                is.internal);
}

int aip_node_own(struct aip *t, int family, struct aip_link *l, struct aip_maps maps)
{
    bool same = same_maps(l->has, maps);
    struct aip_node *old = l->to, *n;

    if (same && old->made == t->transaction)
        return 0;
    n = node_new(t, family, maps);
    if (!n)
        return -ENOMEM;
    if (same)
        memcpy(n + 1, old + 1, node_parts(family, maps).end - sizeof *n);
    else
        copy_parts(family, (char *)n, maps, (const char *)old, l->has);
    aip_node_drop(t, family, l);
    l->to = n;
    l->has = maps;
    return 0;
}

int aip_node_of(struct aip *t, int family, struct aip_link *out, unsigned position,
                struct aip_item *items, unsigned count)
{
    struct aip_key key = key_mask(items[0].key, position);
    struct aip_maps maps = {0, 0, 0};
    struct aip_node6 *n;

    for (unsigned i = 0; i < count; i++)
        maps = maps_add(maps, &items[i], position);
    n = (struct aip_node6 *)node_new(t, family, maps);
    if (!n)
        return -ENOMEM;
    if (family == 6) {
        n->high = key.high;
        n->low = key.low;
    }
    *out = (struct aip_link){n, maps, (uint32_t)(key.high >> 32), position};
    aip_items_put(family, out, items, count);
    return 0;
}

void aip_tree_free(int family, const struct aip_link *root, uint64_t made)
{
    const struct aip_link *links;
    struct aip_node *n = root->to;

    if (!n || n->made < made)
        return;
    links = node_link(family, root, 1);
    for (size_t i = 0; i < aip_popcount(aip_nodes(root->has)); i++)
        aip_tree_free(family, &links[i], made);
    aip_release(n);
}
