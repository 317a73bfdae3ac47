/* SPDX-License-Identifier: MIT
 *
 * Text of the WireGuard UAPI to and from packed values.
 *
 * Writing: a put_ function writes at `out` and returns the place after what it wrote;
 * the caller has made room (the *_MAX below).  No NUL is written.
 *
 * Reading is strict on purpose.  It knows the one form in which `wg` writes a value and
 * calls everything else SECTION_OTHER, be it wrong or only unusual: the parser in
 * uapi_parse.py decides about that.  What is read here means the same there.
 */
#ifndef TUNNEL_UAPI_TEXT_H
#define TUNNEL_UAPI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    UAPI_PEER_MAX = 512,    /* bytes of a peer's lines without its allowed IPs */
    UAPI_PREFIX_MAX = 72,   /* bytes of one allowed_ip= line */
    SECTION_PREFIXES = 64,  /* a section with more of them is SECTION_OTHER */
};

struct uapi_prefix {
    uint8_t address[16];
    uint8_t size;           /* 4 or 16 */
    uint8_t cidr;           /* the bits after it are zero in the address */
};

struct uapi_endpoint {
    uint8_t address[16];
    uint32_t scope;
    uint16_t port;
    uint8_t size;           /* 4 or 16; 0: there is none */
};

/* One `public_key=` section that describes a whole peer: replace_allowed_ips=true once,
 * then nothing but prefixes to add. */
struct uapi_section {
    uint8_t key[32];
    uint8_t preshared_key[32];
    struct uapi_endpoint endpoint;
    uint32_t keepalive;     /* seconds */
    bool has_preshared_key;
    bool has_keepalive;
    bool replaces;
    uint32_t prefix_count;
    struct uapi_prefix prefix[SECTION_PREFIXES];
};

enum section_verdict {
    SECTION_PLAIN,          /* read; `next` is where the one after it starts */
    SECTION_OTHER,          /* not of this form */
    SECTION_CUT,            /* its end has not arrived yet */
};

/* ---- writing (uapi_write.c) */

static inline char *put_text(char *out, const char *text)
{
    size_t length = strlen(text);
    memcpy(out, text, length);
    return out + length;
}

char *put_number(char *out, uint64_t number);
char *put_hex(char *out, const uint8_t *bytes, size_t n);
char *put_prefix(char *out, const struct uapi_prefix *prefix);
char *put_endpoint(char *out, const struct uapi_endpoint *endpoint);

/* ---- reading (uapi_read.c) */

/* Reads the section that starts at `at`.  It ends where a line is empty or starts with
 * public_key=, so that line must have begun before `end`. */
enum section_verdict section_read(const char *at, const char *end,
                                  struct uapi_section *s, const char **next);

#endif
