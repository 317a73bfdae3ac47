/* SPDX-License-Identifier: MIT
 *
 * What the nodes of the routing table hold, as its writer reads and writes it.
 */
#include "aip_node.h"

static unsigned __int128 joined(struct aip_key k)
{
    return (unsigned __int128)k.high << 64 | k.low;
}

static struct aip_key parted(unsigned __int128 bits)
{
    return (struct aip_key){(uint64_t)(bits >> 64), (uint64_t)bits};
}

static struct aip_key node_key(int family, const struct aip_link *l)
{
    const struct aip_node6 *n = l->to;

    if (family == 4)
        return (struct aip_key){(uint64_t)l->key << 32, 0};
    return (struct aip_key){n->high, n->low};
}

struct aip_item aip_item_of(int family, const struct aip_link *l)
{
    return (struct aip_item){.key = node_key(family, l),
                             .length = l->position,
                             .to = l->to,
                             .has = l->has};
}

/* Of 129 bits the first is `first`, as it is in all that lies here. */
static struct aip_item leaf_item(void *value, struct aip_key bits, uint64_t first)
{
    struct aip_item it = {.leaf = true, .to = value};

    it.length = 128 - (bits.low ? (unsigned)__builtin_ctzll(bits.low)
                                : 64 + (unsigned)__builtin_ctzll(bits.high));
    it.key = parted(joined(bits) >> 1);
    it.key.high |= first << 63;
    it.key = key_mask(it.key, it.length);
    return it;
}

unsigned aip_slot_items(int family, const struct aip_link *l, uint64_t slot,
                        struct aip_item out[2])
{
    unsigned count = aip_leaves(l->has, slot);
    const void *leaves;
    uint64_t first;

    if (aip_nodes(l->has) & slot) {
        out[0] = aip_item_of(family, node_link(family, l, slot));
        return 1;
    }
    if (!count)
        return 0;
    leaves = node_leaf(family, l, slot);
    first = l->position ? node_key(family, l).high >> 63 : slot >> 32 != 0;
    for (unsigned i = 0; i < count; i++) {
        const struct aip_leaf4 *l4 = (const struct aip_leaf4 *)leaves + i;
        const struct aip_leaf6 *l6 = (const struct aip_leaf6 *)leaves + i;

        out[i] = family == 4
                     ? leaf_item(l4->value, (struct aip_key){l4->bits << 32, 0}, first)
                     : leaf_item(l6->value, (struct aip_key){l6->high, l6->low}, first);
    }
    return count;
}

/* The prefix of bit `bit` of `internal`. */
static struct aip_item value_item(int family, const struct aip_link *l, uint64_t bit)
{
    struct aip_item it = aip_item_of(family, l);
    unsigned heap = (unsigned)__builtin_ctzll(bit);

    it.leaf = true;
    it.to = *node_value(family, l, bit);
    it.length += 31 - (unsigned)__builtin_clz(heap);
    if (it.length > l->position) {
        heap ^= 1u << (it.length - l->position);
        it.key = parted(joined(it.key) | (unsigned __int128)heap << (128 - it.length));
    }
    return it;
}

unsigned aip_node_prefixes(int family, const struct aip_link *l, struct aip_item out[3])
{
    unsigned count = 0;

    for (uint64_t m = l->has.internal; m; m &= m - 1)
        out[count++] = value_item(family, l, m & -m);
    for (uint64_t m = l->has.leaves; m; m &= m - 1)
        count += aip_slot_items(family, l, m & -m, out + count);
    return count;
}

static void put_leaf(int family, void *at, const struct aip_item *it)
{
    unsigned __int128 bits =
        joined(it->key) << 1 | (unsigned __int128)1 << (128 - it->length);
    struct aip_key k = parted(bits);

    if (family == 4)
        *(struct aip_leaf4 *)at = (struct aip_leaf4){
            it->to, it->key.high >> 31 | 1ULL << (32 - it->length)};
    else
        *(struct aip_leaf6 *)at = (struct aip_leaf6){it->to, k.high, k.low};
}

/* `index`: 1 for the second leaf of a slot. */
static void put(int family, const struct aip_link *l, const struct aip_item *it,
                unsigned index)
{
    uint64_t bit = item_bit(it, l->position);

    if (item_is_internal(it, l->position))
        *node_value(family, l, bit) = it->to;
    else if (it->leaf)
        put_leaf(family, (char *)node_leaf(family, l, bit) + index * leaf_size(family),
                 it);
    else
        *node_link(family, l, bit) = (struct aip_link){
            it->to, it->has, (uint32_t)(it->key.high >> 32), it->length};
}

/* Of two leaves in one slot the longer one is first; of equal ones the lesser. */
static bool goes_first(const struct aip_item *a, const struct aip_item *b)
{
    return a->length != b->length ? a->length > b->length
                                  : joined(a->key) < joined(b->key);
}

void aip_items_put(int family, const struct aip_link *l, struct aip_item *items,
                   unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned index = 0;

        for (unsigned j = 0; j < count; j++)
            index += j != i && items[j].leaf && goes_first(&items[j], &items[i]) &&
                     !item_is_internal(&items[j], l->position) &&
                     item_bit(&items[j], l->position) ==
                         item_bit(&items[i], l->position);
        put(family, l, &items[i], index);
    }
}
