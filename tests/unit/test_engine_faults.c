/* The way of an event while services go away, answer no, or lose their answers. */
#include "engine_fixture.h"

/* ---- handlers that ask for something ---- */

static void query_and_end(struct script *script, struct lvt_run *run) {
    (void)script;
    query(run, rows_done);
    finish(run, LVT_VERDICT_DONE, NULL);
}

/* ---- the ledger's session ---- */

static void outage(struct script *script, struct lvt_run *run) {
    (void)script;
    finish(run, LVT_VERDICT_OUTAGE, "away");
}

/* Both may have run elsewhere while the session was lost: the one whose turn comes again, and the
 * one whose claim was granted a moment before. */
static void claims_do_not_outlive_their_session(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    unsigned char key[LVT_KEY_BYTES];
    (void)state;
    script->body = outage;
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(script->starts, 1);
    publish(world, "a", "e2");
    lvt_memory_broker_poll(world->broker);
    lvt_engine_pump(world->engine);
    lvt_memory_ledger_poll(world->ledger);
    lvt_memory_ledger_set_ready(world->ledger, false);
    lvt_memory_ledger_poll(world->ledger);
    key_of("a.queue", "a", "e1", key);
    lvt_memory_ledger_other_ends(world->ledger, key, true);
    key_of("a.queue", "a", "e2", key);
    lvt_memory_ledger_other_ends(world->ledger, key, true);
    lvt_memory_ledger_set_ready(world->ledger, true);
    advance(world, 60000);
    assert_int_equal(script->starts, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 2);
    assert_settled(world);
    world_free(world);
}

/* ---- the broker ---- */

static void redelivery_joins_its_run(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_memory_broker_status status;
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    lvt_memory_broker_disconnect(world->broker);
    go(world);
    lvt_memory_broker_reconnect(world->broker);
    go(world);
    assert_int_equal(script->starts, 1);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    lvt_memory_broker_status(world->broker, &status);
    assert_int_equal(script->starts, 1);
    assert_int_equal(status.stale_acks, 1); /* which the port forgot */
    assert_int_equal(status.unacked, 0);
    assert_settled(world);
    world_free(world);
}

/* The confirm of the retry was lost with its connection, and the second try was refused. */
static void retry_that_comes_before_its_second_try_has_its_own_turn(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_header made = {
        .name = LVT_LITERAL(LVT_HEADER_ATTEMPT), .kind = LVT_HEADER_INT64, .value.integer = 1};
    const struct lvt_verdict snooze = {.kind = LVT_VERDICT_SNOOZE, .after_ms = 5000};
    (void)state;
    add_verdict(script, snooze);
    add_verdict(script, DONE);
    publish(world, "a", "e1");
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_REFUSED, 1);
    go(world);
    publish_event(world, "a", "e1", (struct lvt_headers){&made, 1});
    go(world);
    assert_int_equal(script->starts, 1);
    advance(world, 1500);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 2);
    advance(world, 10000);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

static struct lvt_header attempts_made(int64_t count) {
    return (struct lvt_header){
        .name = LVT_LITERAL(LVT_HEADER_ATTEMPT), .kind = LVT_HEADER_INT64, .value.integer = count};
}

/* After a cut an attempt is made once more, while the retry that it led to is on its way. */
static void repeated_attempt_counts_once(void **state) {
    static const enum lvt_verdict_kind ends[] = {LVT_VERDICT_RETRY, LVT_VERDICT_SNOOZE};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world *world = world_new();
        struct script *script = world_one(world, "a");
        struct lvt_header made = attempts_made(1);
        const struct lvt_verdict end = {.kind = ends[i], .after_ms = 100};
        script->body = hold;
        world->copies = true;
        publish(world, "a", "e1");
        go(world);
        publish_event(world, "a", "e1", (struct lvt_headers){&made, 1});
        go(world);
        finish_with(script->held[0], &end);
        advance(world, 100);
        assert_int_equal(script->attempt, 2);
        finish(script->held[0], LVT_VERDICT_DONE, NULL);
        go(world);
        assert_settled(world);
        world_free(world);
    }
}

