/* SPDX-License-Identifier: MIT
 *
 * The routing table ("allowed IPs"): prefixes of IPv4 and IPv6 with a value each,
 * longest match first.  One writer; any number of readers without locks.
 *
 * A path-compressed tree bitmap (Eatherton, Varghese, Dittia, CCR 34/2, 2004) that
 * is persistent: a change copies the nodes between the root and the prefix, shares
 * all others, and is published as a new root.  A node stands at a bit position 0, 6,
 * .. 60, 64, 70, .. 124 and decides the bits up to the next one; six, but four at 60,
 * so that no look-up mixes the two halves of an IPv6 address.
 *
 *   internal  prefixes that end before the next position, as a binary heap: the one
 *             with the n bits b after this position has bit (1 << n | b)
 *   external  bit s: an entry for the next six bits s, which is either a leaf (the
 *             only prefix below) or the node where the prefixes below diverge
 *
 * followed by one entry per external bit and one value per internal bit.  An entry
 * carries the full key and length of what it leads to, so that skipped bits are
 * compared before the next node is touched.  The root stands at 0; every other node
 * has at least two entries or values.  So the shape depends only on the prefixes.
 */
#ifndef TUNNEL_AIP_H
#define TUNNEL_AIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct aip_node {
    uint64_t internal;
    uint64_t external;
    /* the writer's: the transaction that made it, and a link between dead nodes */
    uint64_t made;
    struct aip_node *next;
};

/* Keys are in host order with the first bit of the address as the highest. */
struct aip_entry4 {
    void *to; /* leaf: the value, else the node */
    uint32_t key;
    uint8_t length; /* leaf: of the prefix, else position of the node; 6 or more */
    bool leaf;
};

struct aip_entry6 {
    void *to;
    uint64_t high, low;
    uint8_t length;
    bool leaf;
};

/* Where look-ups start: at the root or, if that leads to one node only, at this node;
 * all prefixes of the table then begin with the `position` bits of high and low. */
struct aip_start {
    const void *node;
    uint64_t high, low;
    unsigned position;
};

/* An immutable version of the table; zeroed = empty.  Copying it is fine. */
struct aip_root {
    const void *v4, *v6;
    struct aip_start start4, start6;
};

struct aip;
struct aip_garbage;

/* ---- writer */

struct aip *aip_new(void); /* NULL without memory */
/* Frees the table with its current version; an open transaction is aborted. */
void aip_free(struct aip *t);

/* 0, or -EBUSY when a transaction is open. */
int aip_begin(struct aip *t);

/* Inside a transaction; host bits of `addr` are ignored.  `value` is not NULL.
 * `*old` (if not NULL) becomes what had exactly this prefix before, or NULL.
 * 0; -ENOMEM: the table is as before the call; -EINVAL: no transaction is open, or
 * a wrong family (4 or 6), cidr (0..32 or 0..128) or value. */
int aip_insert(struct aip *t, int family, const uint8_t *addr, unsigned cidr,
               void *value, void **old);
int aip_remove(struct aip *t, int family, const uint8_t *addr, unsigned cidr,
               void **old);
/* What has exactly this prefix in the open transaction, else in the current
 * version; NULL when nothing has or the arguments are wrong. */
void *aip_exact(const struct aip *t, int family, const uint8_t *addr, unsigned cidr);

/* Ends the transaction; `*out` is the new version.  `*garbage` (may become NULL) is
 * what only earlier versions use: free it when nobody reads those any more.
 * `garbage` NULL: nobody does now.  Cannot fail; without a transaction it only
 * reports the current version. */
void aip_commit(struct aip *t, struct aip_root *out, struct aip_garbage **garbage);
void aip_abort(struct aip *t); /* back to the current version */
void aip_garbage_free(struct aip_garbage *garbage);

/* Prefixes and bytes of nodes in the open transaction, else the current version. */
size_t aip_count(const struct aip *t);
size_t aip_bytes(const struct aip *t);

/* ---- tests */

/* The next n allocations succeed, all later ones fail; negative: none fails. */
void aip_test_fail_after(long n);
size_t aip_test_allocations(void); /* not yet freed: nodes and tables */

/* ---- look-up: the value of the longest prefix that holds the address, or NULL */

/* Per six bits: the heap bits of the six prefixes (of 0..5 bits) that hold them. */
extern const uint64_t aip_ancestors[64] __attribute__((visibility("hidden")));
/* Netmasks of 128 bits. */
extern const uint64_t aip_mask[129][2] __attribute__((visibility("hidden")));
extern bool aip_has_popcnt __attribute__((visibility("hidden")));

