/* SPDX-License-Identifier: MIT
 *
 * The ring of handshake messages, from all workers to the control thread.
 */
#include "engine.h"

bool handshake_push(struct engine *e, const struct endpoint *from, const uint8_t *data,
                    uint16_t length)
{
    struct handshake_ring *ring = &e->handshakes;
    uint64_t at = atomic_load_explicit(&ring->head, memory_order_relaxed);

    for (;;) {
        struct handshake *h = &ring->slot[at % HANDSHAKE_RING];
        uint64_t turn = atomic_load_explicit(&h->sequence, memory_order_acquire);
        if (turn != at - at % HANDSHAKE_RING) {
            /* not taken yet: full; or another producer was faster: next */
            uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
            if (head == at)
                return false;
            at = head;
            continue;
        }
        if (!atomic_compare_exchange_weak(&ring->head, &at, at + 1))
            continue;
        h->from = *from;
        h->length = length;
        memcpy(h->data, data, length);
        atomic_store_explicit(&h->sequence, turn + 1, memory_order_release);
        engine_signal(e);
        return true;
    }
}

bool handshake_waits(struct engine *e)
{
    uint64_t at = atomic_load_explicit(&e->handshakes.tail, memory_order_relaxed);
    struct handshake *h = &e->handshakes.slot[at % HANDSHAKE_RING];

    return atomic_load_explicit(&h->sequence, memory_order_acquire) ==
           at - at % HANDSHAKE_RING + 1;
}

bool handshake_pop(struct engine *e, struct handshake *out)
{
    struct handshake_ring *ring = &e->handshakes;
    uint64_t at = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    struct handshake *h = &ring->slot[at % HANDSHAKE_RING];
    uint64_t turn = at - at % HANDSHAKE_RING;

    if (atomic_load_explicit(&h->sequence, memory_order_acquire) != turn + 1)
        return false;
    out->from = h->from;
    out->length = h->length;
    memcpy(out->data, h->data, h->length);
    atomic_store_explicit(&h->sequence, turn + HANDSHAKE_RING, memory_order_release);
    atomic_store_explicit(&ring->tail, at + 1, memory_order_relaxed);
    return true;
}
