/* A text that grows, for plugins that write JSON. */
#ifndef LEVERET_PLUGINS_JSON_TEXT_H
#define LEVERET_PLUGINS_JSON_TEXT_H

#include <stdlib.h>
#include <string.h>

#include <leveret/plugin.h>

struct json_text {
    char *data; /* the owner's, for free */
    size_t len, size;
    bool failed; /* out of memory: what follows is left out */
};

/* Room for `more` bytes and a NUL behind the text. */
static inline bool json_text_reserve(struct json_text *text, size_t more) {
    if (text->failed || text->size - text->len > more)
        return !text->failed;
    size_t size = text->size ? text->size : 1024;
    while (size - text->len <= more)
        size *= 2;
    char *grown = realloc(text->data, size);
    text->failed = !grown;
    if (grown) {
        text->data = grown;
        text->size = size;
    }
    return grown;
}

static inline void json_text_append(struct json_text *text, struct leveret_text bytes) {
    if (bytes.len == 0 || !json_text_reserve(text, bytes.len))
        return;
    memcpy(text->data + text->len, bytes.data, bytes.len);
    text->len += bytes.len;
}

static inline void json_text_add(struct json_text *text, const char *string) {
    json_text_append(text, leveret_text_of(string));
}

/* The bytes as a JSON string. */
static inline void json_text_quote(struct json_text *text, const struct leveret_host *host,
                                   struct leveret_text bytes) {
    size_t room = bytes.len + 2;
    while (json_text_reserve(text, room)) {
        int64_t len = host->json_quote(bytes, text->data + text->len, text->size - text->len);
        text->failed = len < 0;
        if (len >= 0 && (size_t)len < text->size - text->len) {
            text->len += (size_t)len;
            return;
        }
        room = (size_t)len;
    }
}

/* "name":"value" behind a comma, unless the value is empty. */
static inline void json_text_member(struct json_text *text, const struct leveret_host *host,
                                    const char *name, struct leveret_text value) {
    if (value.len == 0)
        return;
    json_text_add(text, ",\"");
    json_text_add(text, name);
    json_text_add(text, "\":");
    json_text_quote(text, host, value);
}

#endif
