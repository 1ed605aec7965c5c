/* Memory that runs out: each call of the engine's that allocates fails once, in a run of its own.
 * No event may be lost by it, and nothing may be left over. Linked with --wrap for the functions
 * that are stood in for here. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);

/* What the fixture itself needs is always there. */
#define calloc __real_calloc
#define strdup __real_strdup
#include "engine_fixture.h"
#undef calloc
#undef strdup

#include "engine/forward.h"
#include "engine/state.h"

/* ---- memory that fails ---- */

static bool counting;
static unsigned calls, fail_at;

static bool is_due(void) {
    return counting && ++calls == fail_at;
}

static void fail_nth(unsigned nth) {
    counting = true;
    calls = 0;
    fail_at = nth;
}

/* Whether there was an nth call, which failed. */
static bool has_failed(void) {
    counting = false;
    return calls >= fail_at;
}

#define STANDS_IN(type, name, parameters, arguments, failure)                                      \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters {                                                                \
        return is_due() ? failure : __real_##name arguments;                                       \
    }

STANDS_IN(void *, malloc, (size_t size), (size), NULL)
STANDS_IN(void *, calloc, (size_t count, size_t size), (count, size), NULL)
STANDS_IN(void *, realloc, (void *memory, size_t size), (memory, size), NULL)
STANDS_IN(char *, strdup, (const char *text), (text), NULL)
STANDS_IN(void *, lvt_arena_alloc, (struct lvt_arena * arena, size_t size), (arena, size), NULL)
STANDS_IN(void *, lvt_arena_zalloc, (struct lvt_arena * arena, size_t size), (arena, size), NULL)
STANDS_IN(struct lvt_bytes, lvt_arena_copy, (struct lvt_arena * arena, struct lvt_bytes bytes),
          (arena, bytes), lvt_bytes(NULL, 0))
STANDS_IN(bool, lvt_timer_start,
          (struct lvt_timers * timers, struct lvt_timer *timer, uint64_t due_ms),
          (timers, timer, due_ms), false)

int __wrap_asprintf(char **ret, const char *format, ...);
int __wrap_asprintf(char **ret, const char *format, ...) {
    va_list arguments;
    if (is_due())
        return -1;
    va_start(arguments, format);
    int len = vasprintf(ret, format, arguments);
    va_end(arguments);
    return len;
}

char *__wrap_lvt_arena_printf(struct lvt_arena *arena, const char *format, ...);
char *__wrap_lvt_arena_printf(struct lvt_arena *arena, const char *format, ...) {
    char text[200];
    va_list arguments;
    if (is_due())
        return NULL;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return (char *)__real_lvt_arena_copy(arena, lvt_bytes_of(text)).data;
}

/* ---- handlers that ask for everything ---- */

static struct {
    lvt_http_done *done;
    void *ctx;
} asked;

static void request(void *self, const struct lvt_http_request *http, lvt_http_done *done,
                    void *ctx) {
    (void)self;
    (void)http;
    asked.done = done;
    asked.ctx = ctx;
}

static void over(void *ctx, bool good) {
    finish(ctx, good ? LVT_VERDICT_DONE : LVT_VERDICT_RETRY, good ? NULL : "an effect failed");
}

static void slept_long(void *ctx) {
    over(ctx, true);
}

static void had_turn(void *ctx) {
    lvt_effect_sleep(ctx, 50, slept_long, ctx);
}

static void responded(void *ctx, const struct lvt_http_response *response, const char *error) {
    (void)response;
    (void)error;
    lvt_effect_turn(ctx, had_turn, ctx);
}

static const struct lvt_bytes patterns[] = {{"a:*", 3}, {"b:*", 3}};

static void removed(void *ctx, enum lvt_answer answer, int64_t count, const char *error) {
    static const struct lvt_http_request http = {.url = {"http://x", 8}};
    (void)count;
    (void)error;
    if (answer == LVT_ANSWER_OK)
        lvt_effect_http(ctx, &http, responded, ctx);
    else
        over(ctx, false);
}

static void replied(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                    const char *error) {
    (void)reply;
    (void)error;
    if (answer == LVT_ANSWER_OK)
        lvt_effect_invalidate(ctx, patterns, 2, removed, ctx);
    else
        over(ctx, false);
}

