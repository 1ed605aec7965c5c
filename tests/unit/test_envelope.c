/* Envelopes, paths into bodies, headers and deliveries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "event/envelope.h"

static struct lvt_delivery *delivery;
static struct lvt_envelope envelope;
static struct leveret_error err;

static int begin(void **state) {
    (void)state;
    delivery = lvt_delivery_new(256);
    memset(&envelope, 0, sizeof envelope);
    memset(&err, 0, sizeof err);
    return delivery ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    lvt_delivery_free(delivery);
    return 0;
}

/* The body is an exact copy on the heap, so that a read past its end is caught. */
static char *set_body(const char *body, size_t len) {
    char *copy = malloc(len ? len : 1);
    memcpy(copy, body, len);
    delivery->body = lvt_bytes(copy, len);
    return copy;
}

static char *kept_body; /* what the last envelope's texts point into */

static enum leveret_code read_bytes(const char *body, size_t len, enum lvt_envelope_kind kind) {
    free(kept_body);
    kept_body = set_body(body, len);
    return lvt_envelope_read(delivery, kind, &envelope, &err);
}

static void accept(const char *body, enum lvt_envelope_kind kind, const char *type,
                   const char *payload) {
    assert_int_equal(read_bytes(body, strlen(body), kind), LEVERET_OK);
    assert_true(lvt_bytes_is(envelope.type, type));
    assert_true(lvt_bytes_is(envelope.payload, payload));
}

static void refuse_bytes(const char *body, size_t len, enum lvt_envelope_kind kind,
                         const char *text) {
    struct lvt_envelope before;
    memset(&envelope, 0x5A, sizeof envelope);
    before = envelope;
    assert_int_equal(read_bytes(body, len, kind), LEVERET_MALFORMED);
    assert_int_equal(err.code, LEVERET_MALFORMED);
    assert_string_equal(err.text, text);
    assert_memory_equal(&envelope, &before, sizeof envelope);
}

static void refuse(const char *body, const char *text) {
    refuse_bytes(body, strlen(body), LVT_ENVELOPE_AUTO, text);
}

static void assert_schedule(int64_t max_attempts, int64_t delay_s, int64_t priority) {
    assert_int_equal(envelope.max_attempts, max_attempts);
    assert_int_equal(envelope.delay_s, delay_s);
    assert_int_equal(envelope.priority, priority);
}

/* ---- the known envelopes ---- */

static void event_and_payload(void **state) {
    (void)state;
    accept("{\"event\":\"ticket.created\",\"payload\":{\"id\":\"t1\"}}", LVT_ENVELOPE_AUTO,
           "ticket.created", "{\"id\":\"t1\"}");
    assert_int_equal(envelope.id.len, 0);
    assert_int_equal(envelope.time.len, 0);
    assert_schedule(-1, -1, -1);
    accept(" { \"payload\" : [ 1 , 2 ] , \"event\" : \"a\" } ", LVT_ENVELOPE_AUTO, "a",
           "[ 1 , 2 ]");
    accept("{\"event\":\"a\",\"payload\":null}", LVT_ENVELOPE_AUTO, "a", "null");
    accept("{\"event\":\"a\"}", LVT_ENVELOPE_AUTO, "a", "null");
    accept("{\"event\":\"a\",\"payload\":\"t\\n\"}", LVT_ENVELOPE_AUTO, "a", "\"t\\n\"");
    accept("{\"event\":\"a\",\"payload\":12345678901234567890.10}", LVT_ENVELOPE_EVENT, "a",
           "12345678901234567890.10");
    accept("{\"event\":\"a\",\"payload\":1,\"id\":\"e-1\",\"timestamp\":\"now\"}",
           LVT_ENVELOPE_AUTO, "a", "1");
    assert_true(lvt_bytes_is(envelope.id, "e-1"));
    assert_true(lvt_bytes_is(envelope.time, "now"));
    /* What the other envelopes know means nothing here. */
    accept("{\"event\":\"a\",\"payload\":1,\"priority\":\"high\",\"item\":2}", LVT_ENVELOPE_AUTO,
           "a", "1");
    assert_schedule(-1, -1, -1);
}