/* The baseline of x86-64 lacks the instruction and gcc then calls a function. */
static inline unsigned aip_popcount(uint64_t x)
{
#if defined(__x86_64__) && !defined(__POPCNT__)
    if (__builtin_expect(aip_has_popcnt, 1)) {
        uint64_t n;
        __asm__("popcnt %1, %0" : "=r"(n) : "r"(x) : "cc");
        return (unsigned)n;
    }
#endif
    return (unsigned)__builtin_popcountll(x);
}

/* The six bits at a node's position (at 60: four, then two zeros). */
static inline unsigned aip_slot6(uint64_t high, uint64_t low, unsigned position)
{
    return (unsigned)((position < 64 ? high : low) << (position & 63) >> 58);
}

/* The value of the longest of the prefixes `matches` (heap bits) of `n`. */
static inline void *aip_longest(const struct aip_node *n, uint64_t matches,
                                size_t entry_size)
{
    const char *entries = (const char *)(n + 1);
    void *const *values;

    if (!n)
        return NULL;
    values = (void *const *)(entries + entry_size * aip_popcount(n->external));
    matches = 1ULL << (63 - __builtin_clzll(matches));
    return values[aip_popcount(n->internal & (matches - 1))];
}

/* The heap bit of the prefix of length 0, which is in the root node. */
#define AIP_DEFAULT (1ULL << 1)

/* With `specific`, prefixes of length 0 do not count. */
static inline void *aip_match4(const struct aip_root *r, const uint8_t addr[4],
                               bool specific)
{
    const struct aip_node *n = r->start4.node, *best = NULL;
    uint64_t best_matches = 0;
    unsigned position = r->start4.position;
    uint32_t a;

    memcpy(&a, addr, sizeof a);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    a = __builtin_bswap32(a);
#endif
    if ((((uint64_t)a << 32) ^ r->start4.high) & aip_mask[position][0])
        return NULL;
    while (n) {
        const struct aip_entry4 *e = (const struct aip_entry4 *)(n + 1);
        unsigned slot = (a << position) >> 26;
        uint64_t matches = n->internal & aip_ancestors[slot];
        uint64_t bit = 1ULL << slot;

        if (specific && position == 0)
            matches &= ~AIP_DEFAULT;
        if (matches) {
            best = n;
            best_matches = matches;
        }
        if (!(n->external & bit))
            break;
        e += aip_popcount(n->external & (bit - 1));
        if ((a ^ e->key) >> (32 - e->length))
            break;
        if (e->leaf)
            return e->to;
        position = e->length;
        n = e->to;
        __builtin_prefetch((const char *)n + 64);
    }
    return aip_longest(best, best_matches, sizeof(struct aip_entry4));
}

static inline void *aip_match6(const struct aip_root *r, const uint8_t addr[16],
                               bool specific)
{
    const struct aip_node *n = r->start6.node, *best = NULL;
    uint64_t best_matches = 0;
    unsigned position = r->start6.position;
    uint64_t high, low;

    memcpy(&high, addr, sizeof high);
    memcpy(&low, addr + 8, sizeof low);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    high = __builtin_bswap64(high);
    low = __builtin_bswap64(low);
#endif
    if (((high ^ r->start6.high) & aip_mask[position][0]) |
        ((low ^ r->start6.low) & aip_mask[position][1]))
        return NULL;
    while (n) {
        const struct aip_entry6 *e = (const struct aip_entry6 *)(n + 1);
        unsigned slot = aip_slot6(high, low, position);
        uint64_t matches = n->internal & aip_ancestors[slot];
        uint64_t bit = 1ULL << slot;

        if (specific && position == 0)
            matches &= ~AIP_DEFAULT;
        if (matches) {
            best = n;
            best_matches = matches;
        }
        if (!(n->external & bit))
            break;
        e += aip_popcount(n->external & (bit - 1));
        if (((high ^ e->high) & aip_mask[e->length][0]) |
            ((low ^ e->low) & aip_mask[e->length][1]))
            break;
        if (e->leaf)
            return e->to;
        position = e->length;
        n = e->to;
        __builtin_prefetch((const char *)n + 64);
    }
    return aip_longest(best, best_matches, sizeof(struct aip_entry6));
}

static inline void *aip_lookup4(const struct aip_root *r, const uint8_t addr[4])
{
    return aip_match4(r, addr, false);
}

static inline void *aip_lookup6(const struct aip_root *r, const uint8_t addr[16])
{
    return aip_match6(r, addr, false);
}

#endif
