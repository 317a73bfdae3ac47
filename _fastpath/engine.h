/* SPDX-License-Identifier: MIT
 *
 * What all workers and the control thread share: the published snapshot, the lanes,
 * the ring of handshake messages.
 */
#ifndef TUNNEL_ENGINE_H
#define TUNNEL_ENGINE_H

#include "aip.h"
#include "cookies.h"
#include "kernels/aead.h"
#include "path.h"
#include "ring.h"

#define LANES_MAX 16

struct own_address {
    uint8_t length; /* 4 or 16 */
    uint8_t bytes[16];
};

/* There while peers are kept apart: the addresses of the host itself, which may send
 * to every peer even if they lie in some peer's allowed IPs.  Immutable. */
struct isolation {
    struct retired retired;
    uint32_t count;
    struct own_address own[];
};

/* Everything that one commit changes, immutable once published. */
struct snapshot {
    uint64_t generation;
    struct aip_root routes;
    struct isolation *isolation;   /* NULL: peers may reach each other */
    uint64_t rekey_after_time;     /* at most that of struct timing */
    uint64_t rekey_after_messages; /* at most REKEY_AFTER_MESSAGES */
    /* each lane's IPv4 and IPv6 socket; -1: none, it sends through those of lane 0 */
    int fd[LANES_MAX][2];
    bool owns_sockets;        /* control thread only: closed with the snapshot */
    bool connected;           /* fd[0][0] is one end of a socketpair ... */
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

/* A worker and its helper, with a TUN queue and sockets of their own.  Each peer has
 * one lane for its life: what another lane reads for it is handed over (lane.c), so
 * that its counters and its replay window have one owner. */
enum direction { OUTBOUND, INBOUND };
enum lane_thread { LANE_WORKER, LANE_HELPER };

struct lane {
    unsigned number;
    int tun_fd;
    bool reads;  /* packets come in on its tun_fd, too */
    int wake_fd; /* to the worker */
    int help_fd; /* to its helper */
    _Atomic bool helper_sends; /* who owns the outbound direction */
    _Atomic bool asleep[2];    /* by lane_thread: has to be woken; with lanes only */
    struct path_stack commands;
    struct ring from[2][LANES_MAX]; /* by direction and producing lane */
};

struct engine {
    int event_fd; /* to the control thread */
    unsigned lanes;
    struct lane *lane;
    _Atomic bool stopping;
    _Atomic bool event_signalled;
    _Atomic bool tun_gone;
    bool tun_gso;                  /* the TUN may hand over large packets */
    bool uneven_trains;            /* only with a shorter datagram at the end (U9) */
    _Atomic bool gso_off[2];       /* per family: the socket refuses trains */
    _Atomic uint32_t gro_refused;  /* merged packets that the TUN refused */
    struct timing timing;
    const struct aead_kernel *aead;
    struct epoch epoch;
    _Atomic(struct snapshot *) snapshot;
    struct index_table index;
    struct path_stack events;
    struct handshake_ring handshakes;
    struct awaited_cookies cookies;
    _Atomic uint64_t staged_bytes;
    size_t retired_snapshots; /* control thread only */
};

uint64_t clock_boottime(void);
void *reserve(size_t bytes);          /* pages, zeroed, out of core dumps; or NULL */
void engine_signal(struct engine *e); /* wakes the control thread */
void engine_wake(struct engine *e);   /* wakes all workers */
bool handshake_push(struct engine *e, const struct endpoint *from, const uint8_t *data,
                    uint16_t length);
bool handshake_waits(struct engine *e); /* then handshake_pop() finds one */
bool handshake_pop(struct engine *e, struct handshake *out);

int snapshot_release(void *snapshot); /* its descriptors and garbage too */
void snapshot_close(struct snapshot *s); /* its descriptors only */
/* Each becomes a duplicate of its own, -1 stays; or -1 and errno, and there is none. */
int sockets_copy(int fd[LANES_MAX][2]);
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
/* With 1..LANES_MAX lanes, whose TUN descriptors are set afterwards. */
int engine_init(struct engine *e, unsigned lanes);
void engine_finish(struct engine *e);

struct isolation *isolation_new(uint32_t count); /* NULL without memory */
int isolation_release(void *isolation);

/* ---- lane.c */

int lane_init(struct lane *l, unsigned number);
void lane_finish(struct lane *l);
void lane_wake(struct lane *l, bool helper_too); /* its worker */

/* Which lane's TUN queue packets to this address come in on, where the queues are
 * steered by destination (io/steering_linux.py has the same function). */
unsigned lane_of_address(const uint8_t *address, unsigned bytes, unsigned lanes);

/* The receiver index names the lane, so that the sockets can be chosen by it: the
 * low byte modulo the lanes.  Changes no other bit of `index`. */
static inline uint32_t lane_index(uint32_t index, unsigned lane, unsigned lanes)
{
    uint32_t low = index & 0xff;

    low += lane - low % lanes;
    return (index & ~(uint32_t)0xff) | (low > 0xff ? low - lanes : low);
}

#endif