static void type_item_timestamp(void **state) {
    (void)state;
    accept("{\"type\":\"item.created\",\"item\":{\"id\":7},\"timestamp\":\"2024-01-02T03:04:05Z\"}",
           LVT_ENVELOPE_AUTO, "item.created", "{\"id\":7}");
    assert_true(lvt_bytes_is(envelope.time, "2024-01-02T03:04:05Z"));
    accept("{\"type\":\"a\",\"item\":1,\"timestamp\":1700000000.25}", LVT_ENVELOPE_ITEM, "a", "1");
    assert_true(lvt_bytes_is(envelope.time, "1700000000.25"));
    accept("{\"type\":\"a\",\"item\":1,\"timestamp\":{}}", LVT_ENVELOPE_ITEM, "a", "1");
    assert_int_equal(envelope.time.len, 0);
    accept("{\"type\":\"a\"}", LVT_ENVELOPE_ITEM, "a", "null");
    accept("{\"type\":\"a\",\"item\":1,\"payload\":2}", LVT_ENVELOPE_ITEM, "a", "1");
    accept("{\"type\":\"a\",\"item\":1,\"payload\":2}", LVT_ENVELOPE_AUTO, "a", "2");
}

static void message(void **state) {
    (void)state;
    accept(
        "{\"id\":\"m-1\",\"type\":\"email\",\"payload\":{\"to\":\"x\"},\"max_attempts\":5,"
        "\"delay\":60,\"priority\":9,\"created_at\":\"2024-01-02T03:04:05Z\"}",
        LVT_ENVELOPE_AUTO, "email", "{\"to\":\"x\"}");
    assert_true(lvt_bytes_is(envelope.id, "m-1"));
    assert_true(lvt_bytes_is(envelope.time, "2024-01-02T03:04:05Z"));
    assert_schedule(5, 60, 9);
    /* What a Go program sends for what it never set. */
    accept(
        "{\"id\":\"\",\"type\":\"email\",\"payload\":1,\"max_attempts\":0,\"delay\":0,"
        "\"priority\":0}",
        LVT_ENVELOPE_AUTO, "email", "1");
    assert_int_equal(envelope.id.len, 0);
    assert_schedule(-1, 0, 0);
    accept(
        "{\"type\":\"email\",\"max_attempts\":null,\"delay\":null,\"priority\":null,\"id\":null,"
        "\"created_at\":null}",
        LVT_ENVELOPE_MESSAGE, "email", "null");
    assert_schedule(-1, -1, -1);
    accept("{\"type\":\"email\",\"delay\":2147483647}", LVT_ENVELOPE_AUTO, "email", "null");
    assert_schedule(-1, INT32_MAX, -1);

    static const char *const wrong[] = {"-1", "1.0", "1e3", "\"5\"", "2147483648", "true", "[]"};
    static const char *const names[] = {"max_attempts", "delay", "priority"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        for (size_t k = 0; k < 3; k++) {
            char body[100], text[100];
            snprintf(body, sizeof body, "{\"type\":\"t\",\"%s\":%s}", names[k], wrong[i]);
            snprintf(text, sizeof text, "%s is not a whole number from 0 to 2147483647", names[k]);
            refuse(body, text);
        }
    }
}

static void structured_cloudevents(void **state) {
    (void)state;
    accept(
        "{\"specversion\":\"1.0\",\"type\":\"com.x.y\",\"source\":\"/s\",\"id\":\"A-1\","
        "\"time\":\"2018-04-05T17:31:00Z\",\"data\":{\"a\":[]}}",
        LVT_ENVELOPE_AUTO, "com.x.y", "{\"a\":[]}");
    assert_true(lvt_bytes_is(envelope.id, "A-1"));
    assert_true(lvt_bytes_is(envelope.time, "2018-04-05T17:31:00Z"));
    accept("{\"specversion\":\"1.0\",\"type\":\"t\",\"id\":\"1\",\"data_base64\":\"AAE=\"}",
           LVT_ENVELOPE_CLOUDEVENTS, "t", "\"AAE=\"");
    accept("{\"specversion\":\"1.0\",\"type\":\"t\",\"id\":\"1\"}", LVT_ENVELOPE_CLOUDEVENTS, "t",
           "null");
    accept("{\"specversion\":\"1.0\",\"event\":\"e\",\"payload\":1}", LVT_ENVELOPE_AUTO, "e", "1");
}

static struct lvt_header header(const char *name, const char *text) {
    return (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_STRING, .value.bytes = lvt_bytes_of(text)};
}