/* One that is further on counts as it says. */
static void repeated_attempt_may_be_an_old_one(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_header made[] = {attempts_made(1), attempts_made(2)};
    const struct lvt_verdict end = {.kind = LVT_VERDICT_SNOOZE, .after_ms = 100};
    (void)state;
    script->body = hold;
    world->copies = true;
    publish(world, "a", "e1");
    go(world);
    publish_event(world, "a", "e1", (struct lvt_headers){&made[0], 1});
    go(world);
    publish_event(world, "a", "e1", (struct lvt_headers){&made[1], 1});
    go(world);
    finish_with(script->held[0], &end);
    advance(world, 100);
    assert_int_equal(script->attempt, 3);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    assert_settled(world);
    world_free(world);
}

static void failure_settles_the_redelivery(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    lvt_memory_broker_disconnect(world->broker);
    lvt_memory_broker_reconnect(world->broker);
    go(world);
    finish(script->held[0], LVT_VERDICT_RETRY, "no");
    script->body = NULL;
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 1);
    advance(world, 60000);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 2);
    assert_settled(world);
    world_free(world);
}

static void redelivery_after_the_run_is_a_duplicate(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    lvt_memory_broker_disconnect(world->broker);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    lvt_memory_broker_reconnect(world->broker);
    go(world);
    assert_int_equal(script->starts, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

static void failure_of_a_stale_run_is_not_published(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    lvt_memory_broker_disconnect(world->broker);
    finish(script->held[0], LVT_VERDICT_RETRY, "no");
    go(world);
    lvt_memory_broker_reconnect(world->broker);
    script->body = NULL;
    advance(world, 60000);
    /* run again as it was: one message, not two */
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(world->confirmed_count, 0);
    assert_settled(world);
    world_free(world);
}

static void publish_survives_a_reconnect(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    add_verdict(script,
                (struct lvt_verdict){.kind = LVT_VERDICT_REJECT, .reason = LVT_LITERAL("no")});
    publish(world, "a", "e1");
    lvt_memory_broker_poll(world->broker);
    (void)lvt_engine_pump(world->engine);
    lvt_memory_ledger_poll(world->ledger);
    (void)lvt_engine_pump(world->engine); /* published; the answer is lost */
    lvt_memory_broker_disconnect(world->broker);
    go(world);
    assert_int_equal(world->acks, 0);
    lvt_memory_broker_reconnect(world->broker);
    go(world);
    /* The publish was sent again, and the event came again, after the publish's confirm: too late
     * to join it. It is in the dead letters more than once, which is what at least once means. */
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 3);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 1);
    assert_settled(world);
    world_free(world);
}

static void returned_publish_leaves_the_original(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_memory_broker_status status;
    (void)state;
    add_verdict(script, RETRY("no"));
    add_verdict(script, DONE);
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_RETURNED, 3);
    publish(world, "a", "e1");
    go(world);
    lvt_memory_broker_status(world->broker, &status);
    assert_int_equal(status.unacked, 1);
    assert_int_equal(world->acks, 0);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    advance(world, 6999); /* 1 s, 2 s and 4 s between the tries */
    assert_int_equal(world->acks, 0);
    advance(world, 1);
    assert_int_equal(world->acks, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 1);
    assert_int_equal(script->starts, 1);
    advance(world, 1000);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 2);
    assert_settled(world);
    world_free(world);
}

static void dropped_publish_leaves_the_original(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    add_verdict(script, RETRY("no"));
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_DROPPED, 1);
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(world->acks, 0);
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    assert_int_equal(lvt_memory_broker_count(world->broker), 1);
    world_free(world);
}

static void reconnects_at_every_moment_lose_nothing(void **state) {
    (void)state;
    for (unsigned steps = 0; steps < 40; steps++) {
        struct world *world = world_new();
        struct script *script = world_one(world, "a");
        struct lvt_memory_ledger_status ledger;
        char id[16];
        add_verdict(script, DONE);
        add_verdict(script, RETRY("odd"));
        add_verdict(script, DONE);
        add_verdict(script, RETRY("odd"));
        add_verdict(script, DONE);
        for (int i = 0; i < 8; i++) {
            snprintf(id, sizeof id, "e%d", i);
            publish(world, "a", id);
        }
        for (unsigned i = 0; i < 40; i++) {
            if (i % 7 == steps % 7) {
                lvt_memory_broker_disconnect(world->broker);
                lvt_memory_broker_reconnect(world->broker);
            }
            if (i % 3 == 0)
                lvt_memory_broker_poll(world->broker);
            else if (i % 3 == steps % 2 + 1)
                lvt_memory_ledger_poll(world->ledger);
            else
                (void)lvt_engine_pump(world->engine);
        }
        advance(world, 600000);
        lvt_memory_ledger_status(world->ledger, &ledger);
        assert_int_equal(ledger.records, 8);
        assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 8);
        assert_settled(world);
        world_free(world);
    }
}

