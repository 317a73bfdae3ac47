/* SPDX-License-Identifier: MIT
 *
 * X25519 (RFC 7748) of eight scalars and eight points at once, with AVX-512 IFMA.
 *
 * The Montgomery ladder of section 5 in every lane: 255 steps, the same for all
 * scalars.  The only thing that a bit of a scalar decides is the mask of a blend, so
 * there is nothing that time, branch predictor or cache could tell; the comparison of
 * the result with zero is made in a mask as well.  All loop counters are public.
 *
 * Several groups of eight share one inversion (Montgomery): of the product of their z,
 * lane by lane.  A z of 0, of a point of low order, counts as 1 in it, so that it does
 * not concern the others, and its result is put to 0 by a mask.
 */
#include "x25519.h"

#if defined(__x86_64__)

#define ISA __attribute__((target("avx512f,avx512dq,avx512ifma")))
#define LANES X25519_LANES

#include "../secret.h"
#include "bytes.h"
#include "clear_avx512.h"
#include "field_words_ifma.h"
#include "x86.h"

#define GROUPS 8   /* of lanes, that share an inversion */
#define BITS 255   /* bit 255 of a clamped scalar is 0, bit 254 is 1 */
#define A24 121665 /* (486662 - 2) / 4 */

/* What the ladder gives for eight lanes: (x : z). */
struct projective {
    struct field x, z;   /* z: 1 where it was 0 */
    struct field before; /* product of the groups' z before this one */
    __mmask8 nonzero;    /* where z was not 0 */
};

/* Everything secret; wiped at the end. */
struct work {
    _Alignas(64) uint64_t scalars[WORDS][LANES];
    uint64_t words[WORDS][LANES]; /* points, then results */
    struct field x1, x2, z2, x3, z3;
    struct projective groups[GROUPS];
};

/* ---- the curve */

/* One step of the ladder: (x2 : z2) is doubled, (x3 : z3) becomes their sum. */
ISA static inline void step(struct work *w)
{
    const struct field a = plus(&w->x2, &w->z2), b = minus(&w->x2, &w->z2);
    const struct field c = plus(&w->x3, &w->z3), d = minus(&w->x3, &w->z3);
    const struct field da = times(&d, &a), cb = times(&c, &b);
    const struct field aa = squared(&a), bb = squared(&b);
    const struct field sum = plus(&da, &cb), difference = minus(&da, &cb);
    const struct field e = minus(&aa, &bb), square = squared(&difference);
    const struct field f = plus_multiple(&aa, A24, &e);

    w->x3 = squared(&sum);
    w->z3 = times(&w->x1, &square);
    w->x2 = times(&aa, &bb);
    w->z2 = times(&e, &f);
}

/* Which lanes' scalars have the bit. */
ISA static inline __mmask8 bits(struct work *w, int bit)
{
    const vector mask = all((int64_t)(UINT64_C(1) << (bit & 63)));
    return _mm512_test_epi64_mask(word(w->scalars, bit >> 6), mask);
}

/* (x2 : z2) = scalar * x1 */
ISA __attribute__((noinline)) static void ladder(struct work *w)
{
    __mmask8 swapped = 0;

    w->x2 = w->z3 = small(1);
    w->z2 = small(0);
    w->x3 = w->x1;
    for (int bit = BITS - 1; bit >= 0; bit--) {
        const __mmask8 set = bits(w, bit);
        const __mmask8 lanes = _kxor_mask8(set, swapped);
        exchange(lanes, &w->x2, &w->x3);
        exchange(lanes, &w->z2, &w->z3);
        swapped = set;
        step(w);
    }
    exchange(swapped, &w->x2, &w->x3);
    exchange(swapped, &w->z2, &w->z3);
}

/* The ladder for the eight lanes in scalars and words. */
ISA __attribute__((noinline)) static void climb_up(struct work *w,
                                                   struct projective *group)
{
    w->x1 = from_words(w->words);
    ladder(w);
    reduce_fully(&w->z2);
    group->x = w->x2;
    group->z = w->z2;
    group->nonzero = nonzero(&w->z2);
    group->z.x[0] =
        _mm512_mask_mov_epi64(all(1), group->nonzero, w->z2.x[0]);
}

