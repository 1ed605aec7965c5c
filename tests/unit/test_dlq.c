#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "dlq/filter.h"
#include "dlq/groups.h"

/* ---- fingerprints ---- */

static void expect_fold(const char *error, const char *expected) {
    char text[512];
    struct lvt_buffer out;
    lvt_buffer_init_fixed(&out, text, sizeof text);
    lvt_error_fold(lvt_bytes_of(error), &out);
    assert_false(out.failed);
    assert_string_equal(text, expected);
}

static void test_variable_parts_are_folded(void **state) {
    (void)state;
    expect_fold("", "");
    expect_fold("row 17 of 4000", "row # of #");
    expect_fold("handlers/a.lua:12: no such user 'ann'", "handlers/a.lua:#: no such user '#'");
    expect_fold("took 1.5 s at 10.0.0.17:8080", "took # s at #:#");
    expect_fold("order 550e8400-e29b-41d4-a716-446655440000 failed", "order # failed");
    expect_fold("at 0x7ffe12ab, commit deadbeefdeadbeef, tag e29b", "at #, commit #, tag #");
    expect_fold("id 01ARZ3NDEKTSV4RRFFQ69G5FAV", "id #");
    expect_fold("utf8 and md5 of ticket42", "utf# and md# of ticket#");
    expect_fold("key \"a b 7\" and `c`", "key \"#\" and `#`");
    expect_fold("it isn't there, it can't be", "it isn't there, it can't be");
    expect_fold("  two\n\t lines  ", "two lines");
    expect_fold("an open ' quote", "an open ' quote");
    expect_fold("facade", "facade");
}

static void fingerprint_of(const char *error, char ret[LVT_FINGERPRINT_LEN + 1]) {
    lvt_fingerprint(lvt_bytes_of(error), ret);
}

/* People keep them: these must never change. */
static void test_fingerprints_are_stable(void **state) {
    char first[LVT_FINGERPRINT_LEN + 1], second[LVT_FINGERPRINT_LEN + 1];
    (void)state;
    fingerprint_of("", first);
    assert_string_equal(first, "e3b0c442");
    fingerprint_of("row # of #", first);
    fingerprint_of("row 17 of 4000", second);
    assert_string_equal(first, second);
    fingerprint_of("column 17 of 4000", second);
    assert_string_not_equal(first, second);
}

/* Of any bytes, and of more than a header holds. */
static void test_a_fingerprint_of_anything(void **state) {
    char all[4096], print[LVT_FINGERPRINT_LEN + 1];
    (void)state;
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)(i * 7);
    for (size_t len = 0; len < sizeof all; len += 13) {
        char *exact = malloc(len + 1);
        assert_non_null(exact);
        memcpy(exact, all, len);
        lvt_fingerprint(lvt_bytes(exact, len), print);
        assert_int_equal(strspn(print, "0123456789abcdef"), LVT_FINGERPRINT_LEN);
        free(exact);
    }
}

/* ---- letters ---- */

static struct lvt_header text_header(const char *name, const char *value) {
    return (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_STRING, .value.bytes = lvt_bytes_of(value)};
}

static struct lvt_header integer_header(const char *name, int64_t value) {
    return (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_INT64, .value.integer = value};
}

/* Frees nothing of the headers, which are the test's. */
static struct lvt_delivery *delivery_of(struct lvt_header *headers, size_t count,
                                        const char *body) {
    struct lvt_delivery *delivery = lvt_delivery_new(256);
    assert_non_null(delivery);
    delivery->properties.present = LVT_HAS_HEADERS;
    delivery->properties.headers = (struct lvt_headers){headers, count};
    delivery->body = lvt_bytes_of(body);
    return delivery;
}

static struct lvt_letter letter_of(struct lvt_delivery *delivery) {
    struct lvt_letter letter;
    assert_int_equal(lvt_letter_read(delivery, &letter, NULL), LEVERET_OK);
    return letter;
}

static void assert_bytes(struct lvt_bytes bytes, const char *expected) {
    assert_int_equal(bytes.len, strlen(expected));
    assert_memory_equal(bytes.data, expected, bytes.len);
}

static const struct lvt_header *find(const struct lvt_properties *properties, const char *name) {
    return lvt_headers_find(&properties->headers, name);
}

