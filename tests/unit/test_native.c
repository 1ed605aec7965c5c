/* Plugins on the real engine, over the ports in memory. The plugins are those of tests/plugins. */
#include "engine_fixture.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "runtime/native/native_handler.h"

static struct lvt_config config;
static struct world *world;
static struct lvt_handler *handler;

/* ---- the log, which threads write ---- */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char log_text[65536];

static void write_log(void *ctx, enum lvt_level level, const char *text,
                      const struct lvt_field *fields, size_t count) {
    (void)ctx, (void)level;
    pthread_mutex_lock(&log_lock);
    size_t len = strlen(log_text);
    len += (size_t)snprintf(log_text + len, sizeof log_text - len, "%s", text);
    for (size_t i = 0; i < count; i++) {
        const struct lvt_field *field = &fields[i];
        size_t room = sizeof log_text - len;
        if (field->kind == LVT_FIELD_INTEGER)
            len += (size_t)snprintf(log_text + len, room, " %s=%lld", field->key,
                                    (long long)field->value.integer);
        else
            len += (size_t)snprintf(log_text + len, room, " %s=%.*s", field->key,
                                    (int)field->value.text.len,
                                    field->value.text.len > 0 ? field->value.text.data : "");
    }
    snprintf(log_text + len, sizeof log_text - len, "\n");
    pthread_mutex_unlock(&log_lock);
}

static const struct lvt_log plugin_log = {.sink = write_log, .level = LVT_DEBUG};

static bool has_logged(const char *text) {
    pthread_mutex_lock(&log_lock);
    bool found = strstr(log_text, text) != NULL;
    pthread_mutex_unlock(&log_lock);
    return found;
}

static void assert_logged(const char *text) {
    if (!has_logged(text))
        fail_msg("\"%s\" is not in the log:\n%s", text, log_text);
}

/* ---- the world ---- */

static int set_up(void **state) {
    struct leveret_error err;
    (void)state;
    log_text[0] = '\0';
    handler = NULL;
    world = world_new();
    return lvt_config_init(&config, &err) != LEVERET_OK;
}

static int tear_down(void **state) {
    (void)state;
    lvt_config_free(&config);
    return 0;
}

static void configure(const char *plugins) {
    struct leveret_error err;
    const struct lvt_value value = {.kind = LVT_VALUE_TEXT, .text = plugins};
    assert_int_equal(
        lvt_keys_set(lvt_config_keys, lvt_config_key_count, &config, "plugins", &value, &err),
        LEVERET_OK);
}

static enum leveret_code try_load(const char *name, struct leveret_error *err) {
    char path[512];
    snprintf(path, sizeof path, TEST_PLUGINS "/%s.so", name);
    return lvt_native_handler_load(path, &config, &plugin_log, &handler, err);
}

static void load(const char *name) {
    struct leveret_error err;
    if (try_load(name, &err) != LEVERET_OK)
        fail_msg("%s", err.text);
    free(handler->options.exchange);
    handler->options.exchange = strdup(EXCHANGE);
    assert_int_equal(lvt_routes_add(&world->routes, handler, &err), LEVERET_OK);
    world_open(world);
}

static void send(const char *type, const char *id, const char *payload) {
    char body[4200];
    const struct lvt_properties properties = {.present = LVT_HAS_MESSAGE_ID | LVT_HAS_TYPE,
                                              .message_id = lvt_bytes_of(id),
                                              .type = lvt_bytes_of(type)};
    snprintf(body, sizeof body, "{\"event\":\"%s\",\"payload\":%s}", type, payload);
    assert_int_equal(publish_message(world, type, &properties, body), 1);
}

/* Lets threads do their part, too. The world's clock stands still meanwhile. */
static void until(bool (*reached)(void)) {
    const struct timespec moment = {0, 1000000};
    for (int i = 0; i < 20000; i++) {
        go(world);
        if (reached())
            return;
        nanosleep(&moment, NULL);
    }
    fail_msg("it never came to that; the log:\n%s", log_text);
}

