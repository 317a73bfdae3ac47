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

#include "chacha_avx512.h"
#include "clear_avx512.h"
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
