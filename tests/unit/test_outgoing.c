/* What may be published, and the message that it becomes. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <string.h>

#include "base/uuid.h"
#include "engine/outgoing.h"
#include "engine/ports.h"

#define DAY_MS 86400000
#define WALL_MS 1790000000123

static const struct lvt_outgoing_limits limits = {
    .exchange = "events", .max_body_bytes = 100, .max_delay_ms = DAY_MS, .max_attempts = 100};

static struct lvt_outgoing plain(void) {
    return (struct lvt_outgoing){.event = LVT_LITERAL("ticket.created"),
                                 .payload = LVT_LITERAL("{\"n\":1}"),
                                 .id = LVT_LITERAL("id-1"),
                                 .priority = LVT_NO_PRIORITY};
}

static void refused(struct lvt_outgoing outgoing, enum leveret_code code, const char *text) {
    struct leveret_error err = {0};
    assert_int_equal(lvt_outgoing_check(&outgoing, &limits, &err), code);
    if (!strstr(err.text, text))
        fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

static void accepted(struct lvt_outgoing outgoing) {
    struct leveret_error err = {0};
    if (lvt_outgoing_check(&outgoing, &limits, &err) != LEVERET_OK)
        fail_msg("%s", err.text);
}

/* ---- checks ---- */

static void numbers_have_limits(void **state) {
    struct lvt_outgoing outgoing = plain();
    (void)state;
    accepted(outgoing);
    outgoing.priority = 255;
    accepted(outgoing);
    outgoing.priority = 256;
    refused(outgoing, LEVERET_INVALID, "priority is 256");
    outgoing.priority = -2;
    refused(outgoing, LEVERET_INVALID, "priority is -2");
    outgoing = plain();
    outgoing.max_attempts = 100;
    accepted(outgoing);
    outgoing.max_attempts = 1000000000;
    refused(outgoing, LEVERET_INVALID, "max_attempts is 1000000000; limits.max_attempts is 100");
    outgoing = plain();
    outgoing.delay_ms = DAY_MS;
    accepted(outgoing);
    outgoing.delay_ms++;
    refused(outgoing, LEVERET_INVALID, "limits.max_delay is 86400000 ms");
    outgoing = plain();
    outgoing.ttl_ms = (uint64_t)UINT32_MAX + 1;
    refused(outgoing, LEVERET_INVALID, "time to live");
}

static void names_are_checked(void **state) {
    struct lvt_outgoing outgoing = plain();
    char longer[257];
    (void)state;
    memset(longer, 'x', sizeof longer);
    outgoing.event = lvt_bytes("", 0);
    refused(outgoing, LEVERET_INVALID, "empty");
    outgoing.event = lvt_bytes(longer, 256);
    refused(outgoing, LEVERET_INVALID, "longer than 255");
    outgoing.event = LVT_LITERAL("a\nb");
    refused(outgoing, LEVERET_INVALID, "control character");
    outgoing = plain();
    outgoing.id = lvt_bytes(longer, 256);
    refused(outgoing, LEVERET_INVALID, "the id has 256 bytes");
    outgoing = plain();
    outgoing.id = LVT_LITERAL("a\xff");
    refused(outgoing, LEVERET_INVALID, "UTF-8");
    outgoing = plain();
    outgoing.exchange = lvt_bytes(longer, 256);
    refused(outgoing, LEVERET_INVALID, "the name of the exchange is longer");
    outgoing = plain();
    outgoing.queue = lvt_bytes(longer, 256);
    refused(outgoing, LEVERET_INVALID, "the name of the queue is longer");
    outgoing = plain();
    outgoing.queue = LVT_LITERAL("q");
    outgoing.exchange = LVT_LITERAL("x");
    refused(outgoing, LEVERET_INVALID, "not both");
}

static void a_destination_is_named_or_configured(void **state) {
    static const char *const exchanges[] = {NULL, ""};
    struct leveret_error err;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct lvt_outgoing_limits none = {.exchange = exchanges[i],
                                                 .max_body_bytes = limits.max_body_bytes};
        struct lvt_outgoing outgoing = plain();
        assert_int_equal(lvt_outgoing_check(&outgoing, &none, &err), LEVERET_INVALID);
        assert_non_null(strstr(err.text, "rabbitmq.exchange is not set"));
        outgoing.queue = LVT_LITERAL("work");
        assert_int_equal(lvt_outgoing_check(&outgoing, &none, &err), LEVERET_OK);
        outgoing = plain();
        outgoing.exchange = LVT_LITERAL("events");
        assert_int_equal(lvt_outgoing_check(&outgoing, &none, &err), LEVERET_OK);
    }
}