static bool settled(void) {
    return lvt_engine_in_flight(world->engine) == 0 && lvt_memory_broker_idle(world->broker);
}

static bool one_processed(void) {
    return counted(world, LVT_OUTCOME_PROCESSED) == 1;
}

static void act(const char *payload) {
    load("acts");
    send("act", "id-1", payload);
    go(world);
}

/* ---- verdicts ---- */

static void verdicts_are_the_engines(void **state) {
    (void)state;
    load("acts");
    send("act", "a", "{\"do\":\"\"}");
    send("act", "b", "{\"do\":\"drop\"}");
    send("act", "c", "{\"do\":\"reject\"}");
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_DROPPED), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1);
    assert_header(&first_dead(world)->properties.headers, "leveret-error", "never");
    world_free(world);
    assert_logged("acts is closed handler=acts");
}

static void a_retry_waits_as_long_as_it_says(void **state) {
    (void)state;
    act("{\"do\":\"retry\",\"ms\":5000}");
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 1);
    advance(world, 4000);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 1);
    advance(world, 2000);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 2);
    world_free(world);
}

static void a_snooze_costs_no_attempt(void **state) {
    (void)state;
    act("{\"do\":\"snooze\",\"ms\":1000}");
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 0);
    advance(world, 2000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    world_free(world);
}

static void an_unknown_verdict_is_a_failed_attempt(void **state) {
    (void)state;
    act("{\"do\":\"unknown\"}");
    advance(world, 60000);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1);
    assert_header(&first_dead(world)->properties.headers, "leveret-error",
                  "the plugin's verdict is 42, which is none");
    world_free(world);
}

static void the_second_finish_is_ignored_and_logged(void **state) {
    (void)state;
    act("{\"do\":\"twice\"}");
    assert_true(one_processed());
    assert_logged("finished an event that it had finished before handler=acts");
    world_free(world);
}

/* ---- what a plugin sees ---- */

static void a_plugin_sees_the_event(void **state) {
    (void)state;
    load("acts");
    struct lvt_header colour = {.name = LVT_LITERAL("colour"), .kind = LVT_HEADER_STRING};
    colour.value.bytes = LVT_LITERAL("red");
    const struct lvt_properties properties = {.present = LVT_HAS_MESSAGE_ID | LVT_HAS_HEADERS |
                                                         LVT_HAS_PRIORITY,
                                              .message_id = LVT_LITERAL("a\"b"),
                                              .priority = 4,
                                              .headers = {&colour, 1}};
    const char *body =
        "{\"event\":\"act.now\",\"payload\":{\"do\":\"show\",\"half\":1.5,"
        "\"truth\":true,\"list\":[1, 2],\"a/b\":{\"~\":[0,\"\\u00e9\"]}}}";
    assert_int_equal(publish_message(world, "act.now", &properties, body), 1);
    go(world);
    assert_logged(
        "shown name=\xC3\xA9 list=[1, 2] members=5 halves=3 truth=1 colour=red "
        "quoted=\"a\\\"b\" queue=acts.queue attempts=1 priority=4 event=act.now");
    world_free(world);
}

static void wrong_calls_are_refused(void **state) {
    (void)state;
    act("{\"do\":\"misuse\"}");
    assert_logged("refused first=3 second=3 third=2");
    assert_true(one_processed());
    world_free(world);
}

/* ---- effects ---- */

static void statements_run_in_the_order_of_asking(void **state) {
    (void)state;
    load("acts");
    world->hold_queries = true;
    send("act", "id-1", "{\"do\":\"query\"}");
    go(world);
    const struct query *query = world->queries;
    for (int i = 1; i <= 3; i++, query = query->next) {
        char expected[2] = {(char)('0' + i), '\0'};
        assert_non_null(query);
        assert_string_equal(query->first_param, expected);
    }
    world->hold_queries = false;
    go(world);
    assert_logged("the statements are answered order=111");
    assert_true(one_processed());
    assert_int_equal(world->commits, 1);
    world_free(world);
}

