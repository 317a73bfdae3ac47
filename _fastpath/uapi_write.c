/* SPDX-License-Identifier: MIT
 *
 * Writing values of the UAPI; see uapi_text.h.
 */
#include "uapi_text.h"

#include <arpa/inet.h>

char *put_number(char *out, uint64_t number)
{
    char digits[20];
    size_t n = 0;
    do {
        digits[sizeof digits - ++n] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    memcpy(out, digits + sizeof digits - n, n);
    return out + n;
}

char *put_hex(char *out, const uint8_t *bytes, size_t n)
{
    static const char digit[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digit[bytes[i] >> 4];
        *out++ = digit[bytes[i] & 15];
    }
    return out;
}

static char *put_address(char *out, const uint8_t *address, uint8_t size)
{
    if (size == 16) {
        inet_ntop(AF_INET6, address, out, INET6_ADDRSTRLEN);
        return out + strlen(out);
    }
    for (int i = 0; i < 4; i++) {
        out = put_number(out, address[i]);
        *out++ = '.';
    }
    return out - 1;
}

char *put_prefix(char *out, const struct uapi_prefix *prefix)
{
    out = put_address(out, prefix->address, prefix->size);
    *out++ = '/';
    return put_number(out, prefix->cidr);
}

char *put_endpoint(char *out, const struct uapi_endpoint *endpoint)
{
    bool brackets = endpoint->size == 16;
    if (brackets)
        *out++ = '[';
    out = put_address(out, endpoint->address, endpoint->size);
    if (brackets && endpoint->scope) {
        *out++ = '%';
        out = put_number(out, endpoint->scope);
    }
    if (brackets)
        *out++ = ']';
    *out++ = ':';
    return put_number(out, endpoint->port);
}
