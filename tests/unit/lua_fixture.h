/* An engine for the tests of Lua handlers that is only this file: it keeps what a handler asks for,
 * and the test answers. Included by one file of each program. */
#ifndef LEVERET_TESTS_LUA_FIXTURE_H
#define LEVERET_TESTS_LUA_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/effects.h"
#include "engine/run.h"
#include "event/delivery.h"
#include "runtime/lua/lua_handler.h"

/* ---- the engine ---- */

enum asked {
    ASKED_NOTHING,
    ASKED_QUERY,
    ASKED_REDIS,
    ASKED_INVALIDATE,
    ASKED_HTTP,
    ASKED_SLEEP,
    ASKED_TURN,
    ASKED_PUBLISH,
};

/* A run with its event, what it asked for last, and what has become of it. */
struct fake {
    struct lvt_run run;
    struct lvt_event event;
    struct lvt_delivery *delivery;
    enum asked asked;
    void *done; /* the callback, of the kind that `asked` tells */
    void *ctx;
    char text[2048]; /* of what was asked for */
    uint64_t delay_ms;
    int finished;
    struct lvt_verdict verdict;
    char reason[LVT_REASON_MAX + 1], trace[LVT_TRACE_MAX + 1];
    bool abort_in_effect;
    bool hold_turns; /* an interrupted run does not go on by itself */
    int turns;
};

static char log_text[65536];
static struct lvt_handler *handler;
static struct lvt_config config;

static inline void log_record(void *ctx, enum lvt_level level, const char *text,
                              const struct lvt_field *fields, size_t count) {
    size_t len = strlen(log_text), room = sizeof log_text - len;
    (void)ctx;
    len += (size_t)snprintf(log_text + len, room, "%d %s", (int)level, text);
    for (size_t i = 0; i < count; i++) {
        char *at = log_text + len;
        room = sizeof log_text - len;
        const struct lvt_field *field = &fields[i];
        switch (field->kind) {
        case LVT_FIELD_INTEGER:
            len +=
                (size_t)snprintf(at, room, " %s=%lld", field->key, (long long)field->value.integer);
            break;
        case LVT_FIELD_NUMBER:
            len += (size_t)snprintf(at, room, " %s=%g", field->key, field->value.number);
            break;
        case LVT_FIELD_BOOLEAN:
            len += (size_t)snprintf(at, room, " %s=%s", field->key,
                                    field->value.boolean ? "true" : "false");
            break;
        default:
            len += (size_t)snprintf(at, room, " %s=%.*s", field->key, (int)field->value.text.len,
                                    field->value.text.data);
            break;
        }
    }
    snprintf(log_text + len, sizeof log_text - len, "\n");
}

static const struct lvt_log test_log = {.sink = log_record, .level = LVT_INFO};

void lvt_run_log(struct lvt_run *run, enum lvt_level level, const char *text,
                 const struct lvt_field *fields, size_t field_count) {
    assert_non_null(run);
    log_record(NULL, level, text, fields, field_count);
}

void lvt_run_finish(struct lvt_run *run, const struct lvt_verdict *verdict) {
    struct fake *fake = (struct fake *)run;
    fake->finished++;
    fake->verdict = *verdict;
    assert_true(verdict->reason.len <= LVT_REASON_MAX);
    assert_true(verdict->trace.len <= LVT_TRACE_MAX);
    snprintf(fake->reason, sizeof fake->reason, "%.*s", (int)verdict->reason.len,
             verdict->reason.len > 0 ? verdict->reason.data : "");
    snprintf(fake->trace, sizeof fake->trace, "%.*s", (int)verdict->trace.len,
             verdict->trace.len > 0 ? verdict->trace.data : "");
}

static inline struct fake *ask(struct lvt_run *run, enum asked asked, void *done, void *ctx) {
    struct fake *fake = (struct fake *)run;
    assert_int_equal(fake->finished, 0);
    assert_int_equal(fake->asked, ASKED_NOTHING);
    fake->asked = asked;
    fake->done = done;
    fake->ctx = ctx;
    if (fake->abort_in_effect)
        handler->runtime->abort(handler->runtime_self, run);
    return fake;
}

