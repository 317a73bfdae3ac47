/* SPDX-License-Identifier: MIT
 *
 * The routing table's writer (the layout is drawn in aip.h).
 *
 * A node that the open transaction made is changed in place or replaced and freed at
 * once; any other is replaced by a copy and chained to the garbage, itself untouched.
 * Whatever fails for want of memory, the working tree holds the same prefixes at
 * every step: a copy is the same set, and the last step allocates before it links.
 */
#include "aip_node.h"

#include <errno.h>

/* ---- life and transactions */

struct aip *aip_new(void)
{
    struct aip *t = aip_allocate(sizeof *t);

    if (t)
        *t = (struct aip){0};
    return t;
}

void aip_free(struct aip *t)
{
    if (!t)
        return;
    aip_abort(t);
    aip_tree_free(4, t->current.root[0], 0);
    aip_tree_free(6, t->current.root[1], 0);
    aip_release(t);
}

int aip_begin(struct aip *t)
{
    if (t->open)
        return -EBUSY;
    t->transaction++;
    t->open = true;
    return 0;
}

static struct aip_start start_of(int family, const struct aip_node *root)
{
    struct aip_item only;

    if (!root || root->internal || node_items(root) > 1)
        return (struct aip_start){.node = root};
    only = entry_get(family, node_entry(family, root, 0));
    return only.leaf ? (struct aip_start){.node = root}
                     : (struct aip_start){only.to, only.key.high, only.key.low,
                                          only.length};
}

void aip_commit(struct aip *t, struct aip_root *out, struct aip_garbage **garbage)
{
    struct aip_garbage *dead = (struct aip_garbage *)t->garbage;

    t->current = t->working;
    t->garbage = NULL;
    t->open = false;
    *out = (struct aip_root){
        .v4 = t->current.root[0],
        .v6 = t->current.root[1],
        .start4 = start_of(4, t->current.root[0]),
        .start6 = start_of(6, t->current.root[1]),
    };
    if (garbage)
        *garbage = dead;
    else
        aip_garbage_free(dead);
}

void aip_abort(struct aip *t)
{
    if (!t->open)
        return;
    aip_tree_free(4, t->working.root[0], t->transaction);
    aip_tree_free(6, t->working.root[1], t->transaction);
    t->working = t->current;
    t->garbage = NULL;
    t->open = false;
}

void aip_garbage_free(struct aip_garbage *garbage)
{
    for (struct aip_node *n = (struct aip_node *)garbage, *next; n; n = next) {
        next = n->next;
        aip_release(n);
    }
}

size_t aip_count(const struct aip *t) { return t->working.count; }

size_t aip_bytes(const struct aip *t) { return t->working.bytes; }

/* ---- prefixes */

static bool valid_prefix(int family, unsigned cidr)
{
    return (family == 4 && cidr <= 32) || (family == 6 && cidr <= 128);
}

static void **entry_at(int family, const struct aip_node *n, uint64_t bit)
{
    return node_entry(family, n, bit_index(n->external, bit));
}

/* The length up to which both lie on one path. */
static unsigned shared_length(const struct aip_item *a, const struct aip_item *b)
{
    unsigned length = key_common(a->key, b->key);

    length = length < a->length ? length : a->length;
    return length < b->length ? length : b->length;
}

void *aip_exact(const struct aip *t, int family, const uint8_t *addr, unsigned cidr)
{
    const struct aip_node *n;
    struct aip_item it = {.length = cidr, .leaf = true};
    unsigned position = 0;

    if (!valid_prefix(family, cidr))
        return NULL;
    it.key = key_read(family, addr, cidr);
    for (n = t->working.root[family == 6]; n;) {
        uint64_t bit = item_bit(&it, position);
        struct aip_item e;

        if (item_is_internal(&it, position))
            return n->internal & bit
                       ? node_values(family, n)[bit_index(n->internal, bit)]
                       : NULL;
        if (!(n->external & bit))
            return NULL;
        e = entry_get(family, entry_at(family, n, bit));
        if (shared_length(&e, &it) != e.length)
            return NULL;
        if (e.leaf)
            return e.length == cidr ? e.to : NULL;
        n = e.to;
        position = e.length;
    }
    return NULL;
}

