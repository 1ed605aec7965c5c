#include "engine/outgoing.h"

#include <inttypes.h>

#include "engine/ports.h"
#include "event/carry.h"
#include "event/envelope.h"
#include "event/json.h"

#define NAME_MAX_BYTES 255 /* of what the protocol calls a short string */
/* The most headers that are added to the caller's own. */
#define ADDED_MAX 8
#define PREFIX "leveret-"
/* Of an envelope, beside the type and the payload. */
#define ENVELOPE_BYTES (sizeof "{\"event\":\"\",\"payload\":}" - 1)

/* ---- checks ---- */

static bool has_prefix(struct lvt_bytes name) {
    return name.len >= sizeof PREFIX - 1 && memcmp(name.data, PREFIX, sizeof PREFIX - 1) == 0;
}

static enum leveret_code check_header(const struct lvt_header *header, struct leveret_error *err) {
    struct lvt_bytes name = header->name;
    if (name.len == 0 || name.len > NAME_MAX_BYTES)
        return leveret_fail(err, LEVERET_INVALID, "a header's name must have 1 to %d bytes",
                            NAME_MAX_BYTES);
    if (has_prefix(name))
        return leveret_fail(err, LEVERET_INVALID,
                            "the header %.*s cannot be set: those that begin with " PREFIX
                            " are leveret's own",
                            (int)name.len, name.data);
    /* A broker copies the message to the queues that these name. */
    if (lvt_bytes_is(name, "CC") || lvt_bytes_is(name, "BCC"))
        return leveret_fail(err, LEVERET_INVALID,
                            "the header %.*s cannot be set: publish once for each queue",
                            (int)name.len, name.data);
    switch (header->kind) {
    case LVT_HEADER_STRING:
    case LVT_HEADER_INT64:
    case LVT_HEADER_DOUBLE:
    case LVT_HEADER_BOOLEAN:
        return LEVERET_OK;
    default:
        return leveret_fail(err, LEVERET_INVALID,
                            "the header %.*s must be a text, a number or a boolean", (int)name.len,
                            name.data);
    }
}

static enum leveret_code check_names(const struct lvt_outgoing *outgoing,
                                     const struct lvt_outgoing_limits *limits,
                                     struct leveret_error *err) {
    struct leveret_error cause;
    if (lvt_envelope_check_type(outgoing->event, &cause) != LEVERET_OK)
        return leveret_fail(err, LEVERET_INVALID, "event: %s", cause.text);
    if (outgoing->id.len > NAME_MAX_BYTES)
        return leveret_fail(err, LEVERET_INVALID, "the id has %zu bytes; %d is the most",
                            outgoing->id.len, NAME_MAX_BYTES);
    if (lvt_envelope_check_id(outgoing->id, &cause) != LEVERET_OK)
        return leveret_fail(err, LEVERET_INVALID, "%s", cause.text);
    if (outgoing->exchange.len > NAME_MAX_BYTES || outgoing->queue.len > NAME_MAX_BYTES)
        return leveret_fail(err, LEVERET_INVALID, "the name of the %s is longer than %d bytes",
                            outgoing->queue.len > 0 ? "queue" : "exchange", NAME_MAX_BYTES);
    if (outgoing->exchange.data && outgoing->queue.len > 0)
        return leveret_fail(err, LEVERET_INVALID, "name an exchange or a queue, not both");
    if (!outgoing->exchange.data && outgoing->queue.len == 0 &&
        (!limits->exchange || !limits->exchange[0]))
        return leveret_fail(err, LEVERET_INVALID,
                            "name an exchange or a queue: rabbitmq.exchange is not set");
    return LEVERET_OK;
}

static enum leveret_code check_numbers(const struct lvt_outgoing *outgoing,
                                       const struct lvt_outgoing_limits *limits,
                                       struct leveret_error *err) {
    if (outgoing->priority != LVT_NO_PRIORITY &&
        (outgoing->priority < 0 || outgoing->priority > UINT8_MAX))
        return leveret_fail(err, LEVERET_INVALID, "priority is %d; it must be from 0 to %d",
                            outgoing->priority, UINT8_MAX);
    if (outgoing->max_attempts > limits->max_attempts)
        return leveret_fail(err, LEVERET_INVALID,
                            "max_attempts is %" PRIu32 "; limits.max_attempts is %" PRIu32,
                            outgoing->max_attempts, limits->max_attempts);
    if (outgoing->delay_ms > limits->max_delay_ms)
        return leveret_fail(err, LEVERET_INVALID,
                            "the delay is %" PRIu64 " ms; limits.max_delay is %" PRIu64 " ms",
                            outgoing->delay_ms, limits->max_delay_ms);
    if (outgoing->ttl_ms > UINT32_MAX)
        return leveret_fail(err, LEVERET_INVALID,
                            "the time to live is %" PRIu64 " ms; %" PRIu32 " ms is the most",
                            outgoing->ttl_ms, UINT32_MAX);
    if (outgoing->header_count > LVT_OUTGOING_HEADERS_MAX)
        return leveret_fail(err, LEVERET_INVALID, "there are %zu headers; %d is the most",
                            outgoing->header_count, LVT_OUTGOING_HEADERS_MAX);
    return LEVERET_OK;
}

