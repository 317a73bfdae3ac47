/* SPDX-License-Identifier: MIT
 *
 * ChaCha20-Poly1305 (RFC 8439) for AArch64: four ChaCha20 blocks of any packets at once
 * with Advanced SIMD, which every such CPU has, and the scalar Poly1305: AArch64
 * multiplies 64 x 64 -> 128 bits.
 */
#include "aead.h"

#if defined(__aarch64__) && defined(__AARCH64EL__)

#define ISA
#define LANES 4
#define CHUNK 4

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Copies fewer than 64 bytes: by halves of the length, the last piece may overlap. */
static inline void short_copy(uint8_t *dst, const uint8_t *src, size_t len)
{
    if (len >= 16) {
        const uint8x16_t back = vld1q_u8(src + len - 16);
        for (size_t i = 0; i + 16 < len; i += 16)
            vst1q_u8(dst + i, vld1q_u8(src + i));
        vst1q_u8(dst + len - 16, back);
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

typedef uint32x4_t vector;

/* The lower halves of v8 to v15 belong to callers and come back from the stack. */
static inline void clear_registers(void)
{
#define CLEAR(n) "movi v" #n ".16b, #0\n\t"
    __asm__ volatile(
        CLEAR(0) CLEAR(1) CLEAR(2) CLEAR(3) CLEAR(4) CLEAR(5) CLEAR(6) CLEAR(7)
        CLEAR(8) CLEAR(9) CLEAR(10) CLEAR(11) CLEAR(12) CLEAR(13) CLEAR(14) CLEAR(15)
        CLEAR(16) CLEAR(17) CLEAR(18) CLEAR(19) CLEAR(20) CLEAR(21) CLEAR(22) CLEAR(23)
        CLEAR(24) CLEAR(25) CLEAR(26) CLEAR(27) CLEAR(28) CLEAR(29) CLEAR(30) CLEAR(31)
        : : : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11",
        "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22",
        "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

#include "chacha_neon.h"
#include "text.h"

/* Nothing: each text's accumulator is in registers. */
struct poly1305_scratch {
    uint8_t unused;
};

/* The tags of n texts, each under the first 32 bytes of its key.  Returns how many
 * bytes of the scratch it used. */
static size_t poly1305_tags(struct poly1305_scratch *s, const uint8_t (*keys)[64],
                            const struct text *texts, size_t n, uint8_t (*tags)[16])
{
    (void)s;
    for (size_t i = 0; i < n; i++)
        scalar_tag(keys[i], &texts[i], tags[i]);
    return 0;
}

#include "batch.h"

static int neon_supported(void)
{
    return 1;
}

const struct aead_kernel aead_neon = {
    .name = "neon",
    .supported = neon_supported,
    .seal_batch = batch_seal,
    .open_batch = batch_open,
};

#endif
