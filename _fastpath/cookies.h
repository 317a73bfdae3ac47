/* SPDX-License-Identifier: MIT
 *
 * Cookie replies (type 3): which are awaited, and whether one is authentic (R47).
 *
 * They carry no mac1: anybody can write one.  The control thread hears only of those
 * that name the latest handshake message sent to a peer, while it is unanswered, and
 * whose tag fits that message's mac1 and the peer's public key; of one for each
 * message.  So neither a flood with random indices nor one with an index that was
 * overheard gets past the worker, and neither keeps the genuine reply out (F35).  Who
 * overheard the message and knows the peer's public key as well can make one that is
 * authentic, as the protocol has it: that message's, no more.
 *
 * A table of chains with one writer, the control thread; workers take no lock.
 * An entry is complete before the release store that links it, and workers follow links
 * with acquire loads.  An entry that is unlinked keeps its own link: who stands on it
 * goes on to what followed, which cannot be freed before the batch ends, because it was
 * retired later still (epoch.h).  An entry is linked before its message is sent, so no
 * genuine reply comes too early.  `taken` is exchanged, so that of workers who have
 * copies of one reply, one hands it on.
 */
#ifndef TUNNEL_COOKIES_H
#define TUNNEL_COOKIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "epoch.h"
#include "packet.h"

#define COOKIE_REPLY_LEN 64
#define COOKIE_BUCKETS 65536u /* by the upper half of the index, touched as used */

struct awaited_cookie {
    _Atomic(struct awaited_cookie *) next;
    uint32_t index;      /* sender index of the message that was sent */
    _Atomic bool taken;  /* its reply is on the way to the control thread */
    uint8_t mac1[16];    /* of that message: the associated data */
    uint8_t key[32];     /* HASH("cookie--" | the peer's public key); no secret */
    struct retired retired;
};

struct awaited_cookies {
    _Atomic(struct awaited_cookie *) *bucket;
};

/* Control thread; the end comes after that of the workers, and of what is in it. */
int cookies_init(struct awaited_cookies *t);
void cookies_finish(struct awaited_cookies *t);
struct awaited_cookie *cookie_await(struct awaited_cookies *t, uint32_t index,
                                    const uint8_t mac1[16], const uint8_t key[32]);
void cookie_forget(struct awaited_cookies *t, struct epoch *e,
                   struct awaited_cookie *c);

/* Worker: DROP_NONE with the entry whose reply this is, taken by the caller, who gives
 * it back if it cannot hand the reply on; DROP_RX_INDEX: none is awaited under this
 * index; DROP_RX_AUTH: one is, but this is not it. */
enum drop_reason cookie_take(struct awaited_cookies *t,
                             const uint8_t reply[COOKIE_REPLY_LEN],
                             struct awaited_cookie **taken);
void cookie_give_back(struct awaited_cookie *c);

#endif