static void test_a_letter_of_leveret(void **state) {
    struct lvt_header headers[] = {text_header("leveret-origin-queue", "work"),
                                   text_header("leveret-origin-exchange", "events"),
                                   text_header("leveret-origin-routing-key", "a.b.extra"),
                                   text_header("leveret-error", "boom 1"),
                                   text_header("leveret-first-failed-at", "2026-01-02T03:04:05Z"),
                                   integer_header("leveret-attempt", 4),
                                   text_header("CC", "moved"),
                                   text_header("own", "kept")};
    struct lvt_delivery *delivery = delivery_of(headers, 8, "{\"event\":\"a.b\",\"id\":\"7\"}");
    struct lvt_properties back;
    int64_t attempt;
    (void)state;
    delivery->properties.present |= LVT_HAS_USER_ID | LVT_HAS_EXPIRATION;
    delivery->properties.user_id = LVT_LITERAL("guest");
    delivery->properties.expiration = LVT_LITERAL("1000");
    struct lvt_letter letter = letter_of(delivery);
    assert_bytes(letter.queue, "work");
    assert_bytes(letter.event, "a.b");
    assert_bytes(letter.id, "7");
    assert_int_equal(letter.attempts, 4);
    assert_int_equal(letter.failed_at_s, 1767323045);
    assert_null(letter.no_origin);
    assert_false(letter.by_broker);

    assert_int_equal(lvt_letter_revive(&letter, &back, NULL), LEVERET_OK);
    assert_true(lvt_header_integer(find(&back, "leveret-attempt"), &attempt));
    assert_int_equal(attempt, 0);
    assert_null(find(&back, "leveret-error"));
    assert_null(find(&back, "leveret-first-failed-at"));
    assert_null(find(&back, "CC"));
    assert_bytes(find(&back, "leveret-origin-cc")->value.bytes, "moved");
    assert_bytes(find(&back, "leveret-origin-queue")->value.bytes, "work");
    assert_bytes(find(&back, "leveret-origin-routing-key")->value.bytes, "a.b.extra");
    assert_bytes(find(&back, "own")->value.bytes, "kept");
    assert_false(back.present & (LVT_HAS_USER_ID | LVT_HAS_EXPIRATION));
    assert_int_equal(back.delivery_mode, 2);
    lvt_delivery_free(delivery);
}

static struct lvt_header death(struct lvt_header *fields, const char *queue) {
    fields[0] = text_header("queue", queue);
    fields[1] = text_header("reason", "expired");
    fields[2] = text_header("exchange", "events");
    return (struct lvt_header){.kind = LVT_HEADER_TABLE, .value.nested = {fields, 3}};
}

/* The delay queues of the way there count for nothing; what a publisher claims does not either. */
static void test_a_letter_of_the_broker(void **state) {
    struct lvt_header fields[3][3];
    struct lvt_header deaths[] = {death(fields[0], "work"), death(fields[1], "leveret.delay.03"),
                                  death(fields[2], "other")};
    struct lvt_header headers[] = {
        text_header("leveret-origin-queue", "forged"),
        {.name = LVT_LITERAL("x-death"), .kind = LVT_HEADER_ARRAY, .value.nested = {deaths, 2}}};
    struct lvt_delivery *delivery = delivery_of(headers, 2, "not json");
    (void)state;
    struct lvt_letter letter = letter_of(delivery);
    assert_true(letter.by_broker);
    assert_bytes(letter.queue, "work");
    assert_bytes(letter.exchange, "events");
    assert_bytes(letter.error, "dead-lettered by the broker: expired");

    headers[1].value.nested.count = 3;
    letter = letter_of(delivery);
    assert_non_null(letter.no_origin);
    assert_int_equal(letter.queue.len, 0);

    deaths[0] = death(fields[0], "leveret.delay.07");
    headers[1].value.nested.count = 2;
    letter = letter_of(delivery);
    assert_false(letter.by_broker);
    assert_bytes(letter.queue, "forged");
    lvt_delivery_free(delivery);
}

static void test_a_letter_of_nobody(void **state) {
    struct lvt_header headers[] = {{.name = LVT_LITERAL("x-death"), .kind = LVT_HEADER_VOID},
                                   text_header("leveret-first-failed-at", "yesterday"),
                                   text_header("leveret-attempt", "many")};
    struct lvt_delivery *delivery = delivery_of(headers, 3, "");
    (void)state;
    struct lvt_letter letter = letter_of(delivery);
    assert_non_null(letter.no_origin);
    assert_int_equal(letter.failed_at_s, -1);
    assert_int_equal(letter.attempts, -1);
    assert_int_equal(letter.event.len, 0);
    lvt_delivery_free(delivery);
}

