/* SPDX-License-Identifier: MIT
 *
 * The routing table's writer: prefixes go in and out (the layout is drawn in aip.h).
 *
 * A node that the open transaction made is changed in place or replaced and freed at
 * once; any other is replaced by a copy and chained to the garbage, itself untouched.
 * Whatever fails for want of memory, the working tree holds the same prefixes at
 * every step: a copy is the same set, and the last step allocates before it links.
 */
#include "aip_node.h"

#include <errno.h>

/* Gives the link's node these maps, and writes all items of the slot or value in which
 * they differ from those it has.  -ENOMEM or 0. */
static int rewrite(struct aip *t, int family, struct aip_link *l, struct aip_maps maps,
                   struct aip_item *items, unsigned count)
{
    int error = aip_node_own(t, family, l, maps);

    if (!error)
        aip_items_put(family, l, items, count);
    return error;
}

/* Puts the items, which part ways, under a new node in place of a slot of the link's
 * node. */
static int branch(struct aip *t, int family, struct aip_link *l, struct aip_item *items,
                  unsigned count)
{
    unsigned length = item_shared(&items[0], &items[count - 1]);
    uint64_t slot = item_bit(&items[0], l->position);
    struct aip_link below;
    struct aip_maps maps;
    struct aip_item link;
    int error;

    for (unsigned i = 1; i + 1 < count; i++)
        if (item_shared(&items[0], &items[i]) < length)
            length = item_shared(&items[0], &items[i]);
    if (aip_node_of(t, family, &below, position_before(length), items, count))
        return -ENOMEM;
    link = aip_item_of(family, &below);
    maps = maps_add(maps_clear(l->has, slot), &link, l->position);
    error = rewrite(t, family, l, maps, &link, 1);
    if (error)
        aip_node_drop(t, family, &below);
    return error;
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
            if (item_is_same(&e[i], it)) {
                was = e[i].to;
                e[i] = e[--count];
            }
    }
    e[count++] = *it;
    if (was)
        error = rewrite(t, family, l, l->has, e, count);
    else if (count < 3)
        error = rewrite(t, family, l, maps_add(l->has, it, l->position), e, count);
    else
        error = branch(t, family, l, e, count);
    if (!error)
        *old = was;
    return error;
}

/* Goes down from the link's node to where the item belongs. */
static int place(struct aip *t, int family, struct aip_link *l, struct aip_item *it,
                 void **old)
{
    struct aip_item e[2];

    for (;;) {
        uint64_t bit = item_bit(it, l->position);

        if (item_is_internal(it, l->position) || !(aip_nodes(l->has) & bit))
            return settle(t, family, l, it, old);
        e[0] = aip_item_of(family, node_link(family, l, bit));
        e[1] = *it;
        if (item_shared(&e[0], it) != e[0].length)
            return branch(t, family, l, e, 2);
        if (aip_node_own(t, family, l, l->has))
            return -ENOMEM;
        l = node_link(family, l, bit);
    }
}

int aip_insert(struct aip *t, int family, const uint8_t *addr, unsigned cidr,
               void *value, void **old)
{
    struct aip_item it = {.length = cidr, .leaf = true, .to = value};
    struct aip_link *root = &t->working.root[family == 6];
    void *ignored;
    int error;

    if (!old)
        old = &ignored;
    *old = NULL;
    if (!t->open || !value || !aip_valid(family, cidr))
        return -EINVAL;
    it.key = key_read(family, addr, cidr);
    error = root->to ? place(t, family, root, &it, old)
                     : aip_node_of(t, family, root, 0, &it, 1);
    if (!error && !*old)
        t->working.count++;
    return error;
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
    if (rewrite(t, family, up, maps, items, count))
        return -ENOMEM;
    aip_node_drop(t, family, &was);
    return 0;
}

/* Takes those equal to `it` out of a list. */
static unsigned without(struct aip_item *items, unsigned count,
                        const struct aip_item *it)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < count; i++)
        if (!items[i].leaf || !item_is_same(&items[i], it))
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
    return rewrite(t, family, l, left, e, count);
}

int aip_remove(struct aip *t, int family, const uint8_t *addr, unsigned cidr,
               void **old)
{
    struct aip_item it = {.length = cidr, .leaf = true};
    struct aip_link *l, *up = NULL;
    void *value;

    if (old)
        *old = NULL;
    if (!t->open || !aip_valid(family, cidr))
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
