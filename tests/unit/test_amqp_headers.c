#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "broker/amqp_headers.h"

#define B LVT_LITERAL

/* Over the wire: to the library's types, encoded, decoded, and back. */
struct trip {
    struct lvt_arena arena;
    amqp_pool_t pool;
    char *wire;
    size_t size;
    struct lvt_properties back;
};

#define WIRE_MAX 131072

static void take_trip(const struct lvt_properties *in, struct trip *trip) {
    amqp_basic_properties_t out;
    struct leveret_error err;
    lvt_arena_init(&trip->arena, 0);
    init_amqp_pool(&trip->pool, 4096);
    trip->wire = malloc(WIRE_MAX);
    assert_int_equal(lvt_properties_to_amqp(in, &trip->arena, &out, &trip->size, &err), 0);
    int encoded = amqp_encode_properties(AMQP_BASIC_CLASS, &out,
                                         (amqp_bytes_t){.len = WIRE_MAX, .bytes = trip->wire});
    assert_int_equal(encoded, trip->size);
    void *decoded;
    amqp_bytes_t raw = {.len = trip->size, .bytes = trip->wire};
    assert_int_equal(amqp_decode_properties(AMQP_BASIC_CLASS, &trip->pool, raw, &decoded), 0);
    assert_true(lvt_properties_from_amqp(decoded, lvt_from_amqp(raw), &trip->arena, &trip->back));
    /* Nothing may point into what the library frees. */
    memset(trip->wire, 'Z', WIRE_MAX);
    empty_amqp_pool(&trip->pool);
}

static void end_trip(struct trip *trip) {
    free(trip->wire);
    lvt_arena_free(&trip->arena);
}

static void assert_bytes(struct lvt_bytes bytes, const char *text) {
    assert_int_equal(bytes.len, strlen(text));
    assert_memory_equal(bytes.data, text, bytes.len);
}

static void test_all_properties(void **state) {
    (void)state;
    struct lvt_properties in = {.present = (1 << 14) - 1,
                                .delivery_mode = 2,
                                .priority = 9,
                                .timestamp = UINT64_MAX,
                                .content_type = B("a/b"),
                                .content_encoding = B("gzip"),
                                .correlation_id = B("c"),
                                .reply_to = B("r"),
                                .expiration = B("60"),
                                .message_id = B("m\0x"),
                                .type = B(""),
                                .user_id = B("u"),
                                .app_id = B("app"),
                                .cluster_id = B("cl")};
    struct trip trip;
    take_trip(&in, &trip);
    const struct lvt_properties *back = &trip.back;
    assert_int_equal(back->present, in.present);
    assert_int_equal(back->delivery_mode, 2);
    assert_int_equal(back->priority, 9);
    assert_true(back->timestamp == UINT64_MAX);
    assert_bytes(back->content_type, "a/b");
    assert_bytes(back->content_encoding, "gzip");
    assert_bytes(back->correlation_id, "c");
    assert_bytes(back->reply_to, "r");
    assert_bytes(back->expiration, "60");
    assert_int_equal(back->message_id.len, 3);
    assert_memory_equal(back->message_id.data, "m\0x", 3);
    assert_bytes(back->type, "");
    assert_bytes(back->user_id, "u");
    assert_bytes(back->app_id, "app");
    assert_bytes(back->cluster_id, "cl");
    assert_int_equal(back->headers.count, 0);
    end_trip(&trip);
}

static void test_what_is_absent_stays_absent(void **state) {
    (void)state;
    struct lvt_properties in = {.present = LVT_HAS_TYPE, .type = B("t"), .message_id = B("not me")};
    struct trip trip;
    take_trip(&in, &trip);
    assert_int_equal(trip.back.present, LVT_HAS_TYPE);
    assert_int_equal(trip.back.message_id.len, 0);
    end_trip(&trip);
}

