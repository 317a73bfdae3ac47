/* SPDX-License-Identifier: MIT
 *
 * What a call leaves behind, on its stack and in the vector registers, and whether it
 * depends on secrets: the call runs twice, on the same zeroed stack, with another key
 * and plaintext but the same ciphertext, and the remains are compared.
 *
 *     residue KERNEL SEED     prints each batch that leaves something; avx512-general
 *                             is avx512 without Poly1305 between rounds
 *     residue forget SEED     the same for a function that does not wipe
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/aead.h"

#define STACK (256 * 1024)
#define REGISTERS (32 * 64)
#define COUNT_MAX 70
#define LENGTH_MAX 1500
#define ROOM (LENGTH_MAX + DATA_TAG_LEN)

struct call {
    const struct aead_kernel *kernel; /* NULL: a function that forgets to wipe */
    int open;
    size_t count;
    uint8_t key[32];
    struct aead_op op[COUNT_MAX];
    const uint8_t *stack;
    /* the remains: zmm0-31, ymm0-15 or q0-31, and the stack below the caller's frame */
    uint8_t registers[REGISTERS];
    uint8_t below[STACK];
};

static uint8_t cipher[COUNT_MAX][ROOM], source[COUNT_MAX][ROOM];
static uint8_t target[COUNT_MAX][ROOM];

/* ---- the call */

#if defined(__x86_64__)
#define SAVE512(n) "vmovdqu64 %%zmm" #n ", 64*" #n "(%0)\n\t"
#define SAVE256(n) "vmovdqu %%ymm" #n ", 64*" #n "(%0)\n\t"
#define LOW(f)                                                    \
    f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) \
    f(12) f(13) f(14) f(15)
#define HIGH(f)                                                       \
    f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23) f(24) f(25) f(26) \
    f(27) f(28) f(29) f(30) f(31)

/* Those that the kernel uses. */
static inline void save_registers(const char *kernel, uint8_t *to)
{
    if (strcmp(kernel, "avx512") == 0)
        __asm__ volatile(LOW(SAVE512) HIGH(SAVE512) : : "r"(to) : "memory");
    else if (strcmp(kernel, "avx2") == 0)
        __asm__ volatile(LOW(SAVE256) : : "r"(to) : "memory");
}
#elif defined(__aarch64__)
#define SAVE(a, b) "stp q" #a ", q" #b ", [%0, 16*" #a "]\n\t"

static inline void save_registers(const char *kernel, uint8_t *to)
{
    if (strcmp(kernel, "neon") == 0)
        __asm__ volatile(
            SAVE(0, 1) SAVE(2, 3) SAVE(4, 5) SAVE(6, 7) SAVE(8, 9) SAVE(10, 11)
            SAVE(12, 13) SAVE(14, 15) SAVE(16, 17) SAVE(18, 19) SAVE(20, 21)
            SAVE(22, 23) SAVE(24, 25) SAVE(26, 27) SAVE(28, 29) SAVE(30, 31)
            : : "r"(to) : "memory");
}
#else
static inline void save_registers(const char *kernel, uint8_t *to)
{
    (void)kernel, (void)to;
}
#endif

__attribute__((noinline)) static void forget(const struct call *c)
{
    uint8_t copy[32];
    memcpy(copy, c->key, sizeof copy);
    __asm__ volatile("" : : "r"(copy) : "memory");
}

/* Zeroes the stack below: what started the thread was here before, with its number. */
__attribute__((noinline)) static void sweep(const uint8_t *stack)
{
    volatile uint8_t *at = (uint8_t *)(uintptr_t)stack;
    const uint8_t *own = (const uint8_t *)__builtin_frame_address(0) - 64;

    while (at < own)
        *at++ = 0;
}

