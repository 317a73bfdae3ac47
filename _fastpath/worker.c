/* SPDX-License-Identifier: MIT
 *
 * Life of the engine and its workers, and the ways between them and the control
 * thread.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_BOOTTIME
#define CLOCK_BOOTTIME 7
#endif

uint64_t clock_boottime(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#define SETTLE_MOST 100000000u /* ns */

static void eventfd_raise(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void engine_signal(struct engine *e)
{
    if (!atomic_exchange(&e->event_signalled, true))
        eventfd_raise(e->event_fd);
}

void engine_wake(struct engine *e)
{
    eventfd_raise(e->wake_fd);
    if (atomic_load(&e->stopping))
        eventfd_raise(e->help_fd);
}

void post(struct worker *w, struct path *p, uint32_t events)
{
    if (events && events_push(&w->engine->events, p, events))
        engine_signal(w->engine);
}

/* ---- handshake ring */

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

/* ---- life */

static void *reserve(size_t bytes)
{
    void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (area == MAP_FAILED)
        return NULL;
    madvise(area, bytes, MADV_DONTDUMP);
    return area;
}

int snapshot_release(void *snapshot)
{
    struct snapshot *s = snapshot;

    for (int i = 0; i < 2 && s->owns_sockets; i++)
        if (s->fd[i] >= 0)
            close(s->fd[i]);
    if (s->garbage)
        aip_garbage_free(s->garbage);
    if (s->waiting)
        --*s->waiting;
    free(s);
    return 1;
}

void engine_publish(struct engine *e, struct snapshot *next)
{
    struct snapshot *old = atomic_exchange(&e->snapshot, next); /* the instant */
    bool new_sockets = old->owns_sockets;

    old->waiting = &e->retired_snapshots;
    e->retired_snapshots++;
    epoch_retire(&e->epoch, &old->retired, old, snapshot_release);
    if (new_sockets) /* it may sleep on the old ones; else it wakes with a packet */
        engine_wake(e);
}

void engine_hold_back(struct engine *e)
{
    static const struct timespec pause = {.tv_nsec = 50000};

    epoch_reclaim(&e->epoch);
    for (int i = 0; i < 1000 && e->retired_snapshots >= RETIRED_MAX; i++) {
        nanosleep(&pause, NULL);
        epoch_reclaim(&e->epoch);
    }
}

bool engine_settle(struct engine *e)
{
    struct timespec pause = {.tv_nsec = 100000};
    uint64_t tag = epoch_tag(&e->epoch);
    uint64_t end = clock_boottime() + SETTLE_MOST;

    /* each look wakes this thread, in a storm of commits at the worker's expense:
     * fewer of them the longer it takes */
    while (!epoch_passed(&e->epoch, tag)) {
        if (clock_boottime() >= end)
            return false;
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 1000000)
            pause.tv_nsec *= 2;
    }
    return true;
}

int engine_init(struct engine *e, int tun_fd)
{
    struct snapshot *s = calloc(1, sizeof *s);

    memset(e, 0, sizeof *e);
    e->tun_fd = tun_fd;
    epoch_init(&e->epoch);
    e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->help_fd = eventfd(0, EFD_CLOEXEC);
    e->handshakes.slot = reserve(HANDSHAKE_RING * sizeof(struct handshake));
    if (!s || e->event_fd < 0 || e->wake_fd < 0 || e->help_fd < 0 ||
        !e->handshakes.slot ||
        index_init(&e->index)) {
        free(s);
        return -1;
    }
    s->fd[0] = s->fd[1] = -1;
    s->owns_sockets = true;
    s->mtu = 1420;
    atomic_store(&e->snapshot, s);
    return 0;
}

void engine_finish(struct engine *e)
{
    struct snapshot *s = atomic_exchange(&e->snapshot, NULL);

    events_clear(&e->events);
    commands_clear(&e->commands);
    epoch_finish(&e->epoch);
    if (atomic_load(&e->index.slots))
        index_finish(&e->index);
    if (s)
        snapshot_release(s);
    if (e->handshakes.slot)
        munmap(e->handshakes.slot, HANDSHAKE_RING * sizeof(struct handshake));
    if (e->event_fd >= 0)
        close(e->event_fd);
    if (e->wake_fd >= 0)
        close(e->wake_fd);
    if (e->help_fd >= 0)
        close(e->help_fd);
    if (e->tun_fd >= 0)
        close(e->tun_fd);
    e->event_fd = e->wake_fd = e->help_fd = e->tun_fd = -1;
    e->handshakes.slot = NULL;
}

int worker_init(struct worker *w, struct engine *e, unsigned reader)
{
    memset(w, 0, sizeof *w);
    w->engine = e;
    w->reader = reader;
    w->out.arena = reserve(ARENA_BYTES);
    w->out.large = reserve(LARGE_BYTES);
    w->in.buffers = reserve((size_t)IN_MESSAGES * IN_BYTES);
    return w->out.arena && w->out.large && w->in.buffers ? 0 : -1;
}

static void give_back(uint8_t **area, size_t bytes)
{
    if (*area)
        munmap(*area, bytes);
    *area = NULL;
}

void worker_finish(struct worker *w)
{
    give_back(&w->out.arena, ARENA_BYTES);
    give_back(&w->out.large, LARGE_BYTES);
    give_back(&w->in.buffers, (size_t)IN_MESSAGES * IN_BYTES);
}

void worker_sleep(struct worker *w)
{
    struct engine *e = w->engine;
    struct pollfd p[4] = {
        {.fd = e->wake_fd, .events = POLLIN},
        {.fd = atomic_load(&e->tun_gone) || !worker_sends(e) ? -1 : e->tun_fd,
         .events = POLLIN},
        {.fd = w->snapshot->fd[0], .events = POLLIN},
        {.fd = w->snapshot->fd[1], .events = POLLIN},
    };

    epoch_leave(&e->epoch, w->reader);
    poll(p, 4, -1);
    if (p[0].revents & POLLIN) {
        uint64_t n;
        while (read(e->wake_fd, &n, sizeof n) < 0 && errno == EINTR)
            ;
    }
}

/* ---- the helper */

void hand_over(struct engine *e)
{
    atomic_store(&e->helper_sends, true);
    eventfd_raise(e->help_fd);
}

void hand_back(struct engine *e)
{
    atomic_store(&e->helper_sends, false);
    engine_wake(e);
}

bool helper_wait(struct worker *w)
{
    struct engine *e = w->engine;
    uint64_t n;

    epoch_leave(&e->epoch, w->reader);
    while (read(e->help_fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
    return !atomic_load(&e->stopping);
}

bool helper_rest(struct worker *w)
{
    struct engine *e = w->engine;
    struct pollfd p = {.fd = e->tun_fd, .events = POLLIN};

    if (atomic_load(&e->tun_gone) || atomic_load(&e->stopping))
        return false;
    epoch_leave(&e->epoch, w->reader);
    return poll(&p, 1, HELPER_REST_MS) > 0;
}
