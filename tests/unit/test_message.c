/* What a retry or a dead letter carries. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdlib.h>

#include "engine/message.h"

#define WALL_MS 1790000000123

static struct lvt_queue queue = {.name = "tickets.queue", .dead_letter = "dead"};
static struct lvt_handler handler = {.name = "ticket.created", .queue = &queue};

static struct lvt_event *event_new(struct lvt_header *headers, size_t count) {
    struct lvt_delivery *delivery = lvt_delivery_new(1024);
    assert_non_null(delivery);
    struct lvt_event *event = lvt_arena_zalloc(&delivery->arena, sizeof *event);
    assert_non_null(event);
    delivery->queue = &queue;
    delivery->body = LVT_LITERAL("{\"event\":1}");
    delivery->properties.headers = (struct lvt_headers){headers, count};
    if (count > 0)
        delivery->properties.present |= LVT_HAS_HEADERS;
    event->delivery = delivery;
    event->handler = &handler;
    event->exchange = LVT_LITERAL("events");
    event->routing_key = LVT_LITERAL("ticket.created");
    event->verdict.reason = LVT_LITERAL("it broke");
    return event;
}

static void event_free(struct lvt_event *event) {
    lvt_delivery_free(event->delivery);
}

static const struct lvt_headers *build(struct lvt_event *event, uint32_t made, bool failed) {
    assert_int_equal(
        lvt_message_build(event, made, failed ? LVT_STORY_FULL : LVT_STORY_NONE, WALL_MS),
        LEVERET_OK);
    assert_true(event->publish.properties.present & LVT_HAS_HEADERS);
    return &event->publish.properties.headers;
}

static struct lvt_header text(const char *name, const char *value) {
    return (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_STRING, .value.bytes = lvt_bytes_of(value)};
}

static void assert_text(const struct lvt_headers *headers, const char *name, const char *value) {
    const struct lvt_header *header = lvt_headers_find(headers, name);
    assert_non_null(header);
    assert_int_equal(header->kind, LVT_HEADER_STRING);
    assert_true(lvt_bytes_is(header->value.bytes, value));
}

static size_t times(const struct lvt_headers *headers, const char *name) {
    size_t found = 0;
    for (size_t i = 0; i < headers->count; i++)
        found += lvt_bytes_is(headers->items[i].name, name);
    return found;
}

static void failure_says_all_about_itself(void **state) {
    struct lvt_event *event = event_new(NULL, 0);
    (void)state;
    event->verdict.trace = LVT_LITERAL("line 1");
    const struct lvt_headers *headers = build(event, 2, true);
    const struct lvt_header *attempt = lvt_headers_find(headers, LVT_HEADER_ATTEMPT);
    assert_int_equal(attempt->kind, LVT_HEADER_INT64);
    assert_int_equal(attempt->value.integer, 2);
    assert_text(headers, LVT_HEADER_ERROR, "it broke");
    assert_text(headers, LVT_HEADER_TRACE, "line 1");
    assert_text(headers, LVT_HEADER_HANDLER, "ticket.created");
    assert_text(headers, LVT_HEADER_ORIGIN_EXCHANGE, "events");
    assert_text(headers, LVT_HEADER_ORIGIN_ROUTING_KEY, "ticket.created");
    assert_text(headers, LVT_HEADER_ORIGIN_QUEUE, "tickets.queue");
    assert_text(headers, LVT_HEADER_FIRST_FAILED_AT, "2026-09-21T14:13:20Z");
    assert_true(lvt_bytes_is(event->publish.body, "{\"event\":1}"));
    assert_int_equal(event->publish.properties.delivery_mode, 2);
    assert_true(event->publish.properties.present & LVT_HAS_DELIVERY_MODE);
    event_free(event);
}

static void snooze_says_nothing_of_failure(void **state) {
    struct lvt_event *event = event_new(NULL, 0);
    (void)state;
    const struct lvt_headers *headers = build(event, 0, false);
    assert_null(lvt_headers_find(headers, LVT_HEADER_ERROR));
    assert_null(lvt_headers_find(headers, LVT_HEADER_HANDLER));
    assert_null(lvt_headers_find(headers, LVT_HEADER_FIRST_FAILED_AT));
    assert_int_equal(lvt_headers_find(headers, LVT_HEADER_ATTEMPT)->value.integer, 0);
    event_free(event);
}

static void snooze_keeps_an_earlier_failure(void **state) {
    struct lvt_header given[] = {text(LVT_HEADER_ERROR, "before"),
                                 text(LVT_HEADER_FIRST_FAILED_AT, "2020-01-01T00:00:00Z")};
    struct lvt_event *event = event_new(given, 2);
    (void)state;
    const struct lvt_headers *headers = build(event, 1, false);
    assert_text(headers, LVT_HEADER_ERROR, "before");
    assert_text(headers, LVT_HEADER_FIRST_FAILED_AT, "2020-01-01T00:00:00Z");
    event_free(event);
}

static void headers_of_an_earlier_attempt_are_replaced(void **state) {
    struct lvt_header given[] = {text(LVT_HEADER_ATTEMPT, "1"),
                                 text(LVT_HEADER_ERROR, "before"),
                                 text(LVT_HEADER_TRACE, "old trace"),
                                 text(LVT_HEADER_HANDLER, "other"),
                                 text(LVT_HEADER_ORIGIN_QUEUE, "x"),
                                 text(LVT_HEADER_ORIGIN_EXCHANGE, "x"),
                                 text(LVT_HEADER_FIRST_FAILED_AT, "2020-01-01T00:00:00Z")};
    struct lvt_event *event = event_new(given, 7);
    (void)state;
    const struct lvt_headers *headers = build(event, 2, true);
    assert_int_equal(times(headers, LVT_HEADER_ATTEMPT), 1);
    assert_int_equal(times(headers, LVT_HEADER_ERROR), 1);
    assert_int_equal(times(headers, LVT_HEADER_TRACE), 0); /* this attempt has none */
    assert_int_equal(times(headers, LVT_HEADER_HANDLER), 1);
    assert_int_equal(times(headers, LVT_HEADER_ORIGIN_QUEUE), 1);
    assert_int_equal(times(headers, LVT_HEADER_ORIGIN_EXCHANGE), 1);
    assert_text(headers, LVT_HEADER_FIRST_FAILED_AT, "2020-01-01T00:00:00Z");
    event_free(event);
}