enum leveret_code lvt_outgoing_check(const struct lvt_outgoing *outgoing,
                                     const struct lvt_outgoing_limits *limits,
                                     struct leveret_error *err) {
    struct leveret_error cause;
    enum leveret_code code = check_names(outgoing, limits, err);
    if (code == LEVERET_OK)
        code = check_numbers(outgoing, limits, err);
    for (size_t i = 0; i < outgoing->header_count && code == LEVERET_OK; i++)
        code = check_header(&outgoing->headers[i], err);
    if (code != LEVERET_OK)
        return code;
    size_t body_len = outgoing->payload.len;
    if (!outgoing->whole)
        body_len += ENVELOPE_BYTES + outgoing->event.len;
    if (body_len > limits->max_body_bytes)
        return leveret_fail(err, LEVERET_TOO_BIG,
                            "the body would have %zu bytes; max_body_bytes is %" PRIu64, body_len,
                            limits->max_body_bytes);
    /* The envelope is one level of nesting. */
    if (lvt_json_validate(outgoing->payload, LVT_NESTING_MAX - 1, &cause) != LEVERET_OK)
        return leveret_fail(err, LEVERET_MALFORMED, "the payload is not JSON: %s", cause.text);
    struct lvt_json_reader reader;
    lvt_json_reader_init(&reader, outgoing->payload);
    if (lvt_json_next(&reader) != LVT_JSON_OBJECT)
        return leveret_fail(err, LEVERET_MALFORMED, "the payload is not a JSON object");
    return LEVERET_OK;
}

/* ---- copies ---- */

static bool copy_text(struct lvt_arena *arena, struct lvt_bytes *text) {
    if (!text->data)
        return true;
    *text = lvt_arena_copy(arena, *text);
    return text->data != NULL;
}

static const struct lvt_header *copy_headers(const struct lvt_header *from, size_t count,
                                             struct lvt_arena *arena) {
    struct lvt_header *headers = lvt_arena_alloc(arena, (count + 1) * sizeof *headers);
    for (size_t i = 0; headers && i < count; i++) {
        headers[i] = from[i];
        bool copied = copy_text(arena, &headers[i].name);
        if (copied && headers[i].kind == LVT_HEADER_STRING)
            copied = copy_text(arena, &headers[i].value.bytes);
        if (!copied)
            return NULL;
    }
    return headers;
}

enum leveret_code lvt_outgoing_copy(const struct lvt_outgoing *from, struct lvt_arena *arena,
                                    struct lvt_outgoing *ret) {
    struct lvt_outgoing copy = *from;
    struct lvt_bytes *texts[] = {&copy.event, &copy.payload,     &copy.id,        &copy.exchange,
                                 &copy.queue, &copy.traceparent, &copy.tracestate};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!copy_text(arena, texts[i]))
            return LEVERET_NO_MEMORY;
    copy.headers = copy_headers(from->headers, from->header_count, arena);
    if (!copy.headers)
        return LEVERET_NO_MEMORY;
    *ret = copy;
    return LEVERET_OK;
}

/* ---- the message ---- */

/* The caller's own header of that name stands. */
static void add_text(struct lvt_headers *headers, const char *name, struct lvt_bytes text) {
    if (!lvt_headers_find(headers, name))
        lvt_headers_add_text(headers, name, text);
}

static bool build_body(const struct lvt_outgoing *outgoing, struct lvt_arena *arena,
                       struct lvt_bytes *ret) {
    if (outgoing->whole) {
        *ret = outgoing->payload;
        return true;
    }
    struct lvt_buffer type;
    char escaped[6 * NAME_MAX_BYTES + 3];
    lvt_buffer_init_fixed(&type, escaped, sizeof escaped);
    lvt_json_write_string(&type, outgoing->event);
    size_t len = ENVELOPE_BYTES - 2 + type.len + outgoing->payload.len;
    char *body = lvt_arena_alloc(arena, len);
    if (!body)
        return false;
    *ret = lvt_bytes(body, len);
    struct lvt_bytes parts[] = {LVT_LITERAL("{\"event\":"), lvt_bytes(type.data, type.len),
                                LVT_LITERAL(",\"payload\":"), outgoing->payload, LVT_LITERAL("}")};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        memcpy(body, parts[i].data, parts[i].len);
        body += parts[i].len;
    }
    return true;
}