static struct lvt_header colour = {
    .name = {"colour", 6}, .kind = LVT_HEADER_STRING, .value.bytes = {"red", 3}};

static void published_it(void *ctx, enum lvt_answer answer, struct lvt_bytes id,
                         const char *error) {
    static const struct lvt_bytes words[] = {{"INCR", 4}, {"n", 1}};
    (void)id;
    (void)error;
    if (answer == LVT_ANSWER_OK)
        lvt_effect_redis(ctx, words, 2, replied, ctx);
    else
        over(ctx, false);
}

static void publish_to(struct lvt_run *run, uint64_t delay_ms, lvt_published_done *done) {
    const struct lvt_outgoing outgoing = {.event = LVT_LITERAL("plain"),
                                          .payload = LVT_LITERAL("{}"),
                                          .priority = LVT_NO_PRIORITY,
                                          .delay_ms = delay_ms,
                                          .ttl_ms = 3600000,
                                          .headers = &colour,
                                          .header_count = 1};
    lvt_effect_publish(run, &outgoing, done, run);
}

static void ask_for_all(struct script *script, struct lvt_run *run) {
    (void)script;
    publish_to(run, 0, published_it);
}

static void removed_later(void *ctx, enum lvt_answer answer, int64_t count, const char *error) {
    (void)count;
    (void)error;
    over(ctx, answer == LVT_ANSWER_OK);
}

static void published_in_tx(void *ctx, enum lvt_answer answer, struct lvt_bytes id,
                            const char *error) {
    (void)id;
    (void)error;
    if (answer == LVT_ANSWER_OK)
        lvt_effect_invalidate(ctx, patterns, 2, removed_later, ctx);
    else
        over(ctx, false);
}

static void rows_came(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                      const struct lvt_sql_error *error) {
    (void)rows;
    (void)error;
    if (answer == LVT_ANSWER_OK)
        publish_to(ctx, 1000, published_in_tx);
    else
        over(ctx, false);
}

static void ask_in_tx(struct script *script, struct lvt_run *run) {
    (void)script;
    query(run, rows_came);
}

/* ---- a world that has them ---- */

static struct script *add(struct world *world, const char *name) {
    return handler_add(world, handler_new(world, name));
}