static inline void keep_texts(struct fake *fake, const struct lvt_bytes *texts, size_t count) {
    size_t len = strlen(fake->text);
    for (size_t i = 0; i < count; i++)
        len += (size_t)snprintf(fake->text + len, sizeof fake->text - len, "%s%.*s",
                                len > 0 ? "|" : "", texts[i].data ? (int)texts[i].len : 4,
                                texts[i].data ? texts[i].data : "NULL");
}

void lvt_effect_query(struct lvt_run *run, const struct lvt_sql *sql, lvt_rows_done *done,
                      void *ctx) {
    struct fake *fake = ask(run, ASKED_QUERY, (void *)done, ctx);
    keep_texts(fake, &sql->text, 1);
    keep_texts(fake, sql->params, sql->param_count);
}

void lvt_effect_redis(struct lvt_run *run, const struct lvt_bytes *argv, size_t argc,
                      lvt_reply_done *done, void *ctx) {
    keep_texts(ask(run, ASKED_REDIS, (void *)done, ctx), argv, argc);
}

void lvt_effect_invalidate(struct lvt_run *run, const struct lvt_bytes *patterns, size_t count,
                           lvt_invalidate_done *done, void *ctx) {
    keep_texts(ask(run, ASKED_INVALIDATE, (void *)done, ctx), patterns, count);
}

void lvt_effect_http(struct lvt_run *run, const struct lvt_http_request *request,
                     lvt_http_done *done, void *ctx) {
    struct fake *fake = ask(run, ASKED_HTTP, (void *)done, ctx);
    const struct lvt_bytes texts[] = {request->method, request->url, request->body};
    keep_texts(fake, texts, request->body.data ? 3 : 2);
    for (size_t i = 0; i < request->header_count; i++) {
        keep_texts(fake, &request->headers[i].name, 1);
        keep_texts(fake, &request->headers[i].value, 1);
    }
    fake->delay_ms = request->timeout_ms;
}

void lvt_effect_publish(struct lvt_run *run, const struct lvt_outgoing *outgoing,
                        lvt_published_done *done, void *ctx) {
    struct fake *fake = ask(run, ASKED_PUBLISH, (void *)done, ctx);
    const struct lvt_bytes texts[] = {outgoing->event, outgoing->payload, outgoing->id,
                                      outgoing->exchange, outgoing->queue};
    char numbers[160];
    keep_texts(fake, texts, 5);
    snprintf(numbers, sizeof numbers, "delay %llu ttl %llu priority %d attempts %u",
             (unsigned long long)outgoing->delay_ms, (unsigned long long)outgoing->ttl_ms,
             outgoing->priority, outgoing->max_attempts);
    keep_texts(fake, &(struct lvt_bytes){numbers, strlen(numbers)}, 1);
    for (size_t i = 0; i < outgoing->header_count; i++)
        keep_texts(fake, &outgoing->headers[i].name, 1);
}

void lvt_effect_sleep(struct lvt_run *run, uint64_t delay_ms, void (*done)(void *ctx), void *ctx) {
    ask(run, ASKED_SLEEP, (void *)done, ctx)->delay_ms = delay_ms;
}

void lvt_effect_turn(struct lvt_run *run, void (*done)(void *ctx), void *ctx) {
    ask(run, ASKED_TURN, (void *)done, ctx)->turns++;
}

static inline void *take(struct fake *fake, enum asked asked) {
    assert_int_equal(fake->asked, asked);
    assert_int_equal(fake->finished, 0);
    fake->asked = ASKED_NOTHING;
    fake->text[0] = '\0';
    return fake->done;
}

/* An interrupted run goes on. */
static inline void turn(struct fake *fake) {
    void (*done)(void *ctx) = (void (*)(void *))take(fake, ASKED_TURN);
    done(fake->ctx);
}

static inline void go_on(struct fake *fake) {
    while (fake->asked == ASKED_TURN && !fake->finished && !fake->hold_turns)
        turn(fake);
}

static inline void wake(struct fake *fake) {
    void (*done)(void *ctx) = (void (*)(void *))take(fake, ASKED_SLEEP);
    done(fake->ctx);
    go_on(fake);
}

