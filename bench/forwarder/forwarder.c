/* SPDX-License-Identifier: MIT
 *
 * A tunnel without cryptography, as the ceiling for those with it: IP packets of a TUN
 * interface in UDP datagrams as large as WireGuard's, with every offload there is.
 *
 *     forwarder INTERFACE ADDRESS
 *
 * ADDRESS (IPv4) is the other end; both use UDP port 51820.  What the TUN hands over
 * travels in pieces, as one train (pieces.h).  There are no keys, no routes, no replay
 * window and no checks: nobody should use this.
 *
 * One thread serves both directions while there is little to do: an answer is then
 * found at once by the thread that forwarded the question.  When both directions have
 * been busy for BUSY_ROUNDS, a second thread takes over the outbound one, until
 * nothing came for GIVE_BACK_MS.
 */
#define _GNU_SOURCE
#include "pieces.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
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

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define PORT 51820
#define BUFFER_BYTES (7 << 20)
#define ROUNDS 8 /* in each direction before the descriptors are polled */
#define BUSY_ROUNDS 4
#define GIVE_BACK_MS 1

static int take_over, give_back;
static atomic_int helping;

static void stop(const char *what)
{
    perror(what);
    exit(1);
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
