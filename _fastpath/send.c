/* SPDX-License-Identifier: MIT
 *
 * Datagrams to the sockets.  Transient errors cost at most the datagram they concern.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <poll.h>

#define FITS_ANY_ROUTE 1200 /* less than IPv6's smallest MTU */

static uint32_t message_count(const struct outbox *o, uint32_t m)
{
    return o->first[m + 1] - o->first[m];
}

static void sent(struct worker *w, uint32_t from, uint32_t n)
{
    struct outbox *o = &w->out;
    struct path *p = o->datagram[from].keypair->path;
    uint64_t bytes = 0;
    bool data = false;

    for (uint32_t i = from; i < from + n; i++) {
        bytes += wire_length(&o->datagram[i]);
        data |= !o->datagram[i].keepalive;
    }
    count_add(&w->counters.udp_sent, n);
    count_add(&w->counters.udp_sends, 1);
    atomic_fetch_add_explicit(&p->tx_bytes, bytes, memory_order_relaxed);
    post(w, p, path_sent(p, w->now, data));
}

/* ---- errors */

/* For which the sticky source can be to blame (U13); io/udp.py has the same ones. */
static bool bad_source(int error)
{
    return error == EINVAL || error == ENETUNREACH || error == EHOSTUNREACH ||
           error == EADDRNOTAVAIL || error == ENODEV || error == ENXIO;
}

static bool queue_full(int error)
{
    return error == EAGAIN || error == ENOBUFS;
}

/* What was tried since something went out. */
struct attempts {
    int count;
    uint64_t waited; /* ns */
    bool without_source;
};

/* Up to 1 ms of waiting for a queue to drain.  A worker takes what comes in meanwhile;
 * a helper has its worker for that. */
static void wait_a_little(struct worker *w, int fd, int error)
{
    bool receives = worker_sends(w);
    struct pollfd p[3] = {
        {.fd = fd, .events = error == EAGAIN ? POLLOUT : 0},
        {.fd = receives ? w->receive_fd[0] : -1, .events = POLLIN},
        {.fd = receives ? w->receive_fd[1] : -1, .events = POLLIN},
    };
    uint32_t look = w->look;

    poll(p, 3, 1);
    w->look = (p[1].revents ? LOOK_SOCKET(0) : 0) | (p[2].revents ? LOOK_SOCKET(1) : 0);
    if (receives && w->engine->lanes > 1)
        inbound_handed(w);
    inbound(w, 0);
    inbound(w, 1);
    w->look = look;
}

/* False: it has been long enough, or the pump stops. */
static bool wait_for_socket(struct worker *w, int fd, int error, struct attempts *a)
{
    uint64_t before = clock_boottime(), waited;

    if (a->waited >= WAIT_NS || w->waited >= ROUND_WAIT_NS ||
        atomic_load(&w->engine->stopping))
        return false;
    wait_a_little(w, fd, error);
    w->now = clock_boottime();
    waited = w->now > before ? w->now - before : 1;
    a->waited += waited;
    w->waited += waited;
    w->reads_left = 0; /* what is there already keeps the socket busy */
    return true;
}

/* What to do about an error of message m, of n datagrams: true to try it again. */
static bool try_again(struct worker *w, uint32_t m, uint32_t n, int fd, int error,
                      struct attempts *a)
{
    if (error == EINTR)
        return true;
    if (queue_full(error))
        return wait_for_socket(w, fd, error, a);
    if (++a->count > 2)
        return false;
    if (error == ECONNREFUSED) /* an earlier datagram's answer; this was not sent */
        return true;
    if (!bad_source(error) || !message_has_source(w, m))
        return false;
    a->without_source = true;
    return address_message(w, m, n, false) == fd;
}

/* Message m went out. If it did without a source only, that one was to blame: a peer
 * that could not be reached at all keeps it, as from the kernel's own module. */
static void blame_source(struct worker *w, uint32_t m, const struct attempts *a)
{
    if (a->without_source)
        endpoint_clear_source(w->out.datagram[w->out.first[m]].keypair->path);
}

/* One message of one datagram as it stands; false with errno set. */
static bool send_one(struct worker *w, uint32_t m, int fd)
{
    struct attempts a = {0};

    while (sendmsg(fd, &w->out.message[m].msg_hdr, MSG_DONTWAIT) < 0)
        if (!try_again(w, m, 1, fd, errno, &a))
            return false;
    blame_source(w, m, &a);
    return true;
}

/* The datagrams of a train that was refused went out one by one.  Larger ones than the
 * route's MTU it takes singly only (U7): EMSGSIZE, of older kernels EINVAL.  Otherwise
 * trains are what this socket cannot do (U8): no more of them. */
static void note_refused(struct worker *w, struct path *p, uint32_t size, int family,
                         int error)
{
    if (error == EMSGSIZE || (error == EINVAL && size > FITS_ANY_ROUTE))
        trains_refuse(p, size, w->now);
    else if (error == EIO || error == EINVAL)
        atomic_store(&w->engine->gso_off[family], true);
}

/* A train that the kernel refused: its datagrams one by one. */
static void send_singly(struct worker *w, uint32_t m, int fd, int error)
{
    struct outbox *o = &w->out;
    uint32_t from = o->first[m], n = message_count(o, m), good = 0;
    struct iovec whole = o->iov[m];

    for (uint32_t i = from; i < from + n; i++) {
        o->first[m] = i;
        o->iov[m] = (struct iovec){
            .iov_base = o->datagram[i].slot, .iov_len = wire_length(&o->datagram[i])};
        if (address_message(w, m, 1, true) == fd && send_one(w, m, fd)) {
            sent(w, i, 1);
            good++;
        } else {
            drop(w, DROP_TX_SOCKET);
        }
    }
    o->first[m] = from;
    o->iov[m] = whole;
    if (good)
        note_refused(w, o->datagram[from].keypair->path,
                     wire_length(&o->datagram[from]), fd == w->send_fd[1], error);
}

/* Message m did not go, and will not as it is. */
static void give_up(struct worker *w, uint32_t m, int fd, int error)
{
    uint32_t n = message_count(&w->out, m);

    /* singly its datagrams would find the same queue, the same route */
    if (n == 1 || queue_full(error) || (bad_source(error) && error != EINVAL))
        count_add(&w->counters.drops[DROP_TX_SOCKET], n);
    else
        send_singly(w, m, fd, error);
}

void send_run(struct worker *w, int fd, uint32_t from, uint32_t to)
{
    struct outbox *o = &w->out;
    struct attempts a = {0};

    while (from < to) {
        int n = sendmmsg(fd, &o->message[from], to - from, MSG_DONTWAIT), error = errno;
        if (n > 0) {
            blame_source(w, from, &a);
            /* fewer than asked is no error: go on with the rest (R64) */
            for (; n > 0; n--, from++)
                sent(w, o->first[from], message_count(o, from));
        } else if (try_again(w, from, message_count(o, from), fd, error, &a)) {
            continue;
        } else {
            give_up(w, from++, fd, error);
        }
        a = (struct attempts){0};
    }
}
