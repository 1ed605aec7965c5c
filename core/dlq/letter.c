#include "dlq/letter.h"

#include <time.h>

#include "engine/message.h"
#include "event/carry.h"
#include "event/envelope.h"

/* The delay queues that a retry has waited in are no place where it failed. */
#define DELAY_QUEUES "leveret.delay."
/* The most headers that lvt_letter_revive adds. */
#define ADDED_MAX 4

static enum leveret_code out_of_memory(struct leveret_error *err) {
    return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a dead letter");
}

static struct lvt_bytes text_of(const struct lvt_headers *headers, const char *name) {
    const struct lvt_header *header = lvt_headers_find(headers, name);
    if (!header || (header->kind != LVT_HEADER_STRING && header->kind != LVT_HEADER_BYTES))
        return lvt_bytes("", 0);
    return header->value.bytes;
}

static bool starts_with(struct lvt_bytes text, const char *prefix) {
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

/* 2026-01-02T03:04:05Z, as leveret-first-failed-at has it. */
static int64_t parse_time(struct lvt_bytes text) {
    struct tm utc = {0};
    char copy[32];
    if (text.len >= sizeof copy)
        return -1;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    const char *end = strptime(copy, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return end && *end == '\0' ? (int64_t)timegm(&utc) : -1;
}

/* ---- x-death: what the broker notes when it moves a message to a dead-letter queue ---- */

static const struct lvt_header *first_of(const struct lvt_headers *headers, const char *name) {
    const struct lvt_header *list = lvt_headers_find(headers, name);
    if (!list || list->kind != LVT_HEADER_ARRAY || list->value.nested.count == 0)
        return NULL;
    return &list->value.nested.items[0];
}

/* The entry of the work queue that it died in; NULL when there is none. Of two, nobody knows which
 * one it should go back to. */
static const struct lvt_headers *find_death(const struct lvt_headers *headers, bool *ret_several) {
    const struct lvt_header *deaths = lvt_headers_find(headers, "x-death");
    const struct lvt_headers *found = NULL;
    *ret_several = false;
    if (!deaths || deaths->kind != LVT_HEADER_ARRAY)
        return NULL;
    for (size_t i = 0; i < deaths->value.nested.count; i++) {
        const struct lvt_header *item = &deaths->value.nested.items[i];
        if (item->kind != LVT_HEADER_TABLE)
            continue;
        struct lvt_bytes queue = text_of(&item->value.nested, "queue");
        if (queue.len == 0 || starts_with(queue, DELAY_QUEUES))
            continue;
        if (found && !lvt_bytes_equal(text_of(found, "queue"), queue))
            *ret_several = true;
        if (!found)
            found = &item->value.nested;
    }
    return found;
}

/* leveret takes x-death away when it dead-letters. What has one died after that, or before leveret
 * saw it, and other headers are then its publisher's word. */
static enum leveret_code read_death(struct lvt_letter *letter, const struct lvt_headers *death,
                                    bool several, struct leveret_error *err) {
    struct lvt_delivery *delivery = letter->delivery;
    struct lvt_bytes reason = text_of(death, "reason");
    const struct lvt_header *time_ = lvt_headers_find(death, "time");
    const struct lvt_header *key = first_of(death, "routing-keys");
    letter->by_broker = true;
    char *error = lvt_arena_printf(&delivery->arena, "dead-lettered by the broker: %.*s",
                                   (int)reason.len, reason.data);
    if (!error)
        return out_of_memory(err);
    letter->error = lvt_bytes_of(error);
    if (time_ && time_->kind == LVT_HEADER_TIMESTAMP)
        letter->failed_at_s = (int64_t)time_->value.unsigned_integer;
    if (several) {
        letter->no_origin = "the broker has dead-lettered it more than once";
        return LEVERET_OK;
    }
    letter->queue = text_of(death, "queue");
    letter->exchange = text_of(death, "exchange");
    if (key && key->kind == LVT_HEADER_STRING)
        letter->routing_key = key->value.bytes;
    return LEVERET_OK;
}

/* ---- reading ---- */

static void read_own_headers(struct lvt_letter *letter, const struct lvt_headers *headers) {
    letter->queue = text_of(headers, LVT_HEADER_ORIGIN_QUEUE);
    letter->exchange = text_of(headers, LVT_HEADER_ORIGIN_EXCHANGE);
    letter->routing_key = text_of(headers, LVT_HEADER_ORIGIN_ROUTING_KEY);
    letter->error = text_of(headers, LVT_HEADER_ERROR);
    letter->failed_at_s = parse_time(text_of(headers, LVT_HEADER_FIRST_FAILED_AT));
    if (letter->queue.len == 0)
        letter->no_origin = "nothing says which queue it failed in";
}

static void read_event(struct lvt_letter *letter) {
    const struct lvt_properties *properties = &letter->delivery->properties;
    struct lvt_envelope envelope;
    struct leveret_error unread;
    letter->event = letter->routing_key;
    if (properties->present & LVT_HAS_MESSAGE_ID)
        letter->id = properties->message_id;
    if (lvt_headers_depth(&properties->headers, LVT_NESTING_MAX + 1) > LVT_NESTING_MAX ||
        lvt_envelope_read(letter->delivery, LVT_ENVELOPE_AUTO, &envelope, &unread) != LEVERET_OK)
        return;
    letter->event = envelope.type;
    if (letter->id.len == 0)
        letter->id = envelope.id;
}

enum leveret_code lvt_letter_read(struct lvt_delivery *delivery, struct lvt_letter *ret,
                                  struct leveret_error *err) {
    const struct lvt_headers *headers = &delivery->properties.headers;
    struct lvt_letter letter = {.delivery = delivery, .attempts = -1, .failed_at_s = -1};
    bool several;
    const struct lvt_headers *death = find_death(headers, &several);
    letter.id = lvt_bytes("", 0);
    if (death) {
        enum leveret_code code = read_death(&letter, death, several, err);
        if (code != LEVERET_OK)
            return code;
    } else {
        read_own_headers(&letter, headers);
    }
    letter.trace = text_of(headers, LVT_HEADER_TRACE);
    letter.handler = text_of(headers, LVT_HEADER_HANDLER);
    (void)lvt_header_integer(lvt_headers_find(headers, LVT_HEADER_ATTEMPT), &letter.attempts);
    (void)lvt_header_integer(lvt_headers_find(headers, "x-delivery-count"), &letter.handed_out);
    if (letter.failed_at_s < 0 && (delivery->properties.present & LVT_HAS_TIMESTAMP))
        letter.failed_at_s = (int64_t)delivery->properties.timestamp;
    read_event(&letter);
    lvt_fingerprint(letter.error, letter.fingerprint);
    *ret = letter;
    return LEVERET_OK;
}

/* ---- going back ---- */

static bool is_of_failure(struct lvt_bytes name) {
    static const char *const names[] = {LVT_HEADER_ATTEMPT,      LVT_HEADER_FIRST_FAILED_AT,
                                        LVT_HEADER_ERROR,        LVT_HEADER_TRACE,
                                        LVT_HEADER_HANDLER,      LVT_HEADER_ORIGIN_EXCHANGE,
                                        LVT_HEADER_ORIGIN_QUEUE, LVT_HEADER_ORIGIN_ROUTING_KEY};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (lvt_bytes_is(name, names[i]))
            return true;
    return false;
}

enum leveret_code lvt_letter_revive(const struct lvt_letter *letter, struct lvt_properties *ret,
                                    struct leveret_error *err) {
    struct lvt_delivery *delivery = letter->delivery;
    struct lvt_properties properties;
    if (!lvt_properties_carry(&delivery->properties, ADDED_MAX, &delivery->arena, &properties))
        return out_of_memory(err);
    struct lvt_headers *headers = &properties.headers;
    size_t kept = 0;
    for (size_t i = 0; i < headers->count; i++)
        if (!is_of_failure(headers->items[i].name))
            headers->items[kept++] = headers->items[i];
    headers->count = kept;
    lvt_headers_add_integer(headers, LVT_HEADER_ATTEMPT, 0);
    lvt_headers_add_text(headers, LVT_HEADER_ORIGIN_QUEUE, letter->queue);
    lvt_headers_add_text(headers, LVT_HEADER_ORIGIN_EXCHANGE, letter->exchange);
    lvt_headers_add_text(headers, LVT_HEADER_ORIGIN_ROUTING_KEY, letter->routing_key);
    *ret = properties;
    return LEVERET_OK;
}
