/* SPDX-License-Identifier: MIT
 *
 * What a worker thread works on: its buffers, and the engine that all workers and
 * the control thread share.
 */
#ifndef TUNNEL_WORKER_H
#define TUNNEL_WORKER_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "aip.h"
#include "kernels/aead.h"
#include "path.h"
#include "vnet.h"

/* Everything that one commit changes, immutable once published. */
struct snapshot {
    uint64_t generation;
    struct aip_root routes;
    int fd[2];                /* IPv4 and IPv6 socket; -1: none */
    bool owns_sockets;        /* control thread only: closed with the snapshot */
    bool connected;           /* fd[0] is one end of a socketpair ... */
    struct endpoint far_end;  /* ... and this is where everything comes from */
    uint32_t mtu;
    bool has_key;
    uint8_t mac1_key[32];
    /* control thread only, once retired */
    struct aip_garbage *garbage; /* route nodes that only this one used */
    size_t *waiting;             /* engine.retired_snapshots */
    struct retired retired;
};

struct timing {
    uint64_t rekey_after_time;
    uint64_t reject_after_time;
    uint64_t rekey_timeout;
    uint64_t last_minute; /* reject - keepalive - rekey_timeout (R26) */
};

/* A handshake message on its way to the control thread. */
struct handshake {
    _Atomic uint64_t sequence;
    struct endpoint from;
    uint16_t length;
    uint8_t data[148];
};

#define HANDSHAKE_RING 4096

/* Bounded ring, many producers, one consumer: a slot's sequence says whose turn
 * it is. */
struct handshake_ring {
    struct handshake *slot;
    _Alignas(64) _Atomic uint64_t head; /* producers */
    _Alignas(64) _Atomic uint64_t tail; /* the control thread */
};

struct engine {
    int tun_fd;
    int event_fd; /* to the control thread */
    int wake_fd;  /* to the worker */
    _Atomic bool stopping;
    _Atomic bool event_signalled;
    _Atomic bool tun_gone;
    struct timing timing;
    const struct aead_kernel *aead;
    struct epoch epoch;
    _Atomic(struct snapshot *) snapshot;
    struct index_table index;
    struct path_stack events;
    struct path_stack commands;
    struct handshake_ring handshakes;
    _Atomic uint64_t staged_bytes;
    size_t retired_snapshots; /* control thread only */
};

/* Written by one worker, read by anybody. */
struct counters {
    _Atomic uint64_t tun_read, tun_written, udp_received, udp_sent;
    _Atomic uint64_t drops[DROP_REASON_COUNT];
};

static inline void count_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
        memory_order_relaxed);
}

/* One datagram in flight through a batch. */
struct datagram {
    uint8_t *slot;       /* geometry of packet.h */
    uint32_t length;     /* inner packet bytes; inbound: the whole datagram */
    uint8_t tos;         /* outer: ECN to set, or as received */
    bool keepalive;
    struct keypair *keypair;
    struct staged *staged; /* to be freed after sending, or NULL */
    struct endpoint from;  /* inbound */
};

/* Room for PKTINFO and TOS control messages of either family. */
#define CONTROL_BYTES 128

/* One direction's batch: slots, and what the system calls need for each. */
struct batch {
    uint8_t *slots; /* BATCH_MAX * SLOT_BYTES, touched only as far as used */
    size_t count;
    struct datagram datagram[BATCH_MAX];
    struct aead_op op[BATCH_MAX];
    struct mmsghdr message[BATCH_MAX];
    struct iovec iov[BATCH_MAX];
    struct sockaddr_in6 address[BATCH_MAX]; /* also holds a sockaddr_in */
    _Alignas(16) uint8_t control[BATCH_MAX][CONTROL_BYTES];
};

struct worker {
    struct engine *engine;
    unsigned reader; /* slot in the epoch */
    uint64_t now;    /* ns, CLOCK_BOOTTIME, read once per batch */
    struct snapshot *snapshot;
    struct counters counters;
    struct batch out, in;
    /* at most 100 ICMP errors a second */
    uint64_t icmp_refill;
    uint32_t icmp_tokens;
};

static inline void drop(struct worker *w, enum drop_reason reason)
{
    count_add(&w->counters.drops[reason], 1);
}

static inline uint8_t *batch_slot(struct batch *b, size_t i)
{
    return b->slots + i * SLOT_BYTES;
}

uint64_t clock_boottime(void);
void engine_signal(struct engine *e);          /* wakes the control thread */
void engine_wake(struct engine *e);            /* wakes the worker */
void post(struct worker *w, struct path *p, uint32_t events);
bool handshake_push(struct engine *e, const struct endpoint *from, const uint8_t *data,
                    uint16_t length);
bool handshake_pop(struct engine *e, struct handshake *out);

int snapshot_release(void *snapshot); /* its descriptors and garbage too */
/* Publishes `next` and retires the one before. */
void engine_publish(struct engine *e, struct snapshot *next);
/* Waits, at most 100 ms, until fewer than RETIRED_MAX snapshots wait for workers:
 * what a storm of commits may keep alive is bounded. */
#define RETIRED_MAX 32
void engine_hold_back(struct engine *e);
/* Waits, at most 100 ms, until every worker has taken what was published: a packet
 * that arrives from now on sees it.  False: a worker did not come round in time. */
bool engine_settle(struct engine *e);
int engine_init(struct engine *e, int tun_fd);
void engine_finish(struct engine *e);
int worker_init(struct worker *w, struct engine *e, unsigned reader);
void worker_finish(struct worker *w);
/* Sleeps until a descriptor has something; offline for the epoch meanwhile. */
void worker_sleep(struct worker *w);

/* send.c: sends b->datagram[0..count), clears it */
void send_batch(struct worker *w, struct batch *b);
void tun_write(struct worker *w, uint8_t *packet, uint32_t length);

/* tx.c, rx.c: the stages of pump.pyx; each returns how many packets it moved */
size_t outbound(struct worker *w);
void run_commands(struct worker *w);
size_t inbound(struct worker *w, int family);

#endif
