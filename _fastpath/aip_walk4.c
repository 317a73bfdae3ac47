/* SPDX-License-Identifier: MIT
 *
 * The routing table's look-up of IPv4 addresses (how it goes is said in aip_walk.h).
 */
#include "aip_walk.h"

#define HEAD sizeof(struct aip_node)

INLINE uint32_t read4(const uint8_t addr[4])
{
    uint32_t a;

    memcpy(&a, addr, sizeof a);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    a = __builtin_bswap32(a);
#endif
    return a;
}

/* The address does not begin as what is below the link. */
INLINE bool apart4(const struct aip_link *l, uint32_t a)
{
    return ((uint64_t)(a ^ l->key) << 32) & aip_mask[l->position][0];
}

INLINE bool in4(const struct aip_leaf4 *leaf, uint32_t a)
{
    uint64_t bits = leaf->bits, free = bits ^ (bits - 1);

    return !(((uint64_t)a << 1 ^ bits) & ~free);
}

INLINE unsigned slot4(const struct aip_link *l, uint32_t a)
{
    return (a << l->position) >> 26;
}

/* That of the slot's leaves which holds the address, or NULL. */
INLINE const struct aip_leaf4 *find4(struct how how, const struct aip_link *l,
                                     unsigned slot, uint32_t a)
{
    const struct aip_node *n = l->to; /* NULL: an empty table */
    const struct aip_leaf4 *leaf;

    if (!has(l->has.leaves, slot))
        return NULL;
    leaf = leaves_after(how, l, n + 1);
    leaf += leaf_rank(how, l->has, slot);
    if (in4(leaf, a))
        return leaf;
    leaf += has(pairs(l->has), slot);
    return in4(leaf, a) ? leaf : NULL;
}

/* Compares the bits that a node skips before it uses the node. */
INLINE void *walk4(struct how how, const struct aip_link *l, uint32_t a)
{
    const struct aip_leaf4 *leaf = NULL;
    struct best best = {NULL, 0};
    unsigned slot;

    for (; !apart4(l, a); l = link_at(how, l, slot, HEAD)) {
        slot = slot4(l, a);
        note(how, &best, l, slot);
        if (!has(aip_nodes(l->has), slot)) {
            leaf = find4(how, l, slot, a);
            break;
        }
    }
    if (leaf)
        return leaf->value;
    return value(how, &best, HEAD, sizeof(struct aip_leaf4));
}

FAST RARE static void *fast_walk4(const struct aip_link *l, uint32_t a)
{
    return walk4((struct how){.fast = true}, l, a);
}

FAST void *aip_fast4(const struct aip_root *r, const uint8_t addr[4])
{
    const struct how how = {.fast = true};
    const struct aip_link *l = &r->start4;
    const struct aip_leaf4 *leaf;
    uint32_t a = read4(addr);
    unsigned slot;

    while (has(aip_nodes(l->has), slot = slot4(l, a)))
        l = link_at(how, l, slot, HEAD);
    leaf = find4(how, l, slot, a);
    return leaf ? leaf->value : fast_walk4(&r->start4, a);
}

/* ---- for any CPU */

void *aip_match4(const struct aip_root *r, const uint8_t addr[4], bool specific)
{
    return walk4((struct how){.specific = specific}, &r->start4, read4(addr));
}
