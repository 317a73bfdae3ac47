/* SPDX-License-Identifier: MIT
 *
 * Handling of secret bytes in C: comparing, wiping, and telling the constant-time
 * check (tests/fastpath/ctgrind.c) which value may be public after all.
 */
#ifndef TUNNEL_SECRET_H
#define TUNNEL_SECRET_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Under TUNNEL_CTGRIND secrets are marked undefined for valgrind, so that every
 * branch or address made of them is an error.  A verdict that everybody may know
 * (the tag matched or it did not) is declassified before it is branched on. */
#ifdef TUNNEL_CTGRIND
#include <valgrind/memcheck.h>
#define secret_declassify(p, n) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (n)))
#else
#define secret_declassify(p, n) ((void)0)
#endif

/* Zeroes n bytes in a way that the compiler may not remove. */
static inline void secret_wipe(void *p, size_t n)
{
#if defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__)
    explicit_bzero(p, n);
#else
    volatile uint8_t *bytes = p;
    while (n--)
        *bytes++ = 0;
#endif
}

/* 1 when a[0..n) equals b[0..n), else 0; the time depends on n only. */
static inline uint32_t secret_equal(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint32_t difference = 0;
    for (size_t i = 0; i < n; i++)
        difference |= (uint32_t)(a[i] ^ b[i]);
    return (difference - 1) >> 31;
}

/* Wipes what functions called before left below the caller's frame: registers
 * that the compiler spilled.  The callees must not have been inlined. */
__attribute__((noinline, unused)) static void secret_burn_stack(void)
{
    uint8_t below[1024];
    secret_wipe(below, sizeof below);
}

#endif
