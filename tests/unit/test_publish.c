/* Events that handlers publish: straight, in a transaction, and with a delay. */
#include "engine_fixture.h"

#include "engine/forward.h"
#include "engine/state.h"

/* What came of the last ctx.publish. */
static enum lvt_answer answered;
static char published_id[64], said[200];
static unsigned answers;

static void note(void *ctx, enum lvt_answer answer, struct lvt_bytes id, const char *error) {
    answers++;
    answered = answer;
    copy_text(published_id, sizeof published_id, id);
    snprintf(said, sizeof said, "%s", error ? error : "");
    finish(ctx, LVT_VERDICT_DONE, NULL);
}

static struct lvt_outgoing outgoing;

static void publish_one(struct script *script, struct lvt_run *run) {
    (void)script;
    lvt_effect_publish(run, &outgoing, note, run);
}

static void rows_came(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                      const struct lvt_sql_error *error) {
    (void)rows;
    (void)error;
    assert_int_equal(answer, LVT_ANSWER_OK);
    lvt_effect_publish(ctx, &outgoing, note, ctx);
}

static void query_and_publish(struct script *script, struct lvt_run *run) {
    (void)script;
    query(run, rows_came);
}

/* A world where "from" publishes what `outgoing` says, and "to" takes it. */
static struct world *two(struct script **ret_from, struct script **ret_to) {
    struct world *world = world_new();
    *ret_from = handler_add(world, handler_new(world, "from"));
    *ret_to = handler_add(world, handler_new(world, "to"));
    (*ret_from)->body = publish_one;
    outgoing = (struct lvt_outgoing){.event = LVT_LITERAL("to"),
                                     .payload = LVT_LITERAL("{\"n\":2}"),
                                     .priority = LVT_NO_PRIORITY};
    answers = 0;
    answered = LVT_ANSWER_OUTAGE;
    return world;
}

static void published_event_is_handled(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    world_open(world);
    publish(world, "from", "f1");
    go(world);
    assert_int_equal(answered, LVT_ANSWER_OK);
    assert_int_equal(to->starts, 1);
    assert_string_equal(to->id, published_id);
    assert_string_equal(to->exchange, EXCHANGE);
    assert_int_equal(strlen(published_id), 36);
    assert_settled(world);
    world_free(world);
}

static void nobody_takes_it(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    outgoing.event = LVT_LITERAL("nobody");
    world_open(world);
    publish(world, "from", "f1");
    go(world);
    assert_int_equal(answered, LVT_ANSWER_ERROR);
    assert_true(said[0]);
    assert_settled(world);
    world_free(world);
}

static void wrong_one_is_refused_after_the_call(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    outgoing.payload = LVT_LITERAL("[]");
    world_open(world);
    publish(world, "from", "f1");
    advance(world, 0);
    assert_int_equal(answered, LVT_ANSWER_ERROR);
    assert_non_null(strstr(said, "not a JSON object"));
    assert_int_equal(to->starts, 0);
    world_free(world);
}

