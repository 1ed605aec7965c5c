/* A worker inside a program, with no server to talk to: what leveret.h promises of errors, of
 * stopping, and of what other threads may see. */
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "leveret/leveret.h"

/* Nobody listens on port 1 of the loopback interface. */
static const char *const nowhere[][2] = {
    {"rabbitmq.url", "amqp://user:secret@127.0.0.1:1/"},
    {"postgres.url", "postgresql://user:secret@127.0.0.1:1/leveret"},
    {"redis.url", "redis://:secret@127.0.0.1:1/0"},
    {"admin.listen", ""},
    {"log.level", "debug"},
};

struct seen {
    _Atomic unsigned records, fields;
    atomic_bool connecting, secret;
};

static void note(void *ctx, const struct leveret_record *record) {
    struct seen *seen = ctx;
    const char *line = leveret_record_line(record);
    struct leveret_field field;
    atomic_fetch_add(&seen->records, 1);
    if (strstr(line, "secret"))
        atomic_store(&seen->secret, true);
    if (!strstr(line, leveret_record_text(record)) || strchr(line, '\n') ||
        leveret_record_level(record) < LEVERET_LOG_DEBUG ||
        leveret_record_level(record) > LEVERET_LOG_ERROR)
        abort();
    for (size_t i = 0; i < leveret_record_field_count(record); i++) {
        if (!leveret_record_field(record, i, &field) || !strstr(line, field.key))
            abort();
        atomic_fetch_add(&seen->fields, 1);
    }
    if (leveret_record_field(record, leveret_record_field_count(record), &field))
        abort();
    if (leveret_record_level(record) >= LEVERET_LOG_WARN)
        atomic_store(&seen->connecting, true);
}

static char folder[] = "/tmp/leveret-worker-XXXXXX";

static int make_folder(void **state) {
    (void)state;
    char path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/ticket.created.lua", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("return function(event, ctx) end\n", file);
    return fclose(file);
}

static int remove_folder(void **state) {
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/ticket.created.lua", folder);
    return unlink(path) != 0 || rmdir(folder) != 0;
}

static struct leveret_config *new_config(void) {
    struct leveret_config *config;
    struct leveret_error err;
    assert_int_equal(leveret_config_new(&config, &err), LEVERET_OK);
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++)
        assert_int_equal(leveret_config_set(config, nowhere[i][0], nowhere[i][1], &err),
                         LEVERET_OK);
    assert_int_equal(leveret_config_set(config, "handlers", folder, &err), LEVERET_OK);
    return config;
}

static struct leveret_worker *new_worker(struct seen *seen) {
    struct leveret_config *config = new_config();
    struct leveret_worker *worker = NULL;
    struct leveret_error err;
    enum leveret_code code = leveret_worker_new(config, seen ? note : NULL, seen, &worker, &err);
    if (code != LEVERET_OK)
        fail_msg("%s", err.text);
    leveret_config_free(config); /* the worker has a copy */
    return worker;
}

/* Within half a minute. */
static bool comes_true(const atomic_bool *condition) {
    const struct timespec pause = {.tv_nsec = 1000000};
    for (unsigned i = 0; i < 30000 && !atomic_load(condition); i++)
        nanosleep(&pause, NULL);
    return atomic_load(condition);
}

/* ---- configuration ---- */

static void expect_refused(const char *key, const char *text, const char *expected) {
    struct leveret_config *config = new_config();
    struct leveret_error err;
    assert_int_equal(leveret_config_set(config, key, text, &err), LEVERET_CONFIG);
    assert_int_equal(err.code, LEVERET_CONFIG);
    if (!strstr(err.text, expected))
        fail_msg("\"%s\" lacks \"%s\"", err.text, expected);
    assert_int_equal(leveret_config_set(config, key, text, NULL), LEVERET_CONFIG);
    leveret_config_free(config);
}

static void what_does_not_fit_a_key_is_refused(void **state) {
    (void)state;
    expect_refused("rabbitmq.prefech", "1", "did you mean \"rabbitmq.prefetch\"?");
    expect_refused("rabbitmq.prefetch", "many", "a whole number from 1 to 65535");
    expect_refused("rabbitmq", "x", "rabbitmq must be a table");
    expect_refused("timeout_ms", "soon", "a duration");
    expect_refused("log.format", "xml", "one of");
}

static void a_file_that_is_wrong_is_refused_with_its_name(void **state) {
    (void)state;
    struct leveret_config *config = new_config();
    struct leveret_error err;
    assert_int_equal(leveret_config_read(config, "/nonexistent/leveret.lua", &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "/nonexistent/leveret.lua"));
    leveret_config_free(config);
    leveret_config_free(NULL);
}

