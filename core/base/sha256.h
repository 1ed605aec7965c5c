/* SHA-256 (FIPS 180-4) is nettle's: it uses the processor's own instructions, allocates nothing and
 * cannot fail. This bridges what nettle 4 changed. */
#ifndef LEVERET_BASE_SHA256_H
#define LEVERET_BASE_SHA256_H

#include <nettle/sha2.h>
#include <nettle/version.h>

/* Ends the computation: the context is as new afterwards. */
static inline void lvt_sha256_digest(struct sha256_ctx *sha,
                                     unsigned char ret_digest[SHA256_DIGEST_SIZE]) {
#if NETTLE_VERSION_MAJOR >= 4
    sha256_digest(sha, ret_digest);
#else
    sha256_digest(sha, SHA256_DIGEST_SIZE, ret_digest);
#endif
}

#endif
