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
    aip_tree_free(4, &t->current.root[0], 0);
    aip_tree_free(6, &t->current.root[1], 0);
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

static struct aip_link start_of(int family, const struct aip_link *root)
{
    if (aip_popcount(aip_nodes(root->has)) == 1 && !maps_prefixes(root->has))
        return *node_link(family, root, 1);
    return *root;
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
        .start4 = start_of(4, &t->current.root[0]),
        .start6 = start_of(6, &t->current.root[1]),
    };
    if (out->start6.position) {
        out->high = ((const struct aip_node6 *)out->start6.to)->high;
        out->mask = aip_mask[out->start6.position][0];
    }
    if (garbage)
        *garbage = dead;
    else
        aip_garbage_free(dead);
}

void aip_abort(struct aip *t)
{
    if (!t->open)
        return;
    aip_tree_free(4, &t->working.root[0], t->transaction);
    aip_tree_free(6, &t->working.root[1], t->transaction);
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

/* The length up to which both lie on one path. */
static unsigned shared_length(const struct aip_item *a, const struct aip_item *b)
{
    unsigned length = key_common(a->key, b->key);

    length = length < a->length ? length : a->length;
    return length < b->length ? length : b->length;
}

static bool same_prefix(const struct aip_item *a, const struct aip_item *b)
{
    return a->length == b->length && shared_length(a, b) == a->length;
}

void *aip_exact(const struct aip *t, int family, const uint8_t *addr, unsigned cidr)
{
    const struct aip_link *l = &t->working.root[family == 6];
    struct aip_item e[2], it = {.length = cidr, .leaf = true};
    unsigned count;
    uint64_t bit;

    if (!l->to || !valid_prefix(family, cidr))
        return NULL;
    it.key = key_read(family, addr, cidr);
    for (bit = item_bit(&it, 0); aip_nodes(l->has) & bit;) {
        if (item_is_internal(&it, l->position))
            break;
        l = node_link(family, l, bit);
        if (l->position > cidr)
            return NULL;
        bit = item_bit(&it, l->position);
    }
    if (item_is_internal(&it, l->position)) {
        e[0] = aip_item_of(family, l); /* what was skipped is not compared yet */
        return l->has.internal & bit && shared_length(&e[0], &it) == l->position
                   ? *node_value(family, l, bit)
                   : NULL;
    }
    count = aip_slot_items(family, l, bit, e);
    for (unsigned i = 0; i < count; i++)
        if (same_prefix(&e[i], &it))
            return e[i].to;
    return NULL;
}

/* Puts the items, which part ways, under a new node in place of a slot of the link's
 * node. */
static int branch(struct aip *t, int family, struct aip_link *l, struct aip_item *items,
                  unsigned count)
{
    unsigned length = shared_length(&items[0], &items[count - 1]);
    uint64_t slot = item_bit(&items[0], l->position);
    struct aip_link below;
    struct aip_item link;

    for (unsigned i = 1; i + 1 < count; i++)
        if (shared_length(&items[0], &items[i]) < length)
            length = shared_length(&items[0], &items[i]);
    if (aip_node_of(t, family, &below, position_before(length), items, count))
        return -ENOMEM;
    link = aip_item_of(family, &below);
    if (aip_node_own(t, family, l,
                     maps_add(maps_clear(l->has, slot), &link, l->position))) {
        aip_node_drop(t, family, &below);
        return -ENOMEM;
    }
    aip_items_put(family, l, &link, 1);
    t->working.count++;
    return 0;
}

/* Writes the slot's or value's items; the last one is new. */
static int add(struct aip *t, int family, struct aip_link *l, struct aip_item *items,
               unsigned count)
{
    if (aip_node_own(t, family, l, maps_add(l->has, &items[count - 1], l->position)))
        return -ENOMEM;
    aip_items_put(family, l, items, count);
    t->working.count++;
    return 0;
}

/* Writes the slot's or value's items, of which one has a new value. */
static int replace(struct aip *t, int family, struct aip_link *l,
                   struct aip_item *items, unsigned count)
{
    if (aip_node_own(t, family, l, l->has))
        return -ENOMEM;
    aip_items_put(family, l, items, count);
    return 0;
}

/* The item ends in the link's node or among the leaves of a slot of it. */
static int settle(struct aip *t, int family, struct aip_link *l, struct aip_item *it,
                  void **old)
{
    struct aip_item e[3];
    uint64_t bit = item_bit(it, l->position);
    unsigned count = 0;
    void *was = NULL;
    int error;

    if (item_is_internal(it, l->position)) {
        was = l->has.internal & bit ? *node_value(family, l, bit) : NULL;
    } else {
        count = aip_slot_items(family, l, bit, e);
        for (unsigned i = 0; i < count; i++)
            if (same_prefix(&e[i], it)) {
                was = e[i].to;
                e[i] = e[--count];
            }
    }
    e[count++] = *it;
    error = was        ? replace(t, family, l, e, count)
            : count < 3 ? add(t, family, l, e, count)
                        : branch(t, family, l, e, count);
    if (!error)
        *old = was;
    return error;
}

int aip_insert(struct aip *t, int family, const uint8_t *addr, unsigned cidr,
               void *value, void **old)
{
    struct aip_item e[2], it = {.length = cidr, .leaf = true, .to = value};
    struct aip_link *l;
    void *ignored;

    if (!old)
        old = &ignored;
    *old = NULL;
    if (!t->open || !value || !valid_prefix(family, cidr))
        return -EINVAL;
    it.key = key_read(family, addr, cidr);
    l = &t->working.root[family == 6];
    if (!l->to) {
        if (aip_node_of(t, family, l, 0, &it, 1))
            return -ENOMEM;
        t->working.count++;
        return 0;
    }
    for (;;) {
        uint64_t bit = item_bit(&it, l->position);

        if (item_is_internal(&it, l->position) || !(aip_nodes(l->has) & bit))
            return settle(t, family, l, &it, old);
        e[0] = aip_item_of(family, node_link(family, l, bit));
        e[1] = it;
        if (shared_length(&e[0], &it) != e[0].length)
            return branch(t, family, l, e, 2);
        if (aip_node_own(t, family, l, l->has))
            return -ENOMEM;
        l = node_link(family, l, bit);
    }
}

/* Puts what the link's node has left into the node above, which `up` leads to: two
 * prefixes, or one link. */
static int lift(struct aip *t, int family, struct aip_link *l, struct aip_link *up,
                struct aip_item *items, unsigned count)
{
    struct aip_maps maps = maps_clear(up->has, item_bit(&items[0], up->position));
    struct aip_link was = *l;

    for (unsigned i = 0; i < count; i++)
        maps = maps_add(maps, &items[i], up->position);
    if (aip_node_own(t, family, up, maps))
        return -ENOMEM;
    aip_items_put(family, up, items, count);
    aip_node_drop(t, family, &was);
    return 0;
}

/* Takes those equal to `it` out of a list. */
static unsigned without(struct aip_item *items, unsigned count,
                        const struct aip_item *it)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < count; i++)
        if (!items[i].leaf || !same_prefix(&items[i], it))
            items[kept++] = items[i];
    return kept;
}