static void binary_cloudevents(void **state) {
    (void)state;
    static const char *const prefixes[] = {"cloudEvents:", "cloudEvents_", "ce-", "ce_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        char names[4][40];
        static const char *const attributes[] = {"specversion", "type", "id", "time"};
        for (size_t k = 0; k < 4; k++) {
            snprintf(names[k], sizeof names[k], "%s%s", prefixes[i], attributes[k]);
        }
        struct lvt_header items[] = {header("other", "x"),        header(names[0], "1.0"),
                                     header(names[1], "com.x.y"), header(names[2], "A-1"),
                                     header(names[3], "noon"),    header(names[1], "second")};
        delivery->properties.headers = (struct lvt_headers){items, 6};
        accept("{\"event\":\"not.this\",\"payload\":1}", LVT_ENVELOPE_AUTO, "com.x.y",
               "{\"event\":\"not.this\",\"payload\":1}");
        assert_true(lvt_bytes_is(envelope.id, "A-1"));
        assert_true(lvt_bytes_is(envelope.time, "noon"));
        accept("[1]", LVT_ENVELOPE_CLOUDEVENTS, "com.x.y", "[1]");
        accept("", LVT_ENVELOPE_AUTO, "com.x.y", "null");
        refuse("nope", "the body is not JSON: unexpected 'o' at byte 1");
        /* An explicit kind looks at nothing else. */
        accept("{\"event\":\"e\",\"payload\":1}", LVT_ENVELOPE_EVENT, "e", "1");

        items[2] = header("ce-extension", "x"); /* the later type is found now */
        accept("1", LVT_ENVELOPE_AUTO, "second", "1");
        items[5] = header(names[1], "\xFF");
        refuse("1", "the type is not valid UTF-8");
        items[5] = header(names[1], "a\nb");
        refuse("1", "the type has a control character");
        items[5] = header(names[1], "ok");
        items[3] = header(names[2], "\xC3");
        refuse("1", "the id is not valid UTF-8");
        delivery->properties.headers.count = 2; /* no type: not binary */
        accept("{\"event\":\"e\"}", LVT_ENVELOPE_AUTO, "e", "null");
        refuse_bytes("{\"event\":\"e\"}", 13, LVT_ENVELOPE_CLOUDEVENTS,
                     "the envelope names no event type: expected CloudEvents' specversion and "
                     "type, in the headers or in the body");
    }
    struct lvt_header numbers[] = {
        header("ce-specversion", "1.0"),
        {.name = LVT_LITERAL("ce-type"), .kind = LVT_HEADER_INT32, .value.integer = 7}};
    delivery->properties.headers = (struct lvt_headers){numbers, 2};
    accept("{\"event\":\"e\"}", LVT_ENVELOPE_AUTO, "e", "null");
}

/* ---- what is wrong with a body ---- */

static void bad_bodies(void **state) {
    (void)state;
    refuse("", "the body is empty");
    refuse("  ", "the body is not JSON: unexpected end at byte 2");
    refuse("hello", "the body is not JSON: unexpected 'h' at byte 0");
    refuse("{\"event\":\"a\",\"payload\":x}", "the body is not JSON: unexpected 'x' at byte 23");
    refuse_bytes("{\"event\":\"a\"}\0", 14, LVT_ENVELOPE_AUTO,
                 "the body is not JSON: a NUL byte at byte 13");
    refuse("{\"event\":\"\xFF\"}", "the body is not JSON: invalid UTF-8 at byte 10");
    refuse("[]", "the body is not an object but an array");
    refuse("\"event\"", "the body is not an object but a text");
    refuse("1", "the body is not an object but a number");
    refuse("null", "the body is not an object but null");
    refuse("true", "the body is not an object but a boolean");
    refuse("false", "the body is not an object but a boolean");
    refuse("{}", "the envelope names no event type: expected a member \"event\" or \"type\"");
    refuse("{\"payload\":{\"event\":\"a\",\"type\":\"b\"}}",
           "the envelope names no event type: expected a member \"event\" or \"type\"");
    refuse("{\"Event\":\"a\"}",
           "the envelope names no event type: expected a member \"event\" or \"type\"");

    size_t depth = 1000000;
    char *deep = malloc(depth);
    memset(deep, '[', depth);
    refuse_bytes(deep, depth, LVT_ENVELOPE_AUTO,
                 "the body is nested deeper than 64 levels at byte 64");
    free(deep);
}

