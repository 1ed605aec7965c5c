#include "event/key.h"

static void update_sized(struct lvt_sha256 *sha, struct lvt_bytes bytes) {
    const unsigned char len[4] = {(unsigned char)(bytes.len >> 24),
                                  (unsigned char)(bytes.len >> 16), (unsigned char)(bytes.len >> 8),
                                  (unsigned char)bytes.len};
    lvt_sha256_update(sha, len, sizeof len);
    lvt_sha256_update(sha, bytes.data, bytes.len);
}

void lvt_event_key(struct lvt_bytes name, struct lvt_bytes queue, struct lvt_bytes type,
                   struct lvt_bytes id, unsigned char ret_key[LVT_EVENT_KEY_BYTES]) {
    struct lvt_sha256 sha;
    unsigned char digest[LVT_SHA256_BYTES];
    lvt_sha256_init(&sha);
    update_sized(&sha, name);
    update_sized(&sha, queue);
    update_sized(&sha, type);
    update_sized(&sha, id);
    lvt_sha256_final(&sha, digest);
    memcpy(ret_key, digest, LVT_EVENT_KEY_BYTES);
}

void lvt_sha256_hex(struct lvt_bytes type, struct lvt_bytes body,
                    char ret_hex[2 * LVT_SHA256_BYTES + 1]) {
    static const char digits[] = "0123456789abcdef";
    struct lvt_sha256 sha;
    unsigned char digest[LVT_SHA256_BYTES];
    lvt_sha256_init(&sha);
    update_sized(&sha, type);
    lvt_sha256_update(&sha, body.data, body.len);
    lvt_sha256_final(&sha, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[2 * sizeof digest] = '\0';
}
