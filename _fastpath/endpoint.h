/* SPDX-License-Identifier: MIT
 *
 * Where a peer is, and our address that it last talked to.
 */
#ifndef TUNNEL_ENDPOINT_H
#define TUNNEL_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

struct path;

/* The source is sticky (R62).  family and source_family are 0 (unknown), 4 or 6;
 * unused bytes are zero, so that endpoints compare with memcmp. */
struct endpoint {
    uint8_t address[16];
    uint8_t source[16];
    uint32_t scope_id;
    uint32_t source_ifindex;
    uint16_t port; /* host order */
    uint8_t family;
    uint8_t source_family;
};

bool endpoint_read(struct path *p, struct endpoint *out); /* false: none known */
void endpoint_write(struct path *p, const struct endpoint *e); /* as configured */
/* After authentication: where the peer is, and the address it talked to unless that is
 * refused.  Returns EVENT_ROAMED if the peer moved, EVENT_SOURCE if the route has to be
 * asked whether it leaves by the source's interface, which is a rule of IPv4 (R62). */
uint32_t endpoint_learn(struct path *p, const struct endpoint *from);
/* The same for the worker, which does not wake anybody with each packet of a peer that
 * comes in by two ways: it says EVENT_SOURCE once until endpoint_questions, and
 * EVENT_ROAMED, which only tells, once a second. */
uint32_t endpoint_meet(struct path *p, const struct endpoint *from, uint64_t now);
/* It may be to blame that the peer does not answer (R20); a refused one stays so. */
void endpoint_clear_source(struct path *p);
/* The sockets or their mark changed: what was found out about sources holds no more. */
void endpoint_forget_source(struct path *p);
/* The route to the peer was asked for.  A bad source is forgotten, and refused as long
 * as the peer stays where it is; a good one is no longer, and remembered again if no
 * other was learned meanwhile.  Nothing happens when e's source is no longer one in
 * question.  True: something changed. */
bool endpoint_judge_source(struct path *p, const struct endpoint *e, bool good);
/* The sources to ask about, remembered and refused; returns how many.  Both can be
 * right at a time: rules may choose the way by the source. */
unsigned endpoint_questions(struct path *p, struct endpoint out[2]);

#endif
