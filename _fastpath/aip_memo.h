/* SPDX-License-Identifier: MIT
 *
 * The last look-up of the routing table, remembered: packets that arrive together are
 * mostly of one source, and the next one costs a comparison.  A memo belongs to one
 * version of the table; whoever takes another one forgets it, at the latest at the end
 * of its batch (the next version may lie at the same address as this one).
 */
#ifndef TUNNEL_AIP_MEMO_H
#define TUNNEL_AIP_MEMO_H

#include "aip.h"

/* Zeroed = empty. */
struct aip_memo {
    int family; /* 4 or 6; 0: nothing is remembered */
    uint64_t address[2];
    void *found; /* also NULL: nothing holds the address */
};

static inline void aip_memo_forget(struct aip_memo *m)
{
    m->family = 0;
}

static inline bool aip_memo_has(const struct aip_memo *m, int family,
                                const uint64_t address[2])
{
    return m->family == family && m->address[0] == address[0] &&
           m->address[1] == address[1];
}

/* As aip_lookup4() or, for family 6, aip_lookup6(). */
static inline void *aip_memo_lookup(struct aip_memo *m, const struct aip_root *r,
                                    int family, const uint8_t *addr)
{
    uint64_t address[2] = {0, 0};

    memcpy(address, addr, family == 4 ? 4 : 16);
    if (!aip_memo_has(m, family, address)) {
        m->found = family == 4 ? aip_lookup4(r, addr) : aip_lookup6(r, addr);
        m->family = family;
        m->address[0] = address[0];
        m->address[1] = address[1];
    }
    return m->found;
}

#endif
