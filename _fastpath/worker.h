/* SPDX-License-Identifier: MIT
 *
 * What a worker thread works on: its buffers, and the stages that it runs.
 */
#ifndef TUNNEL_WORKER_H
#define TUNNEL_WORKER_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "aip_memo.h"
#include "engine.h"
#include "gro.h"
#include "vnet.h"

/* Written by one worker, read by anybody. */
struct counters {
    _Atomic uint64_t tun_read, tun_written, udp_received, udp_sent;
    _Atomic uint64_t tun_writes, udp_receives, udp_sends; /* calls */
    _Atomic uint64_t handed; /* packets to other lanes */
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
    uint8_t tos;     /* outer */
    const struct endpoint *from;
    struct keypair *keypair;
};

/* In front of a datagram that one lane hands to another. */
struct stray {
    struct endpoint from;
    uint8_t tos;
};
_Static_assert(sizeof(struct stray) == 48, "keeps the datagram aligned");

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

/* Descriptors to look at: after a sleep those that poll() named, else all of them. */
#define LOOK_SOCKET(family) (1u << (family)) /* 0: IPv4, 1: IPv6 */
#define LOOK_TUN 4u
#define LOOK_ALL 7u

struct worker {
    struct engine *engine;
    struct lane *lane;
    unsigned number; /* of the lane */
    unsigned reader; /* slot in the epoch */
    uint64_t now;    /* ns, CLOCK_BOOTTIME, read once per batch */
    struct snapshot *snapshot;
    struct aip_memo source_memo; /* of the snapshot */
    int receive_fd[2], send_fd[2]; /* the snapshot's, for this lane */
    struct counters counters;
    struct outbox out;
    struct inbox in;
    uint32_t look;    /* bits of LOOK_: what this round looks at */
    uint64_t carried; /* bytes, in this round */
    uint64_t bulk_at; /* when last a round carried more than LITTLE */
    bool short_slices;
    uint64_t usual_slice; /* ns; before the first of them */
    uint32_t refused_reads; /* of the TUN, one after the other */
    bool tun_full; /* nobody reads (in-memory TUN): no more waiting for room */
    uint64_t waited;     /* ns, in this round, for room in a socket */
    uint32_t reads_left; /* from the TUN, in this round */
    /* at most 100 ICMP errors a second */
    uint64_t icmp_refill;
    uint32_t icmp_tokens;
};

static inline void drop(struct worker *w, enum drop_reason reason)
{
    count_add(&w->counters.drops[reason], 1);
}

void post(struct worker *w, struct path *p, uint32_t events);

/* ---- worker.c: life and sleep */

int worker_init(struct worker *w, struct engine *e, unsigned lane, unsigned reader);
void worker_finish(struct worker *w);
/* At each batch boundary: takes what is published. */
void worker_begin(struct worker *w);
/* Sleeps until a descriptor has something, offline for the epoch meanwhile; the next
 * round looks at what has.  Does not sleep while commands or other lanes' packets wait.
 */
void worker_sleep(struct worker *w);

/* So many packets that the kernel cannot describe, and no other between them, are
 * taken for a device that works no more. */
#define REFUSED_READS_MAX 1000

/* After a round with more bytes than this there is likely more: the next one looks
 * everywhere without asking poll().  After less, about one packet, asking is cheaper
 * than looking, and what comes next does not wait behind system calls for the other
 * descriptors. */
#define LITTLE 2048

/* After a round: while only now and then a packet comes, asks for short time slices
 * (EEVDF, Linux 6.12; others ignore it), so that a worker that wakes for one has its
 * turn before somebody else's slice of some milliseconds has ended.  Its share of the
 * CPU stays what it was.  Bulk would be interrupted more often: it has the system's
 * slices, and keeps them until CALM_NS have passed. */
void worker_slices(struct worker *w);
#define SHORT_SLICE_NS 400000
#define CALM_NS 10000000

/* The outbound direction of a lane has one owner: the worker, or while both directions
 * stay busy its helper.  Whoever gives it away has nothing left in its outbox. */

