#include "signature.h"

#include <inttypes.h>
#include <nettle/version.h>
#include <stdio.h>

/* Leaves the context as it was before its first update. */
static void digest_of(struct hmac_sha256_ctx *hmac, uint8_t ret_digest[SHA256_DIGEST_SIZE]) {
#if NETTLE_VERSION_MAJOR >= 4
    hmac_sha256_digest(hmac, ret_digest);
#else
    hmac_sha256_digest(hmac, SHA256_DIGEST_SIZE, ret_digest);
#endif
}

void signature_write(const struct hmac_sha256_ctx *key, int64_t time_s, const char *body,
                     size_t len, char ret_value[SIGNATURE_BYTES]) {
    struct hmac_sha256_ctx hmac = *key;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char time[32];
    int time_len = snprintf(time, sizeof time, "%" PRId64 ".", time_s);
    hmac_sha256_update(&hmac, (size_t)time_len, (const uint8_t *)time);
    hmac_sha256_update(&hmac, len, (const uint8_t *)body);
    digest_of(&hmac, digest);
    int at = snprintf(ret_value, SIGNATURE_BYTES, "t=%" PRId64 ",v1=", time_s);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++)
        at += snprintf(ret_value + at, SIGNATURE_BYTES - (size_t)at, "%02x", digest[i]);
}
