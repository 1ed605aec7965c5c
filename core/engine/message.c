#include "engine/message.h"

#include <time.h>

#include "base/utf8.h"
#include "event/carry.h"

/* All properties and headers must fit one frame, of 128 KiB as brokers come; the rest of it is for
 * what the properties and names take. */
#define HEADERS_MAX_BYTES 120000
#define REASON_LEAST_BYTES 200
/* The most headers that lvt_message_build adds. */
#define ADDED_MAX 8

static bool is_replaced(struct lvt_bytes name, bool failed) {
    static const char *const always[] = {LVT_HEADER_ATTEMPT, LVT_HEADER_ORIGIN_EXCHANGE,
                                         LVT_HEADER_ORIGIN_ROUTING_KEY, LVT_HEADER_ORIGIN_QUEUE,
                                         LVT_HEADER_WAITS_FOR};
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

static void add_failure(struct lvt_event *event, struct lvt_headers *out, int64_t wall_ms,
                        size_t room) {
    struct lvt_bytes reason = event->verdict.reason;
    if (reason.len > room)
        reason.len = lvt_utf8_cut(reason.data, room);
    lvt_headers_add_text(out, LVT_HEADER_ERROR, reason);
    if (event->verdict.trace.len > 0 && reason.len + event->verdict.trace.len <= room)
        lvt_headers_add_text(out, LVT_HEADER_TRACE, event->verdict.trace);
    if (event->handler)
        lvt_headers_add_text(out, LVT_HEADER_HANDLER, lvt_bytes_of(event->handler->name));
    if (!lvt_headers_find(out, LVT_HEADER_FIRST_FAILED_AT)) {
        time_t seconds = (time_t)(wall_ms / 1000);
        struct tm utc;
        char text[32];
        gmtime_r(&seconds, &utc);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
        struct lvt_bytes kept = lvt_arena_copy(&event->delivery->arena, lvt_bytes_of(text));
        if (kept.data)
            lvt_headers_add_text(out, LVT_HEADER_FIRST_FAILED_AT, kept);
    }
}

static void drop_replaced(struct lvt_headers *headers, bool failed) {
    size_t kept = 0;
    for (size_t i = 0; i < headers->count; i++)
        if (!is_replaced(headers->items[i].name, failed))
            headers->items[kept++] = headers->items[i];
    headers->count = kept;
}

/* The delay that it goes to serve, and the priority that its envelope names. */
static void add_wishes(const struct lvt_event *event, struct lvt_properties *properties) {
    if (event->asked_delay_ms > 0)
        lvt_headers_add_integer(&properties->headers, LVT_HEADER_DELAYED, 1);
    if (event->priority < 0 || (properties->present & LVT_HAS_PRIORITY))
        return;
    properties->present |= LVT_HAS_PRIORITY;
    properties->priority = (uint8_t)event->priority;
}

enum leveret_code lvt_message_build(struct lvt_event *event, uint32_t attempts_made,
                                    enum lvt_story story, int64_t wall_ms) {
    struct lvt_delivery *delivery = event->delivery;
    struct lvt_properties properties;
    if (!lvt_properties_carry(&delivery->properties, ADDED_MAX, &delivery->arena, &properties))
        return LEVERET_NO_MEMORY;
    struct lvt_headers *out = &properties.headers;
    drop_replaced(out, story != LVT_STORY_NONE);
    if (!event->dead)
        add_wishes(event, &properties);
    if (event->put_off)
        lvt_headers_add_text(out, LVT_HEADER_WAITS_FOR, LVT_LITERAL("redis"));
    lvt_headers_add_integer(out, LVT_HEADER_ATTEMPT, attempts_made);
    lvt_headers_add_text(out, LVT_HEADER_ORIGIN_EXCHANGE, event->exchange);
    lvt_headers_add_text(out, LVT_HEADER_ORIGIN_ROUTING_KEY, event->routing_key);
    lvt_headers_add_text(out, LVT_HEADER_ORIGIN_QUEUE, lvt_bytes_of(delivery->queue->name));
    if (story != LVT_STORY_NONE)
        add_failure(event, out, wall_ms,
                    story == LVT_STORY_FULL ? room_for_texts(&delivery->properties.headers)
                                            : REASON_LEAST_BYTES);
    event->publish = (struct lvt_publish){.properties = properties, .body = delivery->body};
    return LEVERET_OK;
}
