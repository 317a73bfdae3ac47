/* SPDX-License-Identifier: MIT
 *
 * Life of a worker thread, and how it and its helper sleep.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int worker_init(struct worker *w, struct engine *e, unsigned lane, unsigned reader)
{
    memset(w, 0, sizeof *w);
    w->engine = e;
    w->lane = &e->lane[lane];
    w->number = lane;
    w->reader = reader;
    w->look = LOOK_ALL;
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

/* As in linux/sched/types.h, its first version; glibc before 2.41 has none. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period; /* ns */
};

static void ask_for_slices(struct worker *w, bool shorter)
{
    struct scheduling s = {.size = sizeof s};

    if (syscall(SYS_sched_getattr, 0, &s, sizeof s, 0) || s.policy != 0)
        return; /* somebody chose another policy than SCHED_OTHER */
    if (shorter)
        w->usual_slice = s.runtime;
    s.size = sizeof s;
    s.runtime = shorter ? SHORT_SLICE_NS : w->usual_slice;
    (void)syscall(SYS_sched_setattr, 0, &s, 0);
}

void worker_slices(struct worker *w)
{
    bool bulk = w->carried > LITTLE;

    if (bulk)
        w->bulk_at = w->now;
    else
        bulk = w->now - w->bulk_at < CALM_NS;
    if (bulk != w->short_slices)
        return;
    w->short_slices = !bulk;
    ask_for_slices(w, !bulk);
}

void worker_begin(struct worker *w)
{
    struct snapshot *s;

    epoch_enter(&w->engine->epoch, w->reader);
    w->snapshot = s = atomic_load(&w->engine->snapshot);
    aip_memo_forget(&w->source_memo);
    w->now = clock_boottime();
    w->carried = 0;
    w->reads_left = w->waited ? READS_WHILE_FULL : BATCH_MAX;
    w->waited = 0;
    for (int family = 0; family < 2; family++) {
        int own = s->fd[w->number][family];
        w->receive_fd[family] = own;
        w->send_fd[family] = own >= 0 ? own : s->fd[0][family];
    }
}

static void clear(int eventfd)
{
    uint64_t n;

    while (read(eventfd, &n, sizeof n) < 0 && errno == EINTR)
        ;
}

/* ---- sleep: with other lanes, first says so and then looks at what they gave */

static bool handed(struct worker *w, enum lane_thread thread)
{
    if (thread == LANE_WORKER && handed_waiting(w->lane, INBOUND))
        return true;
    return worker_sends(w) == (thread == LANE_WORKER) &&
           !atomic_load(&w->engine->tun_gone) && handed_waiting(w->lane, OUTBOUND);
}

static bool fall_asleep(struct worker *w, enum lane_thread thread)
{
    if (w->engine->lanes > 1) {
        atomic_store(&w->lane->asleep[thread], true);
        if (handed(w, thread)) {
            atomic_store(&w->lane->asleep[thread], false);
            return false;
        }
    }
    epoch_leave(&w->engine->epoch, w->reader);
    return true;
}

static void wake_up(struct worker *w, enum lane_thread thread)
{
    if (w->engine->lanes > 1)
        atomic_store(&w->lane->asleep[thread], false);
}

/* The TUN descriptor as far as packets come in on it here; -1: not now. */
static int tun_to_read(struct worker *w)
{
    return w->lane->reads && !atomic_load(&w->engine->tun_gone) ? w->lane->tun_fd : -1;
}

void worker_sleep(struct worker *w)
{
    struct pollfd p[4] = {
        {.fd = w->lane->wake_fd, .events = POLLIN},
        {.fd = worker_sends(w) ? tun_to_read(w) : -1, .events = POLLIN},
        {.fd = w->receive_fd[0], .events = POLLIN},
        {.fd = w->receive_fd[1], .events = POLLIN},
    };

    w->look = LOOK_ALL;
    if (worker_sends(w) && !stack_empty(&w->lane->commands))
        return;
    if (!fall_asleep(w, LANE_WORKER))
        return;
    poll(p, 4, -1);
    wake_up(w, LANE_WORKER);
    if (p[0].revents & POLLIN)
        clear(w->lane->wake_fd);
    w->look = (p[1].revents ? LOOK_TUN : 0) | (p[2].revents ? LOOK_SOCKET(0) : 0) |
              (p[3].revents ? LOOK_SOCKET(1) : 0);
}

bool helper_wait(struct worker *w)
{
    struct engine *e = w->engine;

    epoch_leave(&e->epoch, w->reader);
    /* raised for nothing when a lane woke it that it had looked at already */
    while (worker_sends(w) && !atomic_load(&e->stopping))
        clear(w->lane->help_fd);
    return !atomic_load(&e->stopping);
}

bool helper_rest(struct worker *w)
{
    struct pollfd p[2] = {
        {.fd = tun_to_read(w), .events = POLLIN},
        {.fd = w->engine->lanes > 1 ? w->lane->help_fd : -1, .events = POLLIN},
    };
    int ready;

    if (atomic_load(&w->engine->tun_gone) || atomic_load(&w->engine->stopping))
        return false;
    if (!fall_asleep(w, LANE_HELPER))
        return true;
    ready = poll(p, 2, HELPER_REST_MS);
    wake_up(w, LANE_HELPER);
    if (p[1].revents & POLLIN)
        clear(w->lane->help_fd);
    return ready > 0;
}