/* ---- filters and groups ---- */

static struct lvt_letter plain(const char *queue, const char *event, const char *error,
                               int64_t failed_at_s) {
    struct lvt_letter letter = {.queue = lvt_bytes_of(queue),
                                .event = lvt_bytes_of(event),
                                .id = LVT_LITERAL("7"),
                                .error = lvt_bytes_of(error),
                                .failed_at_s = failed_at_s};
    fingerprint_of(error, letter.fingerprint);
    return letter;
}

static void test_filters(void **state) {
    struct lvt_letter letter = plain("q", "ticket.created", "boom", 1000);
    struct lvt_letter_filter none = {.failed_before_s = -1, .failed_after_s = -1}, filter = none;
    (void)state;
    assert_false(lvt_letter_filter_given(&none));
    assert_true(lvt_letter_fits(&none, &letter));
    filter.queues[0] = "p";
    filter.queue_count = 1;
    assert_true(lvt_letter_filter_given(&filter));
    assert_false(lvt_letter_fits(&filter, &letter));
    filter.queues[filter.queue_count++] = "q";
    filter.event = "ticket.*";
    filter.id = "7";
    filter.fingerprint = letter.fingerprint;
    filter.failed_before_s = filter.failed_after_s = 1000;
    assert_true(lvt_letter_fits(&filter, &letter));
    letter.failed_at_s = 1001;
    assert_false(lvt_letter_fits(&filter, &letter));
    letter.failed_at_s = 999;
    assert_false(lvt_letter_fits(&filter, &letter));
    letter.failed_at_s = -1;
    assert_false(lvt_letter_fits(&filter, &letter));
    filter.failed_before_s = 1000;
    filter.failed_after_s = -1;
    assert_false(lvt_letter_fits(&filter, &letter));
    letter.failed_at_s = 1000;
    filter.event = "item.*";
    assert_false(lvt_letter_fits(&filter, &letter));
    filter.event = NULL;
    filter.id = "8";
    assert_false(lvt_letter_fits(&filter, &letter));
}

static void test_groups(void **state) {
    struct lvt_letter_groups groups = {0};
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char error[64];
        snprintf(error, sizeof error, "%s in row %d", i % 4 ? "boom" : "bang", i);
        struct lvt_letter letter = plain("q", i % 2 ? "a" : "b", error, i == 500 ? -1 : i);
        assert_int_equal(lvt_groups_add(&groups, "dlq", &letter, NULL), LEVERET_OK);
    }
    lvt_groups_sort(&groups);
    assert_int_equal(groups.letters, 1000);
    assert_int_equal(groups.count, 3);
    assert_int_equal(groups.items[0]->count, 500);
    assert_string_equal(groups.items[0]->event, "a");
    assert_int_equal(groups.items[0]->oldest_s, 1);
    assert_int_equal(groups.items[0]->newest_s, 999);
    assert_int_equal(groups.items[1]->count, 250);
    struct lvt_letter elsewhere = plain("q", "a", "boom in row 1", 1);
    assert_int_equal(lvt_groups_add(&groups, "other", &elsewhere, NULL), LEVERET_OK);
    assert_int_equal(groups.count, 4);
    lvt_groups_free(&groups);
}

static void test_groups_have_a_maximum(void **state) {
    struct lvt_letter_groups groups = {0};
    (void)state;
    for (int i = 0; i < LVT_GROUPS_MAX + 5; i++) {
        char event[32];
        snprintf(event, sizeof event, "event.%d", i);
        struct lvt_letter letter = plain("q", event, "boom", -1);
        assert_int_equal(lvt_groups_add(&groups, "dlq", &letter, NULL), LEVERET_OK);
    }
    assert_int_equal(groups.count, LVT_GROUPS_MAX);
    assert_int_equal(groups.left_out, 5);
    assert_int_equal(groups.letters, LVT_GROUPS_MAX + 5);
    assert_int_equal(groups.items[0]->oldest_s, -1);
    lvt_groups_free(&groups);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variable_parts_are_folded),
        cmocka_unit_test(test_fingerprints_are_stable),
        cmocka_unit_test(test_a_fingerprint_of_anything),
        cmocka_unit_test(test_a_letter_of_leveret),
        cmocka_unit_test(test_a_letter_of_the_broker),
        cmocka_unit_test(test_a_letter_of_nobody),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_groups_have_a_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
