/* SPDX-License-Identifier: MIT
 *
 * Preloaded by test_pump_sends.py: sends that fail as they are told to, and a clock.
 * sends_fail(what, e): from now on messages of that kind fail with errno e; 0: no more
 * sends_refused():     calls of sendmmsg that failed so
 * sends_singly():      calls of sendmsg
 * sends_interface():   which one the last source that was given named
 * sends_clock(ms):     CLOCK_BOOTTIME stands still, but for so much with each look
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { ANY, TRAIN, WITH_SOURCE, KINDS };

static atomic_int fail[KINDS], refused, singly, interface, step = -1;
static atomic_llong looked_at; /* ns */

void sends_fail(int what, int error)
{
    fail[what] = error;
}

int sends_refused(void)
{
    return refused;
}

int sends_singly(void)
{
    return singly;
}

int sends_interface(void)
{
    return interface;
}

void sends_clock(int milliseconds)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    looked_at = now.tv_sec * 1000000000LL + now.tv_nsec;
    step = milliseconds;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    long long ns;

    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    if (clock != CLOCK_BOOTTIME || step < 0)
        return real(clock, now);
    ns = looked_at += step * 1000000LL;
    now->tv_sec = ns / 1000000000;
    now->tv_nsec = ns % 1000000000;
    return 0;
}

/* The errno that the message fails with; 0: none. */
static int fails(struct msghdr *m)
{
    struct in_pktinfo v4;
    struct in6_pktinfo v6;
    int source = 0, train = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            memcpy(&v4, CMSG_DATA(c), sizeof v4);
            interface = v4.ipi_ifindex;
            source = 1;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            memcpy(&v6, CMSG_DATA(c), sizeof v6);
            interface = (int)v6.ipi6_ifindex;
            source = 1;
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == 103) {
            train = 1; /* UDP_SEGMENT */
        }
    if (fail[ANY])
        return fail[ANY];
    if (train && fail[TRAIN])
        return fail[TRAIN];
    return source ? fail[WITH_SOURCE] : 0;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
    static int (*real)(int, struct mmsghdr *, unsigned, int);
    unsigned good = 0;
    int error = 0;

    if (!real)
        real = dlsym(RTLD_NEXT, "sendmmsg");
    while (good < n && !(error = fails(&messages[good].msg_hdr)))
        good++;
    if (good)
        return real(fd, messages, good, flags);
    refused++;
    errno = error;
    return -1;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    static ssize_t (*real)(int, const struct msghdr *, int);
    int error = fails((struct msghdr *)m);

    if (!real)
        real = dlsym(RTLD_NEXT, "sendmsg");
    singly++;
    if (!error)
        return real(fd, m, flags);
    errno = error;
    return -1;
}
