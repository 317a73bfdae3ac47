/* SPDX-License-Identifier: MIT
 *
 * The anti-replay window of one keypair (R31, R32), a ring of bits as in RFC 6479:
 * moving the window clears whole words and shifts nothing.
 *
 * Feed it only counters of packets that were authenticated (R31).  It has no lock:
 * one worker owns it.  The verdicts are those of the Linux kernel's
 * counter_validate() (drivers/net/wireguard/receive.c).
 */
#ifndef TUNNEL_REPLAY_H
#define TUNNEL_REPLAY_H

#include <stdint.h>
#include <string.h>

#define REPLAY_BITS 8192
#define REPLAY_WORDS (REPLAY_BITS / 64)
/* The word that is being filled covers one word less of the past. */
#define REPLAY_WINDOW (REPLAY_BITS - 64)

enum replay_verdict {
    REPLAY_OK = 0,
    REPLAY_DUPLICATE = 1, /* seen before */
    REPLAY_TOO_OLD = 2,   /* more than REPLAY_WINDOW behind the newest */
    REPLAY_LIMIT = 3,     /* at or past reject_after (R28) */
};

/* A counter c is kept as the position c + 1, so that 0 means "nothing yet". */
struct replay_window {
    uint64_t newest;
    uint64_t bits[REPLAY_WORDS];
};

static inline void replay_init(struct replay_window *w)
{
    memset(w, 0, sizeof *w);
}

/* Clears the words between the newest position and a newer one. */
static inline void replay_advance(struct replay_window *w, uint64_t position)
{
    const uint64_t from = w->newest / 64;
    uint64_t words = position / 64 - from;

    if (words > REPLAY_WORDS)
        words = REPLAY_WORDS;
    for (uint64_t i = 1; i <= words; i++)
        w->bits[(from + i) % REPLAY_WORDS] = 0;
    w->newest = position;
}

/* The verdict on `counter`; REPLAY_OK also marks it as seen. */
static inline enum replay_verdict replay_check_and_update(
    struct replay_window *w, uint64_t counter, uint64_t reject_after)
{
    if (counter >= reject_after)
        return REPLAY_LIMIT;

    const uint64_t position = counter + 1; /* counter < reject_after: no overflow */
    if (position > w->newest)
        replay_advance(w, position);
    else if (w->newest - position > REPLAY_WINDOW)
        return REPLAY_TOO_OLD;

    uint64_t *word = &w->bits[position / 64 % REPLAY_WORDS];
    const uint64_t bit = UINT64_C(1) << position % 64;
    if (*word & bit)
        return REPLAY_DUPLICATE;
    *word |= bit;
    return REPLAY_OK;
}

#endif