/* ---- the ledger ---- */

static void nothing_starts_without_the_ledger(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    publish(world, "a", "e0");
    lvt_memory_broker_poll(world->broker);
    (void)lvt_engine_pump(world->engine);
    lvt_memory_ledger_poll(world->ledger); /* its claim is answered, it may start */
    lvt_memory_ledger_set_ready(world->ledger, false);
    publish(world, "a", "e1");
    publish(world, "a", NULL);
    advance(world, 600000);
    assert_int_equal(script->starts, 0);
    lvt_memory_ledger_set_ready(world->ledger, true);
    go(world);
    assert_int_equal(script->starts, 3);
    assert_int_equal(script->attempt, 1);
    assert_settled(world);
    world_free(world);
}

static void record_waits_for_the_ledger(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    lvt_memory_ledger_set_ready(world->ledger, false);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    advance(world, 60000);
    assert_int_equal(world->acks, 0);
    lvt_memory_ledger_set_ready(world->ledger, true);
    go(world);
    assert_int_equal(world->acks, 1);
    assert_int_equal(script->starts, 1);
    assert_settled(world);
    world_free(world);
}

static void outage_costs_no_attempt(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    for (int i = 0; i < 6; i++)
        add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_OUTAGE});
    add_verdict(script, DONE);
    publish(world, "a", "e1");
    advance(world, 999);
    assert_int_equal(script->starts, 1);
    advance(world, 200000);
    assert_int_equal(script->starts, 7);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

/* ---- transactions ---- */

static void transaction_commits_with_the_record(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_memory_ledger_status ledger;
    (void)state;
    script->body = query_once;
    publish(world, "a", "e1");
    publish(world, "a", NULL);
    go(world);
    lvt_memory_ledger_status(world->ledger, &ledger);
    assert_int_equal(world->commits, 2);
    assert_int_equal(ledger.records, 1);
    assert_int_equal(world->acks, 2);
    assert_settled(world);
    world_free(world);
}

static void record_found_in_the_transaction_is_a_duplicate(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    unsigned char key[LVT_KEY_BYTES];
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    key_of("a.queue", "a", "e1", key);
    lvt_memory_ledger_other_ends(world->ledger, key, true);
    query(script->held[0], rows_done);
    go(world);
    assert_int_equal(script->aborts, 1);
    assert_int_equal(world->commits, 0);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

static void conflict_runs_again_at_no_cost(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_once;
    world->commit_failures = 3;
    world->commit_result = LVT_TX_ERROR;
    strcpy(world->sqlstate, "40001");
    publish(world, "a", "e1");
    advance(world, 1000);
    assert_int_equal(script->starts, 4);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

static void endless_conflict_becomes_a_retry(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    (void)state;
    script->handler->options.retry.max = 0;
    script->body = query_once;
    handler_add(world, script);
    world_open(world);
    world->query_answer = LVT_ANSWER_ERROR;
    strcpy(world->sqlstate, "40P01");
    publish(world, "a", "e1");
    advance(world, 10000);
    assert_int_equal(script->starts, 6); /* and five of them at no cost */
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 1);
    assert_settled(world);
    world_free(world);
}

static void wrong_data_is_permanent(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_once;
    world->query_answer = LVT_ANSWER_ERROR;
    strcpy(world->sqlstate, "22P02");
    publish(world, "a", "e1");
    advance(world, 60000);
    assert_int_equal(script->starts, 1);
    assert_header(&first_dead(world)->properties.headers, LVT_HEADER_ERROR, "the database says no");
    assert_settled(world);
    world_free(world);
}

static void failed_commit_is_a_failed_attempt(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_once;
    world->commit_failures = 1;
    world->commit_result = LVT_TX_ERROR;
    strcpy(world->sqlstate, "23505");
    publish(world, "a", "e1");
    advance(world, 1000);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 2);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 1);
    assert_settled(world);
    world_free(world);
}