static void variables_count_only_when_asked_for(void **state) {
    (void)state;
    struct leveret_config *config = new_config();
    struct leveret_error err;
    setenv("LEVERET_RABBITMQ_PREFETCH", "none", 1);
    assert_int_equal(leveret_config_set(config, "rabbitmq.prefetch", "7", &err), LEVERET_OK);
    assert_int_equal(leveret_config_environment(config, &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "LEVERET_RABBITMQ_PREFETCH"));
    unsetenv("LEVERET_RABBITMQ_PREFETCH");
    assert_int_equal(leveret_config_environment(config, &err), LEVERET_OK);
    leveret_config_free(config);
}

static enum leveret_code refused_worker(const char *key, const char *text,
                                        struct leveret_error *err) {
    struct leveret_config *config = new_config();
    struct leveret_worker *worker = NULL;
    assert_int_equal(leveret_config_set(config, key, text, err), LEVERET_OK);
    enum leveret_code code = leveret_worker_new(config, NULL, NULL, &worker, err);
    assert_null(worker);
    leveret_config_free(config);
    return code;
}

static void a_worker_that_cannot_be_is_refused(void **state) {
    (void)state;
    struct leveret_error err;
    assert_int_equal(refused_worker("handlers", "/nonexistent", &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "/nonexistent"));
    assert_int_equal(refused_worker("timeout_ms", "1d", &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "rabbitmq.consumer_timeout"));
}

static void a_worker_without_handlers_does_not_run(void **state) {
    (void)state;
    struct leveret_config *config;
    struct leveret_worker *worker;
    struct leveret_error err;
    assert_int_equal(leveret_config_new(&config, &err), LEVERET_OK);
    assert_int_equal(leveret_worker_new(config, NULL, NULL, &worker, &err), LEVERET_OK);
    assert_int_equal(leveret_worker_run(worker, &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "handler"));
    assert_true(leveret_worker_ended(worker));
    leveret_worker_free(worker);
    leveret_config_free(config);
}

static void an_address_that_is_wrong_shows_at_the_start(void **state) {
    (void)state;
    struct leveret_config *config = new_config();
    struct leveret_worker *worker;
    struct leveret_error err;
    assert_int_equal(leveret_config_set(config, "rabbitmq.url", "http://:secret@x/", &err),
                     LEVERET_OK);
    assert_int_equal(leveret_worker_new(config, NULL, NULL, &worker, &err), LEVERET_OK);
    assert_int_equal(leveret_worker_start(worker, &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "rabbitmq.url"));
    assert_null(strstr(err.text, "secret"));
    assert_int_equal(leveret_worker_join(worker, &err), LEVERET_STATE);
    leveret_worker_free(worker);
    leveret_config_free(config);
}

/* ---- handlers of the program ---- */

static int opened, closed;

static int32_t open_handler(struct leveret_handler *handler, struct leveret_text config,
                            void **ret_self, char *error, size_t error_size) {
    (void)handler, (void)config;
    *ret_self = &opened;
    if (error_size > 0 && opened < 0)
        snprintf(error, error_size, "the disk is missing");
    return opened < 0 ? -1 : (opened++, 0);
}

static int32_t handle(void *self, struct leveret_event event) {
    (void)self, (void)event;
    return LEVERET_DONE;
}

static void close_handler(void *self) {
    assert_ptr_equal(self, &opened);
    closed++;
}

static const char *const paid[] = {"invoice.paid", NULL}, *const created[] = {"ticket.created",
                                                                              NULL};

static struct leveret_plugin descriptor(const char *name, const char *const *events,
                                        const char *options) {
    return (struct leveret_plugin){LEVERET_PLUGIN_HEAD, name,   "1.0",        events, options, 0,
                                   open_handler,        handle, close_handler};
}

static void expect_not_added(const struct leveret_plugin *plugin, const char *expected) {
    struct leveret_worker *worker = new_worker(NULL);
    struct leveret_error err;
    assert_int_equal(leveret_worker_add(worker, plugin, &err), LEVERET_CONFIG);
    if (!strstr(err.text, expected))
        fail_msg("\"%s\" lacks \"%s\"", err.text, expected);
    leveret_worker_free(worker);
}

