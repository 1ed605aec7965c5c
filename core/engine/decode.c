/* First step: a delivery becomes an event that knows its type, its id, its attempt and its handler.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/message.h"
#include "engine/state.h"
#include "event/key.h"

/* An id is a column of the ledger; no broker's or publisher's comes near this. */
#define ID_MAX_BYTES 16384
#define ATTEMPTS_MAX 1000000

static struct lvt_bytes header_text(const struct lvt_headers *headers, const char *name) {
    const struct lvt_header *header = lvt_headers_find(headers, name);
    if (!header || (header->kind != LVT_HEADER_STRING && header->kind != LVT_HEADER_BYTES))
        return lvt_bytes(NULL, 0);
    return header->value.bytes;
}

/* Runs that were made before this one. Our own header outranks the one of workers written by hand.
 * What failed in another queue, such as a dead letter that is handled here, begins anew. */
static uint32_t attempts_made(const struct lvt_delivery *delivery) {
    const struct lvt_headers *headers = &delivery->properties.headers;
    struct lvt_bytes queue = header_text(headers, LVT_HEADER_ORIGIN_QUEUE);
    int64_t made;
    if (queue.data && !lvt_bytes_is(queue, delivery->queue->name))
        return 0;
    if (!lvt_header_integer(lvt_headers_find(headers, LVT_HEADER_ATTEMPT), &made) &&
        !lvt_header_integer(lvt_headers_find(headers, "x-retry-count"), &made))
        return 0;
    if (made < 0)
        return 0;
    return made > ATTEMPTS_MAX ? ATTEMPTS_MAX : (uint32_t)made;
}

/* Where it was first published. Only a message that came back to this queue tells by its headers.
 */
static void find_origin(struct lvt_event *event) {
    const struct lvt_delivery *delivery = event->delivery;
    const struct lvt_headers *headers = &delivery->properties.headers;
    event->exchange = delivery->exchange;
    event->routing_key = delivery->routing_key;
    if (!lvt_bytes_is(header_text(headers, LVT_HEADER_ORIGIN_QUEUE), delivery->queue->name))
        return;
    if (lvt_headers_find(headers, LVT_HEADER_ORIGIN_EXCHANGE))
        event->exchange = header_text(headers, LVT_HEADER_ORIGIN_EXCHANGE);
    if (lvt_headers_find(headers, LVT_HEADER_ORIGIN_ROUTING_KEY))
        event->routing_key = header_text(headers, LVT_HEADER_ORIGIN_ROUTING_KEY);
}

/* A header that counts something. False when it is there and does not. */
static bool read_count(const struct lvt_headers *headers, const char *name, int64_t least,
                       int64_t *ret_count) {
    const struct lvt_header *header = lvt_headers_find(headers, name);
    int64_t count;
    if (!header)
        return true;
    if (!lvt_header_integer(header, &count) || count < least)
        return false;
    *ret_count = count;
    return true;
}

/* What the event asks for itself, within the configuration's limits: a number of attempts is cut to
 * them, but a delay is not: handled early would be wrong. Headers win over the envelope. */
static enum leveret_code read_policy(struct lvt_engine *engine, struct lvt_event *event,
                                     const struct lvt_envelope *envelope,
                                     struct leveret_error *err) {
    const struct lvt_properties *properties = &event->delivery->properties;
    const struct lvt_headers *headers = &properties->headers;
    const struct lvt_outgoing_limits *limits = &engine->limits;
    int64_t attempts = envelope->max_attempts > 0 ? envelope->max_attempts : 0;
    int64_t delay_ms = envelope->delay_s > 0 ? envelope->delay_s * 1000 : 0;
    if (!read_count(headers, LVT_HEADER_MAX_ATTEMPTS, 1, &attempts))
        return leveret_fail(err, LEVERET_MALFORMED,
                            LVT_HEADER_MAX_ATTEMPTS " is not a whole number from 1");
    if (!read_count(headers, LVT_HEADER_DELAY, 0, &delay_ms))
        return leveret_fail(err, LEVERET_MALFORMED,
                            LVT_HEADER_DELAY " is not a whole number from 0");
    event->max_attempts =
        attempts > limits->max_attempts ? limits->max_attempts : (uint32_t)attempts;
    event->priority = envelope->priority > UINT8_MAX ? UINT8_MAX : envelope->priority;
    if (properties->present & LVT_HAS_PRIORITY)
        event->priority = properties->priority;
    if (lvt_headers_find(headers, LVT_HEADER_DELAYED))
        return LEVERET_OK;
    if ((uint64_t)delay_ms > limits->max_delay_ms)
        return leveret_fail(err, LEVERET_INVALID,
                            "the event asks for a delay of %lld ms; limits.max_delay is %llu ms",
                            (long long)delay_ms, (unsigned long long)limits->max_delay_ms);
    event->asked_delay_ms = (uint64_t)delay_ms;
    return LEVERET_OK;
}