static void trace_is_passed_on(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    struct lvt_header header = {.name = LVT_LITERAL("traceparent"),
                                .kind = LVT_HEADER_STRING,
                                .value.bytes = LVT_LITERAL("00-aa-bb-01")};
    (void)state;
    add_verdict(to, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    world_open(world);
    publish_event(world, "from", "f1", (struct lvt_headers){&header, 1});
    go(world);
    assert_header(&first_dead(world)->properties.headers, "traceparent", "00-aa-bb-01");
    world_free(world);
}

/* The trace that `to` is told, when `from` has been published with one of this kind. */
static void passed_on(enum lvt_header_kind kind, const char *expected) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    struct lvt_header header = {.name = LVT_LITERAL("traceparent"), .kind = kind};
    if (kind != LVT_HEADER_INT64)
        header.value.bytes = LVT_LITERAL("00-aa-bb-01");
    add_verdict(to, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    world_open(world);
    publish_event(world, "from", "f1", (struct lvt_headers){&header, 1});
    go(world);
    const struct lvt_headers *headers = &first_dead(world)->properties.headers;
    if (expected)
        assert_header(headers, "traceparent", expected);
    else
        assert_null(lvt_headers_find(headers, "traceparent"));
    world_free(world);
}

static void only_a_text_is_a_trace(void **state) {
    (void)state;
    passed_on(LVT_HEADER_BYTES, "00-aa-bb-01");
    passed_on(LVT_HEADER_INT64, NULL);
}

/* Whatever `from` was published with. */
static void keeps_its_own(struct lvt_outgoing own) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    struct lvt_header header = {.name = LVT_LITERAL("traceparent"),
                                .kind = LVT_HEADER_STRING,
                                .value.bytes = LVT_LITERAL("another")};
    own.event = outgoing.event;
    own.payload = outgoing.payload;
    own.priority = LVT_NO_PRIORITY;
    outgoing = own;
    add_verdict(to, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    world_open(world);
    publish_event(world, "from", "f1", (struct lvt_headers){&header, 1});
    go(world);
    assert_header(&first_dead(world)->properties.headers, "traceparent", "own");
    assert_string_equal(to->id, own.id.len > 0 ? own.id.data : published_id);
    world_free(world);
}

static void its_own_trace_id_and_place_stand(void **state) {
    const struct lvt_header headers[] = {{.name = LVT_LITERAL("x-a"), .kind = LVT_HEADER_INT64},
                                         {.name = LVT_LITERAL("traceparent"),
                                          .kind = LVT_HEADER_STRING,
                                          .value.bytes = LVT_LITERAL("own")}};
    (void)state;
    keeps_its_own((struct lvt_outgoing){.traceparent = LVT_LITERAL("own")});
    keeps_its_own(
        (struct lvt_outgoing){.headers = headers, .header_count = 2, .id = LVT_LITERAL("mine")});
    keeps_its_own((struct lvt_outgoing){.traceparent = LVT_LITERAL("own"),
                                        .exchange = LVT_LITERAL(EXCHANGE)});
    keeps_its_own(
        (struct lvt_outgoing){.traceparent = LVT_LITERAL("own"), .queue = LVT_LITERAL("to.queue")});
}

static void without_an_exchange_it_must_name_one(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    world_open(world);
    world->engine->limits.exchange = NULL;
    publish(world, "from", "f1");
    advance(world, 0);
    assert_int_equal(answered, LVT_ANSWER_ERROR);
    assert_non_null(strstr(said, "rabbitmq.exchange is not set"));
    world_free(world);
}

static void publish_and_end(struct script *script, struct lvt_run *run) {
    (void)script;
    lvt_effect_publish(run, &outgoing, note, run);
    finish(run, LVT_VERDICT_DONE, NULL);
}

static void one_that_is_dropped_is_an_outage(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    world_open(world);
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_DROPPED, 1);
    publish(world, "from", "f1");
    advance(world, 60000);
    assert_int_equal(from->starts, 2);
    assert_int_equal(answers, 1);
    assert_int_equal(to->starts, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    from->body = publish_and_end; /* nobody waits for the answer any more */
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_DROPPED, 1);
    publish(world, "from", "f2");
    go(world);
    assert_int_equal(answers, 1);
    assert_settled(world);
    world_free(world);
}

static lvt_rows_done *row_written;
static void *row_ctx;

static void keep_row(void *self, struct lvt_tx *tx, const struct lvt_outgoing *row,
                     lvt_rows_done *done, void *ctx) {
    (void)self;
    (void)tx;
    (void)row;
    row_written = done;
    row_ctx = ctx;
}

