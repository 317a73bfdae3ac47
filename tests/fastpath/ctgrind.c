/* SPDX-License-Identifier: MIT
 *
 * Constant time, checked with valgrind's memcheck: secrets are marked undefined, and
 * every branch on them and every address made of them is then an error.  Compiled
 * with TUNNEL_CTGRIND (see _fastpath/secret.h) and KERNEL, the symbol of a kernel.
 *
 *     aead      seal and open, in place or not, good and forged packets
 *     blake2s   a keyed hash
 *     noise     the symmetric state of a handshake, good and forged messages
 *
 * Controls, each of which must be reported:
 *
 *     branch    leaves a comparison at the first difference
 *     index     reads a table at a secret place
 *     output    branches on ciphertext: what was derived from secrets is one
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#include "b2s.h"
#include "kernels/aead.h"
#include "noise.h"

#define LEN_MAX 1500
#define PACKETS 3

#define secret(p, n) ((void)VALGRIND_MAKE_MEM_UNDEFINED((p), (n)))
#define public(p, n) ((void)VALGRIND_MAKE_MEM_DEFINED((p), (n)))

static uint8_t key[32], plain[LEN_MAX];
static uint8_t sealed[PACKETS][LEN_MAX + DATA_TAG_LEN], opened[PACKETS][LEN_MAX];
static volatile unsigned sink;

static void seal(struct aead_op *ops, uint32_t len)
{
    for (int i = 0; i < PACKETS; i++)
        ops[i] = (struct aead_op){
            .src = plain, .dst = sealed[i], .len = len, .nonce = i,
        };
    KERNEL.seal_batch(key, ops, PACKETS);
}

/* Opens what was sealed; the packet in the middle is forged. */
static void open_all(struct aead_op *ops, uint32_t len, int in_place)
{
    sealed[1][len / 2] ^= 1;
    for (int i = 0; i < PACKETS; i++)
        ops[i] = (struct aead_op){
            .src = sealed[i],
            .dst = in_place ? sealed[i] : opened[i],
            .len = len,
            .nonce = i,
        };
    secret(sealed, sizeof sealed);
    if (KERNEL.open_batch(key, ops, PACKETS) != PACKETS - 1)
        abort();
    for (int i = 0; i < PACKETS; i++)
        if (ops[i].ok != (i != 1))
            abort();
}

static void aead(void)
{
    static const uint32_t lengths[] = {
        0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 257, 511, 1024, 1420, 1421,
    };
    struct aead_op ops[PACKETS];

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (int in_place = 0; in_place < 2; in_place++) {
            secret(key, sizeof key);
            secret(plain, sizeof plain);
            seal(ops, lengths[i]);
            open_all(ops, lengths[i], in_place);
        }
}

static void blake2s(void)
{
    uint8_t hash[32];

    secret(key, sizeof key);
    secret(plain, sizeof plain);
    for (size_t len = 0; len < 200; len++)
        b2s_hash(hash, 16, key, sizeof key, plain, len);
}

static void noise(void)
{
    struct symmetric state, copy;
    uint8_t sent[64 + SYMMETRIC_TAG], first[32], second[32];

    secret(&state, sizeof state);
    secret(plain, sizeof plain);
    symmetric_mix_psk(&state, plain);
    for (size_t len = 0; len <= 64; len += 16) {
        symmetric_mix_hash(&state, plain, len);
        symmetric_mix_chain(&state, plain, len);
        symmetric_mix_key(&state, plain, len);
        copy = state;
        symmetric_seal(&state, sent, plain, len);
        if (!symmetric_open(&copy, opened[0], sent, len))
            abort();
        sent[len] ^= 1;
        if (symmetric_open(&copy, opened[0], sent, len))
            abort();
    }
    symmetric_split(&state, first, second);
}

__attribute__((noinline)) static void branch(void)
{
    secret(plain, sizeof plain);
    for (int i = 0; i < 16; i++) {
        if (plain[i] != sealed[0][i])
            break;
        sink = sink + 1;
    }
}

__attribute__((noinline)) static void index_table(void)
{
    static volatile uint8_t table[256];

    secret(plain, 1);
    sink = table[plain[0]];
}

static void output(void)
{
    struct aead_op ops[PACKETS];

    secret(key, sizeof key);
    seal(ops, 64);
    if (sealed[0][5] & 1)
        sink = sink + 1;
    else
        sink = sink + 2;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } modes[] = {
        {"aead", aead},     {"blake2s", blake2s},   {"noise", noise},
        {"branch", branch}, {"index", index_table}, {"output", output},
    };

    if (argc != 2 || !RUNNING_ON_VALGRIND || !KERNEL.supported())
        return 2;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run();
            return puts("ran") < 0;
        }
    return 2;
}
