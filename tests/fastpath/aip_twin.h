/* SPDX-License-Identifier: MIT
 *
 * A linear twin of the routing table, random changes to both, and the shape that
 * aip.h promises.  For aip_driver.c only.
 */
#ifndef TUNNEL_TEST_AIP_TWIN_H
#define TUNNEL_TEST_AIP_TWIN_H

#include "aip.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
            abort();                                                             \
        }                                                                        \
    } while (0)

static uint64_t state;

static uint32_t rnd(uint32_t below)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(((state >> 32) * below) >> 32);
}

/* ---- the twin: a list */

#define TWIN_MAX 256

struct prefix {
    int family;
    unsigned cidr;
    uint8_t addr[16];
    void *value;
};

struct twin {
    size_t count;
    struct prefix list[TWIN_MAX];
};

static bool bit(const uint8_t *addr, unsigned i)
{
    return addr[i / 8] >> (7 - i % 8) & 1;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (bit(a, i) != bit(b, i))
            return false;
    return true;
}

static struct prefix *twin_exact(struct twin *t, const struct prefix *p)
{
    for (struct prefix *q = t->list; q < t->list + t->count; q++)
        if (q->family == p->family && q->cidr == p->cidr &&
            same_bits(q->addr, p->addr, p->cidr))
            return q;
    return NULL;
}

static void *twin_lookup(const struct twin *t, int family, const uint8_t *addr)
{
    const struct prefix *best = NULL;

    for (const struct prefix *q = t->list; q < t->list + t->count; q++)
        if (q->family == family && (!best || q->cidr > best->cidr) &&
            same_bits(q->addr, addr, q->cidr))
            best = q;
    return best ? best->value : NULL;
}

/* ---- random prefixes: nested, adjacent, far apart; all lengths */

static void random_address(struct twin *t, int family, uint8_t addr[16])
{
    unsigned bits = family == 4 ? 32 : 128;

    for (int i = 0; i < 16; i++)
        addr[i] = (uint8_t)rnd(256);
    if (t->count && rnd(8)) { /* near one that is there */
        const struct prefix *p = &t->list[rnd((uint32_t)t->count)];
        unsigned keep = rnd(2) ? p->cidr : rnd(bits + 1);
        for (unsigned i = 0; i < keep && i < bits; i++) {
            uint8_t mask = (uint8_t)(0x80 >> i % 8);
            addr[i / 8] = (uint8_t)((addr[i / 8] & ~mask) | (p->addr[i / 8] & mask));
        }
        if (keep && !rnd(3))
            addr[(keep - 1) / 8] ^= (uint8_t)(0x80 >> (keep - 1) % 8);
    }
}

static struct prefix random_prefix(struct twin *t)
{
    struct prefix p = {.family = rnd(2) ? 4 : 6};
    unsigned bits = p.family == 4 ? 32 : 128;

    if (t->count && !rnd(4))
        return t->list[rnd((uint32_t)t->count)];
    random_address(t, p.family, p.addr);
    p.cidr = rnd(6) ? rnd(bits + 1) : rnd(2) ? bits : rnd(3) * (bits / 2);
    return p;
}

/* ---- the shape that aip.h promises */

static size_t check_node(int family, const struct aip_node *n, unsigned position,
                         uint64_t high, uint64_t low, size_t *bytes)
{
    size_t values = aip_popcount(n->internal), entries = aip_popcount(n->external);
    size_t size = family == 4 ? sizeof(struct aip_entry4) : sizeof(struct aip_entry6);
    size_t found = values;
    unsigned next = position == 60 ? 64 : position + 6;

    CHECK(position < 64 ? position % 6 == 0 : (position - 64) % 6 == 0);
    CHECK(values + entries >= (position ? 2 : 1));
    CHECK(!(n->internal & 1));
    *bytes += sizeof *n + entries * size + values * sizeof(void *);
    for (size_t i = 0; i < entries; i++) {
        const struct aip_entry4 *e4 = (const struct aip_entry4 *)(n + 1) + i;
        const struct aip_entry6 *e6 = (const struct aip_entry6 *)(n + 1) + i;
        uint64_t h = family == 4 ? (uint64_t)e4->key << 32 : e6->high;
        uint64_t l = family == 4 ? 0 : e6->low, slot;
        unsigned length = family == 4 ? e4->length : e6->length;
        bool leaf = family == 4 ? e4->leaf : e6->leaf;
        void *to = family == 4 ? e4->to : e6->to;

        CHECK(to && length >= next && length <= (family == 4 ? 32 : 128));
        CHECK(!((h ^ high) & aip_mask[position][0]));
        CHECK(!((l ^ low) & aip_mask[position][1]));
        CHECK(h == (h & aip_mask[length][0]) && l == (l & aip_mask[length][1]));
        slot = 1ULL << aip_slot6(h, l, position);
        CHECK(n->external & slot && aip_popcount(n->external & (slot - 1)) == i);
        found += leaf ? 1 : check_node(family, to, length, h, l, bytes);
    }
    return found;
}

