/* The header that carries a body's HMAC-SHA256. */
#ifndef LEVERET_PLUGINS_WEBHOOK_SIGNATURE_H
#define LEVERET_PLUGINS_WEBHOOK_SIGNATURE_H

#include <nettle/hmac.h>
#include <stddef.h>
#include <stdint.h>

/* "t=1732202280,v1=" and 64 hexadecimal digits. */
#define SIGNATURE_BYTES 128

/* The header's value: the HMAC of the time in seconds since 1970, a dot and the body. The key's
 * context serves for any number of messages. */
void signature_write(const struct hmac_sha256_ctx *key, int64_t time_s, const char *body,
                     size_t len, char ret_value[SIGNATURE_BYTES]);

#endif
