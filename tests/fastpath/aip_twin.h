/* SPDX-License-Identifier: MIT
 *
 * A linear twin of the routing table, and random changes to both.  For aip_driver.c
 * only.
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
