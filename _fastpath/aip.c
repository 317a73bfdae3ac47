/* SPDX-License-Identifier: MIT
 *
 * The routing table: its life, its versions, and what it holds (the layout is drawn in
 * aip.h).
 */
#include "aip_node.h"

#include <errno.h>

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

void *aip_exact(const struct aip *t, int family, const uint8_t *addr, unsigned cidr)
{
    const struct aip_link *l = &t->working.root[family == 6];
    struct aip_item e[2], it = {.length = cidr, .leaf = true};
    unsigned count;
    uint64_t bit;

    if (!l->to || !aip_valid(family, cidr))
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
        return l->has.internal & bit && item_shared(&e[0], &it) == l->position
                   ? *node_value(family, l, bit)
                   : NULL;
    }
    count = aip_slot_items(family, l, bit, e);
    for (unsigned i = 0; i < count; i++)
        if (item_is_same(&e[i], &it))
            return e[i].to;
    return NULL;
}
