/* What handlers ask of Redis, and what becomes of it while it is away. */
#include "engine_fixture.h"

static void removed(void *ctx, enum lvt_answer answer, int64_t count, const char *error) {
    struct script *script = script_of(ctx);
    assert_int_equal(answer, LVT_ANSWER_OK);
    assert_null(error);
    script->removed = count;
    finish(ctx, LVT_VERDICT_DONE, NULL);
}

static const struct lvt_bytes patterns[] = {{"tickets:*", 9}, {"users:?", 7}};

static void invalidate(struct script *script, struct lvt_run *run) {
    (void)script;
    lvt_effect_invalidate(run, patterns, 2, removed, run);
}

static void then_invalidate(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                            const struct lvt_sql_error *error) {
    (void)rows;
    (void)error;
    assert_int_equal(answer, LVT_ANSWER_OK);
    lvt_effect_invalidate(ctx, patterns, 2, removed, ctx);
}

static void query_and_invalidate(struct script *script, struct lvt_run *run) {
    (void)script;
    query(run, then_invalidate);
}

static void replied(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                    const char *error) {
    struct script *script = script_of(ctx);
    if (answer == LVT_ANSWER_OK)
        script->removed = reply->integer;
    else
        snprintf(script->error, sizeof script->error, "%s", error);
    finish(ctx, LVT_VERDICT_DONE, NULL);
}

static void increment(struct script *script, struct lvt_run *run) {
    const struct lvt_bytes argv[] = {LVT_LITERAL("INCR"), LVT_LITERAL("n")};
    (void)script;
    lvt_effect_redis(run, argv, 2, replied, run);
}

static void ignore_reply(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                         const char *error) {
    (void)ctx;
    (void)answer;
    (void)reply;
    (void)error;
}

static void set_key(struct world *world, const char *key) {
    const struct lvt_bytes argv[] = {LVT_LITERAL("SET"), lvt_bytes_of(key), LVT_LITERAL("x")};
    world->cache_port.command(world->cache_port.self, argv, 3, ignore_reply, NULL);
    lvt_memory_cache_poll(world->cache);
}

static void invalidation_counts_keys(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = invalidate;
    set_key(world, "tickets:1");
    set_key(world, "tickets:2");
    set_key(world, "users:1");
    set_key(world, "users:10");
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(script->removed, 3);
    assert_settled(world);
    world_free(world);
}

static void invalidation_in_a_transaction_waits_for_the_commit(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_and_invalidate;
    world->commit_failures = 1;
    world->commit_result = LVT_TX_OUTAGE;
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(world->commits, 1);
    assert_int_equal(script->removed, -1);
    assert_int_equal(world->cache_invalidations, 0); /* it did not commit */
    advance(world, 5000);
    assert_int_equal(world->commits, 2);
    assert_int_equal(world->cache_invalidations, 2);
    assert_int_equal(world->invalidated, 2);
    assert_settled(world);
    world_free(world);
}

static void invalidation_left_behind_stays_until_redis_is_back(void **state) {
    struct world *world = world_new();
    struct lvt_ledger_sink sink;
    (void)state;
    (void)world_one(world, "a");
    sink = lvt_engine_ledger_sink(world->engine);
    lvt_memory_cache_set_ready(world->cache, false);
    sink.invalidation_due(sink.ctx, 7, patterns[0]);
    go(world);
    assert_int_equal(world->invalidated, 0);
    lvt_memory_cache_set_ready(world->cache, true);
    sink.invalidation_due(sink.ctx, 7, patterns[0]);
    go(world);
    assert_int_equal(world->invalidated, 1);
    world_free(world);
}

static void redis_away_costs_no_attempt(void **state) {
    static void (*const bodies[])(struct script *, struct lvt_run *) = {increment, invalidate};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world *world = world_new();
        struct script *script = world_one(world, "a");
        script->body = bodies[i];
        lvt_memory_cache_set_ready(world->cache, false);
        publish(world, "a", "e1");
        advance(world, 20000);
        assert_int_equal(script->aborts, 1);
        lvt_memory_cache_set_ready(world->cache, true);
        advance(world, 30000);
        assert_int_equal(script->attempt, 1);
        assert_int_equal(script->removed, i == 0 ? 1 : 0);
        assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
        assert_settled(world);
        world_free(world);
    }
}

/* The answer finds nobody; what it was for is freed with the engine, or when it comes. */
static void answer_after_the_run_is_forgotten(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = increment;
    publish(world, "a", "e1");
    lvt_memory_broker_poll(world->broker);
    (void)lvt_engine_pump(world->engine);
    lvt_memory_ledger_poll(world->ledger);
    (void)lvt_engine_pump(world->engine); /* asked, and not answered */
    assert_int_equal(script->running, 1);
    world->now_ms += 30000;
    lvt_timers_run(&world->timers, world->now_ms);
    assert_int_equal(script->aborts, 1);
    script->body = NULL;
    advance(world, 1000);
    assert_int_equal(script->attempt, 2);
    assert_settled(world);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invalidation_counts_keys),
        cmocka_unit_test(invalidation_in_a_transaction_waits_for_the_commit),
        cmocka_unit_test(invalidation_left_behind_stays_until_redis_is_back),
        cmocka_unit_test(redis_away_costs_no_attempt),
        cmocka_unit_test(answer_after_the_run_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
