#include "event/key.h"

#include "base/sha256.h"

static void update_sized(struct sha256_ctx *sha, struct lvt_bytes bytes) {
    const unsigned char len[4] = {(unsigned char)(bytes.len >> 24),
                                  (unsigned char)(bytes.len >> 16), (unsigned char)(bytes.len >> 8),
                                  (unsigned char)bytes.len};
    sha256_update(sha, sizeof len, len);
    sha256_update(sha, bytes.len, (const uint8_t *)bytes.data);
}

void lvt_event_key(struct lvt_bytes name, struct lvt_bytes queue, struct lvt_bytes type,
                   struct lvt_bytes id, unsigned char ret_key[LVT_EVENT_KEY_BYTES]) {
    struct sha256_ctx sha;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&sha);
    update_sized(&sha, name);
    update_sized(&sha, queue);
    update_sized(&sha, type);
    update_sized(&sha, id);
    lvt_sha256_digest(&sha, digest);
    memcpy(ret_key, digest, LVT_EVENT_KEY_BYTES);
}

void lvt_sha256_hex(struct lvt_bytes type, struct lvt_bytes body,
                    char ret_hex[2 * SHA256_DIGEST_SIZE + 1]) {
    static const char digits[] = "0123456789abcdef";
    struct sha256_ctx sha;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&sha);
    update_sized(&sha, type);
    sha256_update(&sha, body.len, (const uint8_t *)body.data);
    lvt_sha256_digest(&sha, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[2 * sizeof digest] = '\0';
}