static void lost_commit_runs_again_at_no_cost(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_once;
    world->commit_failures = 1;
    world->commit_result = LVT_TX_OUTAGE;
    publish(world, "a", "e1");
    advance(world, 5000);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

static void outage_of_a_query_ends_the_run(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_once;
    world->query_answer = LVT_ANSWER_OUTAGE;
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(script->aborts, 1);
    world->query_answer = LVT_ANSWER_OK;
    advance(world, 5000);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

static void ledger_away_ends_open_transactions(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_and_hold;
    publish(world, "a", "e1");
    go(world);
    lvt_memory_ledger_set_ready(world->ledger, false);
    finish(script->held[0], LVT_VERDICT_DONE, NULL); /* its commit is an outage */
    go(world);
    lvt_memory_ledger_set_ready(world->ledger, true);
    assert_int_equal(world->acks, 0);
    script->body = query_once;
    advance(world, 5000);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 1);
    assert_settled(world);
    world_free(world);
}

static void retry_rolls_back(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_memory_ledger_status ledger;
    (void)state;
    script->body = query_and_hold;
    publish(world, "a", "e1");
    go(world);
    finish(script->held[0], LVT_VERDICT_RETRY, "no");
    lvt_memory_ledger_status(world->ledger, &ledger);
    assert_int_equal(ledger.transactions, 0);
    go(world);
    assert_int_equal(world->commits, 0);
    script->body = query_once;
    advance(world, 1000);
    assert_int_equal(world->commits, 1);
    assert_settled(world);
    world_free(world);
}

static void end_with_a_statement_under_way_is_a_failure(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_and_end;
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(world->commits, 0);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 1);
    script->body = NULL;
    advance(world, 1000);
    assert_settled(world);
    world_free(world);
}

static void timeout_in_a_query_rolls_back(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_memory_ledger_status ledger;
    (void)state;
    script->body = query_once;
    world->hold_queries = true;
    publish(world, "a", "e1");
    advance(world, 30000);
    lvt_memory_ledger_status(world->ledger, &ledger);
    assert_int_equal(script->aborts, 1);
    assert_int_equal(ledger.transactions, 0);
    assert_null(world->queries);
    world->hold_queries = false;
    advance(world, 1000);
    assert_int_equal(script->attempt, 2);
    assert_settled(world);
    world_free(world);
}

/* ---- a begin that fails for good ---- */

static struct {
    lvt_tx_done *done;
    void *ctx;
    struct lvt_tx *(*begin)(void *self, struct lvt_claim *claim, lvt_tx_done *done, void *ctx);
} failing_begin;

static void begin_failed(void *ctx, enum lvt_tx_result result, const struct lvt_sql_error *error) {
    const struct lvt_sql_error wrong_data = {.sqlstate = "22021", .text = "wrong data"};
    (void)ctx;
    (void)error;
    assert_int_equal(result, LVT_TX_OK);
    failing_begin.done(failing_begin.ctx, LVT_TX_ERROR, &wrong_data);
}

static struct lvt_tx *begin_that_fails(void *self, struct lvt_claim *claim, lvt_tx_done *done,
                                       void *ctx) {
    failing_begin.done = done;
    failing_begin.ctx = ctx;
    return failing_begin.begin(self, claim, begin_failed, ctx);
}

static void record_that_cannot_be_written_is_permanent(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = query_once;
    failing_begin.begin = world->ledger_port.tx_begin;
    world->ledger_port.tx_begin = begin_that_fails;
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1);
    assert_header(&first_dead(world)->properties.headers, LVT_HEADER_ERROR, "wrong data");
    assert_settled(world);
    world_free(world);
}

/* ---- confirms that come late ---- */

static struct lvt_publish *kept_answers;

static void keep_answers(void *ctx, struct lvt_publish *list) {
    (void)ctx;
    assert_null(kept_answers);
    kept_answers = list;
}

