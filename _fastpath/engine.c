/* SPDX-License-Identifier: MIT
 *
 * Life of the engine, and how the control thread publishes what workers read.
 */
#define _GNU_SOURCE
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_BOOTTIME
#define CLOCK_BOOTTIME 7
#endif

#define SETTLE_MOST 100000000u /* ns */

uint64_t clock_boottime(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void *reserve(size_t bytes)
{
    void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (area == MAP_FAILED)
        return NULL;
    madvise(area, bytes, MADV_DONTDUMP);
    return area;
}

void engine_wake(struct engine *e)
{
    for (unsigned i = 0; i < e->lanes; i++)
        lane_wake(&e->lane[i], atomic_load(&e->stopping));
}

/* ---- snapshots */

void snapshot_close(struct snapshot *s)
{
    for (int lane = 0; lane < LANES_MAX; lane++)
        for (int family = 0; family < 2; family++) {
            if (s->fd[lane][family] >= 0)
                close(s->fd[lane][family]);
            s->fd[lane][family] = -1;
        }
}

int sockets_copy(int fd[LANES_MAX][2])
{
    for (int i = 0; i < 2 * LANES_MAX; i++) {
        int *one = &fd[i / 2][i % 2];
        if (*one >= 0 && (*one = fcntl(*one, F_DUPFD_CLOEXEC, 0)) < 0) {
            int error = errno;
            while (i-- > 0)
                if (fd[i / 2][i % 2] >= 0)
                    close(fd[i / 2][i % 2]);
            errno = error;
            return -1;
        }
    }
    return 0;
}

int snapshot_release(void *snapshot)
{
    struct snapshot *s = snapshot;

    if (s->owns_sockets)
        snapshot_close(s);
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

/* A worker that was woken and is not up yet: poll() keeps the sockets of before open,
 * and their port taken, even after they were closed. */
static bool sleeps_still(const struct engine *e)
{
    for (unsigned i = 0; i < e->lanes; i++) {
        struct pollfd woken = {.fd = e->lane[i].wake_fd, .events = POLLIN};
        if (atomic_load(&e->epoch.readers[2 * i].seen) == EPOCH_OFFLINE &&
            poll(&woken, 1, 0) > 0)
            return true;
    }
    return false;
}

bool engine_settle(struct engine *e)
{
    struct timespec pause = {.tv_nsec = 100000};
    uint64_t tag = epoch_tag(&e->epoch);
    uint64_t end = clock_boottime() + SETTLE_MOST;

    /* each look wakes this thread, in a storm of commits at the worker's expense:
     * fewer of them the longer it takes */
    while (!epoch_passed(&e->epoch, tag) || sleeps_still(e)) {
        if (clock_boottime() >= end)
            return false;
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 1000000)
            pause.tv_nsec *= 2;
    }
    epoch_reclaim(&e->epoch); /* among it the sockets of before, and their port */
    return true;
}

/* ---- life */

static struct snapshot *first_snapshot(void)
{
    struct snapshot *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    memset(s->fd, -1, sizeof s->fd);
    s->owns_sockets = true;
    s->mtu = 1420;
    s->rekey_after_messages = REKEY_AFTER_MESSAGES;
    return s;
}

int engine_init(struct engine *e, unsigned lanes)
{
    int failed = 0;

    memset(e, 0, sizeof *e);
    epoch_init(&e->epoch);
    e->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    e->handshakes.slot = reserve(HANDSHAKE_RING * sizeof(struct handshake));
    e->lane = reserve(lanes * sizeof(struct lane));
    for (; e->lane && e->lanes < lanes; e->lanes++)
        failed |= lane_init(&e->lane[e->lanes], e->lanes);
    atomic_store(&e->snapshot, first_snapshot());
    if (failed || e->event_fd < 0 || !e->handshakes.slot || !e->lane ||
        !atomic_load(&e->snapshot) || index_init(&e->index) ||
        cookies_init(&e->cookies))
        return -1;
    return 0;
}

static void lanes_finish(struct engine *e)
{
    for (unsigned i = 0; i < e->lanes; i++)
        lane_finish(&e->lane[i]);
    if (e->lane)
        munmap(e->lane, e->lanes * sizeof(struct lane));
    e->lane = NULL;
    e->lanes = 0;
}

void engine_finish(struct engine *e)
{
    struct snapshot *s = atomic_exchange(&e->snapshot, NULL);

    events_clear(&e->events);
    for (unsigned i = 0; i < e->lanes; i++)
        commands_clear(&e->lane[i].commands);
    epoch_finish(&e->epoch);
    cookies_finish(&e->cookies);
    if (atomic_load(&e->index.slots))
        index_finish(&e->index);
    if (s) {
        isolation_release(s->isolation);
        snapshot_release(s);
    }
    if (e->handshakes.slot)
        munmap(e->handshakes.slot, HANDSHAKE_RING * sizeof(struct handshake));
    e->handshakes.slot = NULL;
    if (e->event_fd >= 0)
        close(e->event_fd);
    e->event_fd = -1;
    lanes_finish(e);
}
