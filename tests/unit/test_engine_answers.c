/* What the engine's ports may answer, and when: late, at once, twice, or with the worker's end. */
#include "engine_fixture.h"

#include "engine/state.h"

static struct script *add(struct world *world, const char *name) {
    return handler_add(world, handler_new(world, name));
}

/* ---- effects ---- */

static unsigned answered;

static void count_reply(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                        const char *error) {
    (void)ctx;
    (void)reply;
    (void)error;
    assert_int_equal(answer, LVT_ANSWER_OK);
    answered++;
}

static void count_rows(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                       const struct lvt_sql_error *error) {
    (void)rows;
    (void)error;
    assert_int_equal(answer, LVT_ANSWER_OK);
    if (++answered == 3)
        finish(ctx, LVT_VERDICT_DONE, NULL);
}

/* Two statements, and something else, before the transaction is open. */
static void ask_at_once(struct script *script, struct lvt_run *run) {
    static const struct lvt_bytes words[] = {{"INCR", 4}, {"n", 1}};
    (void)script;
    query(run, count_rows);
    lvt_effect_redis(run, words, 2, count_reply, run);
    query(run, count_rows);
}

static void what_is_asked_for_at_once_is_answered(void **state) {
    struct world *world = world_new();
    world_one(world, "a")->body = ask_at_once;
    (void)state;
    answered = 0;
    publish(world, "a", "e");
    go(world);
    assert_int_equal(answered, 3);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

/* Two that wait for the pool, of one run: the second goes with the first, however many connections
 * become free meanwhile. */
static void both_go_when_their_transaction_opens(void **state) {
    struct world *world = world_new();
    struct script *holds = add(world, "holds"), *asks = add(world, "asks");
    (void)state;
    world->pool = 2;
    world_open(world);
    holds->body = query_and_hold;
    asks->body = ask_at_once;
    answered = 0;
    publish(world, "holds", "h1");
    publish(world, "holds", "h2");
    go(world);
    assert_int_equal(holds->held_count, 2);
    publish(world, "asks", "e");
    go(world);
    assert_int_equal(answered, 1); /* the reply */
    finish(holds->held[0], LVT_VERDICT_RETRY, "roll back");
    finish(holds->held[0], LVT_VERDICT_RETRY, "roll back");
    holds->body = NULL;
    advance(world, 60000);
    assert_int_equal(answered, 3);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 3);
    assert_settled(world);
    world_free(world);
}

static void (*later)(void *ctx, enum lvt_answer answer, int64_t removed, const char *error);
static void *later_ctx[2];
static size_t later_count;

static void keep_invalidate(void *self, struct lvt_bytes pattern, lvt_invalidate_done *done,
                            void *ctx) {
    (void)self;
    (void)pattern;
    later = done;
    later_ctx[later_count++] = ctx;
}

static char said[100];

static void note_removed(void *ctx, enum lvt_answer answer, int64_t removed, const char *error) {
    (void)removed;
    assert_int_equal(answer, LVT_ANSWER_ERROR);
    snprintf(said, sizeof said, "%s", error);
    finish(ctx, LVT_VERDICT_DONE, NULL);
}

static const struct lvt_bytes patterns[] = {{"a:*", 3}, {"b:*", 3}};

static void invalidate(struct script *script, struct lvt_run *run) {
    (void)script;
    lvt_effect_invalidate(run, patterns, 2, note_removed, run);
}

static void the_first_error_of_an_invalidation_is_told(void **state) {
    struct world *world = world_new();
    world_one(world, "a")->body = invalidate;
    (void)state;
    world->engine->cache.invalidate = keep_invalidate;
    later_count = 0;
    publish(world, "a", "e");
    go(world);
    assert_int_equal(later_count, 2);
    later(later_ctx[0], LVT_ANSWER_ERROR, 0, "the first");
    later(later_ctx[1], LVT_ANSWER_ERROR, 0, "the second");
    go(world);
    assert_string_equal(said, "the first");
    assert_settled(world);
    world_free(world);
}

static void removed_later(void *ctx, enum lvt_answer answer, int64_t removed, const char *error) {
    (void)error;
    (void)removed;
    finish(ctx, answer == LVT_ANSWER_OK ? LVT_VERDICT_DONE : LVT_VERDICT_RETRY, "no");
}

static void rows_then_invalidate(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                                 const struct lvt_sql_error *error) {
    (void)answer;
    (void)rows;
    (void)error;
    lvt_effect_invalidate(ctx, patterns, 1, removed_later, ctx);
}

static void query_and_invalidate(struct script *script, struct lvt_run *run) {
    (void)script;
    query(run, rows_then_invalidate);
}

