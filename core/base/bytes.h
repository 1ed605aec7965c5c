/* A run of bytes that somebody else owns. Not NUL-terminated unless the field's comment says so. */
#ifndef LEVERET_BASE_BYTES_H
#define LEVERET_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct lvt_bytes {
    const char *data;
    size_t len;
};

#define LVT_LITERAL(s) ((struct lvt_bytes){(s), sizeof(s) - 1})

static inline struct lvt_bytes lvt_bytes(const char *data, size_t len) {
    return (struct lvt_bytes){data, len};
}

/* A NULL string is an empty run. */
static inline struct lvt_bytes lvt_bytes_of(const char *text) {
    return (struct lvt_bytes){text, text ? strlen(text) : 0};
}

static inline bool lvt_bytes_equal(struct lvt_bytes a, struct lvt_bytes b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool lvt_bytes_is(struct lvt_bytes a, const char *text) {
    return lvt_bytes_equal(a, lvt_bytes_of(text));
}

/* For hash tables (FNV-1a). Not against those who choose their bytes to collide. */
static inline uint32_t lvt_bytes_hash(struct lvt_bytes bytes) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < bytes.len; i++)
        hash = (hash ^ (unsigned char)bytes.data[i]) * 16777619u;
    return hash;
}

#endif
