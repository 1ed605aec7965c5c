/* No secret leaves through a URL that is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"

static void shown_as(const char *url, const char *expected) {
    char out[256];
    lvt_url_redact(url, out, sizeof out);
    assert_string_equal(out, expected);
}

static void urls(void **state) {
    (void)state;
    shown_as("amqp://guest:guest@localhost:5672/", "amqp://guest:***@localhost:5672/");
    shown_as("amqps://u:p%40ss@h/v?heartbeat=5", "amqps://u:***@h/v?heartbeat=5");
    shown_as("amqp://u@h/", "amqp://u@h/");
    shown_as("amqp://h:5672/", "amqp://h:5672/");
    shown_as("amqp://:p@h/", "amqp://:***@h/");
    shown_as("amqp://u:@h/", "amqp://u:***@h/");
    shown_as("postgresql:///leveret", "postgresql:///leveret");
    shown_as("postgresql://u:p@a:1,b:2/db", "postgresql://u:***@a:1,b:2/db");
    shown_as("redis://:p@h:6379/0", "redis://:***@h:6379/0");
    shown_as("redis://p@h:6379/0", "redis://***@h:6379/0");
    shown_as("rediss://u:p@h", "rediss://u:***@h");
    shown_as("", "");
    shown_as(NULL, "");
    shown_as("localhost", "localhost");
    shown_as("u:p@h", "u:***@h");
}

/* What was not escaped as it should be is hidden all the same. */
static void broken_urls(void **state) {
    (void)state;
    shown_as("amqp://u:p/q@h/", "amqp://u:***@h/");
    shown_as("amqp://u:p?q@h/", "amqp://u:***@h/");
    shown_as("amqp://u:p@q@h/", "amqp://u:***@h/");
    shown_as("amqp://u:p#q@h/", "amqp://u:***@h/");
    shown_as("amqp://u:p:q@h/", "amqp://u:***@h/");
    shown_as("amqp://u:\np@h\n/", "amqp://u:***@h?/");
}

static void parameters(void **state) {
    (void)state;
    shown_as("postgresql://h/db?user=u&password=p&sslmode=require",
             "postgresql://h/db?user=u&password=***&sslmode=require");
    shown_as("postgresql://u:p@h/db?PASSWORD=p", "postgresql://u:***@h/db?PASSWORD=***");
    shown_as("postgresql://h/db?sslpassword=p;x=1", "postgresql://h/db?sslpassword=***;x=1");
    shown_as("postgresql://h/db?p%61ssword=p&a", "postgresql://h/db?p%61ssword=***&a");
    shown_as("redis://h/?token=t&client_secret=s", "redis://h/?token=***&client_secret=***");
    shown_as("amqp://h/?", "amqp://h/?");
    shown_as("amqp://h/?password=", "amqp://h/?password=***");
    shown_as("amqp://h/?&&x=", "amqp://h/?&&x=");
}

static void keywords(void **state) {
    (void)state;
    shown_as("host=x password=y dbname=z", "host=x password=*** dbname=z");
    shown_as("host=x password = y  dbname=z", "host=x password = ***  dbname=z");
    shown_as("password='a b\\' c' host=x", "password=*** host=x");
    shown_as("password=a\\ b host=x", "password=*** host=x");
    shown_as("password='never closed host=x", "password=***");
    shown_as("password=", "password=***");
    shown_as("host=x password=a b", "host=x password=*** ***");
    shown_as("password='it''s' host=x", "password=****** host=x");
    shown_as("password=amqp://x host=y", "password=*** host=y");
    shown_as("dbname=postgresql://u:p@h/db", "dbname=***");
    shown_as("sslpassword=p passfile=/x", "sslpassword=*** passfile=***");
    shown_as("=x", "=x");
    shown_as("host=x\\", "host=x\\");
}

static void small_outputs(void **state) {
    (void)state;
    static const char url[] = "amqp://user:secret@h\xC3\xA9.example/";
    for (size_t size = 1; size < 40; size++) {
        char out[40];
        memset(out, '#', sizeof out);
        lvt_url_redact(url, out, size);
        assert_true(strlen(out) < size);
        assert_null(strstr(out, "secret"));
        assert_int_equal(out[size], '#');
        assert_true(strlen(out) == 0 || out[strlen(out) - 1] != '\xC3');
    }
    char untouched = '#';
    lvt_url_redact(url, &untouched, 0);
    assert_int_equal(untouched, '#');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),     cmocka_unit_test(broken_urls),   cmocka_unit_test(parameters),
        cmocka_unit_test(keywords), cmocka_unit_test(small_outputs),
    };
    return cmocka_run_group_tests_name("redact", tests, NULL, NULL);
}