static void a_row_that_is_not_written_is_an_error_or_an_outage(void **state) {
    const struct lvt_sql_error error = {.text = "no room"};
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    from->body = query_and_publish;
    world_open(world);
    world->engine->ledger.tx_publish = keep_row;
    publish(world, "from", "f1");
    go(world);
    row_written(row_ctx, LVT_ANSWER_OUTAGE, NULL, NULL);
    assert_int_equal(answers, 0);
    assert_int_equal(from->aborts, 1);
    advance(world, 10000);
    row_written(row_ctx, LVT_ANSWER_ERROR, NULL, &error);
    go(world);
    assert_int_equal(answered, LVT_ANSWER_ERROR);
    assert_string_equal(said, "no room");
    assert_settled(world);
    world_free(world);
}

static void outage_costs_no_attempt_and_no_second_event(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    world_open(world);
    publish(world, "from", "f1");
    /* the delivery is handed over, and then the broker goes away */
    lvt_memory_broker_poll(world->broker);
    lvt_memory_broker_disconnect(world->broker);
    advance(world, 10 * 30000);
    assert_int_equal(from->starts, 1);
    assert_int_equal(from->aborts, 0);
    lvt_memory_broker_reconnect(world->broker);
    go(world);
    assert_int_equal(answers, 1);
    assert_int_equal(to->starts, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    assert_settled(world);
    world_free(world);
}

static void in_a_transaction_it_goes_through_the_ledger(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    from->body = query_and_publish;
    world_open(world);
    publish(world, "from", "f1");
    go(world);
    assert_int_equal(answered, LVT_ANSWER_OK);
    assert_int_equal(world->outbox_rows, 1);
    assert_int_equal(world->outbox_results[LVT_OUTBOX_SENT], 1);
    assert_int_equal(to->starts, 1);
    assert_string_equal(to->id, published_id);
    assert_settled(world);
    world_free(world);
}

static void rolled_back_it_is_gone(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    from->body = query_and_publish;
    world->commit_result = LVT_TX_OUTAGE;
    world->commit_failures = 1;
    world_open(world);
    publish(world, "from", "f1");
    advance(world, 10000);
    assert_int_equal(from->starts, 2);
    assert_int_equal(world->outbox_rows, 2);
    assert_int_equal(world->outbox_results[LVT_OUTBOX_SENT], 1);
    assert_int_equal(to->starts, 1);
    assert_settled(world);
    world_free(world);
}

/* ---- the relay ---- */

#define ROWS 4

static struct lvt_outbox_row rows[ROWS];
static struct lvt_arena arena;
static int64_t order[ROWS];
static unsigned given_back;

static void row_given_back(void *self, struct lvt_outbox_row *row) {
    (void)self;
    order[given_back++] = row->number;
}

/* A world whose ledger's outbox is `rows`, with those keys. */
static struct world *relaying(const char *const keys[ROWS]) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    given_back = 0;
    lvt_arena_init(&arena, 1024);
    world_open(world);
    for (int i = 0; i < ROWS; i++) {
        rows[i] = (struct lvt_outbox_row){.next = i + 1 < ROWS ? &rows[i + 1] : NULL,
                                          .number = i + 1,
                                          .key = lvt_bytes_of(keys[i]),
                                          .arena = &arena,
                                          .outgoing = outgoing};
        rows[i].outgoing.id = LVT_LITERAL("an id");
    }
    world->ledger_port.outbox_done = row_given_back;
    return world;
}

static void relay(struct world *world) {
    struct lvt_ledger_sink sink = lvt_engine_ledger_sink(world->engine);
    sink.outbox_due(sink.ctx, rows);
}

static void relay_free(struct world *world) {
    world_free(world);
    lvt_arena_free(&arena);
}

static void rows_of_one_key_leave_one_after_the_other(void **state) {
    const char *const keys[ROWS] = {"a", "a", "b", "a"};
    struct world *world = relaying(keys);
    (void)state;
    relay(world);
    lvt_memory_broker_poll(world->broker); /* answers what has been published so far */
    assert_int_equal(given_back, 2);
    go(world);
    assert_int_equal(given_back, ROWS);
    const int64_t expected[ROWS] = {1, 3, 2, 4};
    assert_memory_equal(order, expected, sizeof order);
    assert_int_equal(world->outbox_results[LVT_OUTBOX_SENT], ROWS);
    relay_free(world);
}