static bool hash_id(struct lvt_event *event) {
    char *hex = lvt_arena_alloc(&event->delivery->arena, 2 * LVT_EVENT_HASH_BYTES + 1);
    if (!hex)
        return false;
    lvt_sha256_hex(event->type, event->delivery->body, hex);
    event->id = lvt_bytes(hex, 2 * (size_t)LVT_EVENT_HASH_BYTES);
    return true;
}

static bool find_id(struct lvt_event *event, const struct lvt_envelope *envelope) {
    const struct lvt_properties *properties = &event->delivery->properties;
    const char *named = event->handler->options.id;
    if (event->handler->forwards)
        return true; /* where it goes it is claimed, perhaps in several queues */
    if (named && strcmp(named, "hash") != 0 &&
        lvt_json_scalar_at(event->delivery->body, named, &event->delivery->arena, &event->id) &&
        event->id.len > 0)
        return true;
    if ((properties->present & LVT_HAS_MESSAGE_ID) && properties->message_id.len > 0)
        event->id = properties->message_id;
    else
        event->id = envelope->id;
    if (event->id.len == 0 && named && strcmp(named, "hash") == 0)
        return hash_id(event);
    return true;
}

static enum leveret_code check_id(struct lvt_bytes id, struct leveret_error *err) {
    if (id.len > ID_MAX_BYTES)
        return leveret_fail(err, LEVERET_MALFORMED,
                            "the event's id is %zu bytes long, the most is %d", id.len,
                            ID_MAX_BYTES);
    return lvt_envelope_check_id(id, err);
}

void lvt_no_handler_text(const struct lvt_queue *queue, struct lvt_bytes type, char *text,
                         size_t size) {
    snprintf(text, size, "no handler of queue %s takes the event type %.*s", queue->name,
             (int)type.len, type.data);
}

static enum leveret_code read_event(struct lvt_engine *engine, struct lvt_event *event,
                                    struct leveret_error *err) {
    char text[400];
    struct lvt_delivery *delivery = event->delivery;
    struct lvt_envelope envelope;
    if (delivery->body.len > engine->options.max_body_bytes)
        return leveret_fail(err, LEVERET_TOO_BIG, "the body has %zu bytes, max_body_bytes is %llu",
                            delivery->body.len, (unsigned long long)engine->options.max_body_bytes);
    if (lvt_headers_depth(&delivery->properties.headers, LVT_NESTING_MAX + 1) > LVT_NESTING_MAX)
        return leveret_fail(err, LEVERET_MALFORMED, "the headers are nested deeper than %d levels",
                            LVT_NESTING_MAX);
    enum leveret_code code = lvt_envelope_read(delivery, delivery->queue->envelope, &envelope, err);
    if (code != LEVERET_OK)
        return code;
    event->type = envelope.type;
    event->time = envelope.time;
    event->payload = envelope.payload;
    event->handler = lvt_routes_match(delivery->queue, envelope.type);
    if (!event->handler) {
        lvt_no_handler_text(delivery->queue, envelope.type, text, sizeof text);
        return leveret_fail(err, LEVERET_MALFORMED, "%s", text);
    }
    if (!find_id(event, &envelope))
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    code = check_id(event->id, err);
    if (code == LEVERET_OK && !event->handler->forwards)
        code = read_policy(engine, event, &envelope, err);
    return code;
}

/* It does not run. */
static void judge(struct lvt_engine *engine, struct lvt_event *event,
                  const struct lvt_verdict *verdict) {
    lvt_event_judge(event, verdict);
    lvt_event_enter(engine, event, LVT_STAGE_SETTLING);
}

struct lvt_event *lvt_decode(struct lvt_engine *engine, struct lvt_delivery *delivery) {
    struct leveret_error err;
    struct lvt_event *event = lvt_arena_zalloc(&delivery->arena, sizeof *event);
    if (!event)
        return NULL;
    event->delivery = delivery;
    event->engine = engine;
    event->attempt = attempts_made(delivery) + 1;
    event->priority = -1;
    find_origin(event);
    if (lvt_bytes_is(header_text(&delivery->properties.headers, LVT_HEADER_WAITS_FOR), "redis"))
        event->waits_for = LVT_SERVICE_REDIS;
    enum leveret_code code = read_event(engine, event, &err);
    if (code == LEVERET_NO_MEMORY)
        return NULL;

    event->all_next = engine->all;
    if (engine->all)
        engine->all->all_prev = event;
    engine->all = event;
    if (event->handler)
        event->handler->holders++;
    if (code != LEVERET_OK) {
        const struct lvt_verdict verdict = {.kind = LVT_VERDICT_REJECT,
                                            .reason = lvt_bytes_of(err.text)};
        event->id = event->delivery->properties.message_id;
        judge(engine, event, &verdict);
    } else if (event->asked_delay_ms > 0) {
        const struct lvt_verdict verdict = {.kind = LVT_VERDICT_SNOOZE,
                                            .after_ms = (int64_t)event->asked_delay_ms};
        judge(engine, event, &verdict);
    }
    return event;
}