static void an_invalidation_that_redis_refuses_is_struck_off(void **state) {
    struct world *world = world_new();
    world_one(world, "a")->body = query_and_invalidate;
    (void)state;
    world->engine->cache.invalidate = keep_invalidate;
    later_count = 0;
    publish(world, "a", "e");
    go(world);
    assert_int_equal(later_count, 1);
    later(later_ctx[0], LVT_ANSWER_ERROR, 0, "no such thing");
    assert_string_equal(world->last_log, "a cache pattern could not be invalidated");
    assert_int_equal(world->invalidated, 1);
    publish(world, "a", "e2");
    go(world);
    world->log.level = LVT_ERROR + 1;
    later(later_ctx[1], LVT_ANSWER_ERROR, 0, "no such thing");
    assert_string_equal(world->last_log, "processed");
    assert_int_equal(world->invalidated, 2);
    world_free(world);
}

static bool no_cell(void *self, size_t row, size_t column, struct lvt_bytes *ret_text) {
    (void)self;
    (void)row;
    (void)column;
    (void)ret_text;
    return false;
}

static lvt_rows_done *number_done;
static void *number_ctx;

static void invalidate_without_number(void *self, struct lvt_tx *tx, struct lvt_bytes pattern,
                                      lvt_rows_done *done, void *ctx) {
    (void)self;
    (void)tx;
    (void)pattern;
    number_done = done;
    number_ctx = ctx;
}

static void an_invalidation_that_is_not_written_is_told(void **state) {
    const struct lvt_sql_error error = {.text = "no room"};
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_and_invalidate;
    world->engine->ledger.tx_invalidate = invalidate_without_number;
    publish(world, "a", "e");
    go(world);
    number_done(number_ctx, LVT_ANSWER_OUTAGE, NULL, NULL);
    assert_int_equal(script->aborts, 1);
    advance(world, 10000);
    number_done(number_ctx, LVT_ANSWER_ERROR, NULL, &error);
    script->body = NULL;
    advance(world, 60000);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

static lvt_http_done *http_done;
static void *http_ctx;

static void keep_request(void *self, const struct lvt_http_request *request, lvt_http_done *done,
                         void *ctx) {
    (void)self;
    (void)request;
    http_done = done;
    http_ctx = ctx;
}

static void no_response(void *ctx, const struct lvt_http_response *response, const char *error) {
    (void)ctx;
    (void)response;
    (void)error;
    fail_msg("the run has ended");
}

static void ask_web(struct script *script, struct lvt_run *run) {
    static const struct lvt_http_request request = {.url = {"http://x", 8}};
    (void)script;
    lvt_effect_http(run, &request, no_response, run);
}

static void a_response_after_the_run_is_forgotten(void **state) {
    const struct lvt_http_response response = {.status = 200};
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = ask_web;
    world->engine->http.request = keep_request;
    publish(world, "a", "e");
    advance(world, 30000);
    script->body = NULL;
    http_done(http_ctx, &response, NULL);
    advance(world, 60000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    world_free(world);
}

static void an_invalidation_without_its_number_is_not_kept(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    const struct lvt_rows rows = {.row_count = 1, .column_count = 1, .cell = no_cell};
    (void)state;
    script->body = query_and_invalidate;
    world->engine->ledger.tx_invalidate = invalidate_without_number;
    publish(world, "a", "e");
    go(world);
    number_done(number_ctx, LVT_ANSWER_OK, &rows, NULL);
    script->body = NULL;
    advance(world, 60000);
    assert_int_equal(script->starts, 2);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    assert_settled(world);
    world_free(world);
}

/* ---- turns ---- */

static void had_turn(void *ctx) {
    finish(ctx, LVT_VERDICT_DONE, NULL);
}

static void slept(void *ctx) {
    lvt_effect_turn(ctx, had_turn, ctx);
}

static void sleep_and_turn(struct script *script, struct lvt_run *run) {
    (void)script;
    lvt_effect_sleep(run, 10, slept, run);
}

static void turn_at_once(struct script *script, struct lvt_run *run) {
    (void)script;
    lvt_effect_turn(run, had_turn, run);
}

static void an_interrupted_handler_starts_nothing(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = turn_at_once;
    publish(world, "a", "e1");
    publish(world, "a", "e2");
    go(world);
    assert_int_equal(script->starts, 1);
    advance(world, 0);
    advance(world, 0);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 2);
    script->body = sleep_and_turn;
    publish(world, "a", "e3");
    publish(world, "a", "e4");
    advance(world, 20);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 4);
    assert_settled(world);
    world_free(world);
}

/* ---- copies ---- */

