/* SPDX-License-Identifier: MIT
 *
 * The contract of an X25519 kernel (RFC 7748 section 5): many scalars times many
 * points at once.  The specification is the library that does one at a time where no
 * kernel runs (x25519.pyx); tests compare the two.
 *
 * A scalar is clamped here; bit 255 of a point is ignored and a value of 2^255 - 19 or
 * more is taken modulo 2^255 - 19.  What one lane computes depends on no other lane.
 *
 * Constant time: no branch and no address depends on a scalar, on a point or on a
 * result.  Whether a result is zero is told, not acted upon.
 */
#ifndef TUNNEL_KERNELS_X25519_H
#define TUNNEL_KERNELS_X25519_H

#include <stddef.h>
#include <stdint.h>

#define X25519_BYTES 32
#define X25519_LANES 8

struct x25519_op {
    const uint8_t *scalar; /* 32 bytes */
    const uint8_t *point;  /* 32 bytes; NULL: the base point, u = 9 */
    uint8_t *result;       /* 32 bytes, reduced; may be scalar or point */
    uint32_t nonzero;      /* out: 0 where the result is all zero, else 1 */
};

/* Does all n of them.  Leaves no secret on the stack or in vector registers. */
void x25519_ifma(struct x25519_op *ops, size_t n);
/* 1 when the CPU has AVX-512 IFMA and the system saves its registers. */
int x25519_ifma_supported(void);

#endif