static void bad_types(void **state) {
    (void)state;
    refuse("{\"event\":1}", "the type is not a text");
    refuse("{\"event\":null}", "the type is not a text");
    refuse("{\"type\":{\"a\":1}}", "the type is not a text");
    refuse("{\"event\":\"\"}", "the type is an empty text");
    refuse("{\"event\":\"a\\u0000b\"}", "the type has a control character");
    refuse("{\"event\":\"a\\nb\"}", "the type has a control character");
    refuse("{\"event\":\"\\u007f\"}", "the type has a control character");
    refuse("{\"event\":\"\\u009b\"}", "the type has a control character");

    char body[8000], type[300];
    memset(type, 't', sizeof type);
    type[255] = '\0';
    snprintf(body, sizeof body, "{\"event\":\"%s\"}", type);
    accept(body, LVT_ENVELOPE_AUTO, type, "null");
    snprintf(body, sizeof body, "{\"event\":\"%st\"}", type);
    refuse(body, "the type is longer than 255 bytes");
    /* 255 characters of six bytes each, which are 255 bytes in the end; and one more */
    size_t len = (size_t)sprintf(body, "{\"event\":\"");
    for (int i = 0; i < 255; i++) {
        len += (size_t)sprintf(body + len, "\\u0074");
    }
    strcpy(body + len, "\"}");
    accept(body, LVT_ENVELOPE_AUTO, type, "null");
    strcpy(body + len, "\\u0074\"}");
    refuse(body, "the type is longer than 255 bytes");
}

static void explicit_kinds_accept_their_own(void **state) {
    (void)state;
    static const char event[] = "{\"event\":\"a\",\"payload\":1}";
    static const char item[] = "{\"type\":\"a\",\"item\":1}";
    refuse_bytes(event, sizeof event - 1, LVT_ENVELOPE_ITEM,
                 "the envelope names no event type: expected a member \"type\"");
    refuse_bytes(event, sizeof event - 1, LVT_ENVELOPE_MESSAGE,
                 "the envelope names no event type: expected a member \"type\"");
    refuse_bytes(item, sizeof item - 1, LVT_ENVELOPE_EVENT,
                 "the envelope names no event type: expected a member \"event\"");
    refuse_bytes(item, sizeof item - 1, LVT_ENVELOPE_CLOUDEVENTS,
                 "the envelope names no event type: expected CloudEvents' specversion and type, "
                 "in the headers or in the body");
}

static void ids(void **state) {
    (void)state;
    static const struct {
        const char *json, *id;
    } cases[] = {{"\"abc\"", "abc"},
                 {"12345678901234567890", "12345678901234567890"},
                 {"1.50", "1.50"},
                 {"-0", "-0"},
                 {"\"\\u00e9\\n\"", "\xC3\xA9\n"},
                 {"\"\"", ""},
                 {"null", ""}};
    char body[200];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(body, sizeof body, "{\"type\":\"t\",\"id\":%s}", cases[i].json);
        accept(body, LVT_ENVELOPE_AUTO, "t", "null");
        assert_true(lvt_bytes_is(envelope.id, cases[i].id));
    }
    refuse("{\"type\":\"t\",\"id\":{}}", "the id is neither a text nor a number");
    refuse("{\"type\":\"t\",\"id\":[1]}", "the id is neither a text nor a number");
    refuse("{\"type\":\"t\",\"id\":true}", "the id is neither a text nor a number");
    refuse("{\"type\":\"t\",\"id\":\"a\\u0000\"}", "the id has a NUL character");
}

static void keys_are_read_once_and_unescaped(void **state) {
    (void)state;
    accept(
        "{\"event\":\"first\",\"event\":\"second\",\"payload\":1,\"payload\":2,\"id\":null,"
        "\"id\":\"late\"}",
        LVT_ENVELOPE_AUTO, "first", "1");
    assert_int_equal(envelope.id.len, 0);
    accept("{\"\\u0065v\\u0065nt\":\"\\u0061.b\",\"p\\u0061yload\":\"\\u0061\"}", LVT_ENVELOPE_AUTO,
           "a.b", "\"\\u0061\"");
    /* A key with escapes that is longer than any known one */
    char body[2000] = "{\"";
    for (int i = 0; i < 200; i++) {
        strcat(body, "\\u0065");
    }
    strcat(body, "\":1,\"event\":\"a\"}");
    accept(body, LVT_ENVELOPE_AUTO, "a", "null");
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    static const char body[] =
        "{\"id\":\"m\\u00e9\",\"type\":\"email\",\"payload\":{\"a\":[1,2.5]},"
        "\"max_attempts\":5,\"delay\":60,\"created_at\":\"x\"}";
    for (size_t len = 0; len < sizeof body - 1; len++) {
        assert_int_equal(read_bytes(body, len, LVT_ENVELOPE_AUTO), LEVERET_MALFORMED);
    }
    assert_int_equal(read_bytes(body, sizeof body - 1, LVT_ENVELOPE_AUTO), LEVERET_OK);
}

