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
#include "gro.h"
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
    int help_fd;  /* to its helper */
    _Atomic bool helper_sends; /* who owns the outbound direction */
    _Atomic bool stopping;
    _Atomic bool event_signalled;
    _Atomic bool tun_gone;
    bool tun_gso;                  /* the TUN may hand over large packets */
    _Atomic bool gso_off[2];       /* per family: the socket refuses trains */
    _Atomic uint32_t gro_refused;  /* merged packets that the TUN refused */
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
    _Atomic uint64_t tun_writes, udp_receives, udp_sends; /* calls */
    _Atomic uint64_t drops[DROP_REASON_COUNT];
};

static inline void count_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
        memory_order_relaxed);
}

/* Room for PKTINFO, TOS and UDP_SEGMENT control messages of either family. */
#define CONTROL_BYTES 128

/* ---- outbound: datagrams lie one behind the other in an arena, so that those of
 * equal size go out as one train */

#define OUT_MAX 128              /* datagrams */
#define DIRECT_BYTES 2048        /* a packet up to this is read where it is sealed */
#define LARGE_BYTES (DIRECT_BYTES + 65536 + 64)
#define ARENA_BYTES (192u << 10) /* more than one large packet, split */

struct datagram {
    uint8_t *slot;   /* geometry of packet.h */
    uint32_t length; /* padded */
    uint32_t inner;  /* before padding */
    uint8_t tos;
    bool keepalive;
    struct keypair *keypair;
};

struct outbox {
    uint8_t *arena;
    uint8_t *large; /* where a packet of up to 64 KiB is read */
    uint32_t used;
    uint32_t count, sealed; /* the first `sealed` datagrams are */
    struct datagram datagram[OUT_MAX];
    struct aead_op op[OUT_MAX];
    struct mmsghdr message[OUT_MAX];
    uint32_t first[OUT_MAX + 1]; /* datagram of each message */
    struct iovec iov[OUT_MAX];
    struct sockaddr_in6 address[OUT_MAX]; /* also holds a sockaddr_in */
    _Alignas(16) uint8_t control[OUT_MAX][CONTROL_BYTES];
};

/* ---- inbound: messages of one datagram, or of many of equal size (UDP_GRO) */

#define IN_MESSAGES 16
#define IN_BYTES 65536

struct arrival {
    uint8_t *slot;
    uint32_t length; /* whole datagram */
    uint32_t message;
    struct keypair *keypair;
};

struct inbox {
    uint8_t *buffers; /* IN_MESSAGES * IN_BYTES, touched only as far as used */
    struct mmsghdr message[IN_MESSAGES];
    struct iovec iov[IN_MESSAGES];
    struct sockaddr_in6 address[IN_MESSAGES];
    _Alignas(16) uint8_t control[IN_MESSAGES][CONTROL_BYTES];
    struct endpoint from[IN_MESSAGES];
    uint8_t tos[IN_MESSAGES];
    uint32_t count; /* arrivals of one keypair that wait to be opened */
    struct arrival arrival[BATCH_MAX];
    struct aead_op op[BATCH_MAX];
    struct gro gro;
};

struct worker {
    struct engine *engine;
    unsigned reader; /* slot in the epoch */
    uint64_t now;    /* ns, CLOCK_BOOTTIME, read once per batch */
    struct snapshot *snapshot;
    struct counters counters;
    struct outbox out;
    struct inbox in;
    bool tun_full; /* nobody reads (in-memory TUN): no more waiting for room */
    /* at most 100 ICMP errors a second */
    uint64_t icmp_refill;
    uint32_t icmp_tokens;
};

static inline void drop(struct worker *w, enum drop_reason reason)
{
    count_add(&w->counters.drops[reason], 1);
}

uint64_t clock_boottime(void);
void engine_signal(struct engine *e);          /* wakes the control thread */
void engine_wake(struct engine *e);            /* wakes the worker */
void post(struct worker *w, struct path *p, uint32_t events);
bool handshake_push(struct engine *e, const struct endpoint *from, const uint8_t *data,
                    uint16_t length);
bool handshake_pop(struct engine *e, struct handshake *out);

int snapshot_release(void *snapshot); /* its descriptors and garbage too */
/* Publishes `next` and retires the one before, whose `owns_sockets` says whether
 * `next` has other ones. */
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

/* ---- the outbound direction has one owner: the worker, or while both directions stay
 * busy its helper.  Whoever gives it away has nothing left in its outbox. */

#define BUSY_ROUNDS 4   /* both directions, before the helper is asked */
#define HELPER_REST_MS 1 /* of nothing, before it gives the direction back */

static inline bool worker_sends(const struct engine *e)
{
    return !atomic_load_explicit(&e->helper_sends, memory_order_acquire);
}

void hand_over(struct engine *e);   /* worker */
bool helper_wait(struct worker *w); /* helper: until it is asked; false: stopping */
bool helper_rest(struct worker *w); /* helper: false when nothing came for a while */
void hand_back(struct engine *e);   /* helper */

/* send.c: sends all sealed datagrams as trains, empties the box */
void send_out(struct worker *w);
void tun_write(struct worker *w, uint8_t *packet, uint32_t length);
void tun_write_merged(struct worker *w, struct gro_item *item); /* frees the item */

/* tx.c, rx.c: the stages of pump.pyx; each returns how many packets it moved */
size_t outbound(struct worker *w);
void run_commands(struct worker *w);
size_t inbound(struct worker *w, int family);

#endif
