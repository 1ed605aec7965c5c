/* Events that handlers publish: straight, in a transaction, and with a delay. */
#include "engine_fixture.h"

#include "engine/forward.h"

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
    assert_int_equal(to->starts, 0); /* the test's database relays nothing */
    assert_settled(world);
    world_free(world);
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
        cmocka_unit_test(outage_costs_no_attempt_and_no_second_event),
        cmocka_unit_test(in_a_transaction_it_goes_through_the_ledger),
        cmocka_unit_test(run_that_ends_leaves_its_publish_alone),
        cmocka_unit_test(delayed_event_comes_through_its_exchange),
        cmocka_unit_test(delayed_event_that_nobody_takes_is_a_dead_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
