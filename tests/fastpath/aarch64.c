/* SPDX-License-Identifier: MIT
 *
 * The C of the packet path on another CPU: reads questions from standard input, one
 * per line, and answers each with one line.  Bytes are hexadecimal, "-" is none.
 *
 *     kernels                           their names, best first
 *     seal|open KERNEL KEY N            N lines "COUNTER BYTES" follow: N results, of
 *                                       which a forged one is "forged"
 *     chacha20 KEY NONCE BLOCK DATA     the parts of the scalar kernel (parts.c)
 *     poly1305 KEY DATA
 *     blake2s SIZE KEY DATA             the hash
 *     replay REJECT_AFTER N             N counters follow: N verdicts
 *     complete|split VNET PACKET        packets, or "refused"
 *     merge N                           N packets follow: what goes to the TUN
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "b2s.h"
#include "gro.h"
#include "kernels/aead.h"
#include "replay.h"

#define BYTES_MAX 70000
#define OPS_MAX 200

static char word[2 * BYTES_MAX + 2];

static void stop(const char *why)
{
    fprintf(stderr, "%s: %s\n", why, word);
    exit(1);
}

/* ---- reading and writing */

static const char *next(void)
{
    if (scanf("%140001s", word) != 1)
        stop("no more words");
    return word;
}

static uint64_t number(void)
{
    return strtoull(next(), NULL, 10);
}

