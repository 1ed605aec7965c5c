/* SHA-256 (FIPS 180-4). */
#ifndef LEVERET_BASE_SHA256_H
#define LEVERET_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define LVT_SHA256_BYTES 32

struct lvt_sha256 {
    uint32_t state[8];
    uint64_t len; /* of all input so far, in bytes */
    unsigned char block[64];
};

void lvt_sha256_init(struct lvt_sha256 *sha);
void lvt_sha256_update(struct lvt_sha256 *sha, const void *data, size_t len);
/* The struct holds nothing of use afterwards. */
void lvt_sha256_final(struct lvt_sha256 *sha, unsigned char ret_digest[LVT_SHA256_BYTES]);

#endif