static void a_failed_statement_takes_its_sqlstate_along(void **state) {
    (void)state;
    world->query_answer = LVT_ANSWER_ERROR;
    snprintf(world->sqlstate, sizeof world->sqlstate, "22012");
    act("{\"do\":\"bad query\"}");
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1); /* at once: the data is wrong */
    assert_header(&first_dead(world)->properties.headers, "leveret-error",
                  "status 1: the database says no");
    world_free(world);
}

static void the_cache_and_the_clock_answer(void **state) {
    (void)state;
    load("acts");
    send("act", "a", "{\"do\":\"redis\"}");
    go(world);
    assert_logged("replied reply=OK");
    send("act", "b", "{\"do\":\"invalidate\"}");
    go(world);
    assert_logged("invalidated count=1");
    send("act", "c", "{\"do\":\"sleep\"}");
    advance(world, 10);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 3);
    world_free(world);
}

/* ---- publishing ---- */

/* A handler for what the plugins publish. */
static struct script *taker(void) {
    return handler_add(world, handler_new(world, "taken"));
}

static void a_plugin_publishes(void **state) {
    (void)state;
    struct script *to = taker();
    add_verdict(to, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    act("{\"do\":\"publish\",\"publish\":{\"event\":\"taken\",\"payload\":{\"n\":1},"
        "\"id\":\"own\",\"priority\":4,\"max_attempts\":9,\"headers\":{\"colour\":\"red\","
        "\"truth\":true,\"whole\":-7,\"half\":0.5}}}");
    assert_logged("published published=own");
    assert_true(one_processed());
    assert_int_equal(to->starts, 1);
    const struct lvt_memory_message *dead = first_dead(world);
    const struct lvt_headers *headers = &dead->properties.headers;
    assert_header(headers, "colour", "red");
    assert_true(lvt_headers_find(headers, "truth")->value.boolean);
    assert_int_equal(lvt_headers_find(headers, "whole")->value.integer, -7);
    assert_true(lvt_headers_find(headers, "half")->value.number == 0.5);
    assert_int_equal(header_number(headers, LVT_HEADER_MAX_ATTEMPTS), 9);
    assert_int_equal(dead->properties.priority, 4);
    world_free(world);
}

static void a_payload_may_be_left_out_and_an_id(void **state) {
    (void)state;
    struct script *to = taker();
    act("{\"do\":\"publish\",\"publish\":{\"event\":\"taken\"}}");
    assert_int_equal(to->starts, 1);
    assert_int_equal(strlen(to->id), 36);
    assert_logged(to->id);
    world_free(world);
}

static void in_a_transaction_it_leaves_with_the_commit(void **state) {
    (void)state;
    struct script *to = taker();
    load("acts");
    world->commit_result = LVT_TX_OUTAGE;
    world->commit_failures = 1;
    send("act", "id-1",
         "{\"do\":\"publish in transaction\",\"publish\":{\"event\":\"taken\",\"id\":\"own\"}}");
    go(world);
    assert_logged("published published=own");
    assert_int_equal(world->outbox_rows, 1);
    assert_int_equal(to->starts, 0);
    advance(world, 10000); /* the first commit came to nothing */
    assert_int_equal(world->outbox_rows, 2);
    assert_int_equal(world->outbox_results[LVT_OUTBOX_SENT], 1);
    assert_int_equal(to->starts, 1);
    assert_true(counted(world, LVT_OUTCOME_PROCESSED) == 2);
    world_free(world);
}

static bool two_processed(void) {
    return counted(world, LVT_OUTCOME_PROCESSED) == 2 && settled();
}

static bool four_processed(void) {
    return counted(world, LVT_OUTCOME_PROCESSED) == 4 && settled();
}

static void a_blocking_plugin_waits_for_the_confirm(void **state) {
    (void)state;
    struct script *to = taker();
    load("waits");
    send("wait", "a", "{\"do\":\"publish\",\"publish\":{\"event\":\"taken\",\"id\":\"first\"}}");
    until(two_processed);
    assert_logged("published published=first");
    assert_string_equal(to->id, "first");
    send("wait", "b",
         "{\"do\":\"publish in transaction\",\"publish\":{\"event\":\"taken\",\"id\":\"second\"}}");
    until(four_processed);
    assert_logged("published published=second");
    assert_string_equal(to->id, "second");
    assert_int_equal(world->outbox_rows, 1);
    world_free(world);
}

/* A dead letter says why it was not published. */
static void not_published(const char *publish, const char *why) {
    char payload[4096];
    world = world_new();
    struct script *to = taker();
    snprintf(payload, sizeof payload, "{\"do\":\"publish\",\"publish\":%s}", publish);
    act(payload);
    advance(world, 60000);
    const struct lvt_header *error =
        lvt_headers_find(&first_dead(world)->properties.headers, LVT_HEADER_ERROR);
    char text[LVT_REASON_MAX + 1];
    copy_text(text, sizeof text, error->value.bytes);
    if (!strstr(text, why))
        fail_msg("%s: \"%s\" does not say \"%s\"", publish, text, why);
    assert_int_equal(to->starts, 0);
    world_free(world);
}

static void what_cannot_be_published_is_said(void **state) {
    (void)state;
    world_open(world);
    world_free(world);
    not_published("{\"event\":\"taken\",\"payload\":[1]}",
                  "status 1: the payload is not a JSON object");
    not_published("{\"event\":\"taken\",\"raw\":\"{\\\"a\\\":}\"}",
                  "status 1: the payload is not JSON");
    not_published("{\"event\":\"taken\",\"too much\":1}", "max_body_bytes is 1048576");
    not_published("{\"payload\":{}}", "status 1: event:");
    not_published("{\"event\":\"taken\",\"priority\":-2}",
                  "status 1: priority is -2; it must be from 0 to 255");
    not_published("{\"event\":\"taken\",\"priority\":256}", "status 1: priority is 256");
    not_published("{\"event\":\"taken\",\"delay_ms\":99999999999999}", "status 1: the delay is");
    not_published("{\"event\":\"taken\",\"max_attempts\":101}", "status 1: max_attempts is 101");
    not_published("{\"event\":\"taken\",\"headers\":{\"a\":[]}}",
                  "status 1: the header a must be a text");
    not_published("{\"event\":\"taken\",\"exchange\":\"a\",\"queue\":\"b\"}",
                  "status 1: name an exchange or a queue");
    not_published("{\"event\":\"nobody\"}", "status 1: ");
    not_published("{\"event\":\"taken\",\"size\":8}", "status 3: an event to publish begins with");
}

static void more_headers_than_there_may_be(void **state) {
    char publish[4096] = "{\"event\":\"taken\",\"headers\":{\"h0\":1";
    (void)state;
    size_t len = strlen(publish);
    for (int i = 1; i < 101; i++)
        len += (size_t)snprintf(publish + len, sizeof publish - len, ",\"h%d\":1", i);
    snprintf(publish + len, sizeof publish - len, "}}");
    world_open(world);
    world_free(world);
    not_published(publish, "status 3: an event to publish begins with leveret_publish()");
}

/* ---- time ---- */

static void what_is_under_way_at_the_timeout_is_cancelled(void **state) {
    (void)state;
    act("{\"do\":\"sleep long\"}");
    advance(world, 60000);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1);
    assert_header(&first_dead(world)->properties.headers, "leveret-error",
                  "the handler did not finish within timeout_ms = 2000");
    world_free(world);
}

