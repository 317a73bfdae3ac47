/* SPDX-License-Identifier: MIT
 *
 * Preloaded by test_scarce_memory.py: memory of a thread that runs out on demand.
 * scarce_after(n, times)  the next n requests succeed, `times` after them fail
 * scarce_end()            all succeed again; how many have failed
 * scarce_live()           blocks that are allocated and not freed, of all threads
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static _Thread_local long left, failing, failed;
static atomic_long live;

void scarce_after(long n, long times)
{
    left = n;
    failing = times;
    failed = 0;
}

long scarce_end(void)
{
    failing = 0;
    return failed;
}

long scarce_live(void)
{
    return live;
}

static int refused(void)
{
    if (!failing)
        return 0;
    if (left > 0) {
        left--;
        return 0;
    }
    failing--;
    failed++;
    errno = ENOMEM;
    return 1;
}

static void *counted(void *block)
{
    if (block)
        live++;
    return block;
}

void *malloc(size_t size)
{
    return refused() ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    return refused() ? NULL : counted(__libc_calloc(n, size));
}

void *realloc(void *block, size_t size)
{
    if (refused())
        return NULL;
    return block ? __libc_realloc(block, size) : counted(__libc_malloc(size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return refused() ? NULL : counted(__libc_memalign(alignment, size));
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    if (refused())
        return ENOMEM;
    *block = counted(__libc_memalign(alignment, size));
    return *block ? 0 : ENOMEM;
}

void free(void *block)
{
    if (block)
        live--;
    __libc_free(block);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    return refused() ? MAP_FAILED : real(at, size, protection, flags, fd, offset);
}