static void a_handler_that_is_wrong_is_not_added(void **state) {
    (void)state;
    struct leveret_plugin plugin = descriptor("billing", paid, NULL);
    opened = closed = 0;
    plugin.handle = NULL;
    expect_not_added(&plugin, "handle");
    plugin = descriptor("billing", paid, NULL);
    plugin.major = 99;
    expect_not_added(&plugin, "99.0");
    plugin = descriptor("billing", paid, "{\"concurency\": 1}");
    expect_not_added(&plugin, "concurency");
    plugin = descriptor("billing", paid, "{\"timeout_ms\": \"1h\"}");
    expect_not_added(&plugin, "rabbitmq.consumer_timeout");
    plugin = descriptor("billing", created, "{\"queue\": \"ticket.created.queue\"}");
    expect_not_added(&plugin, "billing");
    assert_int_equal(opened, closed);
    opened = -1;
    plugin = descriptor("billing", paid, NULL);
    expect_not_added(&plugin, "the disk is missing");
}

static void a_handler_lives_as_long_as_its_worker(void **state) {
    (void)state;
    const struct leveret_plugin plugin = descriptor("billing", paid, "{\"concurrency\": 4}");
    struct leveret_worker *worker = new_worker(NULL);
    struct leveret_error err;
    opened = closed = 0;
    assert_int_equal(leveret_worker_add(worker, &plugin, &err), LEVERET_OK);
    leveret_worker_stop(worker);
    assert_int_equal(leveret_worker_run(worker, &err), LEVERET_OK);
    assert_int_equal(opened, 1);
    assert_int_equal(closed, 0);
    assert_int_equal(leveret_worker_add(worker, &plugin, &err), LEVERET_STATE);
    leveret_worker_free(worker);
    assert_int_equal(closed, 1);
    assert_int_equal(leveret_host()->major, LEVERET_PLUGIN_MAJOR);
}

/* ---- running and stopping ---- */

static void it_waits_for_its_services_and_stops_when_told(void **state) {
    (void)state;
    struct seen seen = {0};
    struct leveret_worker *worker = new_worker(&seen);
    struct leveret_error err;
    assert_false(leveret_worker_ready(worker));
    assert_int_equal(leveret_worker_count(worker, LEVERET_COUNT_PROCESSED), 0);
    assert_int_equal(leveret_worker_start(worker, &err), LEVERET_OK);
    assert_int_equal(leveret_worker_start(worker, &err), LEVERET_STATE);
    assert_int_equal(leveret_worker_run(worker, &err), LEVERET_STATE);
    assert_true(comes_true(&seen.connecting));
    assert_false(leveret_worker_ready(worker));
    assert_false(leveret_worker_ended(worker));
    for (int32_t counter = -1; counter <= LEVERET_COUNT_IN_FLIGHT + 1; counter++)
        assert_int_equal(leveret_worker_count(worker, counter), 0);
    leveret_worker_stop(worker);
    assert_int_equal(leveret_worker_join(worker, &err), LEVERET_OK);
    assert_true(leveret_worker_ended(worker));
    leveret_worker_stop(worker); /* too late, and no harm */
    assert_int_equal(leveret_worker_join(worker, &err), LEVERET_STATE);
    assert_int_equal(leveret_worker_run(worker, &err), LEVERET_STATE);
    leveret_worker_free(worker);
    assert_true(atomic_load(&seen.fields) > 0);
    assert_false(atomic_load(&seen.secret));
}

static void a_worker_that_was_stopped_before_ends_at_once(void **state) {
    (void)state;
    struct leveret_worker *worker = new_worker(NULL);
    struct leveret_error err;
    leveret_worker_stop(worker);
    assert_int_equal(leveret_worker_run(worker, &err), LEVERET_OK);
    leveret_worker_free(worker);
}

static void a_worker_that_is_freed_is_stopped_first(void **state) {
    (void)state;
    struct seen seen = {0};
    struct leveret_worker *worker = new_worker(&seen);
    assert_int_equal(leveret_worker_start(worker, NULL), LEVERET_OK);
    leveret_worker_free(worker);
    leveret_worker_free(NULL);
    assert_true(atomic_load(&seen.records) > 0);
}

static void *stop_many_times(void *arg) {
    for (int i = 0; i < 1000; i++)
        leveret_worker_stop(arg);
    return NULL;
}

static void it_may_be_stopped_from_several_threads_at_once(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct leveret_worker *worker = new_worker(NULL);
        pthread_t threads[2];
        struct leveret_error err;
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, stop_many_times, worker), 0);
        assert_int_equal(leveret_worker_run(worker, &err), LEVERET_OK);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        leveret_worker_free(worker);
    }
}

static struct leveret_worker *signalled;

static void on_alarm(int number) {
    (void)number;
    leveret_worker_stop(signalled);
}

static void *raise_when_connecting(void *arg) {
    (void)comes_true(arg); /* else the run ends, and the test goes on to fail */
    kill(getpid(), SIGUSR1);
    return NULL;
}