static inline void answer_removed(struct fake *fake, int64_t removed) {
    lvt_invalidate_done *done = (lvt_invalidate_done *)take(fake, ASKED_INVALIDATE);
    done(fake->ctx, LVT_ANSWER_OK, removed, NULL);
}

static inline void answer_reply(struct fake *fake, const struct lvt_reply *reply,
                                const char *error) {
    lvt_reply_done *done = (lvt_reply_done *)take(fake, ASKED_REDIS);
    done(fake->ctx, reply ? LVT_ANSWER_OK : LVT_ANSWER_ERROR, reply, error);
}

static inline void answer_sql_error(struct fake *fake, const char *sqlstate, const char *text) {
    lvt_rows_done *done = (lvt_rows_done *)take(fake, ASKED_QUERY);
    struct lvt_sql_error error;
    snprintf(error.sqlstate, sizeof error.sqlstate, "%s", sqlstate);
    snprintf(error.text, sizeof error.text, "%s", text);
    done(fake->ctx, LVT_ANSWER_ERROR, NULL, &error);
}

/* ---- handlers ---- */

static char dir[] = "/tmp/leveret-test-XXXXXX";
static char path[64];

static inline int set_up(void **state) {
    struct leveret_error err;
    (void)state;
    log_text[0] = '\0';
    snprintf(dir, sizeof dir, "/tmp/leveret-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/a.test.lua", dir);
    return lvt_config_init(&config, &err) != LEVERET_OK;
}

static inline int tear_down(void **state) {
    (void)state;
    lvt_handler_free(handler);
    handler = NULL;
    lvt_config_free(&config);
    unlink(path);
    return rmdir(dir);
}

static inline enum leveret_code load_text(const char *text, struct leveret_error *err) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    lvt_handler_free(handler);
    handler = NULL;
    return lvt_lua_handler_load(path, &config, &test_log, &handler, err);
}

static inline void load_file(const char *text) {
    struct leveret_error err;
    if (load_text(text, &err) != LEVERET_OK)
        fail_msg("%s", err.text);
}

/* A handler with this body. */
static inline void load_body(const char *body) {
    char text[8192];
    snprintf(text, sizeof text, "return function(event, ctx)\n%s\nend\n", body);
    load_file(text);
}

static inline struct fake *begin_with(const char *payload) {
    struct fake *fake = calloc(1, sizeof *fake);
    assert_non_null(fake);
    fake->delivery = lvt_delivery_new(1024);
    assert_non_null(fake->delivery);
    fake->delivery->body = lvt_bytes_of(payload);
    fake->event = (struct lvt_event){
        .delivery = fake->delivery,
        .type = LVT_LITERAL("a.test"),
        .id = LVT_LITERAL("id-1"),
        .payload = lvt_bytes_of(payload),
        .exchange = LVT_LITERAL("events"),
        .routing_key = LVT_LITERAL("a.test"),
        .attempt = 1,
        .priority = -1,
    };
    fake->run.event = &fake->event;
    fake->run.handler = handler;
    return fake;
}

static inline void start(struct fake *fake) {
    handler->runtime->start(handler->runtime_self, &fake->run);
    go_on(fake);
}

static inline struct fake *begin(void) {
    struct fake *fake = begin_with("{\"id\":7,\"name\":\"x\",\"list\":[]}");
    start(fake);
    return fake;
}

static inline void end(struct fake *fake) {
    lvt_delivery_free(fake->delivery);
    free(fake);
}

static inline void ended(struct fake *fake, enum lvt_verdict_kind kind, const char *reason) {
    if (fake->finished != 1 || fake->verdict.kind != kind || !strstr(fake->reason, reason))
        fail_msg("finished %d times, verdict %d, reason \"%s\", expected %d \"%s\"", fake->finished,
                 (int)fake->verdict.kind, fake->reason, (int)kind, reason);
    end(fake);
}

static inline void runs(const char *body) {
    load_body(body);
    ended(begin(), LVT_VERDICT_DONE, "");
}

static inline void fails(const char *body, const char *reason) {
    load_body(body);
    ended(begin(), LVT_VERDICT_RETRY, reason);
}

static inline void logged(const char *line) {
    if (!strstr(log_text, line))
        fail_msg("\"%s\" is not in the log:\n%s", line, log_text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
