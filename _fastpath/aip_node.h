/* SPDX-License-Identifier: MIT
 *
 * The routing table as its writer sees it: keys, items, and making one node out of
 * another.  Private to aip.c, aip_edit.c, aip_item.c and aip_node.c; the layout is
 * drawn in aip.h.
 */
#ifndef TUNNEL_AIP_NODE_H
#define TUNNEL_AIP_NODE_H

#include "aip.h"

struct aip_version {
    struct aip_link root[2]; /* IPv4, IPv6 */
    size_t count, bytes;
};

struct aip {
    uint64_t transaction; /* number of the open or last one */
    bool open;
    struct aip_version current, working; /* equal unless open */
    struct aip_node *garbage;            /* nodes of `current` not in `working` */
};

/* First bit of the address = highest bit of `high`; IPv4 uses the upper 32 bits. */
struct aip_key {
    uint64_t high, low;
};

/* Something that a node leads to: a prefix with its value, or a node below. */
struct aip_item {
    struct aip_key key;
    unsigned length; /* of the prefix, or the position of the node */
    bool leaf;
    void *to;
    struct aip_maps has; /* of the node */
};

static inline bool aip_valid(int family, unsigned cidr)
{
    return (family == 4 && cidr <= 32) || (family == 6 && cidr <= 128);
}

static inline struct aip_key key_mask(struct aip_key k, unsigned length)
{
    return (struct aip_key){k.high & aip_mask[length][0], k.low & aip_mask[length][1]};
}

static inline struct aip_key key_read(int family, const uint8_t *addr, unsigned length)
{
    struct aip_key k = {0, 0};

    for (int i = 0; i < (family == 4 ? 4 : 8); i++)
        k.high |= (uint64_t)addr[i] << (56 - 8 * i);
    for (int i = 8; family == 6 && i < 16; i++)
        k.low |= (uint64_t)addr[i] << (120 - 8 * i);
    return key_mask(k, length);
}

/* How many leading bits are equal. */
static inline unsigned key_common(struct aip_key a, struct aip_key b)
{
    if (a.high != b.high)
        return (unsigned)__builtin_clzll(a.high ^ b.high);
    return a.low == b.low ? 128 : 64 + (unsigned)__builtin_clzll(a.low ^ b.low);
}

/* The six bits at a node's position (at 60: four, then two zeros). */
static inline unsigned key_slot(struct aip_key k, unsigned position)
{
    return (unsigned)((position < 64 ? k.high : k.low) << (position & 63) >> 58);
}

/* The last position of a node at or before `length`. */
static inline unsigned position_before(unsigned length)
{
    return length < 64 ? length / 6 * 6 : 64 + (length - 64) / 6 * 6;
}

static inline unsigned position_after(unsigned position)
{
    return position == 60 ? 64 : position + 6;
}

/* The bit of a prefix in `internal`, or of a slot in the other maps. */
static inline bool item_is_internal(const struct aip_item *it, unsigned position)
{
    return it->leaf && it->length < position_after(position);
}

static inline uint64_t item_bit(const struct aip_item *it, unsigned position)
{
    unsigned slot = key_slot(it->key, position);

    if (item_is_internal(it, position))
        return 1ULL << ((64 | slot) >> (position + 6 - it->length));
    return 1ULL << slot;
}

/* The length up to which both lie on one path. */
static inline unsigned item_shared(const struct aip_item *a, const struct aip_item *b)
{
    unsigned length = key_common(a->key, b->key);

    length = length < a->length ? length : a->length;
    return length < b->length ? length : b->length;
}

static inline bool item_is_same(const struct aip_item *a, const struct aip_item *b)
{
    return a->length == b->length && item_shared(a, b) == a->length;
}

/* The maps of a node at `position` that gets one more item, whose slot has no link and
 * no more than one leaf. */