/* Takes a prefix out of the link's node. */
static int take(struct aip *t, int family, struct aip_link *l, struct aip_link *up,
                const struct aip_item *it)
{
    unsigned nodes = aip_popcount(aip_nodes(l->has)), prefixes = maps_prefixes(l->has);
    uint64_t bit = item_bit(it, l->position);
    struct aip_maps left = l->has;
    struct aip_link was = *l;
    struct aip_item e[3];
    unsigned count = 0;

    if (nodes + prefixes == 1) {
        *l = (struct aip_link){.to = NULL};
        aip_node_drop(t, family, &was);
        return 0;
    }
    if (up && nodes == 1 && prefixes == 1) {
        e[0] = aip_item_of(family, node_link(family, l, 1));
        return lift(t, family, l, up, e, 1);
    }
    if (up && nodes == 0 && prefixes == 3) {
        count = without(e, aip_node_prefixes(family, l, e), it);
        return lift(t, family, l, up, e, count);
    }
    if (item_is_internal(it, l->position)) {
        left.internal &= ~bit;
    } else {
        count = without(e, aip_slot_items(family, l, bit, e), it);
        left = maps_clear(left, bit);
        left.leaves |= count ? bit : 0;
    }
    if (aip_node_own(t, family, l, left))
        return -ENOMEM;
    aip_items_put(family, l, e, count);
    return 0;
}

int aip_remove(struct aip *t, int family, const uint8_t *addr, unsigned cidr,
               void **old)
{
    struct aip_item it = {.length = cidr, .leaf = true};
    struct aip_link *l, *up = NULL;
    void *value;

    if (old)
        *old = NULL;
    if (!t->open || !valid_prefix(family, cidr))
        return -EINVAL;
    value = aip_exact(t, family, addr, cidr);
    if (!value)
        return 0;
    it.key = key_read(family, addr, cidr);
    for (l = &t->working.root[family == 6];;) {
        uint64_t bit = item_bit(&it, l->position);

        if (item_is_internal(&it, l->position) || !(aip_nodes(l->has) & bit))
            break;
        if (aip_node_own(t, family, l, l->has))
            return -ENOMEM;
        up = l;
        l = node_link(family, l, bit);
    }
    if (take(t, family, l, up, &it))
        return -ENOMEM;
    t->working.count--;
    if (old)
        *old = value;
    return 0;
}
