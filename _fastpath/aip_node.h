/* SPDX-License-Identifier: MIT
 *
 * The routing table as its writer sees it: keys, entries, and making one node out of
 * another.  Private to aip.c and aip_node.c; the layout is drawn in aip.h.
 */
#ifndef TUNNEL_AIP_NODE_H
#define TUNNEL_AIP_NODE_H

#include "aip.h"

struct aip_version {
    void *root[2]; /* nodes: IPv4, IPv6 */
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
    unsigned length;
    bool leaf;
    void *to;
};

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

/* The last position of a node at or before `length`. */
static inline unsigned position_before(unsigned length)
{
    return length < 64 ? length / 6 * 6 : 64 + (length - 64) / 6 * 6;
}

static inline unsigned position_after(unsigned position)
{
    return position == 60 ? 64 : position + 6;
}

/* The bit of a prefix in `internal`, or of an entry in `external`. */
static inline bool item_is_internal(const struct aip_item *it, unsigned position)
{
    return it->leaf && it->length < position_after(position);
}

static inline uint64_t item_bit(const struct aip_item *it, unsigned position)
{
    unsigned slot = aip_slot6(it->key.high, it->key.low, position);

    if (item_is_internal(it, position))
        return 1ULL << ((64 | slot) >> (position + 6 - it->length));
    return 1ULL << slot;
}

/* ---- what follows the node */

static inline size_t entry_size(int family)
{
    return family == 4 ? sizeof(struct aip_entry4) : sizeof(struct aip_entry6);
}

static inline void *node_entry(int family, const struct aip_node *n, size_t index)
{
    return (char *)(n + 1) + index * entry_size(family);
}

static inline void **node_values(int family, const struct aip_node *n)
{
    return node_entry(family, n, aip_popcount(n->external));
}

static inline size_t node_items(const struct aip_node *n)
{
    return aip_popcount(n->internal) + aip_popcount(n->external);
}

static inline size_t node_size(int family, uint64_t internal, uint64_t external)
{
    return sizeof(struct aip_node) + aip_popcount(external) * entry_size(family) +
           aip_popcount(internal) * sizeof(void *);
}

/* Where bit `bit` of a bitmap has its entry or value. */
static inline size_t bit_index(uint64_t bitmap, uint64_t bit)
{
    return aip_popcount(bitmap & (bit - 1));
}

static inline struct aip_item entry_get(int family, const void *entry)
{
    if (family == 4) {
        const struct aip_entry4 *e = entry;
        return (struct aip_item){
            {(uint64_t)e->key << 32, 0}, e->length, e->leaf, e->to};
    }
    const struct aip_entry6 *e = entry;
    return (struct aip_item){{e->high, e->low}, e->length, e->leaf, e->to};
}

static inline void entry_put(int family, void *entry, const struct aip_item *it)
{
    if (family == 4)
        *(struct aip_entry4 *)entry = (struct aip_entry4){
            it->to, (uint32_t)(it->key.high >> 32), (uint8_t)it->length, it->leaf};
    else
        *(struct aip_entry6 *)entry = (struct aip_entry6){
            it->to, it->key.high, it->key.low, (uint8_t)it->length, it->leaf};
}

/* Writes an item whose bit is set already. */
static inline void node_put(int family, struct aip_node *n, unsigned position,
                            const struct aip_item *it)
{
    uint64_t bit = item_bit(it, position);

    if (item_is_internal(it, position))
        node_values(family, n)[bit_index(n->internal, bit)] = it->to;
    else
        entry_put(family, node_entry(family, n, bit_index(n->external, bit)), it);
}

/* The only item of a node whose key starts with the first bits of `key`. */
static inline struct aip_item node_only_item(int family, const struct aip_node *n,
                                             uint64_t internal, uint64_t external,
                                             struct aip_key key, unsigned position)
{
    struct aip_item it = {key_mask(key, position), position, true, NULL};
    unsigned __int128 bits;
    unsigned heap;

    if (external)
        return entry_get(family,
                         node_entry(family, n, bit_index(n->external, external)));
    heap = (unsigned)__builtin_ctzll(internal);
    it.length += 31 - (unsigned)__builtin_clz(heap);
    it.to = node_values(family, n)[bit_index(n->internal, internal)];
    if (it.length > position) {
        heap ^= 1u << (it.length - position);
        bits = (unsigned __int128)heap << (128 - it.length);
        it.key.high |= (uint64_t)(bits >> 64);
        it.key.low |= (uint64_t)bits;
    }
    return it;
}

/* Copies an array whose bitmap changes from `was` to `is` in at most one bit; the
 * place of an added bit is left unwritten. */
static inline void copy_array(char *to, const char *from, size_t size, uint64_t was,
                              uint64_t is)
{
    uint64_t bit = was ^ is;
    size_t head = bit ? bit_index(was, bit) : aip_popcount(was);
    size_t skip = (was & bit) != 0, gap = (is & bit) != 0;

    memcpy(to, from, head * size);
    memcpy(to + (head + gap) * size, from + (head + skip) * size,
           (aip_popcount(was) - head - skip) * size);
}

/* ---- making nodes (aip_node.c); a link is the place that points to a node */

void *aip_allocate(size_t size);
void aip_release(void *p);

/* Entries and values are left unwritten.  NULL without memory. */
struct aip_node *aip_node_new(struct aip *t, int family, uint64_t internal,
                              uint64_t external);
/* Of one or two items.  NULL without memory. */
struct aip_node *aip_node_of(struct aip *t, int family, unsigned position,
                             const struct aip_item *a, const struct aip_item *b);
/* Replaces *link by a copy whose bitmaps may differ in one bit.  NULL without
 * memory: nothing changed. */
struct aip_node *aip_node_change(struct aip *t, int family, void **link,
                                 uint64_t internal, uint64_t external);
/* *link as a node that may be changed in place.  NULL without memory. */
struct aip_node *aip_node_own(struct aip *t, int family, void **link);
/* For a node that was taken out of the working tree. */
void aip_node_drop(struct aip *t, int family, struct aip_node *n);
/* Frees the nodes of a tree that are at least as young as transaction `made`; an
 * older node has only older ones below it. */
void aip_tree_free(int family, struct aip_node *root, uint64_t made);

#endif