static void own_headers_pass_and_the_brokers_go(void **state) {
    struct lvt_header nested = text("deep", "value");
    struct lvt_header given[] = {
        text("trace-id", "abc"),
        {.name = LVT_LITERAL("table"), .kind = LVT_HEADER_TABLE, .value.nested = {&nested, 1}},
        {.name = LVT_LITERAL("float"), .kind = LVT_HEADER_FLOAT, .value.number = 1.5},
        {.name = LVT_LITERAL("x-death"), .kind = LVT_HEADER_ARRAY},
        text("x-first-death-queue", "q"),
        text("x-last-death-reason", "expired"),
        text("x-delivery-count", "3"),
        text("x-deaths", "ours"),
        text("CC", "copy"),
        text("BCC", "blind"),
    };
    struct lvt_event *event = event_new(given, sizeof given / sizeof given[0]);
    (void)state;
    const struct lvt_headers *headers = build(event, 1, true);
    assert_text(headers, "trace-id", "abc");
    assert_text(headers, "x-deaths", "ours");
    assert_text(&lvt_headers_find(headers, "table")->value.nested, "deep", "value");
    assert_int_equal(lvt_headers_find(headers, "float")->kind, LVT_HEADER_FLOAT);
    assert_null(lvt_headers_find(headers, "x-death"));
    assert_null(lvt_headers_find(headers, "x-first-death-queue"));
    assert_null(lvt_headers_find(headers, "x-last-death-reason"));
    assert_null(lvt_headers_find(headers, "x-delivery-count"));
    assert_null(lvt_headers_find(headers, "CC"));
    assert_null(lvt_headers_find(headers, "BCC"));
    assert_text(headers, "leveret-origin-cc", "copy");
    assert_text(headers, "leveret-origin-bcc", "blind");
    /* the delivery itself is as it was */
    assert_int_equal(event->delivery->properties.headers.count, 10);
    event_free(event);
}