/* What waits to be sent once more has not become anything yet. */
static void a_copy_joins_what_waits_to_be_sent(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    add_verdict(script, RETRY("no"));
    add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_RETURNED, 2);
    publish(world, "a", "retried");
    go(world);
    publish(world, "a", "dead");
    go(world);
    publish(world, "a", "retried");
    publish(world, "a", "dead");
    go(world);
    assert_int_equal(script->starts, 2);
    advance(world, 60000);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 2);
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 2);
    assert_settled(world);
    world_free(world);
}

static void copies_are_given_back_together(void **state) {
    struct world *world = world_new();
    struct leveret_error err;
    (void)state;
    struct script *script = handler_new(world, "a");
    script->handler->options.concurrency = 1;
    script->body = hold;
    handler_add(world, script);
    world_open(world);
    publish(world, "a", "e1");
    publish(world, "a", "e2");
    publish(world, "a", "e2");
    go(world);
    struct lvt_run *run = script->held[0];
    assert_int_equal(handler_change(world, script, NULL, &err), LEVERET_OK);
    assert_int_equal(world->requeues, 2);
    finish(run, LVT_VERDICT_DONE, NULL);
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    world_free(world);
}

static void what_arrives_for_nobody_goes_back(void **state) {
    struct world *world = world_new();
    struct leveret_error err;
    struct script *script = world_one(world, "a");
    (void)state;
    publish(world, "a", "e1");
    lvt_memory_broker_poll(world->broker);
    assert_int_equal(handler_change(world, script, NULL, &err), LEVERET_OK);
    go(world);
    assert_int_equal(world->requeues, 1);
    world_free(world);
}

/* ---- the ledger's session ---- */

static void hold_first(struct script *script, struct lvt_run *run) {
    if (script->starts == 1)
        hold(script, run);
    else
        finish(run, LVT_VERDICT_DONE, NULL);
}

static void one_without_an_id_has_no_claim_to_lose(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    (void)state;
    script->handler->options.concurrency = 1;
    script->body = hold_first;
    handler_add(world, script);
    world_open(world);
    publish(world, "a", NULL);
    publish(world, "a", NULL);
    go(world);
    lvt_memory_ledger_set_ready(world->ledger, false);
    go(world);
    lvt_memory_ledger_set_ready(world->ledger, true);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    assert_int_equal(script->starts, 2);
    assert_settled(world);
    world_free(world);
}

/* Ready, but nothing may start: each of them is on the list of those that want to. */
static void handlers_that_want_to_start_may_change(void **state) {
    static const char *const names[] = {"a", "b", "c"};
    struct world *world = world_new();
    struct script *scripts[3], *next[3];
    struct leveret_error err;
    (void)state;
    for (int i = 0; i < 3; i++)
        scripts[i] = add(world, names[i]);
    world_open(world);
    lvt_memory_ledger_set_ready(world->ledger, false);
    publish(world, "a", NULL);
    publish(world, "b", NULL);
    publish(world, "c", NULL);
    go(world);
    for (int i = 2; i >= 0; i--) { /* the last, one that is now the last, and the only one */
        next[i] = handler_new(world, names[i]);
        assert_int_equal(handler_change(world, scripts[i], next[i], &err), LEVERET_OK);
    }
    lvt_memory_ledger_set_ready(world->ledger, true);
    go(world);
    for (int i = 0; i < 3; i++)
        assert_int_equal(next[i]->starts, 1);
    assert_settled(world);
    world_free(world);
}

static struct lvt_claim *asked_for[4];
static size_t asked_count;

static void keep_claims(void *self, struct lvt_claim *list) {
    (void)self;
    for (struct lvt_claim *next; list; list = next) {
        next = list->next;
        list->next = NULL;
        list->result = LVT_CLAIM_BUSY;
        asked_for[asked_count++] = list;
    }
}

static void forget_claim(void *self, struct lvt_claim *claim) {
    (void)self;
    (void)claim;
}

static void answers_come_in_any_number_of_lists(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_ledger_sink sink = lvt_engine_ledger_sink(world->engine);
    (void)state;
    world->engine->ledger.claim = keep_claims;
    world->engine->ledger.release = forget_claim;
    asked_count = 0;
    publish(world, "a", "e1");
    publish(world, "a", "e2");
    go(world);
    assert_int_equal(asked_count, 2);
    sink.claimed(sink.ctx, asked_for[0]);
    sink.claimed(sink.ctx, asked_for[1]);
    advance(world, 100);
    assert_int_equal(asked_count, 4); /* both look again */
    assert_int_equal(script->starts, 0);
    world_free(world);
}

/* ---- the end ---- */

