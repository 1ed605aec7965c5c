/* HMAC-SHA256 (RFC 2104), and the header that carries it. */
#ifndef LEVERET_PLUGINS_WEBHOOK_SIGNATURE_H
#define LEVERET_PLUGINS_WEBHOOK_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha256.h"

/* "t=1732202280,v1=" and 64 hexadecimal digits. */
#define SIGNATURE_BYTES 128

struct hmac {
    struct lvt_sha256 inner, outer;
};

/* With the key taken in; copies of it serve for any number of messages. */
void hmac_init(struct hmac *hmac, const void *key, size_t len);
void hmac_update(struct hmac *hmac, const void *data, size_t len);
void hmac_final(struct hmac *hmac, unsigned char ret_digest[LVT_SHA256_BYTES]);

/* The header's value: the HMAC of the time in seconds since 1970, a dot and the body. */
void signature_write(const struct hmac *key, int64_t time_s, const char *body, size_t len,
                     char ret_value[SIGNATURE_BYTES]);

#endif
