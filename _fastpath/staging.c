/* SPDX-License-Identifier: MIT
 *
 * Packets that wait for a session, and what the control thread asks about them.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <stdlib.h>

#define ASK_AGAIN 200000000u /* ns */

void stage(struct worker *w, struct path *p, const uint8_t *packet, uint32_t length)
{
    enum drop_reason reason =
        path_stage(p, &w->engine->staged_bytes, packet, length);

    if (reason)
        drop(w, reason);
    if (reason == DROP_TX_PEER_GONE)
        return;
    /* told at the first packet, then now and again, not for each one of a flood */
    if (atomic_load_explicit(&p->staged_count, memory_order_relaxed) > 1 &&
        w->now - p->asked_for_session < ASK_AGAIN)
        return;
    p->asked_for_session = w->now;
    post(w, p, EVENT_NEEDS_SESSION);
}

static void send_staged(struct worker *w, struct path *p, struct keypair *k)
{
    struct ip_view v = {0};
    struct staged *s;

    while (usable(w, k) && (s = path_unstage(p, &w->engine->staged_bytes))) {
        uint8_t *slot = out_room(w, s->length);
        memcpy(slot + SLOT_PACKET_OFFSET, s->slot + SLOT_PACKET_OFFSET, s->length);
        ip_parse(slot + SLOT_PACKET_OFFSET, s->length, &v);
        out_add(w, k, s->length, ecn_encapsulate(&v));
        free(s);
    }
    out_flush(w);
}

static void send_keepalive(struct worker *w, struct keypair *k)
{
    out_room(w, 0);
    out_add(w, k, 0, 0);
    out_flush(w);
}

static void purge(struct worker *w, struct path *p)
{
    count_add(&w->counters.drops[DROP_TX_PURGED],
              path_purge(p, &w->engine->staged_bytes));
}

static void run_command(struct worker *w, struct path *p, uint32_t bits)
{
    struct keypair *k = atomic_load(&p->sending);

    if (bits & COMMAND_PURGE || atomic_load(&p->dead))
        purge(w, p);
    if (!(bits & (COMMAND_FLUSH | COMMAND_KEEPALIVE)))
        return;
    if (!usable(w, k)) {
        /* a keepalive without a session asks for one */
        if (p->staged_first || bits & COMMAND_KEEPALIVE)
            post(w, p, EVENT_NEEDS_SESSION);
    } else if (p->staged_first) {
        send_staged(w, p, k);
    } else if (bits & COMMAND_KEEPALIVE) {
        send_keepalive(w, k);
    }
}

size_t run_commands(struct worker *w)
{
    struct path *p = stack_take(&w->lane->commands), *next;
    size_t ran = 0;

    for (; p; p = next, ran++) {
        next = p->command_next;
        run_command(w, p, command_begin(p));
        command_end(&w->lane->commands, p);
    }
    return ran;
}