static void what_waits_to_be_sent_is_left_to_the_broker(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    add_verdict(script, RETRY("no"));
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_RETURNED, 1);
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(lvt_engine_in_flight(world->engine), 1);
    lvt_engine_drain(world->engine);
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    world_free(world);
}

static void an_outage_at_the_end_is_left_to_the_broker(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    lvt_engine_drain(world->engine);
    finish(script->held[0], LVT_VERDICT_OUTAGE, "away");
    go(world);
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    assert_int_equal(world->acks, 0);
    world_free(world);
}

/* One that never ran, and whose dead letter is not answered before the engine goes. */
static void what_is_never_answered_goes_with_the_engine(void **state) {
    struct world *world = world_new();
    const struct lvt_properties properties = {.present = LVT_HAS_MESSAGE_ID,
                                              .message_id = LVT_LITERAL("broken")};
    (void)state;
    world_one(world, "a");
    assert_int_equal(publish_message(world, "a", &properties, "no JSON"), 1);
    lvt_memory_broker_poll(world->broker);
    lvt_engine_pump(world->engine);
    assert_int_equal(lvt_engine_in_flight(world->engine), 1);
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    world->ended = true;
    assert_int_equal(lvt_engine_in_flight(world->engine), 1);
    world_free(world);
}

static void a_log_may_be_silent(void **state) {
    struct world *world = world_new();
    struct script *holds = add(world, "holds"), *asks = add(world, "asks"),
                  *fails = add(world, "fails");
    (void)state;
    world->pool = 1;
    world->log.level = LVT_ERROR + 1;
    holds->body = query_and_hold;
    asks->body = query_once;
    asks->handler->options.timeout_ms = 1000;
    add_verdict(fails, (struct lvt_verdict){.kind = LVT_VERDICT_OUTAGE});
    add_verdict(fails, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    world_open(world);
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_RETURNED, 1);
    publish(world, "holds", "h");
    go(world);
    publish(world, "holds", "h");
    publish(world, "asks", "a");
    publish(world, "fails", "f");
    advance(world, 20000); /* no connection is free for the second */
    assert_true(asks->starts > 1);
    finish(holds->held[0], LVT_VERDICT_DONE, NULL);
    advance(world, 60000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 2);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1);
    assert_string_equal(world->last_log, "");
    assert_settled(world);
    world_free(world);
}

/* ---- letters ---- */

static unsigned woken, delivered;

static void wake(void *ctx) {
    (void)ctx;
    woken++;
}

static void deliver(struct lvt_letter *letter) {
    (void)letter;
    delivered++;
}

static void a_letter_is_delivered_once_and_may_be_taken_back(void **state) {
    struct world *world = world_new();
    struct lvt_letter letters[3] = {
        {.deliver = deliver}, {.deliver = deliver}, {.deliver = deliver}};
    (void)state;
    world_one(world, "a");
    woken = delivered = 0;
    lvt_engine_post(world->engine, &letters[0]); /* nobody is to be woken */
    world->engine->options.wake = wake;
    lvt_engine_post(world->engine, &letters[0]);
    lvt_engine_post(world->engine, &letters[1]);
    lvt_engine_unpost(world->engine, &letters[0]);
    lvt_engine_unpost(world->engine, &letters[2]); /* was not posted */
    go(world);
    assert_int_equal(woken, 1);
    assert_int_equal(delivered, 1);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_at_once_is_answered),
        cmocka_unit_test(both_go_when_their_transaction_opens),
        cmocka_unit_test(the_first_error_of_an_invalidation_is_told),
        cmocka_unit_test(an_invalidation_that_redis_refuses_is_struck_off),
        cmocka_unit_test(an_invalidation_that_is_not_written_is_told),
        cmocka_unit_test(a_response_after_the_run_is_forgotten),
        cmocka_unit_test(an_invalidation_without_its_number_is_not_kept),
        cmocka_unit_test(a_copy_joins_what_waits_to_be_sent),
        cmocka_unit_test(copies_are_given_back_together),
        cmocka_unit_test(what_arrives_for_nobody_goes_back),
        cmocka_unit_test(one_without_an_id_has_no_claim_to_lose),
        cmocka_unit_test(handlers_that_want_to_start_may_change),
        cmocka_unit_test(answers_come_in_any_number_of_lists),
        cmocka_unit_test(what_waits_to_be_sent_is_left_to_the_broker),
        cmocka_unit_test(an_outage_at_the_end_is_left_to_the_broker),
        cmocka_unit_test(what_is_never_answered_goes_with_the_engine),
        cmocka_unit_test(a_log_may_be_silent),
        cmocka_unit_test(an_interrupted_handler_starts_nothing),
        cmocka_unit_test(a_letter_is_delivered_once_and_may_be_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