static void an_event_that_is_never_finished_times_out(void **state) {
    (void)state;
    act("{\"do\":\"never\"}");
    advance(world, 60000);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1);
    world_free(world);
}

static void a_plugin_that_finishes_nothing_gets_no_more(void **state) {
    (void)state;
    char id[16];
    load("acts");
    handler->options.retry.max = 0;
    for (int i = 0; i < 1001; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        send("act", id, "{\"do\":\"never\"}");
    }
    advance(world, 60000);
    assert_logged("the plugin cannot take more events; they wait reason=it holds 1000 events");
    world_free(world);
}

/* ---- threads ---- */

static bool finished_from_thread(void) {
    return has_logged("finished from a thread number=3") && one_processed();
}

static void a_thread_finishes(void **state) {
    (void)state;
    act("{\"do\":\"thread\",\"number\":3}");
    until(finished_from_thread);
    world_free(world);
}

static bool late_finish(void) {
    return has_logged("finished from a thread number=9");
}

static void a_late_finish_does_no_harm_and_reads_are_good_till_then(void **state) {
    (void)state;
    act("{\"do\":\"thread\",\"ms\":50,\"number\":9}");
    advance(world, 2000);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 1);
    until(late_finish);
    world_free(world);
}

static void a_blocking_plugin_waits_for_answers(void **state) {
    (void)state;
    load("waits");
    send("wait", "a", "{\"do\":\"query\"}");
    until(one_processed);
    assert_logged("answered number=1 last=one nulls=0 count=1");
    assert_int_equal(world->commits, 1);
    world_free(world);
    assert_logged("waits is closed");
}

