/* SPDX-License-Identifier: MIT
 *
 * The routing table's look-up (the layout is drawn in aip.h): what both families do.
 * Private to aip_walk4.c and aip_walk6.c, in which all of it is inlined.
 *
 * Most look-ups end at a leaf.  So one goes down at first without comparing what nodes
 * skip and without a note of what it passes: the leaf has the whole prefix.  Only if
 * that is not the answer, a second walk, over lines that are near by now, does both.
 */
#ifndef TUNNEL_AIP_WALK_H
#define TUNNEL_AIP_WALK_H

#include "aip.h"

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

/* Where the slot's link is, in a node whose head has this size. */
INLINE const struct aip_link *link_at(struct how how, const struct aip_link *l,
                                      unsigned slot, size_t head)
{
    return (const struct aip_link *)((const char *)l->to + head) +
           rank(how, aip_nodes(l->has), slot);
}

/* Where a node's leaves are, behind its links. */
INLINE const void *leaves_after(struct how how, const struct aip_link *l,
                                const void *links)
{
    return (const struct aip_link *)links + count(how, aip_nodes(l->has));
}

/* ---- the longest prefix that ends in a node of the way down */

/* Per six bits: the heap bits of the six prefixes (of 0..5 bits) that hold them. */
AIP_HIDDEN extern const uint64_t aip_ancestors[64];

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
    uint64_t matches = l->has.internal & aip_ancestors[slot];

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

#endif