__attribute__((noinline)) static void *run(void *argument)
{
    struct call *c = argument;
    const volatile uint8_t *frame = __builtin_frame_address(0), *stack = c->stack;

    sweep(c->stack);
    if (c->kernel == NULL) {
        forget(c);
    } else {
        if (c->open)
            c->kernel->open_batch(c->key, c->op, c->count);
        else
            c->kernel->seal_batch(c->key, c->op, c->count);
        save_registers(c->kernel->name, c->registers);
    }
    /* not with a function, which would write on the stack */
    for (size_t i = 0; stack + i < frame; i++)
        c->below[i] = stack[i];
    return NULL;
}

static void run_on(uint8_t *stack, struct call *c)
{
    pthread_attr_t attributes;
    pthread_t thread;

    memset(stack, 0, STACK);
    c->stack = stack;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, stack, STACK) ||
        pthread_create(&thread, &attributes, run, c))
        abort();
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

/* ---- its arguments */

static void fill(uint8_t *p, size_t n)
{
    while (n--)
        *p++ = (uint8_t)(rand() >> 7);
}

/* Another key, and the plaintexts that the ciphertexts have under it. */
static void change_secrets(struct call *c)
{
    fill(c->key, sizeof c->key);
    for (size_t i = 0; i < c->count; i++) {
        struct aead_op op = c->op[i];
        const size_t len = op.len;
        memcpy(source[i], cipher[i], len);
        op.src = op.dst = source[i];
        aead_scalar.seal_batch(c->key, &op, 1); /* the text twice encrypted: itself */
        if (c->open) {
            op.dst = target[i];
            aead_scalar.seal_batch(c->key, &op, 1);
            memcpy(source[i], target[i], len + DATA_TAG_LEN);
        }
    }
}

static void prepare(struct call *c, size_t count, uint32_t length)
{
    c->count = count;
    for (size_t i = 0; i < count; i++) {
        const uint32_t len = length <= LENGTH_MAX ? length
                                                  : (uint32_t)rand() % LENGTH_MAX;
        fill(cipher[i], len);
        c->op[i] = (struct aead_op){
            .src = source[i], .dst = target[i], .len = len, .nonce = i,
        };
    }
}

/* ---- the comparison */

static size_t differences(const uint8_t *a, const uint8_t *b, size_t n)
{
    size_t found = 0;
    while (n--)
        found += *a++ != *b++;
    return found;
}

static size_t residue(struct call *c, uint8_t *stack)
{
    static uint8_t registers[REGISTERS], below[STACK];
    size_t good = 0;

    for (int i = 0; i < 2; i++) {
        memcpy(registers, c->registers, REGISTERS);
        memcpy(below, c->below, STACK);
        change_secrets(c);
        run_on(stack, c);
    }
    for (size_t i = 0; i < c->count; i++)
        good += c->op[i].ok;
    if (c->kernel && c->open && good != c->count)
        abort();
    return differences(c->registers, registers, REGISTERS) +
           differences(c->below, below, STACK);
}

int main(int argc, char **argv)
{
    static const struct aead_kernel *const kernels[] = {AEAD_KERNELS};
    static const size_t counts[] = {1, 2, 8, 13, 40, COUNT_MAX};
    static const uint32_t lengths[] = {
        0, 16, 64, 100, 400, 600, 900, 1100, 1420, UINT32_MAX,
    };
    static struct call c;
    uint8_t *stack = aligned_alloc(4096, STACK);

    if (argc != 3 || stack == NULL)
        return 2;
#if defined(__x86_64__)
    if (strcmp(argv[1], "avx512-general") == 0) {
        aead_avx512_hashing = 0;
        argv[1] = "avx512";
    }
#endif
    srand((unsigned)strtoul(argv[2], NULL, 10));
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (strcmp(kernels[i]->name, argv[1]) == 0)
            c.kernel = kernels[i];
    if (strcmp(argv[1], "forget") != 0 && (!c.kernel || !c.kernel->supported()))
        return 2;
    for (c.open = 0; c.open < 2; c.open++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
                prepare(&c, counts[i], lengths[j]);
                const size_t found = residue(&c, stack);
                if (found)
                    printf("%s %zu x %d: %zu bytes\n", c.open ? "open" : "seal",
                           counts[i], (int)lengths[j], found);
            }
    free(stack);
    return puts("ran") < 0;
}