static struct world *make(void) {
    struct world *world = world_new();
    struct leveret_error err;
    struct lvt_config config;
    add(world, "all")->body = ask_for_all;
    add(world, "tx")->body = ask_in_tx;
    add(world, "plain");
    add_verdict(add(world, "fails"), RETRY("no"));
    add_verdict(add(world, "dies"), (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    struct script *snoozes = add(world, "snoozes");
    add_verdict(snoozes, (struct lvt_verdict){.kind = LVT_VERDICT_SNOOZE, .after_ms = 500});
    add_verdict(snoozes, DONE);
    struct script *waits = add(world, "waits");
    add_verdict(waits, (struct lvt_verdict){.kind = LVT_VERDICT_OUTAGE});
    add_verdict(waits, DONE);
    struct script *hashed = handler_new(world, "hashed");
    hashed->handler->options.id = strdup("hash");
    handler_add(world, hashed);
    struct script *limited = handler_new(world, "limited");
    limited->handler->options.rate = 2;
    handler_add(world, limited);
    assert_int_equal(lvt_config_init(&config, &err), LEVERET_OK);
    assert_int_equal(lvt_forward_add(&config, &world->routes, &err), LEVERET_OK);
    lvt_config_free(&config);
    world_open(world);
    world->engine->http = (struct lvt_http_port){.request = request};
    return world;
}

#define SENT 11

static void send_all(struct world *world) {
    static const char names[][8] = {"all",     "tx",    "plain",   "fails",  "dies",
                                    "snoozes", "waits", "limited", "limited"};
    char id[8];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(id, sizeof id, "e%zu", i);
        publish(world, names[i], id);
    }
    publish(world, "hashed", NULL);
    const struct lvt_properties properties = {.present = LVT_HAS_MESSAGE_ID,
                                              .message_id = LVT_LITERAL("broken")};
    assert_int_equal(publish_message(world, "plain", &properties, "no JSON"), 1);
}

static void answer_request(void) {
    static const struct lvt_http_response response = {.status = 200};
    if (asked.done)
        asked.done(asked.ctx, &response, NULL);
    asked.done = NULL;
}

static void carry_on(struct world *world) {
    for (int i = 0; i < 100; i++) {
        advance(world, 3000);
        answer_request();
    }
}

/* Two of those sent end among the dead letters, `fails` after its retries too. */
static void all_is_settled(struct world *world, unsigned nth) {
    size_t dead = lvt_memory_broker_dead_count(world->broker);
    uint64_t ended = counted(world, LVT_OUTCOME_PROCESSED) + counted(world, LVT_OUTCOME_FAILED);
    if (dead < 3 || ended < SENT)
        fail_msg("without call %u: %zu dead letters, %llu events came to an end", nth, dead,
                 (unsigned long long)ended);
    assert_settled(world);
}

static void no_event_is_lost_by_it(void **state) {
    (void)state;
    for (unsigned nth = 1, failed = true; failed; nth++) {
        struct world *world = make();
        asked.done = NULL;
        send_all(world);
        fail_nth(nth);
        carry_on(world);
        failed = has_failed();
        all_is_settled(world, nth);
        world_free(world);
    }
}

/* While the broker is away, runs wait for it beyond their timeout. */
static void no_timeout_without_its_timer(void **state) {
    (void)state;
    for (unsigned nth = 1, failed = true; failed; nth++) {
        struct world *world = make();
        asked.done = NULL;
        publish(world, "all", "e");
        lvt_memory_broker_poll(world->broker);
        lvt_memory_broker_disconnect(world->broker);
        go(world);
        fail_nth(nth);
        advance(world, 100000);
        failed = has_failed();
        lvt_memory_broker_reconnect(world->broker);
        carry_on(world);
        assert_int_equal(lvt_memory_broker_dead_count(world->broker), 0);
        assert_settled(world);
        world_free(world);
    }
}

#define MANY 1024

static void the_map_may_stay_small(void **state) {
    char id[16];
    (void)state;
    for (unsigned nth = 1, failed = true; failed; nth++) {
        struct world *world = world_new();
        struct script *script = handler_new(world, "a");
        script->handler->options.prefetch = 2 * MANY;
        script->handler->options.concurrency = 1;
        script->body = hold;
        handler_add(world, script);
        world_open(world);
        for (int i = 0; i < MANY + 1; i++) {
            snprintf(id, sizeof id, "e%d", i);
            publish(world, "a", id);
            if (i == MANY - 1)
                go(world);
        }
        fail_nth(nth);
        go(world);
        failed = has_failed();
        script->body = NULL;
        finish(script->held[0], LVT_VERDICT_DONE, NULL);
        advance(world, 60000);
        assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), MANY + 1);
        assert_settled(world);
        world_free(world);
    }
}

static void a_leftover_invalidation_comes_again(void **state) {
    struct world *world = make();
    struct lvt_ledger_sink sink = lvt_engine_ledger_sink(world->engine);
    (void)state;
    fail_nth(1);
    sink.invalidation_due(sink.ctx, 1, LVT_LITERAL("a:*"));
    assert_true(has_failed());
    go(world);
    assert_int_equal(world->invalidated, 0);
    sink.invalidation_due(sink.ctx, 1, LVT_LITERAL("a:*"));
    go(world);
    assert_int_equal(world->invalidated, 1);
    world_free(world);
}

static void row_is_back(void *self, struct lvt_outbox_row *row) {
    (void)self;
    (void)row;
}

static void what_cannot_be_relayed_now_is_later(void **state) {
    (void)state;
    for (unsigned nth = 1, failed = true; failed; nth++) {
        struct world *world = make();
        struct lvt_ledger_sink sink = lvt_engine_ledger_sink(world->engine);
        struct lvt_arena arena;
        struct lvt_outbox_row row = {.arena = &arena,
                                     .outgoing = {.event = LVT_LITERAL("plain"),
                                                  .payload = LVT_LITERAL("{}"),
                                                  .id = LVT_LITERAL("own"),
                                                  .priority = LVT_NO_PRIORITY}};
        lvt_arena_init(&arena, 1024);
        world->ledger_port.outbox_done = row_is_back;
        fail_nth(nth);
        sink.outbox_due(sink.ctx, &row);
        failed = has_failed();
        go(world);
        assert_int_not_equal(row.result, LVT_OUTBOX_WRONG);
        assert_int_equal(row.result == LVT_OUTBOX_SENT, !failed);
        world_free(world);
        lvt_arena_free(&arena);
    }
}

