/* leveret.lua: what it may say, and what is said about it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/lua/lua_config.h"

static char path[] = "/tmp/leveret-test-XXXXXX";

static int make_file(void **state) {
    (void)state;
    int file = mkstemp(path);
    return file < 0 || close(file) != 0;
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

static enum leveret_code read_text(const char *text, struct lvt_config *config,
                                   struct leveret_error *err) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(lvt_config_init(config, err), LEVERET_OK);
    return lvt_lua_config_read(path, config, err);
}

static void reads_good(const char *text, struct lvt_config *config) {
    struct leveret_error err;
    if (read_text(text, config, &err) != LEVERET_OK)
        fail_msg("%s", err.text);
}

static void reads_bad(const char *text, const char *expected) {
    struct lvt_config config;
    struct leveret_error err = {0};
    char full[600];
    assert_int_equal(read_text(text, &config, &err), LEVERET_CONFIG);
    snprintf(full, sizeof full, "%s%s", path, expected);
    if (strncmp(err.text, full, strlen(full)) != 0)
        fail_msg("%s: got \"%s\", expected \"%s\"", text, err.text, full);
    lvt_config_free(&config);
}

static void assigns_keys(void **state) {
    (void)state;
    struct lvt_config config;
    reads_good(
        "local host = 'broker'\n"
        "name = 'worker-' .. 1 + 1\n"
        "rabbitmq = { url = 'amqp://' .. host .. ':5672/', prefetch = 300,\n"
        "             queue_type = 'classic' }\n"
        "handlers = { 'a', 'b' }\n"
        "retry = { max = 5, base_ms = 100, factor = 1.5 }\n"
        "ledger = { retention = '7d' }\n"
        "concurrency = math.max(1, 2)\n",
        &config);
    assert_string_equal(config.name, "worker-2");
    assert_string_equal(config.rabbitmq.url, "amqp://broker:5672/");
    assert_int_equal(config.rabbitmq.prefetch, 300);
    assert_int_equal(config.rabbitmq.queue_type, LVT_CLASSIC);
    assert_int_equal(config.handlers.count, 2);
    assert_string_equal(config.handlers.items[1], "b");
    assert_int_equal(config.retry.max, 5);
    assert_int_equal(config.retry.base_ms, 100);
    assert_true(config.retry.factor == 1.5);
    assert_int_equal(config.ledger.retention_ms, 7 * 86400000ll);
    assert_int_equal(config.concurrency, 2);
    lvt_config_free(&config);
}

static void an_empty_file_is_fine(void **state) {
    (void)state;
    struct lvt_config config, defaults;
    struct leveret_error err;
    reads_good("-- nothing\n", &config);
    assert_int_equal(lvt_config_init(&defaults, &err), LEVERET_OK);
    assert_string_equal(config.name, defaults.name);
    lvt_config_free(&config);
    lvt_config_free(&defaults);
}

static void sees_the_environment(void **state) {
    (void)state;
    struct lvt_config config;
    setenv("LVT_TEST_NAME", "from-env", 1);
    unsetenv("LVT_TEST_NONE");
    reads_good(
        "name = env.LVT_TEST_NAME\n"
        "redis = { url = env('LVT_TEST_NONE', 'redis://fallback/0') }\n"
        "dead_letter = { queue = env('LVT_TEST_NAME', 'unused') }\n"
        "assert(env.LVT_TEST_NONE == nil and env('LVT_TEST_NONE') == nil)\n",
        &config);
    assert_string_equal(config.name, "from-env");
    assert_string_equal(config.redis.url, "redis://fallback/0");
    assert_string_equal(config.dead_letter.queue, "from-env");
    lvt_config_free(&config);
}

static void names_file_line_and_key(void **state) {
    (void)state;
    reads_bad("name = 'x'\nnmae = 'y'\n", ":2: unknown key \"nmae\"; did you mean \"name\"");
    reads_bad(
        "-- rabbitmq = { prefetchh = 1 }\nrabbitmq = {\n  url = 'amqp://h/',\n"
        "  prefetchh = 1,\n}\n",
        ":4: unknown key \"rabbitmq.prefetchh\"; did you mean \"rabbitmq.prefetch\"");
    reads_bad("rabbitmq = {\n  prefetch = 'many',\n}\n", ":2: rabbitmq.prefetch");
    reads_bad("\nretry = { max = -1 }\n", ":2: retry.max");
    reads_bad("\n\nretry = 3\n", ":3: retry must be a table");
    reads_bad("handlers = { 1, 2 }\n", ":1: handlers must be a list of texts");
    reads_bad("handlers = { 'a', [3] = 'c' }\n", ":1: handlers must be a list of texts");
    reads_bad("name = function() end\n", ":1: name cannot be a function");
    reads_bad("retry = { [1] = 2 }\n", ":1: retry has a key that is no text");
    reads_bad("name = \n", ":2: unexpected symbol near <eof>");
    reads_bad("\nname = nothing.at_all\n", ":2: attempt to index a nil value");
    reads_bad("error({})\n", ": table: 0x");
    reads_bad("return { name = 'x' }\n", ": returns a value");
    reads_bad("name = 'x'\nload('x = 1')\n", ":2: attempt to call a nil value (global 'load')");
    reads_bad("name = os.getenv('NAME')\n",
              ":1: there is no os in a configuration; env.NAME is an environment variable");
    reads_bad("\x1bLua", ": ");
}

static void comes_to_an_end(void **state) {
    (void)state;
    reads_bad("while true do end\n", ":1: evaluating the file does not come to an end");
    reads_bad("local function f() while true do pcall(f) end end\nf()\n", ":1: evaluating");
    /* not byte by byte, which a sanitizer makes so slow that the time is over first */
    reads_bad("local x, t = ('x'):rep(10000), {}\nwhile true do t[#t + 1] = x:rep(10) .. #t end\n",
              ": evaluating the file takes over");
    reads_bad("name = ('x'):rep(1e9)\n", ": evaluating the file takes over");
}

static void a_missing_file_is_named(void **state) {
    (void)state;
    struct lvt_config config = {0};
    struct leveret_error err;
    assert_int_equal(lvt_lua_config_read("/nowhere/leveret.lua", &config, &err), LEVERET_CONFIG);
    assert_string_equal(err.text, "cannot read /nowhere/leveret.lua: No such file or directory");
    assert_int_equal(lvt_lua_config_read("/tmp", &config, &err), LEVERET_CONFIG);
    assert_string_equal(err.text, "cannot read /tmp: not a file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assigns_keys),         cmocka_unit_test(an_empty_file_is_fine),
        cmocka_unit_test(sees_the_environment), cmocka_unit_test(names_file_line_and_key),
        cmocka_unit_test(comes_to_an_end),      cmocka_unit_test(a_missing_file_is_named),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
