/* SPDX-License-Identifier: MIT
 *
 * The shape of the routing table that aip.h promises.  For aip_driver.c only.
 */
#ifndef TUNNEL_TEST_AIP_SHAPE_H
#define TUNNEL_TEST_AIP_SHAPE_H

#include "aip_twin.h"

/* A prefix or the bits before a node; `addr` without the bits behind. */
struct bits {
    unsigned count;
    uint8_t addr[16];
};

static struct bits bits_of(uint64_t high, uint64_t low, unsigned count)
{
    struct bits b = {.count = count};

    for (unsigned i = 0; i < count; i++)
        if ((i < 64 ? high : low) >> (63 - i % 64) & 1)
            b.addr[i / 8] |= (uint8_t)(0x80 >> i % 8);
    return b;
}

static struct bits node_bits(int family, const struct aip_link *l)
{
    const struct aip_node6 *n = l->to;

    if (family == 4)
        return bits_of((uint64_t)l->key << 32, 0, l->position);
    return bits_of(n->high, n->low, l->position);
}

/* Of leaf `i` of those at `leaves`; its first bit is `first`. */
static struct bits leaf_bits(int family, const void *leaves, size_t i, bool first)
{
    const struct aip_leaf4 *l4 = (const struct aip_leaf4 *)leaves + i;
    const struct aip_leaf6 *l6 = (const struct aip_leaf6 *)leaves + i;
    uint64_t high = family == 4 ? l4->bits << 31
                                : l6->high >> 1 | (uint64_t)first << 63;
    uint64_t low = family == 4 ? 0 : l6->high << 63 | l6->low >> 1;
    unsigned count = family == 4 ? 32 : 128;

    CHECK(family == 6 || l4->bits >> 32 == first);
    CHECK(family == 4 ? l4->value && l4->bits : l6->value && (l6->high | l6->low));
    if ((family == 4 ? l4->bits : l6->low) & 1)
        return bits_of(high, low, count);
    while (count-- > 0) /* the last one ends the prefix */
        if ((count < 64 ? high : low) >> (63 - count % 64) & 1)
            break;
    return bits_of(high, low, count);
}

static unsigned slot_of(const struct bits *b, unsigned position)
{
    unsigned slot = 0;

    for (unsigned i = position; i < position + 6; i++)
        slot = slot << 1 | (i / 64 == position / 64 && bit(b->addr, i % 128));
    return slot;
}

/* `b` belongs in slot `s` of the node. */
static void check_place(const struct bits *b, unsigned s, const struct bits *node)
{
    unsigned next = node->count == 60 ? 64 : node->count + 6;

    CHECK(b->count >= next && same_bits(b->addr, node->addr, node->count));
    CHECK(slot_of(b, node->count) == s);
}

/* The two leaves of a slot: the longer one first, equal ones in order. */
static void check_pair(const struct bits b[2])
{
    CHECK(b[0].count > b[1].count ||
          (b[0].count == b[1].count && memcmp(b[0].addr, b[1].addr, 16) < 0));
}

/* How many prefixes are in the node and below it. */
static size_t check_node(int family, const struct aip_link *l, size_t *bytes)
{
    size_t head = family == 4 ? sizeof(struct aip_node) : sizeof(struct aip_node6);
    size_t leaf = family == 4 ? sizeof(struct aip_leaf4) : sizeof(struct aip_leaf6);
    const struct aip_link *links = (const void *)((const char *)l->to + head);
    size_t nodes = 0, leaves = 0, found = 0;
    struct bits own = node_bits(family, l), b[2];
    unsigned ways = 0;

    CHECK(own.count < 64 ? own.count % 6 == 0 : (own.count - 64) % 6 == 0);
    CHECK(family == 6 || (l->position < 32 && !(own.count && l->key << own.count)));
    CHECK(!(l->has.internal & 1));
    for (unsigned s = 0; s < 64; s++) {
        if (!((l->has.others & ~l->has.leaves) >> s & 1))
            continue;
        b[0] = node_bits(family, &links[nodes]);
        check_place(&b[0], s, &own);
        found += check_node(family, &links[nodes++], bytes);
        ways++;
    }
    for (unsigned s = 0; s < 64; s++) {
        unsigned here = (l->has.leaves >> s & 1) * (1 + (l->has.others >> s & 1));
        for (unsigned i = 0; i < here; i++, leaves++) {
            bool first = own.count ? bit(own.addr, 0) : s >> 5;
            b[i] = leaf_bits(family, links + nodes, leaves, first);
            check_place(&b[i], s, &own);
        }
        if (here == 2)
            check_pair(b);
        ways += here > 0;
    }
    *bytes += head + nodes * sizeof *links + leaves * leaf;
    *bytes += aip_popcount(l->has.internal) * sizeof(void *);
    found += leaves + aip_popcount(l->has.internal);
    CHECK(found >= (l->position ? 3 : 1));
    CHECK(l->position == 0 || ways + aip_popcount(l->has.internal) > 1);
    return found;
}

/* Look-ups start at the root, or at the one node that it leads to. */
static void check_start(int family, const struct aip_link *root,
                        const struct aip_link *start)
{
    size_t head = family == 4 ? sizeof(struct aip_node) : sizeof(struct aip_node6);
    bool one = !root->has.internal && !root->has.leaves &&
               aip_popcount(root->has.others) == 1;

    if (one)
        root = (const void *)((const char *)root->to + head);
    CHECK(!memcmp(root, start, sizeof *root));
}

static void check_shape(const struct aip *t, const struct aip_root *r)
{
    size_t bytes = 0, count = 0;

    check_start(4, &r->v4, &r->start4);
    check_start(6, &r->v6, &r->start6);
    CHECK(!r->v4.position && !r->v6.position);
    CHECK(r->mask == aip_mask[r->start6.position][0]);
    CHECK(!r->mask ? !r->high
                   : r->high == ((const struct aip_node6 *)r->start6.to)->high);
    if (r->v4.to)
        count += check_node(4, &r->v4, &bytes);
    if (r->v6.to)
        count += check_node(6, &r->v6, &bytes);
    CHECK(count == aip_count(t));
    CHECK(bytes == aip_bytes(t));
}

#endif
