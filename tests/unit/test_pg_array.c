#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ledger/pg_array.h"

static void expect_bytes(const struct lvt_pg_array *array, const char *bytes, size_t len) {
    assert_int_equal(array->buffer.len, len);
    assert_memory_equal(array->buffer.data, bytes, len);
}

static void test_empty(void **state) {
    static const char expected[] = "\0\0\0\0\0\0\0\0\0\0\0\x14";
    struct lvt_pg_array array;
    (void)state;
    lvt_pg_array_init(&array, LVT_PG_INT8);
    lvt_pg_array_begin(&array);
    assert_true(lvt_pg_array_end(&array));
    expect_bytes(&array, expected, 12);
    lvt_pg_array_free(&array);
}

static void test_int8(void **state) {
    static const char expected[] =
        "\0\0\0\1\0\0\0\0\0\0\0\x14\0\0\0\2\0\0\0\1"
        "\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe"
        "\0\0\0\x08\1\2\3\4\5\6\7\x08";
    struct lvt_pg_array array;
    (void)state;
    lvt_pg_array_init(&array, LVT_PG_INT8);
    for (int i = 0; i < 2; i++) { /* used again, it forgets what it held */
        lvt_pg_array_begin(&array);
        lvt_pg_array_int8(&array, -2);
        lvt_pg_array_int8(&array, 0x0102030405060708);
        assert_true(lvt_pg_array_end(&array));
        expect_bytes(&array, expected, sizeof expected - 1);
    }
    lvt_pg_array_free(&array);
}

static void test_uuid(void **state) {
    static const char expected[] =
        "\0\0\0\1\0\0\0\0\0\0\x0b\x86\0\0\0\1\0\0\0\1"
        "\0\0\0\x10"
        "0123456789abcdef";
    struct lvt_pg_array array;
    (void)state;
    lvt_pg_array_init(&array, LVT_PG_UUID);
    lvt_pg_array_begin(&array);
    lvt_pg_array_uuid(&array, (const unsigned char *)"0123456789abcdef");
    assert_true(lvt_pg_array_end(&array));
    expect_bytes(&array, expected, sizeof expected - 1);
    lvt_pg_array_free(&array);
}

static void test_text(void **state) {
    static const char expected[] =
        "\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\3\0\0\0\1"
        "\0\0\0\2hi"
        "\0\0\0\0"
        "\0\0\0\2\xc3\xa9";
    struct lvt_pg_array array;
    (void)state;
    lvt_pg_array_init(&array, LVT_PG_TEXT);
    lvt_pg_array_begin(&array);
    lvt_pg_array_text(&array, LVT_LITERAL("hi"));
    lvt_pg_array_text(&array, lvt_bytes(NULL, 0));
    lvt_pg_array_text(&array, LVT_LITERAL("\xc3\xa9"));
    assert_true(lvt_pg_array_end(&array));
    expect_bytes(&array, expected, sizeof expected - 1);
    lvt_pg_array_free(&array);
}

static void expect_text(struct lvt_bytes in, const char *expected) {
    struct lvt_buffer buffer;
    lvt_buffer_init(&buffer, 1000);
    lvt_pg_text(&buffer, in);
    assert_int_equal(buffer.len, strlen(expected));
    assert_string_equal(buffer.data, expected);
    lvt_buffer_free(&buffer);
}

/* What PostgreSQL would refuse is replaced, so that one odd id cannot hold up a batch for ever. */
static void test_text_is_made_valid(void **state) {
    (void)state;
    expect_text(LVT_LITERAL("a\0b"),
                "a\xef\xbf\xbd"
                "b");
    expect_text(LVT_LITERAL("\xff"), "\xef\xbf\xbd");
    expect_text(LVT_LITERAL("x\xe2\x82"), "x\xef\xbf\xbd\xef\xbf\xbd");
    expect_text(LVT_LITERAL("\xed\xa0\x80!"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd!");
    expect_text(LVT_LITERAL("\xf0\x9f\x90\x87 hare"), "\xf0\x9f\x90\x87 hare");
}

static void test_over_its_limit(void **state) {
    struct lvt_pg_array array;
    (void)state;
    lvt_pg_array_init(&array, LVT_PG_INT8);
    array.buffer.max = 40;
    lvt_pg_array_begin(&array);
    lvt_pg_array_int8(&array, 1);
    assert_true(lvt_pg_array_end(&array));
    lvt_pg_array_int8(&array, 2);
    assert_false(lvt_pg_array_end(&array));
    lvt_pg_array_free(&array);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_int8),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_is_made_valid),
        cmocka_unit_test(test_over_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
