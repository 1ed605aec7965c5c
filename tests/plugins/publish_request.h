/* What an event of a test asks to be published: {"publish": {"event": "a.b", "payload": {},
 * "id": "1", "headers": {"colour": "red"}, ...}}, with the names that Lua's options have. */
#ifndef LEVERET_TESTS_PUBLISH_REQUEST_H
#define LEVERET_TESTS_PUBLISH_REQUEST_H

#include <stdio.h>

#include "leveret/plugin.h"

#define PUBLISH_HEADERS 101

/* More than a body may have, by default. */
static const char publish_too_much[(1 << 20) + 1];

struct publish_request {
    struct leveret_publish publish;
    struct leveret_header headers[PUBLISH_HEADERS];
    char names[PUBLISH_HEADERS][16];
    char event[64], id[64], exchange[64], queue[64], text[64];
};

static inline struct leveret_text publish_text(const struct leveret_host *host,
                                               struct leveret_text asked, const char *pointer,
                                               char buffer[64]) {
    return host->json_string(asked, pointer, buffer, 64) < 0 ? (struct leveret_text){NULL, 0}
                                                             : leveret_text_of(buffer);
}

static inline void publish_header(const struct leveret_host *host, struct leveret_text value,
                                  char text[64], struct leveret_header *header) {
    bool truth;
    if (host->json_boolean(value, "", &truth)) {
        header->kind = LEVERET_HEADER_BOOLEAN;
        header->integer = truth;
    } else if (host->json_integer(value, "", &header->integer)) {
        header->kind = LEVERET_HEADER_INTEGER;
    } else if (host->json_number(value, "", &header->number)) {
        header->kind = LEVERET_HEADER_NUMBER;
    } else if (host->json_string(value, "", text, 64) >= 0) {
        header->kind = LEVERET_HEADER_TEXT;
        header->text = leveret_text_of(text);
    } else {
        header->kind = LEVERET_HEADER_NESTED;
    }
}

/* `request` stays where it is: its parts point at one another. One header may be a text. */
static inline const struct leveret_publish *publish_read(const struct leveret_host *host,
                                                         const struct leveret_event_info *info,
                                                         struct publish_request *request) {
    struct leveret_text asked, value;
    struct leveret_publish *publish = &request->publish;
    int64_t number;
    host->json_at(info->payload, "/publish", &asked);
    *publish = leveret_publish(publish_text(host, asked, "/event", request->event),
                               (struct leveret_text){NULL, 0});
    host->json_at(asked, "/payload", &publish->payload);
    publish->id = publish_text(host, asked, "/id", request->id);
    publish->exchange = publish_text(host, asked, "/exchange", request->exchange);
    publish->queue = publish_text(host, asked, "/queue", request->queue);
    if (host->json_integer(asked, "/delay_ms", &number))
        publish->delay_ms = (uint64_t)number;
    if (host->json_integer(asked, "/ttl_ms", &number))
        publish->ttl_ms = (uint64_t)number;
    if (host->json_integer(asked, "/priority", &number))
        publish->priority = (int32_t)number;
    if (host->json_integer(asked, "/max_attempts", &number))
        publish->max_attempts = (uint32_t)number;
    if (host->json_integer(asked, "/size", &number))
        publish->size = (size_t)number;
    publish->headers = request->headers;
    for (size_t i = 0; i < PUBLISH_HEADERS; i++) {
        struct leveret_header *header = &request->headers[i];
        if (host->json_member(asked, "/headers", i, request->names[i], sizeof request->names[i],
                              &value) < 0)
            break;
        *header = (struct leveret_header){.name = leveret_text_of(request->names[i])};
        publish_header(host, value, request->text, header);
        publish->header_count++;
    }
    if (host->json_at(asked, "/too much", NULL) != LEVERET_JSON_MISSING)
        publish->payload = (struct leveret_text){publish_too_much, sizeof publish_too_much};
    /* Text that is no JSON cannot stand in an event's payload. */
    if (host->json_at(asked, "/raw", NULL) != LEVERET_JSON_MISSING)
        publish->payload = publish_text(host, asked, "/raw", request->text);
    return publish;
}

#endif
