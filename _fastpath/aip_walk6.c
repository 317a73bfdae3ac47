/* SPDX-License-Identifier: MIT
 *
 * The routing table's look-up of IPv6 addresses (how it goes is said in aip_walk.h).
 */
#include "aip_walk.h"

#define HEAD sizeof(struct aip_node6)

INLINE uint64_t read8(const uint8_t addr[8])
{
    uint64_t a;

    memcpy(&a, addr, sizeof a);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    a = __builtin_bswap64(a);
#endif
    return a;
}

INLINE bool apart6(const struct aip_link *l, uint64_t high, uint64_t low)
{
    const struct aip_node6 *n = l->to;
    const uint64_t *mask = aip_mask[l->position];

    return l->position && (((high ^ n->high) & mask[0]) | ((low ^ n->low) & mask[1]));
}

/* The address is given without its first bit, as the leaf has it. */
INLINE bool in6(const struct aip_leaf6 *leaf, uint64_t high, uint64_t low)
{
    uint64_t h = leaf->high, l = leaf->low;
    uint64_t free_high = h ^ (h - (l == 0)), free_low = l ^ (l - 1);

    return !(((high ^ h) & ~free_high) | ((low ^ l) & ~free_low));
}

/* `word`: the half of the address where the node stands. */
INLINE unsigned slot6(const struct aip_link *l, uint64_t word)
{
    return (unsigned)(word << (l->position & 63) >> 58);
}

INLINE const struct aip_leaf6 *find6(struct how how, const struct aip_link *l,
                                     unsigned slot, uint64_t high, uint64_t low)
{
    const struct aip_node6 *n = l->to; /* NULL: an empty table */
    const struct aip_leaf6 *leaf;

    if (!has(l->has.leaves, slot))
        return NULL;
    leaf = leaves_after(how, l, n + 1);
    leaf += leaf_rank(how, l->has, slot);
    high = high << 1 | low >> 63;
    low <<= 1;
    if (in6(leaf, high, low))
        return leaf;
    leaf += has(pairs(l->has), slot);
    return in6(leaf, high, low) ? leaf : NULL;
}

INLINE void *walk6(struct how how, const struct aip_link *l, uint64_t high,
                   uint64_t low)
{
    const struct aip_leaf6 *leaf = NULL;
    struct best best = {NULL, 0};
    unsigned slot;

    for (; !apart6(l, high, low); l = link_at(how, l, slot, HEAD)) {
        slot = slot6(l, l->position < 64 ? high : low);
        note(how, &best, l, slot);
        if (!has(aip_nodes(l->has), slot)) {
            leaf = find6(how, l, slot, high, low);
            break;
        }
    }
    if (leaf)
        return leaf->value;
    return value(how, &best, HEAD, sizeof(struct aip_leaf6));
}

FAST RARE static void *fast_walk6(const struct aip_link *l, uint64_t high, uint64_t low)
{
    return walk6((struct how){.fast = true}, l, high, low);
}

FAST void *aip_fast6(const struct aip_root *r, const uint8_t addr[16])
{
    const struct how how = {.fast = true};
    const struct aip_link *l = &r->start6;
    uint64_t high = read8(addr), low = read8(addr + 8);
    const struct aip_leaf6 *leaf;
    unsigned slot;

    if ((high ^ r->high) & r->mask)
        return NULL; /* below the root no leaf tells the first bit */
    for (; l->position < 64; l = link_at(how, l, slot, HEAD))
        if (!has(aip_nodes(l->has), slot = slot6(l, high)))
            goto found;
    for (;; l = link_at(how, l, slot, HEAD))
        if (!has(aip_nodes(l->has), slot = slot6(l, low)))
            goto found;
found:
    leaf = find6(how, l, slot, high, low);
    return leaf ? leaf->value : fast_walk6(&r->start6, high, low);
}

/* ---- for any CPU */

void *aip_match6(const struct aip_root *r, const uint8_t addr[16], bool specific)
{
    return walk6((struct how){.specific = specific}, &r->start6, read8(addr),
                 read8(addr + 8));
}
