/* SPDX-License-Identifier: MIT
 *
 * The routing table's look-up (the layout is drawn in aip.h).
 *
 * Most look-ups end at a leaf.  So one goes down at first without comparing what nodes
 * skip and without a note of what it passes: the leaf has the whole prefix.  Only if
 * that is not the answer, a second walk, over lines that are near by now, does both.
 */
#include "aip.h"

#define UP(s, n) 1ULL << ((64 + (s)) >> (n))
#define ONE(s) UP(s, 1) | UP(s, 2) | UP(s, 3) | UP(s, 4) | UP(s, 5) | UP(s, 6)
#define FOUR(s) ONE(s), ONE((s) + 1), ONE((s) + 2), ONE((s) + 3)
#define SIXTEEN(s) FOUR(s), FOUR((s) + 4), FOUR((s) + 8), FOUR((s) + 12)
/* Per six bits: the heap bits of the six prefixes (of 0..5 bits) that hold them. */
static const uint64_t ancestors[64] = {
    SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48),
};

#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__)
#define FAST __attribute__((target("popcnt,bmi,bmi2")))
#else
#define FAST
#endif
#define RARE __attribute__((noinline))

/* How a look-up is done; constants where it is inlined. */
struct how {
    bool fast;     /* in a function marked FAST */
    bool specific; /* prefixes of length 0 do not count */
};

INLINE unsigned count(struct how how, uint64_t x)
{
    return how.fast ? (unsigned)__builtin_popcountll(x) : aip_popcount(x);
}

/* Bits of `map` before `bit`; written so that it can be one instruction. */
INLINE unsigned rank(struct how how, uint64_t map, unsigned bit)
{
    return count(how, map & ((1ULL << bit) - 1));
}

INLINE bool has(uint64_t map, unsigned bit)
{
    return map >> bit & 1;
}

INLINE uint64_t pairs(struct aip_maps m)
{
    return m.leaves & m.others;
}

/* The index of the first leaf of a slot. */
INLINE unsigned leaf_rank(struct how how, struct aip_maps m, unsigned slot)
{
    return rank(how, m.leaves, slot) + rank(how, pairs(m), slot);
}

/* ---- the longest prefix that ends in a node of the way down */

/* The heap bit of the prefix of length 0, which is in the root node. */
#define DEFAULT (1ULL << 1)

/* Prefixes (heap bits) that the link's node holds; no link: none yet. */
struct best {
    const struct aip_link *link;
    uint64_t matches;
};

INLINE void note(struct how how, struct best *best, const struct aip_link *l,
                 unsigned slot)
{
    uint64_t matches = l->has.internal & ancestors[slot];

    if (how.specific && l->position == 0)
        matches &= ~DEFAULT;
    if (matches)
        *best = (struct best){l, matches};
}

INLINE void *value(struct how how, const struct best *best, size_t head, size_t leaf)
{
    const struct aip_link *l = best->link;
    const char *values;
    uint64_t bit;

    if (!l)
        return NULL;
    values = (const char *)l->to + head;
    values += count(how, aip_nodes(l->has)) * sizeof(struct aip_link);
    values += (count(how, l->has.leaves) + count(how, pairs(l->has))) * leaf;
    bit = 1ULL << (63 - __builtin_clzll(best->matches));
    return ((void *const *)values)[count(how, l->has.internal & (bit - 1))];
}

/* ---- IPv4 */

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

INLINE const struct aip_link *link4(struct how how, const struct aip_link *l,
                                    unsigned slot)
{
    const struct aip_node *n = l->to;

    return (const struct aip_link *)(n + 1) + rank(how, aip_nodes(l->has), slot);
}

/* That of the slot's leaves which holds the address, or NULL. */
INLINE const struct aip_leaf4 *find4(struct how how, const struct aip_link *l,
                                     unsigned slot, uint32_t a)
{
    const struct aip_node *n = l->to; /* NULL: an empty table */
    const struct aip_link *links;
    const struct aip_leaf4 *leaf;

    if (!has(l->has.leaves, slot))
        return NULL;
    links = (const struct aip_link *)(n + 1);
    leaf = (const struct aip_leaf4 *)(links + count(how, aip_nodes(l->has)));
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

    for (; !apart4(l, a); l = link4(how, l, slot)) {
        slot = slot4(l, a);
        note(how, &best, l, slot);
        if (!has(aip_nodes(l->has), slot)) {
            leaf = find4(how, l, slot, a);
            break;
        }
    }
    if (leaf)
        return leaf->value;
    return value(how, &best, sizeof(struct aip_node), sizeof(struct aip_leaf4));
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
        l = link4(how, l, slot);
    leaf = find4(how, l, slot, a);
    return leaf ? leaf->value : fast_walk4(&r->start4, a);
}

/* ---- IPv6 */

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

INLINE const struct aip_link *link6(struct how how, const struct aip_link *l,
                                    unsigned slot)
{
    const struct aip_node6 *n = l->to;

    return (const struct aip_link *)(n + 1) + rank(how, aip_nodes(l->has), slot);
}

INLINE const struct aip_leaf6 *find6(struct how how, const struct aip_link *l,
                                     unsigned slot, uint64_t high, uint64_t low)
{
    const struct aip_node6 *n = l->to; /* NULL: an empty table */
    const struct aip_link *links;
    const struct aip_leaf6 *leaf;

    if (!has(l->has.leaves, slot))
        return NULL;
    links = (const struct aip_link *)(n + 1);
    leaf = (const struct aip_leaf6 *)(links + count(how, aip_nodes(l->has)));
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

    for (; !apart6(l, high, low); l = link6(how, l, slot)) {
        slot = slot6(l, l->position < 64 ? high : low);
        note(how, &best, l, slot);
        if (!has(aip_nodes(l->has), slot)) {
            leaf = find6(how, l, slot, high, low);
            break;
        }
    }
    if (leaf)
        return leaf->value;
    return value(how, &best, sizeof(struct aip_node6), sizeof(struct aip_leaf6));
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
    for (; l->position < 64; l = link6(how, l, slot))
        if (!has(aip_nodes(l->has), slot = slot6(l, high)))
            goto found;
    for (;; l = link6(how, l, slot))
        if (!has(aip_nodes(l->has), slot = slot6(l, low)))
            goto found;
found:
    leaf = find6(how, l, slot, high, low);
    return leaf ? leaf->value : fast_walk6(&r->start6, high, low);
}

/* ---- for any CPU */

void *aip_match4(const struct aip_root *r, const uint8_t addr[4], bool specific)
{
    return walk4((struct how){.specific = specific}, &r->start4, read4(addr));
}

void *aip_match6(const struct aip_root *r, const uint8_t addr[16], bool specific)
{
    return walk6((struct how){.specific = specific}, &r->start6, read8(addr),
                 read8(addr + 8));
}
