/* SPDX-License-Identifier: MIT
 *
 * ChaCha20-Poly1305 without Python around it: nanoseconds per packet of our kernels,
 * of OpenSSL's EVP (libcrypto) and, with -DWITH_IPSEC_MB, of Intel's ipsec-mb.
 *
 *     harness ROUNDS
 *
 * Each prints "NAME WAY BYTES NS" per round; WAY is seal or open, or seal-alone or
 * open-alone when every packet is a batch of its own.  Everybody works on the same
 * packets under one key, as a tunnel does, and gets its turn in every round; a key is
 * set up once, a nonce for each packet.  Before anything is timed, every open must have
 * accepted what our scalar kernel sealed and refused it with one bit changed.
 */
#define _GNU_SOURCE
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef WITH_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

#include "../../_fastpath/kernels/aead.h"

#define BATCH 64
#define SIZE_MAX_HERE 16384
#define SPAN_NS 4000000 /* of one measurement */
#define TAG 16
#define HEADER 16
/* Packets lie one behind the other, as the datagrams of a tunnel do. */
#define ROOM (8 * (HEADER + SIZE_MAX_HERE + TAG))

extern const struct aead_kernel aead_avx2, aead_avx512;

struct batch {
    struct aead_op op[BATCH];
    size_t count;
};

typedef size_t work(struct batch *b); /* how many packets are good */

static uint8_t key[32];
static uint8_t plain[ROOM], sealed[ROOM];
static const struct aead_kernel *kernel;

