/* SPDX-License-Identifier: MIT
 *
 * Preloaded by test_pump_errors.py: sendmmsg and recvmmsg that misbehave on demand.
 * SHIM_SEND_MOST=n     sends at most n messages per call (R64)
 * SHIM_SEND_ERRNO=e    fails SHIM_SEND_TIMES calls with errno e, every 10th call
 * SHIM_RECV_ERRNO=e    fails every second call with errno e
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

static int number(const char *name)
{
    const char *text = getenv(name);

    return text ? atoi(text) : 0;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
    static int (*real)(int, struct mmsghdr *, unsigned, int);
    static atomic_int calls;
    int most = number("SHIM_SEND_MOST"), error = number("SHIM_SEND_ERRNO");

    if (!real)
        real = dlsym(RTLD_NEXT, "sendmmsg");
    if (error && atomic_fetch_add(&calls, 1) % 10 < number("SHIM_SEND_TIMES")) {
        errno = error;
        return -1;
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
    if (error && atomic_fetch_add(&calls, 1) % 2) {
        errno = error;
        return -1;
    }
    return real(fd, messages, n, flags, timeout);
}
