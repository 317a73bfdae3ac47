/* SPDX-License-Identifier: MIT
 *
 * Exercises the routing table in C, for the sanitizers:
 *
 *   random SEED COMMITS    random transactions against a linear twin; the second
 *                          third without aip_fast4 and 6, the last without popcnt
 *   memory SEED ROUNDS     the same with every allocation failing in turn
 *   bulk COUNT             many prefixes in, one change at a time, all out again
 *   threads SEED COMMITS   readers look up while a writer commits and frees
 *
 * Exits 0, or prints what differs and aborts.
 */
#include "aip_shape.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* ---- random SEED COMMITS */

struct past {
    struct aip_root root;
    struct twin twin;
    struct aip_garbage *garbage; /* free it once nobody reads this version */
};

static void run_random(long commits)
{
    enum { PAST = 4 };
    static struct past past[PAST];
    static struct twin now, open;
    struct aip *t = aip_new();
    struct aip_root r = {.mask = 0};
    int version = 0;

    for (long i = 0; i < commits; i++) {
        struct past *oldest = &past[(version + 1) % PAST];

        if (i == commits / 3)
            aip_has_fast = false;
        if (i == commits / 3 * 2)
            aip_has_popcnt = false;
        CHECK(aip_begin(t) == 0 && aip_begin(t) == -EBUSY);
        open = now;
        for (uint32_t n = rnd(i % 50 ? 4 : 200); n; n--)
            CHECK(change(t, &open) == 0);
        check_exact(t, &open);
        check_version(&r, &now, 4);
        if (!rnd(5)) {
            aip_abort(t);
            check_exact(t, &now);
            check_shape(t, &r);
            continue;
        }
        aip_commit(t, &r, &past[version++ % PAST].garbage);
        now = open;
        check_shape(t, &r);
        check_version(&r, &now, 16);
        check_version(&oldest->root, &oldest->twin, 8);
        aip_garbage_free(oldest->garbage);
        *oldest = (struct past){r, now, NULL};
    }
    for (int i = 0; i < PAST; i++)
        aip_garbage_free(past[i].garbage);
    aip_free(t);
    CHECK(aip_test_allocations() == 0);
}

/* ---- memory SEED ROUNDS */

/* One transaction in which allocation number `n` and all later ones fail; false
 * when it needs no more than n. */
static bool fail_at(struct aip *t, long n, struct twin *now, struct aip_root *r)
{
    static struct twin open;
    struct aip_garbage *garbage;
    int changes = 3, error = 0;

    CHECK(aip_begin(t) == 0);
    open = *now;
    aip_test_fail_after(n);
    while (!error && changes--)
        error = change(t, &open);
    CHECK(error == 0 || error == -ENOMEM);
    check_exact(t, &open);
    check_version(r, now, 8);
    if (error && rnd(2)) {
        aip_abort(t); /* needs no memory */
        aip_test_fail_after(-1);
        check_exact(t, now);
        check_shape(t, r);
        return true;
    }
    aip_commit(t, r, &garbage);
    aip_test_fail_after(-1);
    *now = open;
    check_shape(t, r);
    check_version(r, now, 8);
    aip_garbage_free(garbage);
    return error != 0;
}

static void run_memory(long rounds)
{
    static struct twin now;
    struct aip *t;
    struct aip_root r = {.mask = 0};
    long failed = 0;

    aip_test_fail_after(0);
    CHECK(!aip_new());
    aip_test_fail_after(-1);
    t = aip_new();
    while (rounds--)
        for (long n = 0; fail_at(t, n, &now, &r); n++)
            failed++;
    CHECK(failed > 0);
    aip_free(t);
    CHECK(aip_test_allocations() == 0);
    printf("%ld\n", failed);
}

/* ---- bulk COUNT */

static void bulk_prefix(long i, int family, uint8_t addr[16], unsigned *cidr)
{
    uint64_t x = ((uint64_t)i + 1) * 0x9E3779B97F4A7C15ULL;

    memset(addr, 0, 16);
    for (int b = 0; b < 8; b++)
        addr[b] = (uint8_t)(x >> (56 - 8 * b));
    *cidr = family == 4 ? 17 + (unsigned)i % 16 : 24 + (unsigned)i % 41;
}