static void stop(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* ---- ours */

static size_t kernel_seal(struct batch *b)
{
    kernel->seal_batch(key, b->op, b->count);
    return b->count;
}

static size_t kernel_open(struct batch *b)
{
    return kernel->open_batch(key, b->op, b->count);
}

/* ---- OpenSSL */

static EVP_CIPHER_CTX *evp_sealer, *evp_opener;

static void evp_nonce(uint8_t nonce[12], const struct aead_op *op)
{
    memset(nonce, 0, 4);
    memcpy(nonce + 4, &op->nonce, 8);
}

static size_t evp_seal(struct batch *b)
{
    uint8_t nonce[12];
    int n;

    for (size_t i = 0; i < b->count; i++) {
        struct aead_op *op = &b->op[i];
        evp_nonce(nonce, op);
        EVP_EncryptInit_ex(evp_sealer, NULL, NULL, NULL, nonce);
        EVP_EncryptUpdate(evp_sealer, op->dst, &n, op->src, (int)op->len);
        EVP_EncryptFinal_ex(evp_sealer, op->dst + n, &n);
        EVP_CIPHER_CTX_ctrl(evp_sealer, EVP_CTRL_AEAD_GET_TAG, TAG, op->dst + op->len);
    }
    return b->count;
}

static size_t evp_open(struct batch *b)
{
    uint8_t nonce[12];
    size_t good = 0;
    int n;

    for (size_t i = 0; i < b->count; i++) {
        struct aead_op *op = &b->op[i];
        evp_nonce(nonce, op);
        EVP_DecryptInit_ex(evp_opener, NULL, NULL, NULL, nonce);
        EVP_CIPHER_CTX_ctrl(evp_opener, EVP_CTRL_AEAD_SET_TAG, TAG,
                            (void *)(uintptr_t)(op->src + op->len));
        EVP_DecryptUpdate(evp_opener, op->dst, &n, op->src, (int)op->len);
        good += EVP_DecryptFinal_ex(evp_opener, op->dst + n, &n) == 1;
    }
    return good;
}

static void evp_start(void)
{
    evp_sealer = EVP_CIPHER_CTX_new();
    evp_opener = EVP_CIPHER_CTX_new();
    if (!evp_sealer || !evp_opener ||
        !EVP_EncryptInit_ex(evp_sealer, EVP_chacha20_poly1305(), NULL, key, NULL) ||
        !EVP_DecryptInit_ex(evp_opener, EVP_chacha20_poly1305(), NULL, key, NULL))
        stop("OpenSSL has no ChaCha20-Poly1305");
}

/* ---- ipsec-mb */

#ifdef WITH_IPSEC_MB
static IMB_MGR *manager;

static void mb_fill(IMB_JOB *job, const struct aead_op *op, uint8_t nonce[12],
                    uint8_t *tag, int seal)
{
    evp_nonce(nonce, op);
    job->cipher_direction = seal ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
    job->chain_order = seal ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
    job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
    job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
    job->enc_keys = job->dec_keys = key;
    job->key_len_in_bytes = sizeof key;
    job->src = op->src;
    job->dst = op->dst;
    job->cipher_start_src_offset_in_bytes = 0;
    job->msg_len_to_cipher_in_bytes = op->len;
    job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_hash_in_bytes = op->len;
    job->iv = nonce;
    job->iv_len_in_bytes = 12;
    job->auth_tag_output = tag;
    job->auth_tag_output_len_in_bytes = TAG;
    job->u.CHACHA20_POLY1305.aad = NULL;
    job->u.CHACHA20_POLY1305.aad_len_in_bytes = 0;
}

static size_t mb_run(struct batch *b, int seal)
{
    static uint8_t nonce[BATCH][12], tag[BATCH][TAG];
    size_t done = 0, good = 0;

    for (size_t i = 0; i < b->count; i++) {
        IMB_JOB *job = IMB_GET_NEXT_JOB(manager);
        mb_fill(job, &b->op[i], nonce[i],
                seal ? b->op[i].dst + b->op[i].len : tag[i], seal);
        for (job = IMB_SUBMIT_JOB(manager); job; job = IMB_GET_COMPLETED_JOB(manager))
            done += job->status == IMB_STATUS_COMPLETED;
    }
    while (IMB_FLUSH_JOB(manager))
        done++;
    if (done != b->count)
        stop("ipsec-mb did not do all jobs");
    for (size_t i = 0; i < b->count && !seal; i++)
        good += !memcmp(tag[i], b->op[i].src + b->op[i].len, TAG);
    return seal ? done : good;
}

static size_t mb_seal(struct batch *b)
{
    return mb_run(b, 1);
}

static size_t mb_open(struct batch *b)
{
    return mb_run(b, 0);
}

static void mb_start(void)
{
    manager = alloc_mb_mgr(0);
    if (!manager)
        stop("ipsec-mb has no memory");
    init_mb_mgr_auto(manager, NULL);
}
#endif

/* ---- who takes part */

struct part {
    const char *name;
    const struct aead_kernel *kernel;
    work *seal, *open;
};

static struct part part[8];
static size_t parts;

static void take_part(struct part p)
{
    if (!p.kernel || p.kernel->supported())
        part[parts++] = p;
}

static void invite(void)
{
    evp_start();
    take_part((struct part){"avx512", &aead_avx512, kernel_seal, kernel_open});
    take_part((struct part){"avx2", &aead_avx2, kernel_seal, kernel_open});
    take_part((struct part){"scalar", &aead_scalar, kernel_seal, kernel_open});
    take_part((struct part){"openssl", NULL, evp_seal, evp_open});
#ifdef WITH_IPSEC_MB
    mb_start();
    take_part((struct part){"ipsec-mb", NULL, mb_seal, mb_open});
#endif
}

/* ---- measuring */

static void prepare(struct batch *b, size_t bytes, int seal)
{
    b->count = bytes > 2048 ? 8 : BATCH;
    for (size_t i = 0; i < b->count; i++) {
        const size_t at = HEADER + i * (HEADER + bytes + TAG);
        b->op[i] = (struct aead_op){
            .src = seal ? plain + at : sealed + at,
            .dst = seal ? sealed + at : plain + at,
            .len = (uint32_t)bytes,
            .nonce = i,
        };
    }
}

/* What it seals is what our scalar kernel seals; it refuses what was changed. */
static void check(const struct part *p, size_t bytes)
{
    static uint8_t expected[ROOM];
    struct batch b;
    uint8_t *changed;

    prepare(&b, bytes, 1);
    aead_scalar.seal_batch(key, b.op, b.count);
    memcpy(expected, sealed, sizeof sealed);
    for (size_t i = 0; i < b.count; i++)
        memset(b.op[i].dst, 0, bytes + TAG);
    p->seal(&b);
    if (memcmp(sealed, expected, sizeof sealed))
        stop(p->name);
    prepare(&b, bytes, 0);
    if (p->open(&b) != b.count)
        stop(p->name);
    changed = sealed + (b.op[3].src - sealed) + bytes / 2;
    *changed ^= 1;
    if (p->open(&b) != b.count - 1)
        stop(p->name);
    *changed ^= 1;
}

/* CPU time of this thread: what else runs on the machine is not measured. */
static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static double time_of(work *call, size_t bytes, int seal, int alone)
{
    struct batch b;
    int64_t packets = 0, start, spent;

    prepare(&b, bytes, seal);
    if (alone)
        b.count = 1;
    call(&b);
    start = now();
    do { /* asking for the time is a system call */
        for (size_t i = 0; i < 256; i += b.count)
            packets += (int64_t)call(&b);
        spent = now() - start;
    } while (spent < SPAN_NS);
    return (double)spent / (double)packets;
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {64, 512, 1420, 16384};
    const int rounds = argc == 2 ? atoi(argv[1]) : 1;

    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 7 + 1);
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * 31 + 1);
    invite();
    for (int round = 0; round < rounds; round++) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (size_t i = 0; i < parts; i++) {
                const struct part *p = &part[(i + (size_t)round) % parts];
                kernel = p->kernel;
                check(p, sizes[s]);
                for (int alone = 0; alone < 2; alone++) {
                    const char *how = alone ? "-alone" : "";
                    printf("%s seal%s %zu %.2f\n", p->name, how, sizes[s],
                           time_of(p->seal, sizes[s], 1, alone));
                    printf("%s open%s %zu %.2f\n", p->name, how, sizes[s],
                           time_of(p->open, sizes[s], 0, alone));
                }
            }
        }
    }
    return 0;
}
