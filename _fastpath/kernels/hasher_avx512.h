/* SPDX-License-Identifier: MIT
 *
 * Which packets are authenticated by the passes that encrypt or decrypt others
 * (chacha_hashing_avx512.h).  The including file takes packets to `ready` once their
 * ciphertext and one-time key are there; from `next` on they wait, and are taken by one
 * of the two sides of a pass or, many at a time, by poly1305_tags().
 */
#ifndef TUNNEL_KERNELS_HASHER_AVX512_H
#define TUNNEL_KERNELS_HASHER_AVX512_H

#include "aead.h"
#include "chacha_hashing_avx512.h"
#include "lanes.h"
#include "streams_avx512.h"

/* A pass has so many turns of two texts, so no more packets end in it. */
#define STREAMS (2 * TURNS + 2)

/* One packet after the other. */
struct side {
    size_t stream;
    const uint8_t *at;
    size_t left; /* pieces; 0: no packet */
};

struct hasher {
    struct hashing_pass pass;
    struct stream stream[STREAMS], idle;
    struct aead_op *op[STREAMS]; /* of a stream; NULL: free */
    uint8_t last[STREAMS][PIECE]; /* with the padding and the length */
    struct side side[2];
    bool planned; /* the next pass takes something along */
    size_t ended[STREAMS], ends; /* streams that it brings to their last bytes */

    struct aead_op *ops; /* of the batch; NULL: this is not used */
    const uint8_t (*key)[BLOCK]; /* RING of them */
    size_t next, ready;
    size_t blocks; /* to encrypt, or to decrypt unless a side holds their packet */
    size_t opening; /* all ones; 0 when sealing */
    size_t good; /* packets whose tag was right; in the order of their proof: */
    struct aead_op *proven[RING];
    size_t first_proven, end_proven; /* modulo RING; the first is decrypted next */
};

static const uint8_t no_text[PIECE];

ISA static void hasher_init(struct hasher *h, struct aead_op *ops, size_t n,
                            const uint8_t (*key)[BLOCK], bool opening)
{
    memset(h->op, 0, sizeof h->op);
    memset(&h->idle, 0, sizeof h->idle);
    h->side[0].left = h->side[1].left = 0;
    h->ops = ops;
    h->key = key;
    h->next = h->ready = 0;
    h->blocks = 0;
    h->planned = false;
    h->ends = 0;
    for (size_t i = 0; i < n; i++)
        h->blocks += 1 + text_blocks(&ops[i]);
    h->opening = opening ? SIZE_MAX : 0;
    h->good = 0;
    h->first_proven = h->end_proven = 0;
}

ISA static inline const uint8_t *hasher_text(const struct hasher *h,
                                             const struct aead_op *op)
{
    return h->opening ? op->src : op->dst;
}

/* After the verdict on the packet's tag. */
ISA static void hasher_opened(struct hasher *h, struct aead_op *op)
{
    if (op->ok) {
        h->good++;
        h->blocks += text_blocks(op);
        h->proven[h->end_proven++ % RING] = op;
    } else if (op->dst != op->src) {
        memset(op->dst, 0, op->len);
    }
}

/* ---- the sides */

/* The stream begins with the blocks that do not fill a piece; the side gets the others.
 * The last piece has 113 to 128 bytes of text. */
ISA static inline void side_start(struct hasher *h, struct side *side, size_t i,
                                  const struct aead_op *op)
{
    const size_t blocks = text_blocks16(op->len), first = blocks % PIECE_BLOCKS;
    const uint8_t *text = hasher_text(h, op);
    const size_t before = 16 * (blocks - PIECE_BLOCKS), rest = op->len - before;

    _mm512_storeu_si512(h->last[i], _mm512_loadu_si512(text + before));
    _mm512_storeu_si512(h->last[i] + 64,
                        _mm512_maskz_loadu_epi8(UINT64_MAX >> (128 - rest),
                                                text + before + 64));
    store64(h->last[i] + 128, 0); /* length of the AAD */
    store64(h->last[i] + 136, op->len);
    stream_blocks(&h->stream[i], text, first);
    *side = (struct side){i, text + 16 * first, blocks / PIECE_BLOCKS};
}

/* Gives the side the next packet, if it ends within `turns` of this pass and those of
 * the passes that follow. */
