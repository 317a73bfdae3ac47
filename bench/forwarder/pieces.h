/* SPDX-License-Identifier: MIT
 *
 * What the TUN hands over, up to 64 KB at once, is cut into equal pieces that travel as
 * one train; the other end puts it together again and writes it as it was.
 */
#ifndef FORWARDER_PIECES_H
#define FORWARDER_PIECES_H

#include <netinet/in.h>
#include <netinet/udp.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

extern int tun, udp; /* both give what is there, and do not wait */
extern struct sockaddr_in other;

/* Everything that waits, up to a number of reads; 0 when there was nothing. */
int outbound(void);
/* One message of the socket; 0 when there was none. */
int inbound(void);

#endif
