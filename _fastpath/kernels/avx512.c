/* SPDX-License-Identifier: MIT
 *
 * ChaCha20-Poly1305 (RFC 8439) with AVX-512 and its IFMA multiplication: 32 ChaCha20
 * blocks of any packets at once, and Poly1305 of eight blocks at once.  A packet that
 * comes alone has a way of its own.
 */
#include "aead.h"

#if defined(__x86_64__)

#define ISA                                                               \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512ifma," \
                          "avx512vbmi2,bmi2")))
#define LANES 32
#define CHUNK 8

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* Copies fewer than 64 bytes. */
ISA static inline void short_copy(uint8_t *dst, const uint8_t *src, size_t len)
{
    const __mmask64 mask = (UINT64_C(1) << len) - 1;

    _mm512_mask_storeu_epi8(dst, mask, _mm512_maskz_loadu_epi8(mask, src));
}

typedef __m512i vector;

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

#include "chacha_avx512.h"
#include "poly1305_avx512.h"
#include "x86.h"

#include "batch.h"
#include "lone_avx512.h"

ISA static void seal_batch(const uint8_t key[32], struct aead_op *ops, size_t n)
{
    if (n == 1 && ops->len <= LONE_MAX)
        lone_seal(key, ops);
    else
        batch_seal(key, ops, n);
}

ISA static size_t open_batch(const uint8_t key[32], struct aead_op *ops, size_t n)
{
    return n == 1 && ops->len <= LONE_MAX ? lone_open(key, ops)
                                          : batch_open(key, ops, n);
}

static int avx512_supported(void)
{
    hashing_choose();
    return os_saves(XCR0_ZMM) && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512ifma") &&
           __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("bmi2");
}

const struct aead_kernel aead_avx512 = {
    .name = "avx512",
    .supported = avx512_supported,
    .seal_batch = seal_batch,
    .open_batch = open_batch,
};

#endif