static void row_that_is_not_taken_holds_up_its_key_only(void **state) {
    const char *const keys[ROWS] = {"a", "a", "b", ""};
    struct world *world = relaying(keys);
    (void)state;
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_RETURNED, 1);
    relay(world);
    go(world);
    assert_int_equal(rows[0].result, LVT_OUTBOX_LATER);
    assert_true(rows[0].reason[0]);
    assert_int_equal(rows[1].result, LVT_OUTBOX_SKIPPED);
    assert_int_equal(rows[2].result, LVT_OUTBOX_SENT);
    assert_int_equal(rows[3].result, LVT_OUTBOX_SENT);
    relay_free(world);
}

static void wrong_row_holds_up_nothing(void **state) {
    const char *const keys[ROWS] = {"a", "a", "a", ""};
    struct world *world = relaying(keys);
    (void)state;
    rows[0].outgoing.payload = LVT_LITERAL("[]");
    rows[1].outgoing.payload = LVT_LITERAL("1");
    relay(world);
    go(world);
    assert_int_equal(rows[0].result, LVT_OUTBOX_WRONG);
    assert_non_null(strstr(rows[0].reason, "not a JSON object"));
    assert_int_equal(rows[1].result, LVT_OUTBOX_WRONG);
    assert_int_equal(rows[2].result, LVT_OUTBOX_SENT);
    assert_int_equal(rows[3].result, LVT_OUTBOX_SENT);
    relay_free(world);
}

static void wrong_row_ends_when_its_turn_comes(void **state) {
    const char *const keys[ROWS] = {"a", "a", "a", "a"};
    struct world *world = relaying(keys);
    (void)state;
    rows[1].outgoing.payload = LVT_LITERAL("[]");
    rows[2].outgoing.payload = LVT_LITERAL("1");
    relay(world);
    go(world);
    assert_int_equal(rows[0].result, LVT_OUTBOX_SENT);
    assert_int_equal(rows[1].result, LVT_OUTBOX_WRONG);
    assert_int_equal(rows[2].result, LVT_OUTBOX_WRONG);
    assert_int_equal(rows[3].result, LVT_OUTBOX_SENT);
    relay_free(world);
}

static void rows_that_are_dropped_were_not_tried(void **state) {
    const char *const keys[ROWS] = {"a", "a", "b", ""};
    struct world *world = relaying(keys);
    (void)state;
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_DROPPED, 1);
    relay(world);
    go(world);
    assert_int_equal(world->outbox_results[LVT_OUTBOX_SKIPPED], 2);
    assert_int_equal(world->outbox_results[LVT_OUTBOX_SENT], 2);
    relay_free(world);
}

static void keys_of_one_bucket_do_not_wait_for_each_other(void **state) {
    char other[16];
    const char *const keys[ROWS] = {"a", other, "a", other};
    (void)state;
    for (int i = 0;; i++) {
        snprintf(other, sizeof other, "b%d", i);
        if (lvt_bytes_hash(lvt_bytes_of(other)) % LVT_RELAY_BUCKETS ==
            lvt_bytes_hash(LVT_LITERAL("a")) % LVT_RELAY_BUCKETS)
            break;
    }
    struct world *world = relaying(keys);
    relay(world);
    lvt_memory_broker_poll(world->broker);
    assert_int_equal(given_back, 2);
    go(world);
    assert_int_equal(given_back, ROWS);
    relay_free(world);
}

static void nothing_is_relayed_at_the_end(void **state) {
    const char *const keys[ROWS] = {"a", "a", "b", ""};
    struct world *world = relaying(keys);
    (void)state;
    lvt_engine_drain(world->engine);
    relay(world);
    go(world);
    assert_int_equal(world->outbox_results[LVT_OUTBOX_SKIPPED], ROWS);
    relay_free(world);
}