#define BUSY_ROUNDS 4   /* both directions, before the helper is asked */
#define HELPER_REST_MS 1 /* of nothing, before it gives the direction back */

static inline bool worker_sends(const struct worker *w)
{
    return !atomic_load_explicit(&w->lane->helper_sends, memory_order_acquire);
}

void hand_over(struct worker *w);   /* worker */
bool helper_wait(struct worker *w); /* helper: until it is asked; false: stopping */
bool helper_rest(struct worker *w); /* helper: false when nothing came for a while */
void hand_back(struct worker *w);   /* helper */

/* ---- lane.c: what a lane reads for a peer of another lane */

/* Room in the ring to `lane`; NULL with the drop counted.  Then push. */
uint8_t *hand_room(struct worker *w, enum direction d, unsigned lane, uint32_t length);
void hand_push(struct worker *w, enum direction d, unsigned lane, uint32_t length);
/* Outbound: the whole packet, with what its virtio header (NULL: nothing) asks for. */
void hand_packet(struct worker *w, unsigned lane, const struct vnet_header *h,
                 const uint8_t *packet, uint32_t length);
/* Does anything wait that was handed to this lane? */
bool handed_waiting(struct lane *l, enum direction d);

/* ---- outbox.c */

/* Where a packet of up to `length` bytes goes, header included; flushes for room. */
uint8_t *out_room(struct worker *w, uint32_t length);
/* The packet is in place behind the header of the slot that out_room gave. */
void out_add(struct worker *w, struct keypair *k, uint32_t length, uint8_t tos);
void out_flush(struct worker *w); /* seals and sends everything */
bool usable(struct worker *w, struct keypair *k); /* for sending, now */

/* ---- isolation.c.  True: `packet` comes from another peer than `to`, and is dropped
 * or left to the lane of that peer, with what its virtio header (NULL: nothing) asks
 * for: by then peers may reach each other. */

bool isolated(struct worker *w, const struct vnet_header *h, const uint8_t *packet,
              const struct ip_view *v, struct path *to);
bool icmp_allowed(struct worker *w); /* whoever sends one takes an icmp_token */

/* ---- staging.c */

void stage(struct worker *w, struct path *p, const uint8_t *packet, uint32_t length);
/* How many: what came while one ran is in the stack again, so look before sleeping. */
size_t run_commands(struct worker *w);

/* ---- train.c, address.c, send.c */

/* Sends all sealed datagrams as trains, empties the box. */
void send_out(struct worker *w);
uint32_t wire_length(const struct datagram *d);
/* Fills message m for `n` datagrams, with the peer's source or, where the kernel
 * refused that, without; its descriptor, or -1 with the drops counted. */
int address_message(struct worker *w, uint32_t m, uint32_t n, bool source);
bool message_has_source(struct worker *w, uint32_t m);
void send_run(struct worker *w, int fd, uint32_t from, uint32_t to);
#define WAIT_NS 20000000u         /* for room in a socket, while nothing goes out */
#define ROUND_WAIT_NS 50000000u   /* all waits of a round */
#define READS_WHILE_FULL 8        /* of the TUN, in the round after one that waited */

/* ---- tun_write.c */

void tun_write(struct worker *w, uint8_t *packet, uint32_t length);
void tun_write_merged(struct worker *w, struct gro_item *item); /* frees the item */

/* ---- source.c: where message m of the inbox came from, and the size of its
 * datagrams (0: it is one) */
uint32_t read_source(struct worker *w, uint32_t m);

/* ---- open.c: takes a data message; opens and delivers the run before a change */
void take_data(struct worker *w, struct arrival *d);
void deliver_all(struct worker *w); /* opens what is left, writes what was merged */

/* ---- tx.c, rx.c: the stages of pump.pyx; each returns how many packets it moved */
size_t outbound(struct worker *w);
size_t inbound(struct worker *w, int family);
size_t inbound_handed(struct worker *w);

#endif
