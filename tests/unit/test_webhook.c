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

static void assert_hmac(const void *key, size_t key_len, const void *data, size_t len,
                        const char *expected) {
    struct hmac hmac;
    unsigned char digest[LVT_SHA256_BYTES];
    char text[2 * LVT_SHA256_BYTES + 1];
    hmac_init(&hmac, key, key_len);
    hmac_update(&hmac, data, len);
    hmac_final(&hmac, digest);
    for (int i = 0; i < LVT_SHA256_BYTES; i++)
        snprintf(text + 2 * (ptrdiff_t)i, 3, "%02x", digest[i]);
    assert_string_equal(text, expected);
}

/* RFC 4231's test cases 1, 2, 3, 6 and 7. */
static void test_hmac(void **state) {
    unsigned char key[131], data[50];
    static const char text[] =
        "This is a test using a larger than block-size key and a larger than block-size data. The "
        "key needs to be hashed before being used by the HMAC algorithm.";
    (void)state;
    memset(key, 0x0b, 20);
    assert_hmac(key, 20, "Hi There", 8,
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    assert_hmac("Jefe", 4, "what do ya want for nothing?", 28,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof key);
    memset(data, 0xdd, sizeof data);
    assert_hmac(key, 20, data, 50,
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    assert_hmac(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54,
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    assert_hmac(key, 131, text, strlen(text),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void test_signature(void **state) {
    struct hmac key;
    char first[SIGNATURE_BYTES], second[SIGNATURE_BYTES];
    (void)state;
    hmac_init(&key, "0123456789abcdef", 16);
    signature_write(&key, 1732202280, "{}", 2, first);
    signature_write(&key, 1732202280, "{}", 2, second);
    assert_string_equal(first, second); /* the key is not used up */
    assert_memory_equal(first, "t=1732202280,v1=", 16);
    assert_int_equal(strlen(first), 16 + 64);
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
        cmocka_unit_test(test_hmac),     cmocka_unit_test(test_signature),
        cmocka_unit_test(test_seconds),  cmocka_unit_test(test_dates),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
