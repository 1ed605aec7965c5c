/* What the plugin webhook is made of: its signature, and how it reads Retry-After. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "retry_after.h"
#include "signature.h"

/* Sun, 06 Nov 1994 08:49:37 GMT */
#define THEN 784111777

static void test_signature(void **state) {
    struct hmac_sha256_ctx key;
    char first[SIGNATURE_BYTES], second[SIGNATURE_BYTES];
    (void)state;
    hmac_sha256_set_key(&key, 16, (const uint8_t *)"0123456789abcdef");
    signature_write(&key, 1732202280, "{}", 2, first);
    signature_write(&key, 1732202280, "{}", 2, second);
    assert_string_equal(first, second); /* the key is not used up */
    assert_string_equal(first,
                        "t=1732202280,v1="
                        "361501abdd3c3d37b6e805ecfb6f22ba53ad79ce61bced153269e0e775494f64");
    signature_write(&key, 1732202281, "{}", 2, second);
    assert_string_not_equal(first + 16, second + 16); /* the time is signed, too */
}

static int64_t wait_for(const char *value) {
    const struct timespec now = {THEN - 60, 250000000};
    return retry_after_ms(value, strlen(value), &now);
}

static void test_seconds(void **state) {
    (void)state;
    assert_int_equal(wait_for("1"), 1000);
    assert_int_equal(wait_for("120"), 120000);
    assert_int_equal(wait_for("86401"), RETRY_AFTER_MAX_MS);
    assert_int_equal(wait_for("99999999999999999999999999"), RETRY_AFTER_MAX_MS);
    assert_int_equal(wait_for("0"), -1);
}

static void test_dates(void **state) {
    (void)state;
    assert_int_equal(wait_for("Sun, 06 Nov 1994 08:49:37 GMT"), 59750);
    assert_int_equal(wait_for("Sun Nov  6 08:49:37 1994"), 59750);
    assert_int_equal(wait_for("Sunday, 06-Nov-94 08:49:37 GMT"), RETRY_AFTER_MAX_MS); /* of 2094 */
    assert_int_equal(wait_for("Sun, 06 Nov 1994 08:48:37 GMT"), -1);                  /* the past */
    assert_int_equal(wait_for("Fri, 31 Dec 9999 23:59:59 GMT"), RETRY_AFTER_MAX_MS);
}

static void test_nonsense(void **state) {
    static const char *const values[] = {
        "",
        " ",
        "soon",
        "-1",
        "1.5",
        "1 s",
        "Sun, 06 Nov 1994",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 GMT, and more",
        "Sun, 06 Nov 1994 08:49:37 GMT                                           ",
    };
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_int_equal(wait_for(values[i]), -1);
    const struct timespec now = {0, 0};
    assert_int_equal(retry_after_ms("1\0002", 3, &now), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
