/* SPDX-License-Identifier: MIT
 *
 * Reading whole sections of the UAPI; see uapi_text.h.
 */
#include "uapi_text.h"

#include <arpa/inet.h>

/* ---- a value is [at, end) */

/* Without a branch, because a preshared key is a secret; `wrong` gets a bit when this
 * is no digit. */
static uint8_t hex_digit(char c, uint8_t *wrong)
{
    uint8_t digit = (uint8_t)(c - '0'), letter = (uint8_t)((c | 32) - 'a');
    uint8_t is_digit = (uint8_t)-(digit < 10), is_letter = (uint8_t)-(letter < 6);
    *wrong |= (uint8_t)~(is_digit | is_letter);
    return (uint8_t)((digit & is_digit) | ((letter + 10) & is_letter));
}

static bool read_key(const char *at, const char *end, uint8_t key[32])
{
    uint8_t wrong = 0;
    if (end - at != 64)
        return false;
    for (int i = 0; i < 32; i++) {
        uint8_t high = hex_digit(at[2 * i], &wrong);
        key[i] = (uint8_t)(high << 4 | hex_digit(at[2 * i + 1], &wrong));
    }
    return !wrong;
}

/* Up to 9 digits, so that nothing overflows. */
static bool read_number(const char *at, const char *end, uint32_t limit, uint32_t *out)
{
    uint32_t number = 0;
    if (at == end || end - at > 9)
        return false;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return false;
        number = number * 10 + (uint32_t)(*at - '0');
    }
    *out = number;
    return number <= limit;
}

/* As inet_pton does it: four numbers without leading zeros. */
static bool read_ipv4(const char *at, const char *end, uint8_t *out)
{
    for (int i = 0; i < 4; i++) {
        const char *start = at;
        uint32_t number;
        while (at < end && *at != '.')
            at++;
        if (at - start > 3 || (at - start > 1 && *start == '0') ||
            !read_number(start, at, 255, &number))
            return false;
        out[i] = (uint8_t)number;
        if ((at < end) != (i < 3))
            return false;
        at++;
    }
    return true;
}

static bool read_ipv6(const char *at, const char *end, uint8_t *out)
{
    char text[INET6_ADDRSTRLEN];
    size_t length = (size_t)(end - at);
    if (length >= sizeof text || memchr(at, 0, length))
        return false;
    memcpy(text, at, length);
    text[length] = 0;
    return inet_pton(AF_INET6, text, out) == 1;
}

/* Returns the size, 0 when it is no address. */
static uint8_t read_address(const char *at, const char *end, uint8_t *out)
{
    if (at == end)
        return 0;
    if (memchr(at, ':', (size_t)(end - at)))
        return read_ipv6(at, end, out) ? 16 : 0;
    return read_ipv4(at, end, out) ? 4 : 0;
}

static void mask(struct uapi_prefix *prefix)
{
    for (unsigned i = prefix->cidr / 8u; i < prefix->size; i++) {
        unsigned keep = i == prefix->cidr / 8u ? prefix->cidr % 8u : 0;
        prefix->address[i] &= (uint8_t)(0xFF00u >> keep);
    }
}

static bool read_prefix(const char *at, const char *end, struct uapi_prefix *prefix)
{
    const char *slash = memchr(at, '/', (size_t)(end - at));
    uint32_t cidr;
    prefix->size = read_address(at, slash ? slash : end, prefix->address);
    if (!prefix->size)
        return false;
    cidr = prefix->size * 8u;
    if (slash && !read_number(slash + 1, end, cidr, &cidr))
        return false;
    prefix->cidr = (uint8_t)cidr;
    mask(prefix);
    return true;
}

/* address:port, [address]:port or [address%number]:port */
static bool read_endpoint(const char *at, const char *end, struct uapi_endpoint *e)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    const char *host_end = end, *percent;
    uint32_t port;
    while (host_end > at && *host_end != ':')
        host_end--;
    if (host_end == at || !read_number(host_end + 1, end, 65535, &port))
        return false;
    e->scope = 0;
    e->port = (uint16_t)port;
    if (*at != '[') {
        e->size = 4;
        return read_ipv4(at, host_end, e->address);
    }
    if (*--host_end != ']' || host_end == at)
        return false;
    at++;
    percent = memchr(at, '%', (size_t)(host_end - at));
    if (percent && !read_number(percent + 1, host_end, UINT32_MAX, &e->scope))
        return false;
    e->size = 16;
    return read_ipv6(at, percent ? percent : host_end, e->address) &&
           memcmp(e->address, mapped, sizeof mapped) != 0;
}

/* ---- lines */

_Static_assert(SECTION_PREFIXES <= 64, "uapi.pyx keeps a bit for each in 64");

#define STARTS(line, end, text)                                    \
    ((size_t)((end) - (line)) >= sizeof(text) - 1 &&               \
     memcmp((line), (text), sizeof(text) - 1) == 0)
#define IS(line, end, text)                                        \
    ((size_t)((end) - (line)) == sizeof(text) - 1 &&               \
     memcmp((line), (text), sizeof(text) - 1) == 0)
#define LENGTH(text) (sizeof(text) - 1)

#define PUBLIC_KEY "public_key="
#define PRESHARED_KEY "preshared_key="
#define ENDPOINT "endpoint="
#define KEEPALIVE "persistent_keepalive_interval="
#define ALLOWED_IP "allowed_ip="

/* One line after the first, without its end.  False: the section is another one. */
static bool section_line(const char *line, const char *end, struct uapi_section *s)
{
    if (STARTS(line, end, ALLOWED_IP)) {
        if (!s->replaces || s->prefix_count == SECTION_PREFIXES)
            return false;
        line += LENGTH(ALLOWED_IP);
        return read_prefix(line, end, &s->prefix[s->prefix_count++]);
    }
    if (IS(line, end, "replace_allowed_ips=true")) {
        bool again = s->replaces;
        s->replaces = true;
        return !again;
    }
    if (STARTS(line, end, PRESHARED_KEY)) {
        s->has_preshared_key = true;
        return read_key(line + LENGTH(PRESHARED_KEY), end, s->preshared_key);
    }
    if (STARTS(line, end, ENDPOINT))
        return read_endpoint(line + LENGTH(ENDPOINT), end, &s->endpoint);
    if (STARTS(line, end, KEEPALIVE)) {
        s->has_keepalive = true;
        return read_number(line + LENGTH(KEEPALIVE), end, 65535, &s->keepalive);
    }
    return IS(line, end, "protocol_version=1") || IS(line, end, "update_only=true");
}

enum section_verdict section_read(const char *at, const char *end,
                                  struct uapi_section *s, const char **next)
{
    const char *line_end;
    s->endpoint.size = 0;
    s->has_preshared_key = s->has_keepalive = s->replaces = false;
    s->prefix_count = 0;
    for (bool first = true;; first = false) {
        if (!first && at < end && (*at == '\n' || STARTS(at, end, PUBLIC_KEY))) {
            *next = at;
            return s->replaces ? SECTION_PLAIN : SECTION_OTHER;
        }
        line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end)
            return SECTION_CUT;
        if (first) {
            if (!STARTS(at, line_end, PUBLIC_KEY) ||
                !read_key(at + LENGTH(PUBLIC_KEY), line_end, s->key))
                return SECTION_OTHER;
        } else if (!section_line(at, line_end, s)) {
            return SECTION_OTHER;
        }
        at = line_end + 1;
    }
}