/* ---- paths ---- */

static void scalars_at_paths(void **state) {
    (void)state;
    struct lvt_bytes body = LVT_LITERAL(
        "{\"id\":9007199254740993,\"payload\":{\"ticket\":{\"id\":\"t-\\u00e9\",\"ok\":true,"
        "\"no\":false,\"nil\":null,\"list\":[{\"id\":1}],\"id\":\"second\"},\"x\":1},"
        "\"payload\":{\"y\":2},\"a.b\":3,\"\":4}");
    static const struct {
        const char *path, *text;
    } cases[] = {
        {"id", "9007199254740993"},
        {"payload.ticket.id", "t-\xC3\xA9"},
        {"payload.ticket.ok", "true"},
        {"payload.ticket.no", "false"},
        {"payload.x", "1"},
        {"payload.y", NULL}, /* the first payload has none */
        {"payload.ticket.nil", NULL},
        {"payload.ticket.list", NULL},
        {"payload.ticket.list.id", NULL},
        {"payload.ticket", NULL},
        {"payload.ticket.id.more", NULL},
        {"payload.none.id", NULL},
        {"a.b", NULL},
        {"i", NULL},
        {"idd", NULL},
        {"", "4"},
        {".", NULL},
        {"payload.", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lvt_bytes text = LVT_LITERAL("untouched");
        bool found = lvt_json_scalar_at(body, cases[i].path, &delivery->arena, &text);
        assert_int_equal(found, cases[i].text != NULL);
        assert_true(lvt_bytes_is(text, found ? cases[i].text : "untouched"));
    }
    struct lvt_bytes text;
    assert_false(lvt_json_scalar_at(LVT_LITERAL("[1]"), "id", &delivery->arena, &text));
    assert_false(lvt_json_scalar_at(LVT_LITERAL("\"id\""), "id", &delivery->arena, &text));
    assert_false(lvt_json_scalar_at(lvt_bytes(NULL, 0), "id", &delivery->arena, &text));
}

/* ---- headers ---- */

static void headers_are_found(void **state) {
    (void)state;
    struct lvt_header items[] = {header("a", "1"), header("ab", "2"), header("a", "3")};
    struct lvt_headers headers = {items, 3}, none = {NULL, 0};
    assert_ptr_equal(lvt_headers_find(&headers, "a"), &items[0]);
    assert_ptr_equal(lvt_headers_find(&headers, "ab"), &items[1]);
    assert_null(lvt_headers_find(&headers, "abc"));
    assert_null(lvt_headers_find(&headers, "A"));
    assert_null(lvt_headers_find(&none, "a"));
}

static void header_integers(void **state) {
    (void)state;
    static const enum lvt_header_kind signed_kinds[] = {LVT_HEADER_INT8, LVT_HEADER_INT16,
                                                        LVT_HEADER_INT32, LVT_HEADER_INT64};
    static const enum lvt_header_kind unsigned_kinds[] = {LVT_HEADER_UINT8, LVT_HEADER_UINT16,
                                                          LVT_HEADER_UINT32, LVT_HEADER_UINT64};
    int64_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        struct lvt_header h = {.kind = signed_kinds[i], .value.integer = -5};
        assert_true(lvt_header_integer(&h, &value));
        assert_int_equal(value, -5);
        h = (struct lvt_header){.kind = unsigned_kinds[i], .value.unsigned_integer = 200};
        assert_true(lvt_header_integer(&h, &value));
        assert_int_equal(value, 200);
    }
    struct lvt_header huge = {.kind = LVT_HEADER_UINT64,
                              .value.unsigned_integer = (uint64_t)INT64_MAX + 1};
    assert_false(lvt_header_integer(&huge, &value));
    assert_false(lvt_header_integer(NULL, &value));

    static const struct {
        const char *text;
        bool ok;
        int64_t value;
    } texts[] = {{"0", true, 0},
                 {"3", true, 3},
                 {"-3", true, -3},
                 {"007", true, 7},
                 {"9223372036854775807", true, INT64_MAX},
                 {"-9223372036854775808", true, INT64_MIN},
                 {"9223372036854775808", false, 0},
                 {"-9223372036854775809", false, 0},
                 {"", false, 0},
                 {"-", false, 0},
                 {"+3", false, 0},
                 {" 3", false, 0},
                 {"3 ", false, 0},
                 {"3.0", false, 0},
                 {"0x3", false, 0}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct lvt_header h = header("h", texts[i].text);
        value = 4711;
        assert_int_equal(lvt_header_integer(&h, &value), texts[i].ok);
        assert_true(value == (texts[i].ok ? texts[i].value : 4711));
    }
    static const enum lvt_header_kind others[] = {
        LVT_HEADER_BOOLEAN, LVT_HEADER_FLOAT,     LVT_HEADER_DOUBLE, LVT_HEADER_DECIMAL,
        LVT_HEADER_ARRAY,   LVT_HEADER_TIMESTAMP, LVT_HEADER_TABLE,  LVT_HEADER_VOID};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct lvt_header h = {.kind = others[i]};
        assert_false(lvt_header_integer(&h, &value));
    }
}

