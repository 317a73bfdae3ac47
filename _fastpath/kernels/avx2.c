/* SPDX-License-Identifier: MIT
 *
 * ChaCha20-Poly1305 (RFC 8439) with AVX2: 16 ChaCha20 blocks of any packets at once,
 * and Poly1305 of four blocks at once.
 */
#include "aead.h"

#if defined(__x86_64__)

#define ISA __attribute__((target("avx2")))
#define LANES 16
#define CHUNK 4

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Copies fewer than 64 bytes: by halves of the length, the last piece may overlap. */
ISA static inline void short_copy(uint8_t *dst, const uint8_t *src, size_t len)
{
    if (len >= 32) {
        const __m256i front = _mm256_loadu_si256((const __m256i *)src);
        const __m256i back = _mm256_loadu_si256((const __m256i *)(src + len - 32));
        _mm256_storeu_si256((__m256i *)dst, front);
        _mm256_storeu_si256((__m256i *)(dst + len - 32), back);
    } else if (len >= 16) {
        const __m128i front = _mm_loadu_si128((const __m128i *)src);
        const __m128i back = _mm_loadu_si128((const __m128i *)(src + len - 16));
        _mm_storeu_si128((__m128i *)dst, front);
        _mm_storeu_si128((__m128i *)(dst + len - 16), back);
    } else if (len >= 8) {
        uint64_t front, back;
        memcpy(&front, src, 8);
        memcpy(&back, src + len - 8, 8);
        memcpy(dst, &front, 8);
        memcpy(dst + len - 8, &back, 8);
    } else {
        for (size_t i = 0; i < len; i++)
            dst[i] = src[i];
    }
}

typedef __m256i vector;

#include "chacha_avx2.h"
#include "poly1305_avx2.h"
#include "x86.h"

ISA static inline void clear_registers(void)
{
    _mm256_zeroall();
}

#include "batch.h"

static int avx2_supported(void)
{
    return os_saves(XCR0_YMM);
}

const struct aead_kernel aead_avx2 = {
    .name = "avx2",
    .supported = avx2_supported,
    .seal_batch = batch_seal,
    .open_batch = batch_open,
};

#endif