static inline struct aip_maps maps_add(struct aip_maps m, const struct aip_item *it,
                                       unsigned position)
{
    uint64_t bit = item_bit(it, position);

    if (item_is_internal(it, position))
        m.internal |= bit;
    else if (!it->leaf || m.leaves & bit)
        m.others |= bit;
    else
        m.leaves |= bit;
    return m;
}

static inline struct aip_maps maps_clear(struct aip_maps m, uint64_t slot)
{
    return (struct aip_maps){m.internal, m.leaves & ~slot, m.others & ~slot};
}

/* Prefixes that the node itself holds. */
static inline size_t maps_prefixes(struct aip_maps m)
{
    return aip_popcount(m.internal) + aip_leaves(m, ~0ULL);
}

/* ---- where the parts of a node are */

static inline size_t head_size(int family)
{
    return family == 4 ? sizeof(struct aip_node) : sizeof(struct aip_node6);
}

static inline size_t leaf_size(int family)
{
    return family == 4 ? sizeof(struct aip_leaf4) : sizeof(struct aip_leaf6);
}

/* Offsets of the links, leaves and values, and of what would come after them. */
struct aip_parts {
    size_t links, leaves, values, end;
};

static inline struct aip_parts node_parts(int family, struct aip_maps m)
{
    struct aip_parts p = {.links = head_size(family)};

    p.leaves = p.links + aip_popcount(aip_nodes(m)) * sizeof(struct aip_link);
    p.values = p.leaves + aip_leaves(m, ~0ULL) * leaf_size(family);
    p.end = p.values + aip_popcount(m.internal) * sizeof(void *);
    return p;
}

/* Where bit `bit` of a map has its link or value. */
static inline size_t bit_index(uint64_t map, uint64_t bit)
{
    return aip_popcount(map & (bit - 1));
}

static inline struct aip_link *node_link(int family, const struct aip_link *l,
                                         uint64_t bit)
{
    return (struct aip_link *)((char *)l->to + head_size(family)) +
           bit_index(aip_nodes(l->has), bit);
}

/* The first leaf of a slot. */
static inline void *node_leaf(int family, const struct aip_link *l, uint64_t bit)
{
    return (char *)l->to + node_parts(family, l->has).leaves +
           aip_leaves(l->has, bit - 1) * leaf_size(family);
}

static inline void **node_value(int family, const struct aip_link *l, uint64_t bit)
{
    return (void **)((char *)l->to + node_parts(family, l->has).values) +
           bit_index(l->has.internal, bit);
}

/* ---- what a node holds (aip_item.c) */

/* What a link leads to. */
struct aip_item aip_item_of(int family, const struct aip_link *l);
/* What is in a slot: returns 0, 1 or 2. */
unsigned aip_slot_items(int family, const struct aip_link *l, uint64_t slot,
                        struct aip_item out[2]);
/* The prefixes of a node that has no more than three. */
unsigned aip_node_prefixes(int family, const struct aip_link *l,
                           struct aip_item out[3]);
/* Writes all items of some slots, whose bits are set already; they may be sorted
 * anew. */
void aip_items_put(int family, const struct aip_link *l, struct aip_item *items,
                   unsigned count);

/* ---- making nodes (aip_node.c) */

void *aip_allocate(size_t size);
void aip_release(void *p);

/* A node of these items.  -ENOMEM or 0. */
int aip_node_of(struct aip *t, int family, struct aip_link *out, unsigned position,
                struct aip_item *items, unsigned count);
/* Makes the link's node one that may be changed in place and has these maps, which
 * differ in one slot or one value at most; what differs is left unwritten.  -ENOMEM:
 * nothing changed. */
int aip_node_own(struct aip *t, int family, struct aip_link *l, struct aip_maps maps);
/* For a node that was taken out of the working tree. */
void aip_node_drop(struct aip *t, int family, const struct aip_link *l);
/* Frees the nodes of a tree that are at least as young as transaction `made`; an
 * older node has only older ones below it. */
void aip_tree_free(int family, const struct aip_link *root, uint64_t made);

#endif
