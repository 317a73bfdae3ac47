/* SPDX-License-Identifier: MIT
 *
 * Which vector registers an x86-64 kernel may use: the CPU must have them and the
 * operating system must save them (Intel SDM volume 1, sections 13.2 and 13.3).  And
 * which of AMD's CPUs this is.
 */
#ifndef TUNNEL_KERNELS_X86_H
#define TUNNEL_KERNELS_X86_H

#include <cpuid.h>
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

/* AMD's number of the family (AMD64 manual volume 3, CPUID function 1): 0x19 is Zen 3
 * and 4, 0x1a Zen 5.  0 for other makers.  Slow, for it uses CPUID. */
static inline unsigned amd_family(void)
{
    unsigned eax, ebx, ecx, edx;

    if (!__builtin_cpu_is("amd") || !__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return 0;
    return (eax >> 8 & 0xf) == 0xf ? 0xf + (eax >> 20 & 0xff) : eax >> 8 & 0xf;
}

#endif