/* Look-ups start at the root, or at the one node that it leads to. */
static void check_start(int family, const struct aip_node *root,
                        const struct aip_start *start)
{
    const struct aip_entry4 *e4 = (const struct aip_entry4 *)(root + 1);
    const struct aip_entry6 *e6 = (const struct aip_entry6 *)(root + 1);

    if (!root || root->internal || aip_popcount(root->external) > 1 ||
        (family == 4 ? e4->leaf : e6->leaf)) {
        CHECK(start->node == root && !start->position && !start->high && !start->low);
        return;
    }
    CHECK(start->node == (family == 4 ? e4->to : e6->to));
    CHECK(start->position == (family == 4 ? e4->length : e6->length));
    CHECK(start->high == (family == 4 ? (uint64_t)e4->key << 32 : e6->high));
    CHECK(start->low == (family == 4 ? 0 : e6->low));
}

static void check_shape(const struct aip *t, const struct aip_root *r)
{
    size_t bytes = 0, count = 0;

    check_start(4, r->v4, &r->start4);
    check_start(6, r->v6, &r->start6);

    if (r->v4)
        count += check_node(4, r->v4, 0, 0, 0, &bytes);
    if (r->v6)
        count += check_node(6, r->v6, 0, 0, 0, &bytes);
    CHECK(count == aip_count(t));
    CHECK(bytes == aip_bytes(t));
}

static void *lookup(const struct aip_root *r, int family, const uint8_t *addr)
{
    return family == 4 ? aip_lookup4(r, addr) : aip_lookup6(r, addr);
}

static void check_version(const struct aip_root *r, struct twin *w, int lookups)
{
    for (int i = 0; i < lookups; i++) {
        int family = rnd(2) ? 4 : 6;
        uint8_t addr[16];

        random_address(w, family, addr);
        CHECK(lookup(r, family, addr) == twin_lookup(w, family, addr));
    }
    for (size_t i = 0; i < w->count; i++)
        CHECK(lookup(r, w->list[i].family, w->list[i].addr) ==
              twin_lookup(w, w->list[i].family, w->list[i].addr));
}

static void check_exact(struct aip *t, struct twin *w)
{
    struct prefix p = random_prefix(w), *q = twin_exact(w, &p);

    CHECK(aip_exact(t, p.family, p.addr, p.cidr) == (q ? q->value : NULL));
    for (size_t i = 0; i < w->count; i++)
        CHECK(aip_exact(t, w->list[i].family, w->list[i].addr, w->list[i].cidr) ==
              w->list[i].value);
    CHECK(aip_count(t) == w->count);
}

/* ---- one random change to both; -ENOMEM changes neither */

static int change(struct aip *t, struct twin *w)
{
    struct prefix p = random_prefix(w), *q = twin_exact(w, &p);
    void *before = q ? q->value : NULL, *old = &p;
    bool insert = rnd(TWIN_MAX) >= w->count / 2 + TWIN_MAX / 4;
    int error;

    if (insert && (q || w->count < TWIN_MAX)) {
        p.value = (void *)(uintptr_t)(1 + rnd(UINT32_MAX));
        error = aip_insert(t, p.family, p.addr, p.cidr, p.value, &old);
        if (!error && q)
            q->value = p.value;
        else if (!error)
            w->list[w->count++] = p;
    } else {
        error = aip_remove(t, p.family, p.addr, p.cidr, &old);
        if (!error && q)
            *q = w->list[--w->count];
    }
    CHECK(old == (error ? NULL : before));
    return error;
}

#endif
