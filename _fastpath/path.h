/* SPDX-License-Identifier: MIT
 *
 * The packet path's record of a peer.
 *
 * Who writes what: the worker that owns a direction writes that direction's facts;
 * the control thread writes keypairs, configuration and the facts of handshake
 * messages.  All shared fields are atomics; nothing here takes a lock.
 */
#ifndef TUNNEL_PATH_H
#define TUNNEL_PATH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "endpoint.h"
#include "keypairs.h"
#include "packet.h"

#define MAX_STAGED_PACKETS 128
#define MAX_STAGED_BYTES (64u << 20) /* all peers together, but for: */
#define STAGED_ALWAYS 2              /* packets of each peer, none is shut out */

/* PathEvent in pump.pyi has the same numbers. */
enum path_event {
    EVENT_NEEDS_SESSION = 1,
    EVENT_REKEY = 2,
    EVENT_LAST_MINUTE = 4,
    EVENT_UNANSWERED = 8,
    EVENT_UNREPLIED = 16,
    EVENT_CONFIRMED = 32,
    EVENT_ROAMED = 64,
    EVENT_SOURCE = 128, /* not told to the protocol: see Pump.on_sources */
};

/* What the control thread asks of the worker that owns the outbound direction. */
enum path_command {
    COMMAND_FLUSH = 1,
    COMMAND_KEEPALIVE = 2,
    COMMAND_PURGE = 4,
    COMMAND_RUNNING = 1 << 30, /* keeps the path from being freed meanwhile */
};

struct staged {
    struct staged *next;
    uint32_t length;
    uint8_t slot[]; /* geometry of packet.h */
};

struct path {
    _Atomic(struct keypair *) sending;
    _Atomic(struct keypair *) next; /* becomes `sending` with its first data (R21) */
    unsigned lane; /* its owner, for life */

    /* seqlock; writers take it by making the sequence odd */
    _Atomic uint32_t endpoint_sequence;
    struct endpoint endpoint;
    struct endpoint refused; /* only its source: not to be learned again (R62) */
    uint64_t roamed_told;    /* when EVENT_ROAMED was last posted; its worker's */

    /* trains of datagrams of this size or larger are refused (U7); 0: none was */
    _Atomic uint16_t refused_size;
    _Atomic uint64_t refused_at;

    _Atomic uint64_t unanswered_since;
    _Atomic uint64_t unreplied_since;
    _Atomic uint64_t last_sent;
    _Atomic uint64_t last_received;
    _Atomic uint64_t rx_bytes;
    _Atomic uint64_t tx_bytes;
    _Atomic bool unreplied_again;
    _Atomic bool dead;

    /* events to the control thread: in the stack while events != 0 */
    _Atomic uint32_t events;
    _Atomic uint32_t quiet; /* of those that are told once until re-armed: the told */
    struct path *event_next;
    /* commands to the worker: in the stack while commands != 0 */
    _Atomic uint32_t commands;
    struct path *command_next;

    /* packets that wait for a session; owned by the outbound worker */
    struct staged *staged_first, *staged_last;
    _Atomic uint32_t staged_count;
    uint64_t asked_for_session; /* when NEEDS_SESSION was last posted */

    void *owner; /* the Python object, borrowed */
    struct retired retired;
};

/* ---- trains that the route is too narrow for */

#define TRAINS_REFUSED_FOR (60ULL * 1000000000ULL)

/* Whether a train of datagrams of `size` bytes was refused on this path lately. */
static inline bool trains_refused(struct path *p, uint32_t size, uint64_t now)
{
    uint32_t from = atomic_load_explicit(&p->refused_size, memory_order_relaxed);

    if (!from || size < from)
        return false;
    if (now < atomic_load_explicit(&p->refused_at, memory_order_relaxed) +
                  TRAINS_REFUSED_FOR)
        return true;
    atomic_store_explicit(&p->refused_size, 0, memory_order_relaxed);
    return false;
}

static inline void trains_refuse(struct path *p, uint32_t size, uint64_t now)
{
    atomic_store_explicit(&p->refused_at, now, memory_order_relaxed);
    atomic_store_explicit(&p->refused_size, (uint16_t)size, memory_order_relaxed);
}

/* ---- intrusive stacks: any number of pushers, one taker of everything */

struct path_stack {
    _Atomic(struct path *) top;
};

static inline bool stack_empty(const struct path_stack *s)
{
    return !atomic_load(&s->top);
}

/* Returns true when the stack was empty: the taker may need a wake-up. */
bool events_push(struct path_stack *s, struct path *p, uint32_t bits);
bool commands_push(struct path_stack *s, struct path *p, uint32_t bits);
struct path *stack_take(struct path_stack *s);
/* The taker's side of a command: the bits to run, then the end of it. */
uint32_t command_begin(struct path *p);
void command_end(struct path_stack *s, struct path *p);
/* After the workers have ended: forgets everything. */
void events_clear(struct path_stack *s);
void commands_clear(struct path_stack *s);

/* ---- life */

struct path *path_new(void *owner, unsigned lane);
int path_release(void *path); /* for epoch_retire */

/* ---- facts; `told` is set when an edge event is due */

static inline uint32_t path_sent(struct path *p, uint64_t now, bool data)
{
    uint32_t due = 0;

    atomic_store_explicit(&p->last_sent, now, memory_order_relaxed);
    atomic_store_explicit(&p->unreplied_since, 0, memory_order_relaxed);
    if (data && !atomic_load_explicit(&p->unanswered_since, memory_order_relaxed)) {
        atomic_store(&p->unanswered_since, now);
        if (!(atomic_fetch_or(&p->quiet, EVENT_UNANSWERED) & EVENT_UNANSWERED))
            due = EVENT_UNANSWERED;
    }
    return due;
}

static inline void path_received(struct path *p, uint64_t now)
{
    atomic_store_explicit(&p->last_received, now, memory_order_relaxed);
    if (atomic_load_explicit(&p->unanswered_since, memory_order_relaxed))
        atomic_store(&p->unanswered_since, 0);
}

static inline uint32_t path_received_data(struct path *p, uint64_t now)
{
    if (atomic_load_explicit(&p->unreplied_since, memory_order_relaxed)) {
        atomic_store_explicit(&p->unreplied_again, true, memory_order_relaxed);
        return 0;
    }
    atomic_store(&p->unreplied_since, now);
    if (atomic_fetch_or(&p->quiet, EVENT_UNREPLIED) & EVENT_UNREPLIED)
        return 0;
    return EVENT_UNREPLIED;
}

/* `*fact` when it is set; otherwise re-arms `event` and looks again. */
uint64_t path_rearm(struct path *p, _Atomic uint64_t *fact, uint32_t event);

/* ---- which keypair sends */

/* Control thread: NULL for none. A younger keypair that waits stays waiting. */
void path_send_with(struct path *p, struct keypair *k);
/* Control thread, before the keypair is retired. */
void path_send_without(struct path *p, struct keypair *k);
/* Inbound worker: the first data under a keypair that waited. */
void path_confirm(struct path *p, struct keypair *k);

/* ---- staging (outbound worker) */

/* Copies the packet to the end; drops the oldest beyond 128.  Returns the reason
 * of the drop that happened (to the oldest or to this one), or DROP_NONE. */
enum drop_reason path_stage(struct path *p, _Atomic uint64_t *budget,
                            const uint8_t *packet, uint32_t length);
struct staged *path_unstage(struct path *p, _Atomic uint64_t *budget);
uint32_t path_purge(struct path *p, _Atomic uint64_t *budget); /* how many */

#endif