ISA static bool side_take(struct hasher *h, struct side *side, size_t turns)
{
    struct aead_op *op = &h->ops[h->next];
    size_t i = 0, held, passes;

    if (h->next == h->ready || op->len < PIECE ||
        h->end_proven - h->first_proven > RING - STREAMS)
        return false;
    held = text_blocks(op) & h->opening;
    passes = (h->blocks - held) / LANES;
    if (passes == 0 ||
        text_blocks16(op->len) / PIECE_BLOCKS > turns + (passes - 1) * TURNS)
        return false;
    h->blocks -= held;
    while (h->op[i] != NULL)
        i++;
    h->op[i] = op;
    stream_start(&h->stream[i], h->key[h->next % RING]);
    h->next++;
    side_start(h, side, i, op);
    return true;
}

/* The turns from `first` on belong to the stream. */
ISA static inline void side_fill(struct hasher *h, int which, size_t first,
                                 const struct stream *stream, const uint8_t *at,
                                 uint64_t step)
{
    const chunk64 order = {0, 1, 2, 3, 4, 5, 6, 7};
    const chunk64 s = (chunk64){0} + address(stream), a = order * step + address(at);

    for (size_t i = first; i < TURNS; i += CHUNK) {
        *(chunk64 *)&h->pass.stream[which][i] = s;
        *(chunk64 *)&h->pass.at[which][i] = a + (i - first) * step;
    }
}

ISA static bool side_plan(struct hasher *h, int which)
{
    struct side *side = &h->side[which];
    size_t turn = 0;

    while (turn < TURNS && (side->left > 0 || side_take(h, side, TURNS - turn))) {
        const size_t room = TURNS - turn, n = side->left < room ? side->left : room;
        side_fill(h, which, turn, &h->stream[side->stream], side->at, PIECE);
        turn += n;
        side->at += n * PIECE;
        side->left -= n;
        if (side->left == 0) {
            h->pass.at[which][turn - 1] = address(h->last[side->stream]);
            h->ended[h->ends++] = side->stream;
        }
    }
    if (turn < TURNS)
        side_fill(h, which, turn, &h->idle, no_text, 0);
    return turn > 0;
}

/* What the next pass takes along: found in the middle of a pass, while vectors work. */
ISA __attribute__((noinline)) static void hasher_plan(struct hasher *h)
{
    const bool first = side_plan(h, 0), second = side_plan(h, 1);
    h->pass.stream[0][TURNS] = 0;
    h->planned = first || second;
}

/* The packets that have their last bytes behind them. */
ISA static void hasher_end(struct hasher *h)
{
    uint8_t tag[TAG];

    for (size_t i = 0; i < h->ends; i++) {
        const size_t at = h->ended[i];
        struct aead_op *op = h->op[at];
        stream_tag(&h->stream[at], tag);
        h->op[at] = NULL;
        if (h->opening) {
            check_tag(op, tag);
            hasher_opened(h, op);
        } else {
            memcpy(op->dst + op->len, tag, TAG);
        }
    }
    h->ends = 0;
}

ISA static inline bool hasher_waits(const struct hasher *h)
{
    return h->planned || h->side[0].left + h->side[1].left > 0;
}

/* Brings to their ends what no pass will take along. */
ISA static void hasher_finish(struct hasher *h)
{
    for (int i = 0; i < 2; i++) {
        struct side *side = &h->side[i];
        for (size_t turn = 0; h->planned && turn < TURNS; turn++)
            stream_blocks((void *)(uintptr_t)h->pass.stream[i][turn],
                          (const void *)(uintptr_t)h->pass.at[i][turn], PIECE_BLOCKS);
        if (side->left == 0)
            continue;
        struct stream *s = &h->stream[side->stream];
        stream_blocks(s, side->at, (side->left - 1) * PIECE_BLOCKS);
        stream_blocks(s, h->last[side->stream], PIECE_BLOCKS);
        side->left = 0;
        h->ended[h->ends++] = side->stream;
    }
    h->planned = false;
    hasher_end(h);
}

/* chacha_xor_lanes(), which takes packets along that wait for their hash. */
ISA static size_t chacha_xor_lanes_hashing(struct hasher *h, const uint32_t words[12],
                                           const struct lanes *l, __m512i rows[16])
{
    if (l->used <= 16) {
        h->blocks -= l->used;
        return chacha_xor_lanes(words, l, rows);
    }
    if (!h->planned)
        hasher_plan(h);
    h->blocks -= l->used;
    if (h->planned) {
        h->pass.words = words;
        h->pass.block = l->block;
        h->pass.low = l->low;
        h->pass.high = l->high;
        h->pass.rows = rows;
        first_half_hashing(&h->pass, l);
        hasher_end(h);
    } else {
        first_half(words, l, rows);
    }
    hasher_plan(h);
    xor_16_of_rows(rows, l, 16);
    return 16 * sizeof *rows;
}

#endif
