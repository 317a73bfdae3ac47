/* SPDX-License-Identifier: MIT
 *
 * Preloaded by test_pump_errors.py: sendmmsg and recvmmsg that misbehave on demand.
 * SHIM_SEND_MOST=n     sends at most n messages per call (R64)
 * SHIM_SEND_MS=n       takes n ms for each call
 * SHIM_SEND_ERRNO=e    fails SHIM_SEND_TIMES calls with errno e, every 10th call
 * SHIM_GSO_ERRNO=e     fails every message that asks for UDP_SEGMENT with errno e,
 * SHIM_GSO_FROM=n      if its datagrams have n bytes or more
 * SHIM_RECV_ERRNO=e    fails every second call with errno e
 * SHIM_READV_ERRNO=e   fails every SHIM_READV_EVERY-th readv that would find a packet,
 *                      which is lost, with errno e
 * SHIM_CLOCK_STANDS=1  CLOCK_BOOTTIME stands still: no wait is too long
 * shim_refused() is how often it refused UDP_SEGMENT, shim_receives() how often
 * recvmmsg was called, shim_later(s) sets CLOCK_BOOTTIME forward by s seconds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_int refused, receives, ahead;

int shim_refused(void)
{
    return refused;
}

int shim_receives(void)
{
    return receives;
}

void shim_later(int seconds)
{
    ahead += seconds;
}

static int number(const char *name)
{
    const char *text = getenv(name);

    return text ? atoi(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    int result;

    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    result = real(clock, now);
    if (clock != CLOCK_BOOTTIME)
        return result;
    if (number("SHIM_CLOCK_STANDS"))
        *now = (struct timespec){.tv_sec = 1000000};
    now->tv_sec += ahead;
    return result;
}

/* A train of datagrams that are too long. */
static int is_train(struct msghdr *m)
{
    uint16_t size;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == 17 && c->cmsg_type == 103) {
            memcpy(&size, CMSG_DATA(c), sizeof size);
            return size >= number("SHIM_GSO_FROM");
        }
    return 0;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
    static int (*real)(int, struct mmsghdr *, unsigned, int);
    static atomic_int calls;
    int most = number("SHIM_SEND_MOST"), error = number("SHIM_SEND_ERRNO");

    if (!real)
        real = dlsym(RTLD_NEXT, "sendmmsg");
    usleep(1000 * (useconds_t)number("SHIM_SEND_MS"));
    if (error && atomic_fetch_add(&calls, 1) % 10 < number("SHIM_SEND_TIMES")) {
        errno = error;
        return -1;
    }
    if (number("SHIM_GSO_ERRNO")) {
        unsigned plain = 0;
        while (plain < n && !is_train(&messages[plain].msg_hdr))
            plain++;
        if (!plain) {
            refused++;
            errno = number("SHIM_GSO_ERRNO");
            return -1;
        }
        n = plain;
    }
    return real(fd, messages, most && n > (unsigned)most ? (unsigned)most : n, flags);
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags,
             struct timespec *timeout)
{
    static int (*real)(int, struct mmsghdr *, unsigned, int, struct timespec *);
    static atomic_int calls;
    int error = number("SHIM_RECV_ERRNO");

    if (!real)
        real = dlsym(RTLD_NEXT, "recvmmsg");
    receives++;
    if (error && atomic_fetch_add(&calls, 1) % 2) {
        errno = error;
        return -1;
    }
    return real(fd, messages, n, flags, timeout);
}

ssize_t readv(int fd, const struct iovec *piece, int n)
{
    static ssize_t (*real)(int, const struct iovec *, int);
    static atomic_int found;
    int error = number("SHIM_READV_ERRNO");
    ssize_t result;

    if (!real)
        real = dlsym(RTLD_NEXT, "readv");
    result = real(fd, piece, n);
    if (error && result > 0 && ++found % number("SHIM_READV_EVERY") == 0) {
        errno = error;
        return -1;
    }
    return result;
}
