/* SPDX-License-Identifier: MIT
 *
 * A tunnel without cryptography, as the ceiling for those with it: IP packets of a TUN
 * interface in UDP datagrams as large as WireGuard's, with every offload there is.
 *
 *     forwarder INTERFACE ADDRESS
 *
 * ADDRESS (IPv4) is the other end; both use UDP port 51820.  What the TUN hands over,
 * up to 64 KB of TCP at once, is cut into equal pieces that travel as one train
 * (UDP_SEGMENT); the other end puts it together again and writes it as it was.  There
 * are no keys, no routes, no replay window and no checks: nobody should use this.
 *
 * One thread serves both directions while there is little to do: an answer is then
 * found at once by the thread that forwarded the question.  When both directions have
 * been busy for BUSY_ROUNDS, a second thread takes over the outbound one, until
 * nothing came for GIVE_BACK_MS.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define PORT 51820
#define BUFFER_BYTES (7 << 20)
#define WRITE_MAX (10 + 65535) /* a virtio header and a packet */
#define HEADER 32              /* as many bytes as WireGuard adds */
#define PIECE 1420
#define TRAIN_FRAMES 44 /* of HEADER + PIECE bytes: less than a UDP datagram's 65507 */
#define ROUNDS 8        /* in each direction before the descriptors are polled */
#define BUSY_ROUNDS 4
#define GIVE_BACK_MS 1

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

static int tun, udp, take_over, give_back;
static atomic_int helping;
static struct sockaddr_in other;

static void stop(const char *what)
{
    perror(what);
    exit(1);
}

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

/* Everything that waits, up to a number of reads; 0 when there was nothing. */
static int outbound(void)
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

/* One message of the socket; 0 when there was none. */
static int inbound(void)
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

/* ---- who does what */

static void *helper(void *unused)
{
    uint64_t count;

    (void)unused;
    while (read(take_over, &count, sizeof count) == sizeof count) {
        struct pollfd ready = {tun, POLLIN, 0};
        do {
            while (outbound())
                continue;
        } while (poll(&ready, 1, GIVE_BACK_MS) != 0);
        atomic_store(&helping, 0);
        if (eventfd_write(give_back, 1))
            stop("eventfd");
    }
    return NULL;
}

static void wait_for_work(void)
{
    struct pollfd ready[] = {
        {udp, POLLIN, 0}, {give_back, POLLIN, 0}, {tun, POLLIN, 0}};
    eventfd_t count;

    poll(ready, atomic_load(&helping) ? 2 : 3, -1);
    if (ready[1].revents & POLLIN)
        eventfd_read(give_back, &count);
}

static void serve(void)
{
    int busy = 0;

    for (;;) {
        const int alone = !atomic_load(&helping);
        int in = 0, out = 0;
        for (int i = 0; i < ROUNDS; i++) {
            const int received = inbound(), sent = alone && outbound();
            in |= received;
            out |= sent;
            if (!received && !sent)
                break;
        }
        busy = in && out ? busy + 1 : 0;
        if (busy >= BUSY_ROUNDS) {
            busy = 0;
            atomic_store(&helping, 1);
            if (eventfd_write(take_over, 1))
                stop("eventfd");
        }
        if (!in && !out)
            wait_for_work();
    }
}

/* ---- set-up */

static void open_tun(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    const unsigned tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;

    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request))
        stop("/dev/net/tun");
    if (ioctl(tun, TUNSETOFFLOAD, tcp | TUN_F_USO4 | TUN_F_USO6) &&
        ioctl(tun, TUNSETOFFLOAD, tcp))
        stop("TUNSETOFFLOAD");
}

static void open_udp(const char *address)
{
    const struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    const int yes = 1, buffer = BUFFER_BYTES;

    other = own;
    if (inet_pton(AF_INET, address, &other.sin_addr) != 1)
        stop(address);
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0 || bind(udp, (const struct sockaddr *)&own, sizeof own))
        stop("bind");
    if (setsockopt(udp, SOL_UDP, UDP_GRO, &yes, sizeof yes))
        stop("UDP_GRO");
    setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
}

int main(int argc, char **argv)
{
    pthread_t thread;

    if (argc != 3) {
        fputs("usage: forwarder INTERFACE ADDRESS\n", stderr);
        return 2;
    }
    open_tun(argv[1]);
    open_udp(argv[2]);
    take_over = eventfd(0, 0);
    give_back = eventfd(0, EFD_NONBLOCK);
    if (pthread_create(&thread, NULL, helper, NULL))
        stop("pthread_create");
    serve();
}
