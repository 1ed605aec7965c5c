#include "engine/message.h"

#include <time.h>

#include "base/utf8.h"

/* All properties and headers must fit one frame, of 128 KiB as brokers come; the rest of it is for
 * what the properties and names take. */
#define HEADERS_MAX_BYTES 120000
#define REASON_LEAST_BYTES 200
/* The most headers that lvt_message_build adds. */
#define ADDED_MAX 16

static bool starts_with(struct lvt_bytes name, const char *prefix) {
    size_t len = strlen(prefix);
    return name.len >= len && memcmp(name.data, prefix, len) == 0;
}

/* What the broker wrote about an earlier life of the message, which it must not read again. */
static bool is_history(struct lvt_bytes name) {
    return lvt_bytes_is(name, "x-death") || lvt_bytes_is(name, "x-delivery-count") ||
           starts_with(name, "x-first-death-") || starts_with(name, "x-last-death-");
}

static bool is_replaced(struct lvt_bytes name, bool failed) {
    static const char *const always[] = {LVT_HEADER_ATTEMPT, LVT_HEADER_ORIGIN_EXCHANGE,
                                         LVT_HEADER_ORIGIN_ROUTING_KEY, LVT_HEADER_ORIGIN_QUEUE};
    static const char *const of_failures[] = {LVT_HEADER_ERROR, LVT_HEADER_TRACE,
                                              LVT_HEADER_HANDLER};
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
        if (lvt_bytes_is(name, always[i]))
            return true;
    for (size_t i = 0; failed && i < sizeof of_failures / sizeof of_failures[0]; i++)
        if (lvt_bytes_is(name, of_failures[i]))
            return true;
    return false;
}

/* About what the headers take on the wire. Flat enough to recurse: its caller has looked. */
static size_t wire_size(const struct lvt_headers *headers) {
    size_t size = 0;
    for (size_t i = 0; i < headers->count; i++) {
        const struct lvt_header *item = &headers->items[i];
        size += item->name.len + 10;
        if (item->kind == LVT_HEADER_STRING || item->kind == LVT_HEADER_BYTES)
            size += item->value.bytes.len;
        if (item->kind == LVT_HEADER_TABLE || item->kind == LVT_HEADER_ARRAY)
            size += wire_size(&item->value.nested);
    }
    return size;
}

static size_t room_for_texts(const struct lvt_headers *headers) {
    if (lvt_headers_depth(headers, LVT_NESTING_MAX + 1) > LVT_NESTING_MAX)
        return REASON_LEAST_BYTES; /* such a table was never meant to be read */
    size_t size = wire_size(headers);
    return size + REASON_LEAST_BYTES < HEADERS_MAX_BYTES ? HEADERS_MAX_BYTES - size
                                                         : REASON_LEAST_BYTES;
}

static void add(struct lvt_headers *out, const char *name, enum lvt_header_kind kind,
                struct lvt_header value) {
    value.name = lvt_bytes_of(name);
    value.kind = kind;
    out->items[out->count++] = value;
}

static void add_text(struct lvt_headers *out, const char *name, struct lvt_bytes text) {
    add(out, name, LVT_HEADER_STRING, (struct lvt_header){.value.bytes = text});
}

static void add_failure(struct lvt_event *event, struct lvt_headers *out, int64_t wall_ms,
                        size_t room) {
    struct lvt_bytes reason = event->verdict.reason;
    if (reason.len > room)
        reason.len = lvt_utf8_cut(reason.data, room);
    add_text(out, LVT_HEADER_ERROR, reason);
    if (event->verdict.trace.len > 0 && reason.len + event->verdict.trace.len <= room)
        add_text(out, LVT_HEADER_TRACE, event->verdict.trace);
    if (event->handler)
        add_text(out, LVT_HEADER_HANDLER, lvt_bytes_of(event->handler->name));
    if (!lvt_headers_find(out, LVT_HEADER_FIRST_FAILED_AT)) {
        time_t seconds = (time_t)(wall_ms / 1000);
        struct tm utc;
        char text[32];
        gmtime_r(&seconds, &utc);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
        struct lvt_bytes kept = lvt_arena_copy(&event->delivery->arena, lvt_bytes_of(text));
        if (kept.data)
            add_text(out, LVT_HEADER_FIRST_FAILED_AT, kept);
    }
}

/* The properties that do something to a message on its way are kept as headers that do nothing. */
static void move_properties(struct lvt_properties *properties, struct lvt_headers *out) {
    if (properties->present & LVT_HAS_USER_ID)
        add_text(out, "leveret-origin-user-id", properties->user_id);
    if (properties->present & LVT_HAS_EXPIRATION)
        add_text(out, "leveret-origin-expiration", properties->expiration);
    properties->present &= ~(unsigned)(LVT_HAS_USER_ID | LVT_HAS_EXPIRATION);
    properties->present |= LVT_HAS_DELIVERY_MODE | LVT_HAS_HEADERS;
    properties->delivery_mode = 2;
}

enum leveret_code lvt_message_build(struct lvt_event *event, uint32_t attempts_made,
                                    enum lvt_story story, int64_t wall_ms) {
    struct lvt_delivery *delivery = event->delivery;
    const struct lvt_headers *headers = &delivery->properties.headers;
    struct lvt_headers out = {0};
    out.items = lvt_arena_alloc(&delivery->arena, (headers->count + ADDED_MAX) * sizeof *out.items);
    if (!out.items)
        return LEVERET_NO_MEMORY;
    for (size_t i = 0; i < headers->count; i++) {
        struct lvt_header header = headers->items[i];
        if (is_history(header.name) || is_replaced(header.name, story != LVT_STORY_NONE))
            continue;
        if (lvt_bytes_is(header.name, "CC"))
            header.name = LVT_LITERAL("leveret-origin-cc");
        if (lvt_bytes_is(header.name, "BCC"))
            header.name = LVT_LITERAL("leveret-origin-bcc");
        out.items[out.count++] = header;
    }
    event->publish = (struct lvt_publish){.properties = delivery->properties};
    event->publish.body = delivery->body;
    move_properties(&event->publish.properties, &out);
    add(&out, LVT_HEADER_ATTEMPT, LVT_HEADER_INT64,
        (struct lvt_header){.value.integer = attempts_made});
    add_text(&out, LVT_HEADER_ORIGIN_EXCHANGE, event->exchange);
    add_text(&out, LVT_HEADER_ORIGIN_ROUTING_KEY, event->routing_key);
    add_text(&out, LVT_HEADER_ORIGIN_QUEUE, lvt_bytes_of(delivery->queue->name));
    if (story != LVT_STORY_NONE)
        add_failure(event, &out, wall_ms,
                    story == LVT_STORY_FULL ? room_for_texts(headers) : REASON_LEAST_BYTES);
    event->publish.properties.headers = out;
    return LEVERET_OK;
}