static void test_every_kind_is_kept(void **state) {
    (void)state;
    struct lvt_header inner[] = {{.name = B("x"), .kind = 'S', .value.bytes = B("y")}};
    struct lvt_header items[] = {{.kind = 'V'}, {.kind = 'b', .value.integer = -5}};
    struct lvt_header all[] = {
        {.name = B("t"), .kind = 't', .value.boolean = true},
        {.name = B("b"), .kind = 'b', .value.integer = INT8_MIN},
        {.name = B("B"), .kind = 'B', .value.unsigned_integer = UINT8_MAX},
        {.name = B("s"), .kind = 's', .value.integer = INT16_MIN},
        {.name = B("u"), .kind = 'u', .value.unsigned_integer = UINT16_MAX},
        {.name = B("I"), .kind = 'I', .value.integer = INT32_MIN},
        {.name = B("i"), .kind = 'i', .value.unsigned_integer = UINT32_MAX},
        {.name = B("l"), .kind = 'l', .value.integer = INT64_MIN},
        {.name = B("L"), .kind = 'L', .value.unsigned_integer = UINT64_MAX},
        {.name = B("f"), .kind = 'f', .value.number = 0.5},
        {.name = B("d"), .kind = 'd', .value.number = 0.1},
        {.name = B("D"), .kind = 'D', .value.decimal = {3, UINT32_MAX}},
        {.name = B("S"), .kind = 'S', .value.bytes = B("te\0xt")},
        {.name = B("x"), .kind = 'x', .value.bytes = B("")},
        {.name = B("A"), .kind = 'A', .value.nested = {items, 2}},
        {.name = B("T"), .kind = 'T', .value.unsigned_integer = UINT64_C(1) << 40},
        {.name = B("F"), .kind = 'F', .value.nested = {inner, 1}},
        {.name = B("V"), .kind = 'V'},
    };
    size_t count = sizeof all / sizeof *all;
    struct lvt_properties in = {.present = LVT_HAS_HEADERS, .headers = {all, count}};
    struct trip trip;
    take_trip(&in, &trip);
    const struct lvt_header *back = trip.back.headers.items;
    assert_int_equal(trip.back.headers.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(back[i].kind, all[i].kind);
        assert_true(lvt_bytes_equal(back[i].name, all[i].name));
    }
    assert_true(back[0].value.boolean);
    assert_true(back[1].value.integer == INT8_MIN && back[3].value.integer == INT16_MIN);
    assert_true(back[5].value.integer == INT32_MIN && back[7].value.integer == INT64_MIN);
    assert_true(back[2].value.unsigned_integer == UINT8_MAX);
    assert_true(back[4].value.unsigned_integer == UINT16_MAX);
    assert_true(back[6].value.unsigned_integer == UINT32_MAX);
    assert_true(back[8].value.unsigned_integer == UINT64_MAX);
    assert_true(back[9].value.number == 0.5 && back[10].value.number == 0.1);
    assert_int_equal(back[11].value.decimal.decimals, 3);
    assert_true(back[11].value.decimal.value == UINT32_MAX);
    assert_true(lvt_bytes_equal(back[12].value.bytes, all[12].value.bytes));
    assert_int_equal(back[13].value.bytes.len, 0);
    assert_int_equal(back[14].value.nested.count, 2);
    assert_int_equal(back[14].value.nested.items[1].value.integer, -5);
    assert_true(back[15].value.unsigned_integer == UINT64_C(1) << 40);
    assert_bytes(back[16].value.nested.items[0].value.bytes, "y");
    end_trip(&trip);
}

static void test_what_cannot_be_sent_is_refused(void **state) {
    (void)state;
    char text[256];
    memset(text, 'a', sizeof text);
    struct lvt_header header = {.name = {text, 256}, .kind = 'V'};
    struct lvt_properties long_name = {.present = LVT_HAS_HEADERS, .headers = {&header, 1}};
    struct lvt_properties long_id = {.present = LVT_HAS_MESSAGE_ID, .message_id = {text, 256}};
    struct lvt_properties fits = {.present = LVT_HAS_MESSAGE_ID, .message_id = {text, 255}};
    amqp_basic_properties_t out;
    struct lvt_arena arena;
    struct leveret_error err;
    size_t size;
    lvt_arena_init(&arena, 0);
    assert_int_equal(lvt_properties_to_amqp(&long_name, &arena, &out, &size, &err),
                     LEVERET_INVALID);
    assert_int_equal(lvt_properties_to_amqp(&long_id, &arena, &out, &size, &err), LEVERET_INVALID);
    assert_non_null(strstr(err.text, "message_id"));
    assert_int_equal(lvt_properties_to_amqp(&fits, &arena, &out, &size, &err), LEVERET_OK);
    lvt_arena_free(&arena);
}

/* As deep as a frame allows: a table in a table costs six bytes. */
#define DEEP 21000

static void *deep_trip(void *arg) {
    (void)arg;
    struct lvt_header *levels = calloc(DEEP, sizeof *levels);
    for (size_t i = 0; i < DEEP; i++) {
        levels[i].name = B("");
        levels[i].kind = i % 2 ? 'A' : 'F';
        if (i > 0) {
            levels[i].value.nested = (struct lvt_headers){&levels[i - 1], 1};
        }
    }
    struct lvt_properties in = {.present = LVT_HAS_HEADERS, .headers = {&levels[DEEP - 1], 1}};
    struct trip trip;
    take_trip(&in, &trip);
    size_t depth = lvt_headers_depth(&trip.back.headers, DEEP * 2);
    end_trip(&trip);
    free(levels);
    return (void *)(uintptr_t)depth;
}

static void test_nested_as_deep_as_a_frame(void **state) {
    (void)state;
    pthread_attr_t attributes;
    pthread_t thread;
    void *depth;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, LVT_AMQP_STACK);
    assert_int_equal(pthread_create(&thread, &attributes, deep_trip, NULL), 0);
    pthread_join(thread, &depth);
    pthread_attr_destroy(&attributes);
    assert_in_range((uintptr_t)depth, DEEP - 1, DEEP);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_properties),
        cmocka_unit_test(test_what_is_absent_stays_absent),
        cmocka_unit_test(test_every_kind_is_kept),
        cmocka_unit_test(test_what_cannot_be_sent_is_refused),
        cmocka_unit_test(test_nested_as_deep_as_a_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