static bool forty_processed(void) {
    return counted(world, LVT_OUTCOME_PROCESSED) == 40 && settled();
}

static void many_events_share_the_threads(void **state) {
    (void)state;
    char id[16];
    load("waits");
    for (int i = 0; i < 40; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        send("wait", id, i % 2 ? "{\"do\":\"redis\"}" : "{\"do\":\"\"}");
    }
    until(forty_processed);
    world_free(world);
}

static bool one_retried(void) {
    return counted(world, LVT_OUTCOME_RETRIED) == 1;
}

static void a_blocking_plugin_may_not_pass_a_callback(void **state) {
    (void)state;
    load("waits");
    send("wait", "a", "{\"do\":\"callback\"}");
    until(one_retried);
    advance(world, 1);
    until(settled);
    assert_header(&first_dead(world)->properties.headers, "leveret-error",
                  "status 3: a blocking plugin waits for its answers: pass no callback");
    world_free(world);
}

static bool came_back(void) {
    return has_logged("came back status=2");
}

static bool handed_to_threads(void) {
    return lvt_engine_in_flight(world->engine) == 4;
}

/* Its four threads are busy with events that are over: the fifth one waits, and is not charged. */
static void stuck_threads_cost_other_events_nothing(void **state) {
    (void)state;
    char id[16];
    load("waits");
    handler->options.retry.max = 0;
    for (int i = 0; i < 4; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        send("wait", id, "{\"do\":\"block\",\"ms\":300}");
    }
    until(handed_to_threads);
    nanosleep(&(struct timespec){0, 50000000}, NULL); /* each thread has begun with its own */
    advance(world, 2001);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 4);
    send("wait", "last", "{\"do\":\"\"}");
    go(world);
    assert_logged("they wait reason=all its threads are busy with events that are over");
    until(came_back);
    for (int i = 0; i < 200 && !one_processed(); i++) {
        nanosleep(&(struct timespec){0, 50000000}, NULL);
        advance(world, 200); /* not so much that it times out before a thread has it */
    }
    assert_true(one_processed());
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 4);
    world_free(world);
}

static bool running(void) {
    return lvt_engine_in_flight(world->engine) == 1;
}

/* Shutdown does not wait for a thread that does not come back; it closes the plugin itself. */
static void a_stuck_thread_is_left_behind(void **state) {
    (void)state;
    load("waits");
    send("wait", "a", "{\"do\":\"block\",\"ms\":200}");
    until(running);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    world->ended = true;
    world_free(world);
    assert_logged(
        "threads are still at work with events that are over; they are left to "
        "themselves threads=1");
    assert_false(has_logged("came back"));
    nanosleep(&(struct timespec){0, 400000000}, NULL); /* for the sanitizers: it ends cleanly */
    assert_false(has_logged("waits is closed"));       /* the log is not its any more */
}