static void run_bulk(long count)
{
    struct aip *t = aip_new();
    struct aip_root r;
    uint8_t addr[16];
    unsigned cidr;
    size_t most = 0;

    for (int round = 0; round < 2; round++) {
        CHECK(aip_begin(t) == 0);
        for (long i = 0; i < count; i++) {
            int family = i % 2 ? 4 : 6;
            bulk_prefix(i, family, addr, &cidr);
            CHECK((round ? aip_remove(t, family, addr, cidr, NULL)
                         : aip_insert(t, family, addr, cidr, t, NULL)) == 0);
        }
        aip_commit(t, &r, NULL);
        check_shape(t, &r);
        for (long i = 0; !round && i < 1000; i++) { /* one path each */
            struct aip_garbage *garbage;
            size_t before = aip_test_allocations();

            CHECK(aip_begin(t) == 0);
            bulk_prefix(i, i % 2 ? 4 : 6, addr, &cidr);
            CHECK(aip_insert(t, i % 2 ? 4 : 6, addr, cidr, addr, NULL) == 0);
            aip_commit(t, &r, &garbage);
            if (aip_test_allocations() - before > most)
                most = aip_test_allocations() - before;
            aip_garbage_free(garbage);
        }
    }
    CHECK(most > 0 && most <= 8);
    CHECK(aip_count(t) == 0 && aip_bytes(t) == 0 && !r.v4.to && !r.v6.to);
    aip_free(t);
    CHECK(aip_test_allocations() == 0);
}

/* ---- threads SEED COMMITS */

#define READERS 2
#define MARKED 32 /* prefixes that carry the version's number */

struct version {
    struct aip_root root;
    uintptr_t number;
};

static _Atomic(struct version *) published;
static _Atomic uintptr_t passed[READERS]; /* done with all versions before */
static _Atomic bool done;

static void marked_address(unsigned i, uint8_t addr[16])
{
    memset(addr, 0, 16);
    addr[0] = 10;
    addr[1] = (uint8_t)(i * 7);
    addr[15] = 1;
}

static void *reader(void *slot)
{
    uint8_t addr[16];

    while (!done) {
        struct version *v = published;
        for (unsigned i = 0; i < MARKED; i++) {
            marked_address(i, addr);
            CHECK(lookup(&v->root, i % 2 ? 4 : 6, addr) == (void *)v->number);
        }
        *(_Atomic uintptr_t *)slot = v->number;
    }
    return NULL;
}

/* Everything marked gets the new number; other prefixes come and go around it. */
static struct version *next_version(struct aip *t, struct twin *w, uintptr_t number,
                                    struct aip_garbage **garbage)
{
    struct version *v = malloc(sizeof *v);
    uint8_t addr[16];

    CHECK(v && aip_begin(t) == 0);
    for (int n = 0; n < 4; n++)
        CHECK(change(t, w) == 0);
    for (unsigned i = 0; i < MARKED; i++) {
        marked_address(i, addr);
        CHECK(aip_insert(t, i % 2 ? 4 : 6, addr, i % 2 ? 32 : 128, (void *)number,
                         NULL) == 0);
    }
    aip_commit(t, &v->root, garbage);
    v->number = number;
    return v;
}

static void run_threads(long commits)
{
    static struct twin w;
    struct aip *t = aip_new();
    struct aip_garbage *garbage;
    pthread_t thread[READERS];

    published = next_version(t, &w, 1, &garbage);
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_create(&thread[i], NULL, reader, &passed[i]) == 0);
    for (long n = 2; n < commits + 2; n++) {
        struct version *old = published;
        published = next_version(t, &w, (uintptr_t)n, &garbage);
        for (int i = 0; i < READERS; i++)
            while (passed[i] < (uintptr_t)n)
                sched_yield();
        aip_garbage_free(garbage);
        free(old);
    }
    done = true;
    for (int i = 0; i < READERS; i++)
        pthread_join(thread[i], NULL);
    free(published);
    aip_free(t);
    CHECK(aip_test_allocations() == 0);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";

    state = strtoull(argc > 2 ? argv[2] : "0", NULL, 10);
    if (!strcmp(mode, "bulk"))
        run_bulk(atol(argv[2]));
    else if (!strcmp(mode, "random") && argc == 4)
        run_random(atol(argv[3]));
    else if (!strcmp(mode, "memory") && argc == 4)
        run_memory(atol(argv[3]));
    else if (!strcmp(mode, "threads") && argc == 4)
        run_threads(atol(argv[3]));
    else
        return 2;
    return 0;
}
