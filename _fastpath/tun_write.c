/* SPDX-License-Identifier: MIT
 *
 * Packets to the TUN.  A refusal costs at most the packets it concerns.
 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <sys/uio.h>

#define WAIT_TRIES 20 /* of 1 ms, for room in the TUN's queue */

static void wait_for_room(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    poll(&p, 1, 1);
}

/* One write; false with errno set, the device's end noticed. */
static bool tun_writev(struct worker *w, const struct iovec *piece, int pieces)
{
    struct engine *e = w->engine;

    for (int tries = 0; writev(w->lane->tun_fd, piece, pieces) < 0;) {
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN && !w->tun_full && ++tries <= WAIT_TRIES) {
            wait_for_room(w->lane->tun_fd);
            continue;
        }
        w->tun_full = errno == EAGAIN;
        if (errno == EBADFD || errno == EPIPE || errno == ECONNRESET) {
            atomic_store(&e->tun_gone, true);
            engine_signal(e);
        }
        return false; /* EIO: the interface is down */
    }
    w->tun_full = false;
    count_add(&w->counters.tun_writes, 1);
    return true;
}

/* `packet` has VNET_HDR_LEN writable bytes in front of it. */
void tun_write(struct worker *w, uint8_t *packet, uint32_t length)
{
    struct iovec piece = {.iov_base = packet - VNET_HDR_LEN,
                          .iov_len = VNET_HDR_LEN + length};

    memset(packet - VNET_HDR_LEN, 0, VNET_HDR_LEN); /* never an old one (G10) */
    if (tun_writev(w, &piece, 1))
        count_add(&w->counters.tun_written, 1);
    else
        drop(w, DROP_RX_TUN);
}

#define GRO_REFUSALS 3 /* then merging is off (E6) */

void tun_write_merged(struct worker *w, struct gro_item *item)
{
    uint32_t pieces = item->pieces;

    gro_finish(item);
    if (tun_writev(w, item->piece, (int)pieces)) {
        count_add(&w->counters.tun_written, pieces);
    } else if (pieces > 1 && errno == EINVAL) {
        gro_undo(item);
        for (uint32_t i = 0; i < pieces; i++)
            tun_write(w, item->packet[i], gro_piece_length(item, i));
        if (atomic_fetch_add(&w->engine->gro_refused, 1) + 1 >= GRO_REFUSALS)
            w->in.gro.tcp = w->in.gro.udp = false;
    } else {
        count_add(&w->counters.drops[DROP_RX_TUN], pieces);
    }
    item->pieces = 0;
}