/* What an event became is delivered before its confirm is: that must not ack it. */
static void late_confirm_loses_nothing(void **state) {
    (void)state;
    const struct lvt_verdict verdicts[] = {RETRY("no"),
                                           {.kind = LVT_VERDICT_SNOOZE, .after_ms = 500}};
    for (size_t i = 0; i < 2; i++) {
        struct world *world = world_new();
        struct script *script = world_one(world, "a");
        void (*published)(void *ctx, struct lvt_publish *list) = world->engine_sink.published;
        add_verdict(script, verdicts[i]);
        add_verdict(script, DONE);
        world->engine_sink.published = keep_answers;
        publish(world, "a", "e1");
        advance(world, 2000);
        assert_int_equal(script->starts, 1);
        assert_non_null(kept_answers);
        world->engine_sink.published = published;
        published(world->engine_sink.ctx, kept_answers);
        kept_answers = NULL;
        go(world);
        assert_int_equal(script->starts, 2);
        assert_int_equal(script->attempt, i == 0 ? 2 : 1);
        assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
        assert_settled(world);
        world_free(world);
    }
}

static void stale_event_without_an_id_does_not_start(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    (void)state;
    script->handler->options.concurrency = 1;
    handler_add(world, script);
    script->body = hold;
    world_open(world);
    publish(world, "a", NULL);
    publish(world, "a", NULL);
    go(world);
    lvt_memory_broker_disconnect(world->broker);
    lvt_memory_broker_reconnect(world->broker);
    go(world);
    while (script->held_count > 0) {
        finish(script->held[0], LVT_VERDICT_DONE, NULL);
        go(world);
    }
    assert_int_equal(script->starts, 3); /* the one that ran, and both again */
    assert_settled(world);
    world_free(world);
}

static void abandon_rolls_back(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    char id[16];
    (void)state;
    script->body = query_and_hold;
    for (int i = 0; i < 9; i++) { /* four with a transaction, five that wait for one */
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
    }
    go(world);
    assert_int_equal(script->held_count, 4);
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    assert_int_equal(script->aborts, 9);
    assert_int_equal(world->commits, 0);
    world_free(world); /* asserts that no transaction is left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redelivery_joins_its_run),
        cmocka_unit_test(claims_do_not_outlive_their_session),
        cmocka_unit_test(retry_that_comes_before_its_second_try_has_its_own_turn),
        cmocka_unit_test(repeated_attempt_counts_once),
        cmocka_unit_test(repeated_attempt_may_be_an_old_one),
        cmocka_unit_test(failure_settles_the_redelivery),
        cmocka_unit_test(redelivery_after_the_run_is_a_duplicate),
        cmocka_unit_test(failure_of_a_stale_run_is_not_published),
        cmocka_unit_test(publish_survives_a_reconnect),
        cmocka_unit_test(returned_publish_leaves_the_original),
        cmocka_unit_test(dropped_publish_leaves_the_original),
        cmocka_unit_test(reconnects_at_every_moment_lose_nothing),
        cmocka_unit_test(nothing_starts_without_the_ledger),
        cmocka_unit_test(record_waits_for_the_ledger),
        cmocka_unit_test(outage_costs_no_attempt),
        cmocka_unit_test(transaction_commits_with_the_record),
        cmocka_unit_test(record_found_in_the_transaction_is_a_duplicate),
        cmocka_unit_test(conflict_runs_again_at_no_cost),
        cmocka_unit_test(endless_conflict_becomes_a_retry),
        cmocka_unit_test(wrong_data_is_permanent),
        cmocka_unit_test(failed_commit_is_a_failed_attempt),
        cmocka_unit_test(lost_commit_runs_again_at_no_cost),
        cmocka_unit_test(outage_of_a_query_ends_the_run),
        cmocka_unit_test(ledger_away_ends_open_transactions),
        cmocka_unit_test(retry_rolls_back),
        cmocka_unit_test(end_with_a_statement_under_way_is_a_failure),
        cmocka_unit_test(timeout_in_a_query_rolls_back),
        cmocka_unit_test(record_that_cannot_be_written_is_permanent),
        cmocka_unit_test(late_confirm_loses_nothing),
        cmocka_unit_test(stale_event_without_an_id_does_not_start),
        cmocka_unit_test(abandon_rolls_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