/* It has its verdict, and is at its thread's last lines: that is no reason to leave it behind. */
static void a_thread_that_comes_back_is_waited_for(void **state) {
    (void)state;
    load("waits");
    send("wait", "a", "{\"do\":\"linger\",\"ms\":30}");
    until(one_processed);
    world_free(world);
    assert_logged("waits is closed handler=waits");
    assert_false(has_logged("left to themselves"));
}

/* ---- loading ---- */

static void options_come_from_all_sides(void **state) {
    (void)state;
    configure(
        "{\"acts\":{\"greeting\":\"good morning\",\"handler\":{\"concurrency\":3,"
        "\"queue\":\"mine\",\"retry\":{\"max\":9}}},\"other\":{}}");
    load("acts");
    assert_string_equal(handler->name, "acts");
    assert_string_equal(handler->about, "acts 1.2.3");
    assert_string_equal(handler->options.queue, "mine");
    assert_int_equal(handler->options.concurrency, 3);
    assert_int_equal(handler->options.retry.max, 9);
    assert_int_equal(handler->options.retry.base_ms, 1);    /* its own */
    assert_int_equal(handler->options.retry.cap_ms, 30000); /* the configuration's */
    assert_int_equal(handler->options.events.count, 2);
    assert_logged("good morning handler=acts");
    world_free(world);
}

static void refuses(const char *name, const char *why) {
    struct leveret_error err = {.text = ""};
    assert_int_equal(try_load(name, &err), LEVERET_CONFIG);
    if (!strstr(err.text, why))
        fail_msg("%s: \"%s\" does not say \"%s\"", name, err.text, why);
    assert_null(handler);
}

static void what_is_wrong_is_said(void **state) {
    (void)state;
    refuses("wrong_entry", "exports no function leveret_plugin_entry");
    refuses("wrong_null", "returned NULL");
    refuses("wrong_size", "the wrong size, 72 bytes where version 1.0 has 80");
    refuses("wrong_no_size", "the wrong size, 0 bytes");
    refuses("wrong_major", "built for version 2.0 of the plugin interface");
    refuses("wrong_minor", "built for version 1.1 of the plugin interface");
    refuses("wrong_callback", "its descriptor's handle is NULL");
    refuses("wrong_events", "names no events");
    refuses("wrong_many", "events has more than 256");
    refuses("wrong_flags", "unknown flags, 0x80000000");
    refuses("wrong_json", "no valid JSON");
    refuses("wrong_option", "unknown key \"retry.maximum\"; did you mean \"retry.max\"");
    refuses("wrong_open", "there is no disk");
    refuses("wrong_symbol", "leveret_tests_nobody_has_this");
    refuses("missing", "cannot be opened: No such file");
    configure("{\"acts\":{\"handler\":{\"quue\":\"x\"}}}");
    refuses("acts", "plugins.acts.handler: unknown key \"quue\"; did you mean \"queue\"");
    configure("{\"acts\":{\"refuse\":1}}");
    refuses("acts", "the plugin cannot be opened: the configuration says refuse");
    world_open(world);
    world_free(world);
}

static void what_dies_is_not_tried_again(void **state) {
    (void)state;
    refuses("wrong_crash", "died as it was loaded, in a child process: signal");
    refuses("wrong_crash", "died when it was tried before, and has not changed since");
    refuses("wrong_exit", "ended the process as it was loaded");
    refuses("wrong_exit", "died when it was tried before");
    refuses("wrong_hang", "did not come back from being loaded");
    refuses("wrong_hang", "did not come back from being loaded");
    refuses("wrong_hang", "hung when it was tried before");
    world_open(world);
    world_free(world);
}

