/* SPDX-License-Identifier: MIT
 *
 * UDP datagrams at a steady rate, in bursts every 200 us, and what arrives of them.
 *
 *     rate send ADDRESS PORT BYTES RATE MILLISECONDS
 *     rate receive PORT
 *
 * The sender prints "sent N in NANOSECONDS refused N".  What it is late for, because it
 * was not given the CPU, is left out and never made good by a larger burst.  The
 * receiver prints "ready", counts until SIGTERM and a silence, then "received N".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#define GROUP 64
#define BYTES_MAX 2048
#define BURST_NS 200000
#define SILENCE_US 150000
#define BUFFER_BYTES (16 << 20)
#define SECOND INT64_C(1000000000)

static uint8_t data[GROUP][BYTES_MAX];
static struct iovec part[GROUP];
static struct mmsghdr message[GROUP];
static volatile sig_atomic_t asked;

static void stop(const char *what)
{
    perror(what);
    exit(1);
}

static void describe(size_t bytes)
{
    for (int i = 0; i < GROUP; i++) {
        part[i] = (struct iovec){data[i], bytes};
        message[i].msg_hdr.msg_iov = &part[i];
        message[i].msg_hdr.msg_iovlen = 1;
    }
}

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void sleep_until(int64_t when)
{
    const struct timespec t = {when / SECOND, when % SECOND};

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* How many of `count` the kernel took. */
static int64_t send_burst(int to, int64_t count)
{
    int64_t taken = 0;

    while (count > 0) {
        const int group = count < GROUP ? (int)count : GROUP;
        const int done = sendmmsg(to, message, group, 0);
        taken += done > 0 ? done : 0;
        count -= done > 0 ? done : group;
    }
    return taken;
}

static int send_paced(char **argv)
{
    const size_t bytes = strtoul(argv[2], NULL, 10);
    const int64_t rate = atoll(argv[3]), span = atoll(argv[4]) * 1000000;
    struct sockaddr_in address = {.sin_family = AF_INET};
    const int to = socket(AF_INET, SOCK_DGRAM, 0), buffer = BUFFER_BYTES;
    int64_t sent = 0, offered = 0, asked_for = 0, tick = 0;

    address.sin_port = htons((uint16_t)atoi(argv[1]));
    if (inet_pton(AF_INET, argv[0], &address.sin_addr) != 1 || bytes > BYTES_MAX)
        return 2;
    if (to < 0 || connect(to, (struct sockaddr *)&address, sizeof address))
        stop("connect");
    setsockopt(to, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    prctl(PR_SET_TIMERSLACK, 1);
    describe(bytes);
    const int64_t start = now();
    while (tick * BURST_NS < span) {
        const int64_t due = (tick + 1) * BURST_NS * rate / SECOND - asked_for;
        asked_for += due;
        offered += due;
        sent += send_burst(to, due);
        sleep_until(start + ++tick * BURST_NS);
        const int64_t late = (now() - start) / BURST_NS - tick;
        if (late > 0) {
            tick += late;
            asked_for = tick * BURST_NS * rate / SECOND;
        }
    }
    printf("sent %lld in %lld refused %lld\n", (long long)sent,
           (long long)(now() - start), (long long)(offered - sent));
    return 0;
}

static void ask(int number)
{
    (void)number;
    asked = 1;
}

static int receive_all(char **argv)
{
    const struct sigaction action = {.sa_handler = ask};
    const struct timeval silence = {0, SILENCE_US};
    const int from = socket(AF_INET, SOCK_DGRAM, 0), buffer = BUFFER_BYTES;
    struct sockaddr_in address = {.sin_family = AF_INET};
    long long received = 0;

    address.sin_port = htons((uint16_t)atoi(argv[0]));
    if (from < 0 || bind(from, (struct sockaddr *)&address, sizeof address))
        stop("bind");
    setsockopt(from, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    setsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    sigaction(SIGTERM, &action, NULL);
    describe(BYTES_MAX);
    puts("ready");
    fflush(stdout);
    for (;;) {
        const int got = recvmmsg(from, message, GROUP, MSG_WAITFORONE, NULL);
        if (got > 0)
            received += got;
        else if (asked && errno == EAGAIN)
            break;
        else if (errno != EINTR && errno != EAGAIN)
            stop("recvmmsg");
    }
    printf("received %lld\n", received);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 7 && !strcmp(argv[1], "send"))
        return send_paced(argv + 2);
    if (argc == 3 && !strcmp(argv[1], "receive"))
        return receive_all(argv + 2);
    fputs("usage: rate send ADDRESS PORT BYTES RATE MS | rate receive PORT\n", stderr);
    return 2;
}
