#include "signature.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_BYTES 64

void hmac_init(struct hmac *hmac, const void *key, size_t len) {
    unsigned char block[BLOCK_BYTES] = {0};
    lvt_sha256_init(&hmac->inner);
    lvt_sha256_init(&hmac->outer);
    if (len > sizeof block) {
        struct lvt_sha256 sha;
        lvt_sha256_init(&sha);
        lvt_sha256_update(&sha, key, len);
        lvt_sha256_final(&sha, block);
    } else if (len > 0) {
        memcpy(block, key, len);
    }
    for (int i = 0; i < BLOCK_BYTES; i++)
        block[i] ^= 0x36;
    lvt_sha256_update(&hmac->inner, block, sizeof block);
    for (int i = 0; i < BLOCK_BYTES; i++)
        block[i] ^= 0x36 ^ 0x5c;
    lvt_sha256_update(&hmac->outer, block, sizeof block);
    explicit_bzero(block, sizeof block);
}

void hmac_update(struct hmac *hmac, const void *data, size_t len) {
    lvt_sha256_update(&hmac->inner, data, len);
}

void hmac_final(struct hmac *hmac, unsigned char ret_digest[LVT_SHA256_BYTES]) {
    unsigned char inner[LVT_SHA256_BYTES];
    lvt_sha256_final(&hmac->inner, inner);
    lvt_sha256_update(&hmac->outer, inner, sizeof inner);
    lvt_sha256_final(&hmac->outer, ret_digest);
}

void signature_write(const struct hmac *key, int64_t time_s, const char *body, size_t len,
                     char ret_value[SIGNATURE_BYTES]) {
    struct hmac hmac = *key;
    unsigned char digest[LVT_SHA256_BYTES];
    char time[32];
    int time_len = snprintf(time, sizeof time, "%" PRId64 ".", time_s);
    hmac_update(&hmac, time, (size_t)time_len);
    hmac_update(&hmac, body, len);
    hmac_final(&hmac, digest);
    int at = snprintf(ret_value, SIGNATURE_BYTES, "t=%" PRId64 ",v1=", time_s);
    for (int i = 0; i < LVT_SHA256_BYTES; i++)
        at += snprintf(ret_value + at, SIGNATURE_BYTES - (size_t)at, "%02x", digest[i]);
}
