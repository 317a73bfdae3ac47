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
 *   leaves    bit s: no more than two prefixes have the next six bits s, and the node
 *             holds them as leaves, the longer one first
 *   others    of `leaves`: there are two; else bit s: more than two have the next six
 *             bits s, and there is a link to the node where they diverge
 *
 * These maps lie in the link that leads to the node, so that a look-up waits for one
 * line of memory per level: whether there is a next link, and where, is known before
 * the node is touched.  A node is its links, leaves and values, in this order, each
 * in the order of the bits.  The root stands at 0; every other node has more than two
 * prefixes below it, which part ways there.  So the shape depends only on the prefixes.
 */
#ifndef TUNNEL_AIP_H
#define TUNNEL_AIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define AIP_HIDDEN __attribute__((visibility("hidden")))

struct aip_maps {
    uint64_t internal, leaves, others;
};

struct aip_link {
    void *to; /* aip_node or aip_node6; without bits in the maps NULL */
    struct aip_maps has;
    uint32_t key; /* IPv4: the bits before `position` */
    uint32_t position;
};

/* What a node begins with. */
struct aip_node {
    /* the writer's: the transaction that made it, and a link between dead nodes */
    uint64_t made;
    struct aip_node *next;
};

/* Keys are in host order with the first bit of the address as the highest. */
struct aip_node6 {
    struct aip_node node;
    uint64_t high, low; /* the bits before its position */
};

/* The bits of the prefix, a one, zeros: 33 bits, or 128 without the first one, which
 * the leaf's place tells. */
struct aip_leaf4 {
    void *value;
    uint64_t bits;
};

struct aip_leaf6 {
    void *value;
    uint64_t high, low;
};

/* An immutable version of the table; zeroed = empty.  Copying it is fine. */
struct aip_root {
    struct aip_link v4, v6;
    /* where look-ups start: at the root or, if it has one link only, at its node */
    struct aip_link start4, start6;
    uint64_t high, mask; /* what all IPv6 prefixes begin with at start6 */
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

/* ---- look-up (aip_walk4.c, aip_walk6.c) */

/* What the CPU has; tests may take it away.  `fast`: what aip_fast4 and 6 need. */
AIP_HIDDEN extern bool aip_has_popcnt, aip_has_fast;

/* The value of the longest prefix that holds the address, or NULL.  With `specific`,
 * prefixes of length 0 do not count. */
AIP_HIDDEN void *aip_match4(const struct aip_root *r, const uint8_t addr[4],
                            bool specific);
AIP_HIDDEN void *aip_match6(const struct aip_root *r, const uint8_t addr[16],
                            bool specific);
AIP_HIDDEN void *aip_fast4(const struct aip_root *r, const uint8_t addr[4]);
AIP_HIDDEN void *aip_fast6(const struct aip_root *r, const uint8_t addr[16]);

static inline void *aip_lookup4(const struct aip_root *r, const uint8_t addr[4])
{
    return aip_has_fast ? aip_fast4(r, addr) : aip_match4(r, addr, false);
}

static inline void *aip_lookup6(const struct aip_root *r, const uint8_t addr[16])
{
    return aip_has_fast ? aip_fast6(r, addr) : aip_match6(r, addr, false);
}

/* ---- maps */

/* Netmasks of 128 bits. */
AIP_HIDDEN extern const uint64_t aip_mask[129][2];

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

/* Those slots that have links. */
static inline uint64_t aip_nodes(struct aip_maps m)
{
    return m.others & ~m.leaves;
}

/* How many leaves there are in these slots. */
static inline unsigned aip_leaves(struct aip_maps m, uint64_t slots)
{
    return aip_popcount(m.leaves & slots) + aip_popcount(m.leaves & m.others & slots);
}

#endif
