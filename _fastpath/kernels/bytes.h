/* SPDX-License-Identifier: MIT
 *
 * Little-endian loads and stores at any alignment, on any byte order.  Compilers turn
 * each of them into one instruction where the machine has it; stores of single bytes
 * they would sometimes vectorise instead.
 */
#ifndef TUNNEL_KERNELS_BYTES_H
#define TUNNEL_KERNELS_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

static inline uint64_t load64(const uint8_t *p)
{
    return (uint64_t)load32(p) | (uint64_t)load32(p + 4) << 32;
}

static inline void store32(uint8_t *p, uint32_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    memcpy(p, &v, sizeof v);
}

static inline void store64(uint8_t *p, uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(p, &v, sizeof v);
}

#endif
