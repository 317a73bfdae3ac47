/* SPDX-License-Identifier: MIT
 *
 * See pieces.h.
 */
#define _GNU_SOURCE
#include "pieces.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WRITE_MAX (10 + 65535) /* a virtio header and a packet */
#define HEADER 32              /* as many bytes as WireGuard adds */
#define PIECE 1420
#define TRAIN_FRAMES 44 /* of HEADER + PIECE bytes: less than a UDP datagram's 65507 */

int tun, udp;
struct sockaddr_in other;

/* In front of each piece of what was read from the TUN. */
struct frame {
    uint32_t total, offset;
    uint8_t rest[HEADER - 8];
};

/* Datagrams of one size, the last may be shorter. */
struct train {
    size_t used, stride, frames;
    int closed;
    uint8_t data[TRAIN_FRAMES * (HEADER + PIECE)];
};

/* ---- TUN to UDP */

static void send_train(struct train *t)
{
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec part = {t->data, t->used};
    struct msghdr m = {.msg_name = &other, .msg_namelen = sizeof other};

    m.msg_iov = &part;
    m.msg_iovlen = 1;
    if (t->frames > 1) {
        const uint16_t size = (uint16_t)t->stride;
        m.msg_control = control;
        m.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(c), &size, sizeof size);
    }
    if (t->frames > 0)
        (void)!sendmsg(udp, &m, 0); /* what is refused is lost */
    t->used = t->frames = 0;
    t->closed = 0;
}

static void add_piece(struct train *t, const uint8_t *data, struct frame frame,
                      size_t bytes)
{
    const size_t size = HEADER + bytes;

    if (t->frames == TRAIN_FRAMES || t->closed || (t->frames && size > t->stride))
        send_train(t);
    if (t->frames == 0)
        t->stride = size;
    memcpy(t->data + t->used, &frame, HEADER);
    memcpy(t->data + t->used + HEADER, data, bytes);
    t->used += size;
    t->frames++;
    t->closed = size < t->stride;
}

int outbound(void)
{
    static uint8_t packet[WRITE_MAX];
    static struct train train;
    int found = 0;

    while (found < TRAIN_FRAMES) {
        const ssize_t got = read(tun, packet, sizeof packet);
        if (got <= 0)
            break;
        found++;
        for (size_t at = 0, bytes; at < (size_t)got; at += bytes) {
            bytes = (size_t)got - at < PIECE ? (size_t)got - at : PIECE;
            add_piece(&train, packet + at, (struct frame){(uint32_t)got, at, {0}},
                      bytes);
        }
    }
    send_train(&train);
    return found > 0;
}

/* ---- UDP to TUN */

/* A packet that comes in pieces. */
static void take_piece(const uint8_t *data, size_t bytes)
{
    static uint8_t packet[WRITE_MAX];
    static size_t have, want;
    struct frame frame;

    if (bytes < HEADER)
        return;
    memcpy(&frame, data, sizeof frame);
    bytes -= HEADER;
    if (frame.offset == 0) {
        have = 0;
        want = frame.total;
    }
    if (frame.offset != have || frame.total != want || want > sizeof packet ||
        bytes > want - have) {
        have = want = 0;
        return;
    }
    memcpy(packet + have, data + HEADER, bytes);
    have += bytes;
    if (have == want) {
        (void)!write(tun, packet, want); /* what is refused is lost */
        have = want = 0;
    }
}

static size_t segment_size(struct msghdr *m, size_t all)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            return size > 0 ? (size_t)size : all;
        }
    }
    return all;
}

int inbound(void)
{
    static uint8_t data[65536];
    char control[64];
    struct iovec part = {data, sizeof data};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};

    m.msg_controllen = sizeof control;
    const ssize_t got = recvmsg(udp, &m, MSG_DONTWAIT);
    if (got <= 0)
        return 0;
    const size_t all = (size_t)got, size = segment_size(&m, all);
    for (size_t at = 0; at < all; at += size)
        take_piece(data + at, all - at < size ? all - at : size);
    return 1;
}