/* z2 = 1 / the product of all z, lane by lane; no z is 0 */
ISA __attribute__((noinline)) static void invert_all(struct work *w, size_t groups)
{
    struct field product = small(1);

    for (size_t i = 0; i < groups; i++) {
        w->groups[i].before = product;
        product = times(&product, &w->groups[i].z);
    }
    w->z2 = inverse(product);
}

/* words = x / z of the group, 0 where z was 0, if z2 = 1 / the product of the z up to
 * this one; leaves that of those before.  Returns where the result is not zero. */
ISA __attribute__((noinline)) static __mmask8 divide(struct work *w,
                                                     struct projective *group)
{
    const struct field inverse_z = times(&w->z2, &group->before);
    struct field result = times(&group->x, &inverse_z);

    w->z2 = times(&w->z2, &group->z);
    reduce_fully(&result);
    EACH_LIMB result.x[i] = _mm512_maskz_mov_epi64(group->nonzero, result.x[i]);
    to_words(w->words, &result);
    return nonzero(&result);
}

/* ---- leaving nothing behind */

ISA static void clear_masks(void)
{
    __asm__ volatile("kxorw %%k1, %%k1, %%k1\n\tkxorw %%k2, %%k2, %%k2\n\t"
                     "kxorw %%k3, %%k3, %%k3\n\tkxorw %%k4, %%k4, %%k4\n\t"
                     : : : "k1", "k2", "k3", "k4");
}

/* What the functions above spilled lies below the caller's frame. */
__attribute__((noinline)) static void burn_stack(void)
{
    uint8_t below[16384];
    secret_wipe(below, sizeof below);
}

/* ---- many */

static void load(struct work *w, const struct x25519_op *ops, size_t n)
{
    static const uint8_t base[X25519_BYTES] = {9}, none[X25519_BYTES];

    for (size_t i = 0; i < LANES; i++) {
        const uint8_t *point = i < n ? ops[i].point : none;
        gather(w->scalars, i, i < n ? ops[i].scalar : none);
        gather(w->words, i, point != NULL ? point : base);
        w->scalars[0][i] &= ~UINT64_C(7);
        w->scalars[3][i] &= ~(UINT64_C(1) << 63);
        w->scalars[3][i] |= UINT64_C(1) << 62;
    }
}

static void store(struct work *w, struct x25519_op *ops, size_t n, __mmask8 nonzero)
{
    for (size_t i = 0; i < n; i++) {
        for (int j = 0; j < WORDS; j++)
            store64(ops[i].result + 8 * j, w->words[j][i]);
        ops[i].nonzero = nonzero >> i & 1;
    }
}

static size_t lanes_of(size_t n, size_t group)
{
    const size_t left = n - LANES * group;
    return left < LANES ? left : LANES;
}

/* n: 1 .. LANES * GROUPS */
static void do_groups(struct work *w, struct x25519_op *ops, size_t n)
{
    const size_t groups = (n + LANES - 1) / LANES;

    for (size_t i = 0; i < groups; i++) {
        load(w, ops + LANES * i, lanes_of(n, i));
        climb_up(w, &w->groups[i]);
    }
    invert_all(w, groups);
    for (size_t i = groups; i-- > 0;) {
        const __mmask8 lanes = divide(w, &w->groups[i]);
        store(w, ops + LANES * i, lanes_of(n, i), lanes);
    }
}

void x25519_ifma(struct x25519_op *ops, size_t n)
{
    struct work w;
    const size_t most = LANES * GROUPS;

    for (; n > most; n -= most, ops += most)
        do_groups(&w, ops, most);
    if (n > 0)
        do_groups(&w, ops, n);
    clear_registers();
    clear_masks();
    burn_stack();
    secret_wipe(&w, sizeof w);
}

int x25519_ifma_supported(void)
{
    return os_saves(XCR0_ZMM) && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512ifma");
}

#else

void x25519_ifma(struct x25519_op *ops, size_t n)
{
    (void)ops;
    (void)n;
}

int x25519_ifma_supported(void)
{
    return 0;
}

#endif