static void header_depth_is_counted_to_its_limit(void **state) {
    (void)state;
    enum { LEVELS = 200000 };
    struct lvt_headers flat = {(struct lvt_header[]){header("a", "1")}, 1}, none = {NULL, 0};
    assert_int_equal(lvt_headers_depth(&none, 64), 0);
    assert_int_equal(lvt_headers_depth(&flat, 64), 0);

    struct lvt_header *chain = calloc(LEVELS, sizeof *chain);
    for (size_t i = 0; i < LEVELS; i++) {
        chain[i].kind = i % 2 ? LVT_HEADER_TABLE : LVT_HEADER_ARRAY;
        chain[i].value.nested = (struct lvt_headers){i ? &chain[i - 1] : NULL, i ? 1 : 0};
    }
    struct lvt_headers deep = {&chain[LEVELS - 1], 1};
    assert_int_equal(lvt_headers_depth(&deep, 64), 65); /* and did not go down 200,000 levels */
    struct lvt_headers at_limit = {&chain[63], 1}, over = {&chain[64], 1};
    assert_int_equal(lvt_headers_depth(&at_limit, 64), 64);
    assert_int_equal(lvt_headers_depth(&over, 64), 65);
    struct lvt_header mixed[] = {header("a", "1"), chain[1], chain[9], chain[3]};
    struct lvt_headers several = {mixed, 4};
    assert_int_equal(lvt_headers_depth(&several, 64), 10);
    assert_int_equal(lvt_headers_depth(&several, 0), 1);
    free(chain);
}

static void a_delivery_is_zeroed_and_one_block(void **state) {
    (void)state;
    struct lvt_delivery *d = lvt_delivery_new(1000);
    assert_null(d->next);
    assert_int_equal(d->tag, 0);
    assert_false(d->settled);
    char *text = lvt_arena_alloc(&d->arena, 1000);
    assert_true(text > (char *)d && text < (char *)d + 1000 + sizeof *d);
    memset(text, 'x', 1000);
    assert_non_null(lvt_arena_alloc(&d->arena, 100000));
    lvt_delivery_free(d);
    assert_null(lvt_delivery_new(SIZE_MAX));
    lvt_delivery_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(event_and_payload, begin, end),
        cmocka_unit_test_setup_teardown(type_item_timestamp, begin, end),
        cmocka_unit_test_setup_teardown(message, begin, end),
        cmocka_unit_test_setup_teardown(structured_cloudevents, begin, end),
        cmocka_unit_test_setup_teardown(binary_cloudevents, begin, end),
        cmocka_unit_test_setup_teardown(bad_bodies, begin, end),
        cmocka_unit_test_setup_teardown(bad_types, begin, end),
        cmocka_unit_test_setup_teardown(explicit_kinds_accept_their_own, begin, end),
        cmocka_unit_test_setup_teardown(ids, begin, end),
        cmocka_unit_test_setup_teardown(keys_are_read_once_and_unescaped, begin, end),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(scalars_at_paths, begin, end),
        cmocka_unit_test(headers_are_found),
        cmocka_unit_test(header_integers),
        cmocka_unit_test(header_depth_is_counted_to_its_limit),
        cmocka_unit_test(a_delivery_is_zeroed_and_one_block),
    };
    int failed = cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
    free(kept_body);
    return failed;
}
