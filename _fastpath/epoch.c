/* SPDX-License-Identifier: MIT */
#include "epoch.h"

#include <string.h>

void epoch_init(struct epoch *e)
{
    memset(e, 0, sizeof *e);
    atomic_store(&e->now, 1);
}

uint64_t epoch_tag(struct epoch *e)
{
    return atomic_fetch_add(&e->now, 1) + 1;
}

void epoch_retire(struct epoch *e, struct retired *r, void *object,
                  int (*release)(void *))
{
    *r = (struct retired){.tag = epoch_tag(e), .object = object, .release = release};
    if (e->newest)
        e->newest->next = r;
    else
        e->oldest = r;
    e->newest = r;
    e->waiting++;
}

static uint64_t oldest_reader(struct epoch *e)
{
    uint64_t oldest = UINT64_MAX;

    for (unsigned i = 0; i < EPOCH_READERS; i++) {
        uint64_t seen = atomic_load(&e->readers[i].seen);
        if (seen != EPOCH_OFFLINE && seen < oldest)
            oldest = seen;
    }
    return oldest;
}

int epoch_passed(struct epoch *e, uint64_t tag)
{
    return oldest_reader(e) >= tag;
}

void epoch_reclaim(struct epoch *e)
{
    struct retired *r = e->oldest, *next, *kept = NULL;
    uint64_t safe;

    if (!r)
        return;
    safe = oldest_reader(e);
    for (; r && r->tag <= safe; r = next) {
        next = r->next; /* the release may free what holds r */
        if (r->release(r->object)) {
            if (kept)
                kept->next = next;
            else
                e->oldest = next;
            e->waiting--;
        } else {
            kept = r;
        }
    }
    if (!r)
        e->newest = kept;
}

void epoch_finish(struct epoch *e)
{
    for (unsigned i = 0; i < EPOCH_READERS; i++)
        atomic_store(&e->readers[i].seen, EPOCH_OFFLINE);
    epoch_reclaim(e);
}