static void payloads_are_objects_within_the_limit(void **state) {
    struct lvt_outgoing outgoing = plain();
    char big[128];
    (void)state;
    outgoing.payload = LVT_LITERAL("{\"n\":");
    refused(outgoing, LEVERET_MALFORMED, "not JSON");
    outgoing.payload = LVT_LITERAL("[1]");
    refused(outgoing, LEVERET_MALFORMED, "not a JSON object");
    outgoing.payload = LVT_LITERAL("\"text\"");
    refused(outgoing, LEVERET_MALFORMED, "not a JSON object");
    outgoing.payload = lvt_bytes("", 0);
    refused(outgoing, LEVERET_MALFORMED, "not JSON");
    memset(big, ' ', sizeof big);
    memcpy(big, "{}", 2);
    outgoing.payload = lvt_bytes(big, 63);
    accepted(outgoing);
    outgoing.payload = lvt_bytes(big, 64);
    refused(outgoing, LEVERET_TOO_BIG, "max_body_bytes is 100");
    outgoing.whole = true; /* without the envelope there is room */
    accepted(outgoing);
}

static void headers_are_checked(void **state) {
    struct lvt_header header = {.name = LVT_LITERAL("x-a"), .kind = LVT_HEADER_INT64};
    struct lvt_outgoing outgoing = plain();
    (void)state;
    outgoing.headers = &header;
    outgoing.header_count = 1;
    accepted(outgoing);
    header.name = LVT_LITERAL("leveret-attempt");
    refused(outgoing, LEVERET_INVALID, "leveret's own");
    header.name = LVT_LITERAL("CC");
    refused(outgoing, LEVERET_INVALID, "once for each queue");
    header.name = LVT_LITERAL("BCC");
    refused(outgoing, LEVERET_INVALID, "once for each queue");
    header.name = LVT_LITERAL("a-long-name");
    accepted(outgoing);
    header.name = lvt_bytes("", 0);
    refused(outgoing, LEVERET_INVALID, "1 to 255");
    static char longer[256];
    memset(longer, 'x', sizeof longer);
    header.name = lvt_bytes(longer, sizeof longer);
    refused(outgoing, LEVERET_INVALID, "1 to 255");
    header = (struct lvt_header){.name = LVT_LITERAL("x-a"), .kind = LVT_HEADER_TABLE};
    refused(outgoing, LEVERET_INVALID, "a text, a number or a boolean");
    outgoing.header_count = 101;
    refused(outgoing, LEVERET_INVALID, "there are 101 headers; 100 is the most");
    const struct lvt_header both[2] = {{.name = lvt_bytes("", 0)}, {.name = LVT_LITERAL("x-a")}};
    outgoing.headers = both;
    outgoing.header_count = 2;
    refused(outgoing, LEVERET_INVALID, "1 to 255"); /* the first that is wrong is told */
}

/* ---- messages ---- */

static void is_text(struct lvt_bytes text, const char *expected) {
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.data, expected, text.len);
}

static void has_text(const struct lvt_headers *headers, const char *name, const char *expected) {
    const struct lvt_header *header = lvt_headers_find(headers, name);
    assert_non_null(header);
    is_text(header->value.bytes, expected);
}

static void has_number(const struct lvt_headers *headers, const char *name, int64_t expected) {
    int64_t value = -1;
    assert_true(lvt_header_integer(lvt_headers_find(headers, name), &value));
    assert_int_equal(value, expected);
}

static struct lvt_publish build(struct lvt_outgoing outgoing, struct lvt_arena *arena) {
    struct lvt_publish publish;
    lvt_arena_init(arena, 1024);
    assert_int_equal(lvt_outgoing_build(&outgoing, &limits, WALL_MS, arena, &publish), LEVERET_OK);
    return publish;
}

static void plain_one_goes_to_the_exchange(void **state) {
    struct lvt_arena arena;
    (void)state;
    struct lvt_publish publish = build(plain(), &arena);
    assert_int_equal(publish.destination.kind, LVT_TO_EXCHANGE);
    is_text(publish.destination.name, "events");
    is_text(publish.destination.routing_key, "ticket.created");
    is_text(publish.body, "{\"event\":\"ticket.created\",\"payload\":{\"n\":1}}");
    const struct lvt_properties *properties = &publish.properties;
    is_text(properties->message_id, "id-1");
    is_text(properties->type, "ticket.created");
    is_text(properties->content_type, "application/json");
    assert_int_equal(properties->delivery_mode, 2);
    assert_int_equal(properties->timestamp, WALL_MS / 1000);
    assert_int_equal(properties->present & (LVT_HAS_PRIORITY | LVT_HAS_EXPIRATION), 0);
    lvt_arena_free(&arena);
}