static void properties_pass_but_those_that_act(void **state) {
    struct lvt_event *event = event_new(NULL, 0);
    struct lvt_properties *given = &event->delivery->properties;
    (void)state;
    given->present = LVT_HAS_USER_ID | LVT_HAS_EXPIRATION | LVT_HAS_MESSAGE_ID | LVT_HAS_PRIORITY |
                     LVT_HAS_DELIVERY_MODE | LVT_HAS_REPLY_TO;
    given->user_id = LVT_LITERAL("guest");
    given->expiration = LVT_LITERAL("60000");
    given->message_id = LVT_LITERAL("m1");
    given->reply_to = LVT_LITERAL("answers");
    given->priority = 5;
    given->delivery_mode = 1;
    const struct lvt_headers *headers = build(event, 1, true);
    const struct lvt_properties *made = &event->publish.properties;
    assert_int_equal(made->present, LVT_HAS_MESSAGE_ID | LVT_HAS_PRIORITY | LVT_HAS_DELIVERY_MODE |
                                        LVT_HAS_REPLY_TO | LVT_HAS_HEADERS);
    assert_int_equal(made->delivery_mode, 2);
    assert_int_equal(made->priority, 5);
    assert_true(lvt_bytes_is(made->message_id, "m1"));
    assert_text(headers, "leveret-origin-user-id", "guest");
    assert_text(headers, "leveret-origin-expiration", "60000");
    event_free(event);
}

static void event_without_a_handler_names_none(void **state) {
    struct lvt_event *event = event_new(NULL, 0);
    (void)state;
    event->handler = NULL;
    assert_null(lvt_headers_find(build(event, 0, true), LVT_HEADER_HANDLER));
    event_free(event);
}

/* A frame of 128 KiB must hold all properties. */
static void texts_give_way_to_big_headers(void **state) {
    static char big[119000], reason[LVT_REASON_MAX];
    struct lvt_header given = {.name = LVT_LITERAL("big"), .kind = LVT_HEADER_STRING};
    (void)state;
    memset(big, 'x', sizeof big);
    /* two bytes a character, so that a cut in the middle of one would show */
    for (size_t i = 0; i < sizeof reason; i += 2)
        memcpy(reason + i, "\xc3\xa9", 2);
    given.value.bytes = lvt_bytes(big, sizeof big);
    struct lvt_event *event = event_new(&given, 1);
    event->verdict.reason = lvt_bytes(reason, sizeof reason);
    event->verdict.trace = lvt_bytes(big, LVT_TRACE_MAX);
    const struct lvt_headers *headers = build(event, 1, true);
    const struct lvt_header *error = lvt_headers_find(headers, LVT_HEADER_ERROR);
    assert_in_range(error->value.bytes.len, 200, 1000);
    assert_int_equal(error->value.bytes.len % 2, 0);
    assert_null(lvt_headers_find(headers, LVT_HEADER_TRACE));
    assert_int_equal(lvt_headers_find(headers, "big")->value.bytes.len, sizeof big);
    event_free(event);
}

/* Its size is not asked for: that would recurse. */
static void endless_nesting_is_not_followed(void **state) {
    enum { DEPTH = 100000 };
    struct lvt_header *levels = calloc(DEPTH, sizeof *levels);
    (void)state;
    assert_non_null(levels);
    for (size_t i = 0; i < DEPTH; i++) {
        levels[i].name = LVT_LITERAL("deep");
        levels[i].kind = i + 1 < DEPTH ? LVT_HEADER_TABLE : LVT_HEADER_VOID;
        if (i + 1 < DEPTH)
            levels[i].value.nested = (struct lvt_headers){&levels[i + 1], 1};
    }
    struct lvt_event *event = event_new(levels, 1);
    const struct lvt_headers *headers = build(event, 0, true);
    assert_ptr_equal(lvt_headers_find(headers, "deep")->value.nested.items, &levels[1]);
    assert_text(headers, LVT_HEADER_ERROR, "it broke");
    event_free(event);
    free(levels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure_says_all_about_itself),
        cmocka_unit_test(snooze_says_nothing_of_failure),
        cmocka_unit_test(snooze_keeps_an_earlier_failure),
        cmocka_unit_test(headers_of_an_earlier_attempt_are_replaced),
        cmocka_unit_test(own_headers_pass_and_the_brokers_go),
        cmocka_unit_test(properties_pass_but_those_that_act),
        cmocka_unit_test(event_without_a_handler_names_none),
        cmocka_unit_test(texts_give_way_to_big_headers),
        cmocka_unit_test(endless_nesting_is_not_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
