/* SPDX-License-Identifier: MIT
 *
 * One packet alone with AVX-512, at most LONE_MAX bytes.  It is part of every round
 * trip (an acknowledgement, a lone datagram), so what counts is how long it takes from
 * its first instruction to the last; lanes may be idle.
 *
 * A short packet is one pass of ChaCha20, with block 0 (the one-time key) in front.  Of
 * a longer one the first pass has block 0 and 7 or 11 blocks of text, the second one
 * the others, while the Poly1305 of the first blocks goes on (lone_poly_avx512.h).
 * Opening writes nothing before the tag is known to be right.
 */
#ifndef TUNNEL_KERNELS_LONE_AVX512_H
#define TUNNEL_KERNELS_LONE_AVX512_H

#include <stddef.h>
#include <stdint.h>

#include "lone_packet_avx512.h"

#define LONE_MAX LONE_TWO_PASSES(2, 4)
/* Most bytes of a packet of one pass, and of two. */
#define LONE_ONE_PASS(states) (LONE_FIRST(states) * BLOCK)
#define LONE_TWO_PASSES(before, states) ((LONE_FIRST(before) + 4 * (states)) * BLOCK)

/* ---- functions whose frames are known */

#define LONE_FUNCTION ISA __attribute__((noinline)) static

/* by the blocks of the pass */
#define LONE_SHORT(blocks)                                                          \
    LONE_FUNCTION void lone_seal_##blocks(const uint8_t key[32], struct aead_op *op) \
    {                                                                               \
        lone_seal_short(key, op, (blocks) / 4);                                     \
    }                                                                               \
    LONE_FUNCTION size_t lone_open_##blocks(const uint8_t key[32],                  \
                                            struct aead_op *op)                     \
    {                                                                               \
        return lone_open_short(key, op, (blocks) / 4);                              \
    }
LONE_SHORT(4)
LONE_SHORT(8)

/* by the blocks of both passes */
#define LONE_LONG(before, blocks)                                                   \
    LONE_FUNCTION void lone_seal_##before##_##blocks(                               \
        const uint8_t key[32], struct aead_op *op, struct lone_powers *powers)      \
    {                                                                               \
        lone_seal_long(key, op, (before) / 4, (blocks) / 4, powers);                \
    }                                                                               \
    LONE_FUNCTION size_t lone_open_##before##_##blocks(                             \
        const uint8_t key[32], struct aead_op *op, struct lone_powers *powers)      \
    {                                                                               \
        return lone_open_long(key, op, (before) / 4, (blocks) / 4, powers);         \
    }
LONE_LONG(8, 4)
LONE_LONG(12, 4)
LONE_LONG(8, 12)
LONE_LONG(8, 16)

/* As burn_stack(): gcc -O3 makes frames of at most 270 bytes for sealing and for short
 * packets; to open long ones, which keeps keystream, of 770, 1030, 1350 and 2700. */
#define LONE_BURN(n)                        \
    LONE_FUNCTION void lone_burn_##n(void)  \
    {                                       \
        uint8_t below[n];                   \
        lone_wipe(below, n);                \
    }
LONE_BURN(512)
LONE_BURN(1024)
LONE_BURN(1536)
LONE_BURN(3072)

LONE_FUNCTION void lone_seal_two_passes(const uint8_t key[32], struct aead_op *op)
{
    struct lone_powers powers;

    if (op->len <= LONE_TWO_PASSES(2, 1))
        lone_seal_8_4(key, op, &powers);
    else if (op->len <= LONE_TWO_PASSES(3, 1))
        lone_seal_12_4(key, op, &powers);
    else if (op->len <= LONE_TWO_PASSES(2, 3))
        lone_seal_8_12(key, op, &powers);
    else
        lone_seal_8_16(key, op, &powers);
    lone_burn_512();
    __asm__ volatile(""); /* no jump there after giving up this frame */
}

LONE_FUNCTION size_t lone_open_two_passes(const uint8_t key[32], struct aead_op *op)
{
    struct lone_powers powers;
    size_t good;

    if (op->len <= LONE_TWO_PASSES(2, 1)) {
        good = lone_open_8_4(key, op, &powers);
        lone_burn_1024();
    } else if (op->len <= LONE_TWO_PASSES(3, 1)) {
        good = lone_open_12_4(key, op, &powers);
        lone_burn_1536();
    } else if (op->len <= LONE_TWO_PASSES(2, 3)) {
        good = lone_open_8_12(key, op, &powers);
        lone_burn_1536();
    } else {
        good = lone_open_8_16(key, op, &powers);
        lone_burn_3072();
    }
    return good;
}

/* ---- */

/* Seals a packet of at most LONE_MAX bytes. */
ISA static void lone_seal(const uint8_t key[32], struct aead_op *op)
{
    if (op->len > LONE_ONE_PASS(2)) {
        lone_seal_two_passes(key, op);
    } else {
        if (op->len <= LONE_ONE_PASS(1))
            lone_seal_4(key, op);
        else
            lone_seal_8(key, op);
        lone_burn_512();
    }
    clear_registers();
}

/* Opens it; returns 1 when it is genuine. */
ISA static size_t lone_open(const uint8_t key[32], struct aead_op *op)
{
    size_t good;

    if (op->len > LONE_ONE_PASS(2)) {
        good = lone_open_two_passes(key, op);
    } else {
        good = op->len <= LONE_ONE_PASS(1) ? lone_open_4(key, op)
                                           : lone_open_8(key, op);
        lone_burn_512();
    }
    clear_registers();
    return good;
}

#endif
