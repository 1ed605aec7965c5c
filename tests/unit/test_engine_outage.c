/* Events that wait for a service that is away, and how they find out that it is back. */
#include "engine_fixture.h"

/* ---- a Redis that answers, and does nothing else ---- */

static bool only_pings;
static lvt_reply_done *asker; /* the engine has one */
static struct lvt_cache_port memory;

static void refuse(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                   const char *error) {
    (void)answer;
    (void)reply;
    (void)error;
    asker(ctx, LVT_ANSWER_OUTAGE, NULL, "READONLY it only reads");
}

static void command(void *self, const struct lvt_bytes *argv, size_t argc, lvt_reply_done *done,
                    void *ctx) {
    bool refused = only_pings && !lvt_bytes_is(argv[0], "PING");
    if (refused)
        asker = done;
    memory.command(self, argv, argc, refused ? refuse : done, ctx);
}

/* ---- handlers ---- */

static void replied(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                    const char *error) {
    (void)answer;
    (void)reply;
    (void)error;
    finish(ctx, LVT_VERDICT_DONE, NULL);
}

static void increment(struct lvt_run *run) {
    const struct lvt_bytes argv[] = {LVT_LITERAL("INCR"), LVT_LITERAL("n")};
    lvt_effect_redis(run, argv, 2, replied, run);
}

/* What an event's id begins with says what its handler does. */
static void do_as_told(struct script *script, struct lvt_run *run) {
    bool first = run->event->attempt == 1 && run->event->waits == 0;
    switch (run->event->id.data[0]) {
    case 'r':
        increment(run);
        break;
    case 'p':
        query(run, rows_done);
        break;
    case 'f':
        finish(run, first ? LVT_VERDICT_RETRY : LVT_VERDICT_DROP, "unlucky");
        break;
    case 'n':
        finish(run, first ? LVT_VERDICT_OUTAGE : LVT_VERDICT_DROP, "no memory");
        break;
    case 'h':
        hold(script, run);
        break;
    default:
        finish(run, LVT_VERDICT_DROP, NULL);
        break;
    }
}

static struct script *one(struct world *world) {
    struct script *script = world_one(world, "a");
    script->body = do_as_told;
    only_pings = false;
    memory = world->cache_port;
    world->cache_port.command = command;
    return script;
}

static void publish_some(struct world *world, const char *type, const char *prefix, unsigned first,
                         unsigned count) {
    char id[16];
    for (unsigned i = first; i < first + count; i++) {
        snprintf(id, sizeof id, "%s%u", prefix, i);
        publish(world, type, id);
    }
}

/* ---- one at a time ---- */

static void an_event_runs_once_more_when_redis_is_back(void **state) {
    struct world *world = world_new();
    struct script *script = one(world);
    (void)state;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 6);
    advance(world, 60000);
    assert_int_equal(script->starts, 6);
    publish(world, "a", "done"); /* and others go on */
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_DROPPED), 1);
    lvt_memory_cache_set_ready(world->cache, true);
    advance(world, 500);
    assert_int_equal(script->starts, 7 + 6);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 6);
    assert_int_equal(world->timers.count, 0);
    assert_settled(world);
    world_free(world);
}

static void a_service_that_only_answers_sees_one_at_a_time(void **state) {
    struct world *world = world_new();
    struct script *script = one(world);
    static const unsigned after_ms[] = {500, 1000, 2000, 3000, 3000, 3000};
    (void)state;
    only_pings = true;
    publish_some(world, "a", "r", 0, 6);
    go(world);
    assert_int_equal(script->starts, 6);
    for (unsigned i = 0; i < 6; i++) {
        advance(world, after_ms[i] - 1);
        assert_int_equal(script->starts, 6 + i);
        advance(world, 1);
        assert_int_equal(script->starts, 7 + i);
    }
    only_pings = false;
    advance(world, 3000);
    assert_int_equal(script->starts, 12 + 6);
    assert_settled(world);
    world_free(world);
}

/* The same for PostgreSQL; while its session is away nothing is tried. */
static void a_postgres_that_cannot_write_sees_one_at_a_time(void **state) {
    struct world *world = world_new();
    struct script *script = one(world);
    (void)state;
    world->query_answer = LVT_ANSWER_OUTAGE;
    publish_some(world, "a", "p", 0, 6);
    advance(world, 499);
    assert_int_equal(script->starts, 6);
    advance(world, 1);
    assert_int_equal(script->starts, 7);
    lvt_memory_ledger_set_ready(world->ledger, false);
    advance(world, 60000);
    assert_int_equal(script->starts, 7);
    lvt_memory_ledger_set_ready(world->ledger, true);
    world->query_answer = LVT_ANSWER_OK;
    advance(world, 3000);
    assert_int_equal(script->starts, 7 + 6);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 6);
    assert_settled(world);
    world_free(world);
}

