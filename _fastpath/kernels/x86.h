/* SPDX-License-Identifier: MIT
 *
 * Which vector registers an x86-64 kernel may use: the CPU must have them and the
 * operating system must save them (Intel SDM volume 1, sections 13.2 and 13.3).
 */
#ifndef TUNNEL_KERNELS_X86_H
#define TUNNEL_KERNELS_X86_H

#include <stdint.h>

/* Register files in XCR0 */
#define XCR0_YMM UINT32_C(0x06) /* SSE, and the upper halves of ymm0-15 */
#define XCR0_ZMM UINT32_C(0xe6) /* those, mask registers, zmm0-31 */

/* 1 when the CPU has AVX2 and the operating system saves all of `files` on a context
 * switch.  Does not use CPUID, which takes microseconds in a virtual machine. */
static inline int os_saves(uint32_t files)
{
    uint32_t low, high;

    if (!__builtin_cpu_supports("avx2")) /* true only where XGETBV exists */
        return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & files) == files;
}

#endif
