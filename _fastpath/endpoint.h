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
void endpoint_clear_source(struct path *p);
/* The route to the peer was asked for.  A bad source is forgotten, and refused as long
 * as the peer stays where it is; a good one may be learned again.  Nothing happens when
 * e's source is no longer the one in question.  True: something changed. */
bool endpoint_judge_source(struct path *p, const struct endpoint *e, bool good);
/* The source to ask about: that of the endpoint, else the refused one.  False: none. */
bool endpoint_question(struct path *p, struct endpoint *out);

#endif