/* ---- beginnings ---- */

static struct lvt_handler *handler(const char *name, const char *queue) {
    struct lvt_handler *made = __real_calloc(1, sizeof *made);
    assert_non_null(made);
    made->name = __real_strdup(name);
    made->options.exchange = __real_strdup(EXCHANGE);
    made->options.dead_letter = __real_strdup(DEAD);
    made->options.queue = queue ? __real_strdup(queue) : NULL;
    made->options.concurrency = 1;
    return made;
}

static enum leveret_code add_to(struct lvt_routes *routes, struct lvt_handler *made,
                                struct leveret_error *err) {
    enum leveret_code code = lvt_routes_add(routes, made, err);
    if (code != LEVERET_OK)
        lvt_handler_free(made);
    return code;
}

static enum leveret_code change(struct lvt_routes *routes, struct leveret_error *err) {
    struct lvt_handler *next = handler("next", "other");
    const struct lvt_handler_change changes[] = {{routes->handlers[0], next}};
    struct lvt_handler *old = routes->handlers[0];
    enum leveret_code code = lvt_routes_change(routes, changes, 1, err);
    lvt_handler_free(code == LEVERET_OK ? old : next);
    return code;
}

static void routes_stay_whole(void **state) {
    (void)state;
    for (unsigned nth = 1, failed = true; failed; nth++) {
        struct lvt_routes routes = {0};
        struct leveret_error err = {0};
        fail_nth(nth);
        enum leveret_code code = add_to(&routes, handler("a", NULL), &err);
        if (code == LEVERET_OK)
            code = add_to(&routes, handler("b", "a.queue"), &err);
        if (code == LEVERET_OK)
            code = change(&routes, &err);
        failed = has_failed();
        assert_int_equal(code, failed ? LEVERET_NO_MEMORY : LEVERET_OK);
        assert_true(!failed || err.text[0]);
        lvt_routes_free(&routes);
    }
}

static void what_cannot_be_made_says_so(void **state) {
    (void)state;
    for (unsigned nth = 1, failed = true; failed; nth++) {
        struct lvt_routes routes = {0};
        struct leveret_error err = {0};
        struct lvt_config config;
        struct lvt_engine *engine = NULL;
        const struct lvt_engine_options options = {.routes = &routes};
        assert_int_equal(lvt_config_init(&config, &err), LEVERET_OK);
        fail_nth(nth);
        enum leveret_code code = lvt_forward_add(&config, &routes, &err);
        if (code == LEVERET_OK)
            code = lvt_engine_new(&options, &engine, &err);
        failed = has_failed();
        assert_int_equal(code, failed ? LEVERET_NO_MEMORY : LEVERET_OK);
        assert_true(!failed || strstr(err.text, "out of memory"));
        if (engine)
            lvt_engine_attach(engine, (struct lvt_broker_port){0}, (struct lvt_ledger_port){0},
                              (struct lvt_cache_port){0}, (struct lvt_http_port){0});
        lvt_engine_free(engine);
        lvt_routes_free(&routes);
        lvt_config_free(&config);
    }
}

static void counters_do_without(void **state) {
    (void)state;
    for (unsigned nth = 1, failed = true; failed; nth++) {
        fail_nth(nth);
        struct lvt_stats *stats = lvt_stats_new(0);
        if (stats) {
            lvt_stats_count(stats, LVT_LITERAL("a"), LVT_OUTCOME_PROCESSED);
            lvt_stats_observe_handler(stats, LVT_LITERAL("a"), "a", "1", 1);
            lvt_stats_count_reload(stats, "a", LVT_RELOAD_OK);
            assert_int_equal(stats->outcomes[LVT_OUTCOME_PROCESSED], 1);
        }
        failed = has_failed();
        lvt_stats_free(stats);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_timeout_without_its_timer),
        cmocka_unit_test(the_map_may_stay_small),
        cmocka_unit_test(a_leftover_invalidation_comes_again),
        cmocka_unit_test(what_cannot_be_relayed_now_is_later),
        cmocka_unit_test(routes_stay_whole),
        cmocka_unit_test(what_cannot_be_made_says_so),
        cmocka_unit_test(counters_do_without),
        cmocka_unit_test(no_event_is_lost_by_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