static void run_that_ends_leaves_its_publish_alone(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    world_open(world);
    publish(world, "from", "f1");
    lvt_memory_broker_poll(world->broker);
    lvt_memory_broker_disconnect(world->broker);
    go(world);
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    world->ended = true;
    lvt_memory_broker_reconnect(world->broker);
    lvt_memory_broker_poll(world->broker);
    assert_int_equal(answers, 0);
    assert_int_equal(from->aborts, 1);
    world_free(world);
}

/* ---- delays ---- */

static void add_forward(struct world *world) {
    struct leveret_error err;
    struct lvt_config config;
    assert_int_equal(lvt_config_init(&config, &err), LEVERET_OK);
    assert_int_equal(lvt_forward_add(&config, &world->routes, &err), LEVERET_OK);
    lvt_config_free(&config);
}

static void delayed_event_comes_through_its_exchange(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    add_forward(world);
    outgoing.delay_ms = 3000;
    outgoing.max_attempts = 5;
    add_verdict(to, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    world_open(world);
    publish(world, "from", "f1");
    go(world);
    assert_int_equal(answered, LVT_ANSWER_OK);
    advance(world, 2900);
    assert_int_equal(to->starts, 0);
    advance(world, 600);
    assert_int_equal(to->starts, 1);
    assert_string_equal(to->id, published_id);
    assert_string_equal(to->exchange, EXCHANGE);
    assert_string_equal(to->routing_key, "to");
    assert_int_equal(to->attempt, 1);
    const struct lvt_headers *headers = &first_dead(world)->properties.headers;
    assert_int_equal(header_number(headers, LVT_HEADER_MAX_ATTEMPTS), 5);
    assert_non_null(lvt_headers_find(headers, LVT_HEADER_DELAYED));
    assert_null(lvt_headers_find(headers, LVT_HEADER_TO_EXCHANGE));
    /* it counts once, where it arrives */
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_int_equal(world->stats->events_without_id, 0);
    assert_settled(world);
    world_free(world);
}

static void delayed_event_that_nobody_takes_is_a_dead_letter(void **state) {
    struct script *from, *to;
    struct world *world = two(&from, &to);
    (void)state;
    add_forward(world);
    outgoing.delay_ms = 1000;
    outgoing.event = LVT_LITERAL("nobody");
    world_open(world);
    publish(world, "from", "f1");
    advance(world, 60000);
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 1);
    assert_header(&first_dead(world)->properties.headers, LVT_HEADER_ORIGIN_QUEUE,
                  LVT_OUTGOING_QUEUE);
    assert_settled(world);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_event_is_handled),
        cmocka_unit_test(nobody_takes_it),
        cmocka_unit_test(wrong_one_is_refused_after_the_call),
        cmocka_unit_test(trace_is_passed_on),
        cmocka_unit_test(only_a_text_is_a_trace),
        cmocka_unit_test(its_own_trace_id_and_place_stand),
        cmocka_unit_test(without_an_exchange_it_must_name_one),
        cmocka_unit_test(one_that_is_dropped_is_an_outage),
        cmocka_unit_test(a_row_that_is_not_written_is_an_error_or_an_outage),
        cmocka_unit_test(outage_costs_no_attempt_and_no_second_event),
        cmocka_unit_test(in_a_transaction_it_goes_through_the_ledger),
        cmocka_unit_test(rolled_back_it_is_gone),
        cmocka_unit_test(rows_of_one_key_leave_one_after_the_other),
        cmocka_unit_test(row_that_is_not_taken_holds_up_its_key_only),
        cmocka_unit_test(wrong_row_holds_up_nothing),
        cmocka_unit_test(wrong_row_ends_when_its_turn_comes),
        cmocka_unit_test(rows_that_are_dropped_were_not_tried),
        cmocka_unit_test(keys_of_one_bucket_do_not_wait_for_each_other),
        cmocka_unit_test(nothing_is_relayed_at_the_end),
        cmocka_unit_test(run_that_ends_leaves_its_publish_alone),
        cmocka_unit_test(delayed_event_comes_through_its_exchange),
        cmocka_unit_test(delayed_event_that_nobody_takes_is_a_dead_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