static void wishes_become_properties_and_headers(void **state) {
    const struct lvt_header header = {
        .name = LVT_LITERAL("x-a"), .kind = LVT_HEADER_BOOLEAN, .value.boolean = true};
    struct lvt_outgoing outgoing = plain();
    struct lvt_arena arena;
    (void)state;
    outgoing.event = LVT_LITERAL("a\"b");
    outgoing.queue = LVT_LITERAL("work");
    outgoing.priority = 7;
    outgoing.max_attempts = 5;
    outgoing.ttl_ms = 60000;
    outgoing.traceparent = LVT_LITERAL("00-1-2-01");
    outgoing.headers = &header;
    outgoing.header_count = 1;
    struct lvt_publish publish = build(outgoing, &arena);
    is_text(publish.destination.name, "");
    is_text(publish.destination.routing_key, "work");
    is_text(publish.body, "{\"event\":\"a\\\"b\",\"payload\":{\"n\":1}}");
    assert_int_equal(publish.properties.priority, 7);
    is_text(publish.properties.expiration, "60000");
    has_number(&publish.properties.headers, "leveret-max-attempts", 5);
    has_text(&publish.properties.headers, "traceparent", "00-1-2-01");
    assert_true(lvt_headers_find(&publish.properties.headers, "x-a")->value.boolean);
    lvt_arena_free(&arena);
}

static void delayed_one_enters_the_ladder(void **state) {
    struct lvt_outgoing outgoing = plain();
    struct lvt_arena arena;
    (void)state;
    outgoing.delay_ms = 3000;
    outgoing.ttl_ms = 60000;
    struct lvt_publish publish = build(outgoing, &arena);
    assert_int_equal(publish.destination.kind, LVT_TO_DELAY);
    is_text(publish.destination.name, "leveret.outgoing");
    assert_int_equal(publish.destination.delay_ms, 3000);
    has_text(&publish.properties.headers, "leveret-to-exchange", "events");
    has_text(&publish.properties.headers, "leveret-to-routing-key", "ticket.created");
    /* in the ladder it would end the delay */
    assert_int_equal(publish.properties.present & LVT_HAS_EXPIRATION, 0);
    has_number(&publish.properties.headers, "leveret-ttl-ms", 60000);
    lvt_arena_free(&arena);
}

static void envelope_of_its_own_stays_as_it_is(void **state) {
    struct lvt_outgoing outgoing = plain();
    struct lvt_arena arena;
    (void)state;
    outgoing.payload = LVT_LITERAL("{\"type\":\"ticket.created\",\"item\":{}}");
    outgoing.whole = true;
    struct lvt_publish publish = build(outgoing, &arena);
    is_text(publish.body, "{\"type\":\"ticket.created\",\"item\":{}}");
    lvt_arena_free(&arena);
}

static void the_callers_own_trace_stands(void **state) {
    const struct lvt_header header = {.name = LVT_LITERAL("traceparent"),
                                      .kind = LVT_HEADER_STRING,
                                      .value.bytes = LVT_LITERAL("own")};
    struct lvt_outgoing outgoing = plain(), copy;
    struct lvt_arena arena;
    (void)state;
    outgoing.headers = &header;
    outgoing.header_count = 1;
    outgoing.traceparent = LVT_LITERAL("inherited");
    outgoing.tracestate = LVT_LITERAL("state");
    struct lvt_publish publish = build(outgoing, &arena);
    has_text(&publish.properties.headers, "traceparent", "own");
    has_text(&publish.properties.headers, "tracestate", "state");
    const struct lvt_header number = {.name = LVT_LITERAL("n"), .kind = LVT_HEADER_INT64};
    outgoing.headers = &number;
    assert_int_equal(lvt_outgoing_copy(&outgoing, &arena, &copy), LEVERET_OK);
    assert_int_equal(copy.headers[0].kind, LVT_HEADER_INT64);
    lvt_arena_free(&arena);
}

/* ---- ids ---- */

static void ids_are_of_version_7(void **state) {
    char first[LVT_UUID_SIZE], second[LVT_UUID_SIZE];
    (void)state;
    lvt_uuid7(0x0123456789ab, first);
    lvt_uuid7(0x0123456789ab, second);
    assert_int_equal(strlen(first), 36);
    assert_memory_equal(first, "01234567-89ab-7", 15);
    assert_non_null(strchr("89ab", first[19]));
    assert_string_not_equal(first, second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_limits),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(a_destination_is_named_or_configured),
        cmocka_unit_test(payloads_are_objects_within_the_limit),
        cmocka_unit_test(headers_are_checked),
        cmocka_unit_test(plain_one_goes_to_the_exchange),
        cmocka_unit_test(wishes_become_properties_and_headers),
        cmocka_unit_test(delayed_one_enters_the_ladder),
        cmocka_unit_test(envelope_of_its_own_stays_as_it_is),
        cmocka_unit_test(the_callers_own_trace_stands),
        cmocka_unit_test(ids_are_of_version_7),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
