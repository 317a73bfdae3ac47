/* SPDX-License-Identifier: MIT
 *
 * Sixteen rows of sixteen words become columns.
 */
#ifndef TUNNEL_KERNELS_TRANSPOSE_AVX512_H
#define TUNNEL_KERNELS_TRANSPOSE_AVX512_H

#include <immintrin.h>

#define UNPACK(op, a, b) _mm512_unpack##op(a, b)
#define PICK(a, b, even) _mm512_shuffle_i32x4(a, b, (even) ? 0x88 : 0xdd)

/* x[i] word j  ->  x[j] word i */
ISA static inline void transpose16(__m512i x[16])
{
    __m512i t[16];

    for (int i = 0; i < 16; i += 2) {
        t[i] = UNPACK(lo_epi32, x[i], x[i + 1]);
        t[i + 1] = UNPACK(hi_epi32, x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        x[i] = UNPACK(lo_epi64, t[i], t[i + 2]);
        x[i + 1] = UNPACK(hi_epi64, t[i], t[i + 2]);
        x[i + 2] = UNPACK(lo_epi64, t[i + 1], t[i + 3]);
        x[i + 3] = UNPACK(hi_epi64, t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = PICK(x[i], x[i + 4], 1);
        t[i + 4] = PICK(x[i], x[i + 4], 0);
        t[i + 8] = PICK(x[i + 8], x[i + 12], 1);
        t[i + 12] = PICK(x[i + 8], x[i + 12], 0);
    }
    for (int i = 0; i < 4; i++) {
        x[i] = PICK(t[i], t[i + 8], 1);
        x[i + 4] = PICK(t[i + 4], t[i + 12], 1);
        x[i + 8] = PICK(t[i], t[i + 8], 0);
        x[i + 12] = PICK(t[i + 4], t[i + 12], 0);
    }
}

#endif