static void a_slow_try_does_not_hold_up_the_others(void **state) {
    struct world *world = world_new();
    struct script *script = one(world);
    (void)state;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 3);
    go(world);
    lvt_memory_cache_set_ready(world->cache, true);
    script->body = hold;
    advance(world, 499);
    assert_int_equal(script->running, 0);
    advance(world, 1);
    assert_int_equal(script->running, 1);
    advance(world, 1000);
    assert_int_equal(script->running, 2);
    finish(script->held[0], LVT_VERDICT_RETRY, "unlucky"); /* which tells as much as a success */
    go(world);
    assert_int_equal(script->running, 2);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    script->body = do_as_told;
    advance(world, 5000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 3);
    assert_settled(world);
    world_free(world);
}

static void a_try_may_meet_another_outage(void **state) {
    struct world *world = world_new();
    struct script *script = one(world);
    (void)state;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 2);
    go(world);
    lvt_memory_cache_set_ready(world->cache, true);
    world->query_answer = LVT_ANSWER_OUTAGE;
    script->body = query_once;
    advance(world, 500);
    assert_int_equal(script->starts, 4); /* both: to Redis nothing is the matter */
    advance(world, 400);
    assert_int_equal(script->starts, 4);
    world->query_answer = LVT_ANSWER_OK;
    advance(world, 1000);
    assert_int_equal(script->starts, 6);
    assert_settled(world);
    world_free(world);
}

/* ---- handlers that need it for all that they do ---- */

static void a_handler_that_always_needs_redis_waits(void **state) {
    struct world *world = world_new();
    struct script *other = handler_add(world, handler_new(world, "b"));
    struct script *script = one(world);
    (void)state;
    other->body = do_as_told;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 1);
    advance(world, 1);
    /* neither tells anything of Redis */
    publish(world, "a", "f");
    publish(world, "a", "n");
    publish_some(world, "a", "r", 1, 7);
    advance(world, 1);
    assert_int_equal(script->starts, 10);
    publish_some(world, "a", "r", 8, 1);
    go(world);
    assert_int_equal(script->starts, 11); /* the eighth that tells: the first began too early */
    publish_some(world, "a", "r", 9, 20);
    publish(world, "a", "d");
    publish(world, "b", "d");
    publish_some(world, "b", "r", 0, 1);
    go(world);
    assert_int_equal(script->starts, 11);
    assert_int_equal(other->starts, 2);
    lvt_memory_cache_set_ready(world->cache, true);
    advance(world, 3000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 30);
    assert_int_equal(counted(world, LVT_OUTCOME_DROPPED), 4);
    lvt_memory_cache_set_ready(world->cache, false); /* another time: it is found out again */
    publish_some(world, "a", "r", 30, 1);
    advance(world, 1);
    unsigned starts = script->starts;
    publish_some(world, "a", "r", 31, 1);
    publish(world, "a", "done");
    go(world);
    assert_int_equal(script->starts, starts + 2);
    lvt_memory_cache_set_ready(world->cache, true);
    advance(world, 60000);
    assert_settled(world);
    world_free(world);
}

/* A full disk lets some writes pass, for which there was room. */
static void a_few_that_come_through_do_not_keep_a_handler_going(void **state) {
    struct world *world = world_new();
    struct script *script = one(world);
    (void)state;
    world->query_answer = LVT_ANSWER_OUTAGE;
    publish_some(world, "a", "p", 0, 1);
    advance(world, 1);
    publish_some(world, "a", "p", 1, 7);
    go(world);
    publish(world, "a", "done");
    go(world);
    publish_some(world, "a", "p", 8, 8);
    go(world);
    assert_int_equal(script->starts, 1 + 7 + 1 + 8);
    publish_some(world, "a", "p", 16, 20);
    publish(world, "a", "d");
    go(world);
    assert_int_equal(script->starts, 17);
    world->query_answer = LVT_ANSWER_OK;
    advance(world, 5000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 36);
    assert_settled(world);
    world_free(world);
}

static void a_handler_that_can_do_without_goes_on(void **state) {
    struct world *world = world_new();
    struct script *script = one(world);
    (void)state;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 1);
    advance(world, 1);
    publish(world, "a", "d");
    publish_some(world, "a", "r", 1, 20);
    publish_some(world, "a", "p", 0, 1); /* what its commit came to counts */
    advance(world, 1);
    publish_some(world, "a", "d", 1, 20);
    go(world);
    assert_int_equal(script->starts, 43);
    assert_int_equal(counted(world, LVT_OUTCOME_DROPPED), 21);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    lvt_memory_cache_set_ready(world->cache, true);
    advance(world, 5000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 22);
    assert_settled(world);
    world_free(world);
}

/* ---- more than there is room for ---- */

static struct script *small_window(struct world *world) {
    struct script *script = handler_new(world, "a");
    script->body = do_as_told;
    script->handler->options.concurrency = 2;
    script->handler->options.prefetch = 4;
    handler_add(world, script);
    world_open(world);
    return script;
}

