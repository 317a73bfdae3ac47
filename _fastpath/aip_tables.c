/* SPDX-License-Identifier: MIT
 *
 * What the routing table's readers and writer look up: netmasks, which prefixes hold a
 * slot, and what the CPU has.
 */
#include "aip_walk.h"

#define NETMASK(n) {(n) < 64 ? ~(~0ULL >> ((n) & 63)) : ~0ULL, \
                    (n) < 64 ? 0 : (n) < 128 ? ~(~0ULL >> ((n) & 63)) : ~0ULL}
#define NETMASK4(n) NETMASK(n), NETMASK(n + 1), NETMASK(n + 2), NETMASK(n + 3)
#define NETMASK16(n) NETMASK4(n), NETMASK4(n + 4), NETMASK4(n + 8), NETMASK4(n + 12)
const uint64_t aip_mask[129][2] = {
    NETMASK16(0),  NETMASK16(16), NETMASK16(32), NETMASK16(48),  NETMASK16(64),
    NETMASK16(80), NETMASK16(96), NETMASK16(112), NETMASK(128),
};

#define UP(s, n) 1ULL << ((64 + (s)) >> (n))
#define ONE(s) UP(s, 1) | UP(s, 2) | UP(s, 3) | UP(s, 4) | UP(s, 5) | UP(s, 6)
#define FOUR(s) ONE(s), ONE((s) + 1), ONE((s) + 2), ONE((s) + 3)
#define SIXTEEN(s) FOUR(s), FOUR((s) + 4), FOUR((s) + 8), FOUR((s) + 12)
const uint64_t aip_ancestors[64] = {
    SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48),
};

bool aip_has_popcnt, aip_has_fast;

__attribute__((constructor)) static void find_cpu(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    aip_has_popcnt = __builtin_cpu_supports("popcnt");
    aip_has_fast = __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("bmi") &&
                   aip_has_popcnt;
#else
    aip_has_fast = true;
#endif
}