/* Puts the item and the entry `e` of *link, which part ways, under a new node. */
static int split(struct aip *t, int family, void **link, uint64_t bit,
                 const struct aip_item *e, const struct aip_item *it)
{
    unsigned length = position_before(shared_length(e, it));
    struct aip_item below = {key_mask(it->key, length), length, false, NULL};
    struct aip_node *n;

    below.to = aip_node_of(t, family, length, e, it);
    if (!below.to)
        return -ENOMEM;
    n = aip_node_own(t, family, link);
    if (!n) {
        aip_node_drop(t, family, below.to);
        return -ENOMEM;
    }
    entry_put(family, entry_at(family, n, bit), &below);
    t->working.count++;
    return 0;
}

/* The item's bit in *link is free: set it. */
static int add(struct aip *t, int family, void **link, unsigned position,
               const struct aip_item *it)
{
    uint64_t bit = item_bit(it, position);
    bool internal = item_is_internal(it, position);
    struct aip_node *n = *link;

    n = aip_node_change(t, family, link, n->internal | (internal ? bit : 0),
                        n->external | (internal ? 0 : bit));
    if (!n)
        return -ENOMEM;
    node_put(family, n, position, it);
    t->working.count++;
    return 0;
}

int aip_insert(struct aip *t, int family, const uint8_t *addr, unsigned cidr,
               void *value, void **old)
{
    struct aip_item it = {.length = cidr, .leaf = true, .to = value};
    struct aip_node *n;
    void **link;
    void *ignored;

    if (!old)
        old = &ignored;
    *old = NULL;
    if (!t->open || !value || !valid_prefix(family, cidr))
        return -EINVAL;
    it.key = key_read(family, addr, cidr);
    link = &t->working.root[family == 6];
    if (!*link) {
        *link = aip_node_of(t, family, 0, &it, NULL);
        t->working.count += *link != NULL;
        return *link ? 0 : -ENOMEM;
    }
    for (unsigned position = 0;;) {
        uint64_t bit = item_bit(&it, position);
        bool internal = item_is_internal(&it, position);
        struct aip_item e;

        n = *link;
        if (!((internal ? n->internal : n->external) & bit))
            return add(t, family, link, position, &it);
        if (!internal) {
            e = entry_get(family, entry_at(family, n, bit));
            if (shared_length(&e, &it) != e.length || (e.leaf && e.length != cidr))
                return split(t, family, link, bit, &e, &it);
        }
        n = aip_node_own(t, family, link);
        if (!n)
            return -ENOMEM;
        if (internal || e.leaf) {
            void **at = internal ? node_values(family, n) + bit_index(n->internal, bit)
                                 : entry_at(family, n, bit);
            *old = *at;
            *at = value;
            return 0;
        }
        link = entry_at(family, n, bit);
        position = e.length;
    }
}

/* Takes the item out of *link; a node that is left with one item gives it to its
 * own entry `up` in the node above. */
static int take(struct aip *t, int family, void **link, unsigned position,
                const struct aip_item *it, void **up)
{
    struct aip_node *n = *link;
    uint64_t bit = item_bit(it, position);
    bool internal = item_is_internal(it, position);
    uint64_t internals = n->internal & ~(internal ? bit : 0);
    uint64_t externals = n->external & ~(internal ? 0 : bit);

    if (node_items(n) == 1) {
        *link = NULL;
        aip_node_drop(t, family, n);
    } else if (node_items(n) == 2 && up) {
        struct aip_item only =
            node_only_item(family, n, internals, externals, it->key, position);
        entry_put(family, up, &only);
        aip_node_drop(t, family, n);
    } else if (!aip_node_change(t, family, link, internals, externals)) {
        return -ENOMEM;
    }
    t->working.count--;
    return 0;
}

int aip_remove(struct aip *t, int family, const uint8_t *addr, unsigned cidr,
               void **old)
{
    struct aip_item it = {.length = cidr, .leaf = true};
    struct aip_node *n;
    void **link;
    void *value, **up = NULL;
    int error;

    if (old)
        *old = NULL;
    if (!t->open || !valid_prefix(family, cidr))
        return -EINVAL;
    value = aip_exact(t, family, addr, cidr);
    if (!value)
        return 0;
    it.key = key_read(family, addr, cidr);
    link = &t->working.root[family == 6];
    for (unsigned position = 0;;) {
        uint64_t bit = item_bit(&it, position);
        struct aip_item e = {.leaf = true};

        if (!item_is_internal(&it, position))
            e = entry_get(family, entry_at(family, *link, bit));
        if (e.leaf) {
            error = take(t, family, link, position, &it, up);
            break;
        }
        n = aip_node_own(t, family, link);
        if (!n)
            return -ENOMEM;
        link = up = entry_at(family, n, bit);
        position = e.length;
    }
    if (!error && old)
        *old = value;
    return error;
}
