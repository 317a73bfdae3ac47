/* SPDX-License-Identifier: MIT
 *
 * The lanes of a vector kernel: each holds one 64-byte ChaCha20 block of any packet,
 * what it is combined with and where that goes.  The including file defines
 *
 *     ISA          function attribute with the instruction set
 *     LANES        how many blocks its ChaCha20 computes at once
 *     CHUNK        how many addresses fit a register; 4 or 8
 *     short_copy   memcpy of less than BLOCK bytes
 */
#ifndef TUNNEL_KERNELS_LANES_H
#define TUNNEL_KERNELS_LANES_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK 64

struct lanes {
    /* filled by chunks, so that some past the last lane are written too */
    uint32_t block[LANES + CHUNK] /* word 12: number within the packet */
        __attribute__((aligned(64)));
    uint32_t low[LANES + CHUNK]; /* words 14 and 15: the packet's counter */
    uint32_t high[LANES + CHUNK];
    uint64_t src[LANES + CHUNK]; /* addresses */
    uint64_t dst[LANES + CHUNK];
    size_t used;
    /* Last blocks of packets: shorter than a lane, so they pass through a copy. */
    size_t shorts, shorts_most;
    struct {
        uint8_t *dst;
        size_t len;
    } place[LANES];
    uint8_t copy[LANES][BLOCK] __attribute__((aligned(64)));
};

static inline uint64_t address(const void *p)
{
    return (uintptr_t)p;
}

/* Whole blocks in a row of one packet. */
struct run {
    uint64_t counter;
    uint32_t block;
    uint64_t src;
    uint64_t moving; /* all ones; 0 to read the same BLOCK again and again */
    uint64_t dst;
    size_t count;
};

typedef uint32_t chunk32 __attribute__((vector_size(4 * CHUNK), aligned(4), may_alias));
typedef uint64_t chunk64 __attribute__((vector_size(8 * CHUNK), aligned(8), may_alias));

/* n bytes in whole blocks; not left out although nobody reads them again */
ISA static inline void wipe_blocks(void *p, size_t n)
{
    for (size_t i = 0; i < n; i += sizeof(chunk64))
        *(chunk64 *)((uint8_t *)p + i) = (chunk64){0};
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* Takes the first block of r; a lane must be free. */
static inline void lanes_take_one(struct lanes *l, const struct run *r)
{
    const size_t at = l->used++;

    l->block[at] = r->block;
    l->low[at] = (uint32_t)r->counter;
    l->high[at] = (uint32_t)(r->counter >> 32);
    l->src[at] = r->src;
    l->dst[at] = r->dst;
}

/* Takes as many blocks of r as there are free lanes. */
ISA static inline void lanes_take(struct lanes *l, struct run *r)
{
    chunk32 order;
    chunk64 offset;
    for (int i = 0; i < CHUNK; i++) {
        order[i] = (uint32_t)i;
        offset[i] = (uint64_t)i * BLOCK;
    }
    const size_t room = LANES - l->used;
    const size_t count = r->count < room ? r->count : room;
    const size_t end = l->used + count;
    chunk32 block = order + r->block;
    const chunk32 low = (chunk32){0} + (uint32_t)r->counter;
    const chunk32 high = (chunk32){0} + (uint32_t)(r->counter >> 32);
    chunk64 src = (offset & r->moving) + r->src;
    chunk64 dst = offset + r->dst;

    for (size_t at = l->used; at < end; at += CHUNK) {
        *(chunk32 *)&l->block[at] = block;
        *(chunk32 *)&l->low[at] = low;
        *(chunk32 *)&l->high[at] = high;
        *(chunk64 *)&l->src[at] = src;
        *(chunk64 *)&l->dst[at] = dst;
        block += CHUNK;
        src += CHUNK * BLOCK & r->moving;
        dst += CHUNK * BLOCK;
    }
    l->used = end;
    r->block += (uint32_t)count;
    r->count -= count;
    r->src += count * BLOCK & r->moving;
    r->dst += count * BLOCK;
}

/* Returns the block that stands for the `len` bytes from src to dst. */
ISA static inline uint8_t *lanes_borrow(struct lanes *l, uint8_t *dst,
                                        const uint8_t *src, size_t len)
{
    const size_t i = l->shorts++;

    l->place[i].dst = dst;
    l->place[i].len = len;
    short_copy(l->copy[i], src, len);
    return l->copy[i];
}

/* After the lanes were computed: they are free again. */
ISA static inline void lanes_release(struct lanes *l)
{
    for (size_t i = 0; i < l->shorts; i++)
        short_copy(l->place[i].dst, l->copy[i], l->place[i].len);
    if (l->shorts_most < l->shorts)
        l->shorts_most = l->shorts;
    l->shorts = 0;
    l->used = 0;
}

#endif