static void those_that_go_on_have_room(void **state) {
    struct world *world = world_new();
    struct script *script = small_window(world);
    (void)state;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 8);
    publish_some(world, "a", "d", 0, 20);
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_DROPPED), 20);
    assert_int_equal(script->starts, 28);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    publish(world, "a", "late");
    advance(world, 600000);
    assert_int_equal(script->starts, 29);
    lvt_memory_cache_set_ready(world->cache, true);
    advance(world, 60000); /* the longest time that one is put off for */
    assert_int_equal(script->starts, 29 + 8);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 8);
    assert_settled(world);
    world_free(world);
}

/* Without PostgreSQL they would find no more of it elsewhere. */
static void those_that_need_postgres_stay(void **state) {
    struct world *world = world_new();
    struct script *script = small_window(world);
    (void)state;
    world->query_answer = LVT_ANSWER_OUTAGE;
    publish_some(world, "a", "p", 0, 8);
    go(world);
    assert_int_equal(script->starts, 4);
    assert_int_equal(world->confirmed_count, 0);
    world->query_answer = LVT_ANSWER_OK;
    advance(world, 5000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 8);
    assert_settled(world);
    world_free(world);
}

/* A handler that waits as a whole leaves its events in their queue. */
static void a_handler_that_waits_puts_nothing_off(void **state) {
    struct world *world = world_new();
    struct script *script = small_window(world);
    (void)state;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 2);
    advance(world, 1);
    publish_some(world, "a", "r", 2, 8);
    advance(world, 1);
    size_t put_off = world->confirmed_count;
    assert_int_equal(put_off, 6);
    publish_some(world, "a", "r", 10, 20);
    go(world);
    assert_int_equal(world->confirmed_count, put_off);
    assert_int_equal(script->starts, 10);
    lvt_memory_cache_set_ready(world->cache, true);
    advance(world, 60000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 30);
    assert_settled(world);
    world_free(world);
}

/* The header goes when the event does. */
static void a_retry_does_not_say_that_it_waits(void **state) {
    struct world *world = world_new();
    struct lvt_header header = {.name = LVT_LITERAL(LVT_HEADER_WAITS_FOR),
                                .kind = LVT_HEADER_STRING,
                                .value.bytes = LVT_LITERAL("redis")};
    (void)state;
    one(world)->handler->options.retry.max = 0;
    publish_event(world, "a", "f", (struct lvt_headers){&header, 1});
    go(world);
    assert_null(lvt_headers_find(&first_dead(world)->properties.headers, LVT_HEADER_WAITS_FOR));
    world_free(world);
}

/* ---- other things go on meanwhile ---- */

static void a_drain_gives_back_what_is_held(void **state) {
    struct world *world = world_new();
    struct script *script = one(world);
    (void)state;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 3);
    publish(world, "a", "h");
    go(world);
    assert_int_equal(world->timers.count, 2);
    lvt_engine_drain(world->engine);
    assert_int_equal(world->timers.count, 1);
    assert_int_equal(lvt_engine_in_flight(world->engine), 1);
    increment(script->held[0]); /* which meets the outage now */
    go(world);
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    assert_int_equal(world->timers.count, 0);
    assert_int_equal(lvt_memory_broker_count(world->broker), 4);
    world_free(world);
}

/* What is held meets the handler of the day, and goes back when there is none. */
static void a_handler_may_go_or_change(void **state) {
    struct world *world = world_new();
    struct script *other = handler_add(world, handler_new(world, "b"));
    struct script *script = one(world), *next;
    struct leveret_error err;
    (void)state;
    other->body = do_as_told;
    lvt_memory_cache_set_ready(world->cache, false);
    publish_some(world, "a", "r", 0, 5);
    publish_some(world, "b", "r", 0, 5);
    go(world);
    next = handler_new(world, "a");
    next->body = do_as_told;
    assert_int_equal(handler_change(world, script, next, &err), LEVERET_OK);
    assert_int_equal(handler_change(world, other, NULL, &err), LEVERET_OK);
    lvt_memory_cache_set_ready(world->cache, true);
    advance(world, 5000);
    assert_int_equal(next->starts, 5);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 5);
    assert_int_equal(world->requeues, 5);
    for (size_t i = 0; i < world->routes.queue_count; i++)
        assert_int_equal(world->routes.queues[i]->held, 0);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_runs_once_more_when_redis_is_back),
        cmocka_unit_test(a_service_that_only_answers_sees_one_at_a_time),
        cmocka_unit_test(a_postgres_that_cannot_write_sees_one_at_a_time),
        cmocka_unit_test(a_slow_try_does_not_hold_up_the_others),
        cmocka_unit_test(a_try_may_meet_another_outage),
        cmocka_unit_test(a_handler_that_always_needs_redis_waits),
        cmocka_unit_test(a_few_that_come_through_do_not_keep_a_handler_going),
        cmocka_unit_test(a_handler_that_can_do_without_goes_on),
        cmocka_unit_test(those_that_go_on_have_room),
        cmocka_unit_test(those_that_need_postgres_stay),
        cmocka_unit_test(a_handler_that_waits_puts_nothing_off),
        cmocka_unit_test(a_retry_does_not_say_that_it_waits),
        cmocka_unit_test(a_drain_gives_back_what_is_held),
        cmocka_unit_test(a_handler_may_go_or_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
