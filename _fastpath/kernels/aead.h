/* SPDX-License-Identifier: MIT
 *
 * The contract of every ChaCha20-Poly1305 kernel (RFC 8439, empty AAD as in
 * WireGuard data messages, R3).  One C file per instruction set implements it;
 * scalar.c is the specification.
 *
 * Constant time: no branch and no address depends on key, plaintext or tag.
 * src and dst may be the same pointer, otherwise they must not overlap.
 */
#ifndef TUNNEL_KERNELS_AEAD_H
#define TUNNEL_KERNELS_AEAD_H

#include "../packet.h"

struct aead_kernel {
    const char *name;
    int (*supported)(void); /* CPU has what the kernel needs */
    /* dst[0..len) = ciphertext, dst[len..len+16) = tag */
    void (*seal_batch)(const uint8_t key[32], struct aead_op *ops, size_t n);
    /* ok per packet; the plaintext of a forged packet is never left in dst: dst
     * is zeroed over len bytes (or, in place, only if the kernel had written it).
     * Returns how many were good. */
    size_t (*open_batch)(const uint8_t key[32], struct aead_op *ops, size_t n);
};

extern const struct aead_kernel aead_scalar;

#if defined(__x86_64__)
extern const struct aead_kernel aead_avx2, aead_avx512;
/* Whether larger batches of the AVX-512 kernel are hashed between rounds: set by
 * supported(), unless a test did, to what pays on CPUs of this family of AMD's. */
extern int aead_avx512_hashing;
int aead_avx512_hashing_pays(unsigned amd);
#define AEAD_KERNELS &aead_avx512, &aead_avx2, &aead_scalar /* best first */
#elif defined(__aarch64__) && defined(__AARCH64EL__)
extern const struct aead_kernel aead_neon;
#define AEAD_KERNELS &aead_neon, &aead_scalar
#else
#define AEAD_KERNELS &aead_scalar
#endif

#endif