bool lvt_outgoing_expire(struct lvt_properties *properties, struct lvt_arena *arena,
                         uint64_t ttl_ms) {
    char *text = lvt_arena_printf(arena, "%" PRIu64, ttl_ms);
    if (!text)
        return false;
    properties->expiration = lvt_bytes_of(text);
    properties->present |= LVT_HAS_EXPIRATION;
    return true;
}

/* Where it goes in the end. The default exchange takes a queue's name for a routing key. */
static struct lvt_destination destination_of(const struct lvt_outgoing *outgoing,
                                             const struct lvt_outgoing_limits *limits) {
    if (outgoing->queue.len > 0)
        return (struct lvt_destination){
            .kind = LVT_TO_EXCHANGE, .name = LVT_LITERAL(""), .routing_key = outgoing->queue};
    return (struct lvt_destination){
        .kind = LVT_TO_EXCHANGE,
        .name = outgoing->exchange.data ? outgoing->exchange : lvt_bytes_of(limits->exchange),
        .routing_key = outgoing->event};
}

static void add_wishes(const struct lvt_outgoing *outgoing, struct lvt_headers *headers) {
    if (outgoing->traceparent.len > 0)
        add_text(headers, "traceparent", outgoing->traceparent);
    if (outgoing->tracestate.len > 0)
        add_text(headers, "tracestate", outgoing->tracestate);
    if (outgoing->max_attempts > 0)
        lvt_headers_add_integer(headers, LVT_HEADER_MAX_ATTEMPTS, outgoing->max_attempts);
}

/* Into the ladder, with a note of where to afterwards. A time to live begins with the queue that
 * the event is for: in the ladder it would end the delay. */
static void enter_ladder(const struct lvt_outgoing *outgoing, struct lvt_publish *publish,
                         struct lvt_headers *headers) {
    lvt_headers_add_text(headers, LVT_HEADER_TO_EXCHANGE, publish->destination.name);
    lvt_headers_add_text(headers, LVT_HEADER_TO_ROUTING_KEY, publish->destination.routing_key);
    if (outgoing->ttl_ms > 0)
        lvt_headers_add_integer(headers, LVT_HEADER_TTL, outgoing->ttl_ms);
    publish->destination = (struct lvt_destination){.kind = LVT_TO_DELAY,
                                                    .name = LVT_LITERAL(LVT_OUTGOING_QUEUE),
                                                    .delay_ms = outgoing->delay_ms};
}

enum leveret_code lvt_outgoing_build(const struct lvt_outgoing *outgoing,
                                     const struct lvt_outgoing_limits *limits, int64_t wall_ms,
                                     struct lvt_arena *arena, struct lvt_publish *ret) {
    struct lvt_publish publish = {.destination = destination_of(outgoing, limits)};
    struct lvt_properties *properties = &publish.properties;
    struct lvt_headers headers = {0};
    headers.items =
        lvt_arena_alloc(arena, (outgoing->header_count + ADDED_MAX) * sizeof *headers.items);
    if (!headers.items || !build_body(outgoing, arena, &publish.body))
        return LEVERET_NO_MEMORY;
    for (size_t i = 0; i < outgoing->header_count; i++)
        headers.items[headers.count++] = outgoing->headers[i];
    add_wishes(outgoing, &headers);
    *properties = (struct lvt_properties){
        .present = LVT_HAS_CONTENT_TYPE | LVT_HAS_DELIVERY_MODE | LVT_HAS_MESSAGE_ID |
                   LVT_HAS_TIMESTAMP | LVT_HAS_TYPE,
        .content_type = LVT_LITERAL("application/json"),
        .delivery_mode = 2,
        .message_id = outgoing->id,
        .timestamp = (uint64_t)wall_ms / 1000,
        .type = outgoing->event,
    };
    if (outgoing->priority != LVT_NO_PRIORITY) {
        properties->present |= LVT_HAS_PRIORITY;
        properties->priority = (uint8_t)outgoing->priority;
    }
    if (outgoing->delay_ms > 0)
        enter_ladder(outgoing, &publish, &headers);
    else if (outgoing->ttl_ms > 0 && !lvt_outgoing_expire(properties, arena, outgoing->ttl_ms))
        return LEVERET_NO_MEMORY;
    if (headers.count > 0)
        properties->present |= LVT_HAS_HEADERS;
    properties->headers = headers;
    *ret = publish;
    return LEVERET_OK;
}