static uint8_t digit(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* The caller frees it; there is room for so many bytes in front and behind. */
static uint8_t *bytes(size_t *length, size_t front, size_t behind)
{
    const size_t n = strcmp(next(), "-") ? strlen(word) / 2 : 0;
    uint8_t *to = calloc(1, front + n + behind + 1);

    if (!to)
        stop("no memory");
    for (size_t i = 0; i < n; i++)
        to[front + i] = (uint8_t)(digit(word[2 * i]) << 4 | digit(word[2 * i + 1]));
    *length = n;
    return to;
}

static void put(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%02x", p[i]);
    fputs(n ? " " : "- ", stdout);
}

/* ---- the AEAD */

static const struct aead_kernel *const all[] = {AEAD_KERNELS};
#define KERNELS (sizeof all / sizeof *all)

static const struct aead_kernel *kernel(void)
{
    next();
    for (size_t i = 0; i < KERNELS; i++)
        if (!strcmp(word, all[i]->name) && all[i]->supported())
            return all[i];
    stop("no such kernel");
    return NULL;
}

static void aead(bool open)
{
    static struct aead_op op[OPS_MAX];
    const struct aead_kernel *k = kernel();
    size_t length, n;
    uint8_t *key = bytes(&length, 0, 0), *text[OPS_MAX];

    n = number();
    if (length != 32 || n > OPS_MAX)
        stop("key or number");
    for (size_t i = 0; i < n; i++) {
        const uint64_t counter = number();
        text[i] = bytes(&length, 0, DATA_TAG_LEN);
        if (open)
            length -= DATA_TAG_LEN;
        op[i] = (struct aead_op){
            .src = text[i], .dst = text[i], .len = (uint32_t)length, .nonce = counter};
        if (i % 2) /* not in place */
            op[i].dst = calloc(1, length + DATA_TAG_LEN + 1);
    }
    if (open)
        k->open_batch(key, op, n);
    else
        k->seal_batch(key, op, n);
    for (size_t i = 0; i < n; i++) {
        if (open && !op[i].ok)
            fputs("forged ", stdout);
        else
            put(op[i].dst, op[i].len + (open ? 0 : DATA_TAG_LEN));
        if (i % 2)
            free(op[i].dst);
        free(text[i]);
    }
    free(key);
}

void part_chacha20(const uint8_t key[32], const uint8_t nonce[12], uint32_t block,
                   uint8_t *dst, const uint8_t *src, size_t len);
void part_poly1305(const uint8_t key[32], const uint8_t *m, size_t blocks,
                   uint8_t tag[16]);

static void chacha20(void)
{
    size_t length;
    uint8_t *key = bytes(&length, 0, 0), *nonce = bytes(&length, 0, 0);
    const uint32_t block = (uint32_t)number();
    uint8_t *data = bytes(&length, 0, 0);

    part_chacha20(key, nonce, block, data, data, length);
    put(data, length);
    free(key);
    free(nonce);
    free(data);
}

static void poly1305(void)
{
    size_t length;
    uint8_t tag[DATA_TAG_LEN], *key = bytes(&length, 0, 0);
    uint8_t *data = bytes(&length, 0, 0);

    part_poly1305(key, data, length / 16, tag);
    put(tag, sizeof tag);
    free(key);
    free(data);
}

static void kernels(void)
{
    for (size_t i = 0; i < KERNELS; i++)
        printf("%s ", all[i]->name);
}

/* ---- the rest */

static void blake2s(void)
{
    const size_t size = number();
    size_t key_length, length;
    uint8_t hash[B2S_HASH_MAX], *key = bytes(&key_length, 0, 0);
    uint8_t *data = bytes(&length, 0, 0);

    b2s_hash(hash, size, key, key_length, data, length);
    put(hash, size);
    free(key);
    free(data);
}

static void replay(void)
{
    static struct replay_window window;
    const uint64_t reject_after = number();

    replay_init(&window);
    for (uint64_t n = number(); n > 0; n--)
        printf("%d ", replay_check_and_update(&window, number(), reject_after));
}

static struct vnet_header vnet(void)
{
    struct vnet_header h;
    size_t length;
    uint8_t *b = bytes(&length, 0, 0);

    if (length != VNET_HDR_LEN)
        stop("virtio header");
    memcpy(&h, b, sizeof h);
    free(b);
    return h;
}

static void complete(void)
{
    const struct vnet_header h = vnet();
    size_t length;
    uint8_t *packet = bytes(&length, 0, 0);

    if (vnet_complete(&h, packet, (uint32_t)length))
        put(packet, length);
    else
        fputs("refused ", stdout);
    free(packet);
}

static void split(void)
{
    static uint8_t segment[BYTES_MAX];
    const struct vnet_header h = vnet();
    struct gso_plan plan;
    size_t length;
    uint8_t *packet = bytes(&length, 0, 0);

    if (gso_plan(&h, packet, (uint32_t)length, &plan))
        for (uint32_t i = 0; i < plan.segments; i++)
            put(segment, gso_segment(&plan, i, segment));
    else
        fputs("refused ", stdout);
    free(packet);
}

static void emit(struct gro_item *item)
{
    static uint8_t whole[BYTES_MAX];
    size_t length = 0;

    gro_finish(item);
    for (uint32_t i = 0; i < item->pieces; i++) {
        memcpy(whole + length, item->piece[i].iov_base, item->piece[i].iov_len);
        length += item->piece[i].iov_len;
    }
    put(whole, length);
    item->pieces = 0;
}

static void merge(void)
{
    static struct gro g;
    static uint8_t *packet[OPS_MAX];
    const size_t n = number();

    g = (struct gro){.tcp = true, .udp = true};
    if (n > OPS_MAX)
        stop("number");
    for (size_t i = 0; i < n; i++) {
        struct ip_view view;
        struct gro_item *before;
        size_t length;

        packet[i] = bytes(&length, VNET_HDR_LEN, 0);
        if (!ip_parse(packet[i] + VNET_HDR_LEN, (uint32_t)length, &view))
            stop("no IP packet");
        while (!gro_take(&g, packet[i] + VNET_HDR_LEN, &view, &before)) {
            if (!before) {
                put(packet[i], VNET_HDR_LEN + view.length);
                break;
            }
            emit(before);
        }
    }
    for (uint32_t i = 0; i < GRO_FLOWS; i++)
        if (g.item[i].pieces)
            emit(&g.item[i]);
    for (size_t i = 0; i < n; i++)
        free(packet[i]);
}

static void seal(void) { aead(false); }

static void open_(void) { aead(true); }

int main(void)
{
    static const struct {
        const char *name;
        void (*answer)(void);
    } questions[] = {
        {"kernels", kernels}, {"seal", seal},         {"open", open_},
        {"blake2s", blake2s}, {"replay", replay},     {"complete", complete},
        {"split", split},     {"merge", merge},       {"chacha20", chacha20},
        {"poly1305", poly1305},
    };

    while (scanf("%140001s", word) == 1) {
        size_t i = 0;
        while (strcmp(word, questions[i].name))
            if (++i == sizeof questions / sizeof *questions)
                stop("what is that");
        questions[i].answer();
        puts("");
    }
    return 0;
}