static void a_signal_handler_may_stop_it(void **state) {
    (void)state;
    struct seen seen = {0};
    struct sigaction action = {.sa_handler = on_alarm}, before;
    struct leveret_error err;
    pthread_t thread;
    signalled = new_worker(&seen);
    sigaction(SIGUSR1, &action, &before);
    assert_int_equal(pthread_create(&thread, NULL, raise_when_connecting, &seen.connecting), 0);
    assert_int_equal(leveret_worker_run(signalled, &err), LEVERET_OK);
    assert_true(atomic_load(&seen.connecting));
    pthread_join(thread, NULL);
    sigaction(SIGUSR1, &before, NULL);
    leveret_worker_free(signalled);
}

/* ---- signals ---- */

static void signals_are_as_they_were(void **state) {
    (void)state;
    struct leveret_worker *worker = new_worker(NULL);
    struct sigaction before[32], after;
    sigset_t mask_before, mask_after;
    memset(&mask_before, 0, sizeof mask_before);
    memset(&mask_after, 0, sizeof mask_after);
    for (int number = 1; number < 32; number++)
        sigaction(number, NULL, &before[number]);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    leveret_worker_stop(worker);
    assert_int_equal(leveret_worker_run(worker, NULL), LEVERET_OK);
    leveret_worker_free(worker);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    assert_memory_equal(&mask_before, &mask_after, sizeof mask_before);
    for (int number = 1; number < 32; number++) {
        sigaction(number, NULL, &after);
        assert_ptr_equal((void *)after.sa_handler, (void *)before[number].sa_handler);
    }
}

/* Where one half is written 0,5. */
static void numbers_are_read_in_any_locale(void **state) {
    (void)state;
    char path[64], text[160];
    struct leveret_config *config = new_config();
    struct leveret_worker *worker;
    struct leveret_error err;
    snprintf(text, sizeof text, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>&1", folder);
    bool made = system(text) == 0;
    setenv("LOCPATH", folder, 1);
    made = made && setlocale(LC_ALL, "de_DE.UTF-8");
    unsetenv("LOCPATH");
    snprintf(path, sizeof path, "%s/half.lua", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("assert(tostring(0.5) == '0.5') return function() end\n", file);
    fclose(file);
    enum leveret_code read = leveret_config_set(config, "retry.jitter", "0.5", &err);
    assert_int_equal(leveret_config_set(config, "handlers", path, &err), LEVERET_OK);
    enum leveret_code loaded = leveret_worker_new(config, NULL, NULL, &worker, &err);
    bool restored = !made || strcmp(localeconv()->decimal_point, ",") == 0;
    setlocale(LC_ALL, "C");
    snprintf(text, sizeof text, "rm -rf %s/half.lua %s/de_DE.UTF-8", folder, folder);
    assert_int_equal(system(text), 0);
    leveret_config_free(config);
    if (loaded == LEVERET_OK)
        leveret_worker_free(worker);
    assert_int_equal(read, LEVERET_OK);
    assert_int_equal(loaded, LEVERET_OK);
    assert_true(restored);
    if (!made)
        skip(); /* this system cannot make that locale */
}

static void every_code_has_its_text(void **state) {
    (void)state;
    assert_string_equal(leveret_code_text(LEVERET_OK), "no error");
    assert_string_equal(leveret_code_text(LEVERET_CONFIG), "configuration error");
    assert_string_equal(leveret_code_text((enum leveret_code) - 1000), "unknown error");
    assert_int_equal(strspn(leveret_version(), "0123456789."), strlen(leveret_version()));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_does_not_fit_a_key_is_refused),
        cmocka_unit_test(a_file_that_is_wrong_is_refused_with_its_name),
        cmocka_unit_test(variables_count_only_when_asked_for),
        cmocka_unit_test(a_worker_that_cannot_be_is_refused),
        cmocka_unit_test(a_worker_without_handlers_does_not_run),
        cmocka_unit_test(an_address_that_is_wrong_shows_at_the_start),
        cmocka_unit_test(a_handler_that_is_wrong_is_not_added),
        cmocka_unit_test(a_handler_lives_as_long_as_its_worker),
        cmocka_unit_test(it_waits_for_its_services_and_stops_when_told),
        cmocka_unit_test(a_worker_that_was_stopped_before_ends_at_once),
        cmocka_unit_test(a_worker_that_is_freed_is_stopped_first),
        cmocka_unit_test(it_may_be_stopped_from_several_threads_at_once),
        cmocka_unit_test(a_signal_handler_may_stop_it),
        cmocka_unit_test(signals_are_as_they_were),
        cmocka_unit_test(numbers_are_read_in_any_locale),
        cmocka_unit_test(every_code_has_its_text),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
