/* SPDX-License-Identifier: MIT
 *
 * Leaving nothing behind in the vector registers of a CPU with AVX-512.
 */
#ifndef TUNNEL_KERNELS_CLEAR_AVX512_H
#define TUNNEL_KERNELS_CLEAR_AVX512_H

#include <immintrin.h>

#define CLEAR(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"

ISA static inline void clear_registers(void)
{
    _mm256_zeroall();
    __asm__ volatile(
        CLEAR(16) CLEAR(17) CLEAR(18) CLEAR(19) CLEAR(20) CLEAR(21) CLEAR(22) CLEAR(23)
        CLEAR(24) CLEAR(25) CLEAR(26) CLEAR(27) CLEAR(28) CLEAR(29) CLEAR(30) CLEAR(31)
        : : : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",
        "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

#undef CLEAR

#endif