/* A copy of acts.so, spoilt: cut to len bytes (0: all), the byte at `at` set. */
static void spoilt(size_t len, size_t at, char byte, const char *why) {
    static char data[4 << 20];
    char path[] = "/tmp/leveret-test-XXXXXX.so";
    struct leveret_error err;
    FILE *file = fopen(TEST_PLUGINS "/acts.so", "rb");
    assert_non_null(file);
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    data[at] = byte;
    int fd = mkstemps(path, 3);
    assert_true(fd >= 0);
    size_t written = len > 0 ? len : size;
    assert_int_equal(write(fd, data, written), (ssize_t)written);
    close(fd);
    assert_int_equal(lvt_native_handler_load(path, &config, &plugin_log, &handler, &err),
                     LEVERET_CONFIG);
    unlink(path);
    if (!strstr(err.text, why))
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void files_that_are_no_plugins_are_not_loaded(void **state) {
    (void)state;
    spoilt(40, 0, '-', "is no shared object");
    spoilt(0, 18, 8, "is built for another kind of machine");
    spoilt(0, 4, 1, "is built for another kind of machine");
    spoilt(0, 16, 2, "is no shared object: link it with -shared");
    spoilt(30, 1, 'E', "is cut short");
    spoilt(8000, 1, 'E', "is cut short");
    world_open(world);
    world_free(world);
}

/* Lines of /proc/self/maps that are of plugins. */
static int mapped(void) {
    char line[1024];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, "leveret-plugin") != NULL;
    fclose(maps);
    return count;
}

static void two_versions_live_side_by_side_and_leave_nothing(void **state) {
    (void)state;
    struct leveret_error err;
    int before = dup(0);
    close(before);
    for (int i = 0; i < 20; i++) {
        struct lvt_handler *old;
        assert_int_equal(try_load("acts", &err), LEVERET_OK);
        old = handler;
        assert_int_equal(try_load("acts", &err), LEVERET_OK);
        assert_true(mapped() > 0);
        lvt_handler_free(old);
        assert_true(mapped() > 0);
        lvt_handler_free(handler);
        assert_int_equal(mapped(), 0);
    }
    int after = dup(0);
    close(after);
    assert_int_equal(after, before); /* no descriptor is left open */
    world_open(world);
    world_free(world);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(verdicts_are_the_engines),
        TEST(a_retry_waits_as_long_as_it_says),
        TEST(a_snooze_costs_no_attempt),
        TEST(an_unknown_verdict_is_a_failed_attempt),
        TEST(the_second_finish_is_ignored_and_logged),
        TEST(a_plugin_sees_the_event),
        TEST(wrong_calls_are_refused),
        TEST(statements_run_in_the_order_of_asking),
        TEST(a_failed_statement_takes_its_sqlstate_along),
        TEST(the_cache_and_the_clock_answer),
        TEST(a_plugin_publishes),
        TEST(a_payload_may_be_left_out_and_an_id),
        TEST(in_a_transaction_it_leaves_with_the_commit),
        TEST(a_blocking_plugin_waits_for_the_confirm),
        TEST(what_cannot_be_published_is_said),
        TEST(more_headers_than_there_may_be),
        TEST(what_is_under_way_at_the_timeout_is_cancelled),
        TEST(an_event_that_is_never_finished_times_out),
        TEST(a_plugin_that_finishes_nothing_gets_no_more),
        TEST(a_thread_finishes),
        TEST(a_late_finish_does_no_harm_and_reads_are_good_till_then),
        TEST(a_blocking_plugin_waits_for_answers),
        TEST(many_events_share_the_threads),
        TEST(a_blocking_plugin_may_not_pass_a_callback),
        TEST(stuck_threads_cost_other_events_nothing),
        TEST(a_stuck_thread_is_left_behind),
        TEST(a_thread_that_comes_back_is_waited_for),
        TEST(two_versions_live_side_by_side_and_leave_nothing),
        TEST(options_come_from_all_sides),
        TEST(what_is_wrong_is_said),
        TEST(what_dies_is_not_tried_again),
        TEST(files_that_are_no_plugins_are_not_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
