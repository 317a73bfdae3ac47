/* SPDX-License-Identifier: MIT
 *
 * The ring between two workers (ring.h) on its own.  Run by test_ring.py:
 *     twin SEED ROUNDS    random pushes, takes and releases against a list of records
 *     threads SEED COUNT  a producer and a consumer at once; both start and stop
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../_fastpath/ring.h"

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                    \
            abort();                                                                   \
        }                                                                              \
    } while (0)

static uint64_t state;

static uint32_t below(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 11) % n;
}

static uint32_t some_length(void)
{
    return 1 + (below(4) ? below(2000) : below(RING_RECORD_MAX));
}

static uint8_t byte_of(uint64_t number, uint32_t at)
{
    return (uint8_t)(number * 31 + at * 7 + (at >> 8));
}

static void fill(uint8_t *record, uint64_t number, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        record[i] = byte_of(number, i);
}

static void check(const uint8_t *record, uint64_t number, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        CHECK(record[i] == byte_of(number, i));
}

/* ---- the twin: what was pushed and not released, and how long each was */

#define KEPT_MAX 400000

static uint32_t kept[KEPT_MAX];

static uint64_t size_of(uint32_t length)
{
    return RING_ALIGN + (length + RING_ALIGN - 1) / RING_ALIGN * RING_ALIGN;
}

static void twin(uint64_t rounds)
{
    static struct ring r;
    uint64_t pushed = 0, taken = 0, released = 0, bytes = 0, refused = 0;

    for (uint64_t round = 0; round < rounds; round++) {
        uint32_t length = some_length(), found;
        uint8_t *record;
        uint32_t what = below(100), bias = round / 2000 % 2 ? 30 : 65;

        CHECK(ring_waiting(&r) == (taken < pushed));
        if (what < bias) {
            record = ring_room(&r, length);
            CHECK(record || bytes + size_of(length) > RING_BYTES / 2 - RING_RECORD_MAX);
            CHECK(!record || bytes + size_of(length) <= RING_BYTES);
            if (!record) {
                refused++;
                continue;
            }
            CHECK((uintptr_t)record % RING_ALIGN == 0);
            if (!below(10))
                continue; /* changed its mind */
            CHECK(pushed < KEPT_MAX);
            kept[pushed] = length;
            fill(record, pushed, length);
            ring_push(&r, length);
            bytes += size_of(length);
            pushed++;
        } else if (what < 95) {
            record = ring_take(&r, &found);
            CHECK((record != NULL) == (taken < pushed));
            if (record) {
                CHECK(found == kept[taken]);
                check(record, taken++, found);
            }
        } else {
            ring_release(&r);
            for (; released < taken; released++)
                bytes -= size_of(kept[released]);
        }
    }
    printf("%llu records, %llu refused\n", (unsigned long long)pushed,
           (unsigned long long)refused);
    CHECK(pushed > rounds / 20 && refused);
    ring_finish(&r);
}

/* ---- two threads */

struct plan {
    struct ring ring;
    uint64_t seed, count;
};

static uint64_t next_length(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return 1 + (*s >> 33) % (*s >> 62 ? 1500 : 70000);
}

static void *consume(void *argument)
{
    struct plan *p = argument;
    uint64_t lengths = p->seed;

    for (uint64_t n = 0; n < p->count;) {
        uint32_t length;
        uint8_t *record = ring_take(&p->ring, &length);
        if (!record) {
            ring_release(&p->ring);
            sched_yield();
            continue;
        }
        CHECK(length == next_length(&lengths));
        check(record, n++, length);
        if (n % 7 == 0)
            ring_release(&p->ring);
    }
    ring_release(&p->ring);
    return NULL;
}

static void threads(uint64_t count)
{
    static struct plan p;
    uint64_t lengths = p.seed = state, full = 0;
    pthread_t consumer;

    p.count = count;
    CHECK(pthread_create(&consumer, NULL, consume, &p) == 0);
    for (uint64_t n = 0; n < count; n++) {
        uint32_t length = (uint32_t)next_length(&lengths);
        uint8_t *record;
        while (!(record = ring_room(&p.ring, length))) {
            full++;
            sched_yield();
        }
        fill(record, n, length);
        ring_push(&p.ring, length);
        if (n % 1000 == 999) /* lets it run empty: it starts again at the front */
            sched_yield();
    }
    CHECK(pthread_join(consumer, NULL) == 0);
    printf("%llu records, full %llu times\n", (unsigned long long)count,
           (unsigned long long)full);
    ring_finish(&p.ring);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    state = strtoull(argv[2], NULL, 10) * 2 + 1;
    for (int i = 0; i < 20; i++)
        below(2);
    if (!strcmp(argv[1], "twin"))
        twin(strtoull(argv[3], NULL, 10));
    else
        threads(strtoull(argv[3], NULL, 10));
    return 0;
}
