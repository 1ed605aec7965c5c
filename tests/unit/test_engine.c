/* The way of an event when nothing fails but handlers. */
#include "engine_fixture.h"

static struct lvt_header number_header(const char *name, int64_t value) {
    return (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_INT64, .value.integer = value};
}

static struct lvt_header text_header(const char *name, const char *value) {
    return (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_STRING, .value.bytes = lvt_bytes_of(value)};
}

/* ---- done, and done before ---- */

static void processed_event_is_recorded_and_acked(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "ticket.created");
    unsigned char key[LVT_KEY_BYTES];
    (void)state;
    publish(world, "ticket.created", "e1");
    go(world);
    assert_int_equal(script->starts, 1);
    assert_string_equal(script->id, "e1");
    assert_int_equal(script->attempt, 1);
    assert_string_equal(script->exchange, EXCHANGE);
    assert_string_equal(script->routing_key, "ticket.created");
    key_of("ticket.created.queue", "ticket.created", "e1", key);
    assert_true(lvt_memory_ledger_has(world->ledger, key));
    assert_int_equal(world->acks, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

static void second_publish_is_a_duplicate(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "ticket.created");
    (void)state;
    publish(world, "ticket.created", "e1");
    go(world);
    publish(world, "ticket.created", "e1");
    go(world);
    assert_int_equal(script->starts, 1);
    assert_int_equal(world->acks, 2);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

static void one_event_in_two_queues_runs_in_both(void **state) {
    struct world *world = world_new();
    struct script *first = handler_new(world, "a");
    struct script *second = handler_new(world, "also");
    struct lvt_properties properties = {.present = LVT_HAS_MESSAGE_ID};
    (void)state;
    properties.message_id = LVT_LITERAL("e1");
    second->handler->options.events.items = malloc(sizeof(char *));
    second->handler->options.events.items[0] = strdup("#");
    second->handler->options.events.count = 1;
    handler_add(world, first);
    handler_add(world, second);
    world_open(world);
    assert_int_equal(publish_message(world, "a", &properties, "{\"event\":\"a\",\"payload\":1}"),
                     2);
    go(world);
    assert_int_equal(first->starts, 1);
    assert_int_equal(second->starts, 1);
    assert_settled(world);
    world_free(world);
}

static void same_event_twice_at_once_runs_once(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(script->starts, 1);
    assert_int_equal(world->acks, 0);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    assert_int_equal(script->starts, 1);
    assert_int_equal(world->acks, 2);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

static void joined_delivery_with_more_attempts_counts(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_header made = number_header(LVT_HEADER_ATTEMPT, 3);
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    go(world);
    publish_event(world, "a", "e1", (struct lvt_headers){&made, 1});
    go(world);
    finish(script->held[0], LVT_VERDICT_RETRY, "again");
    go(world);
    /* three were made by the second's account: this was the fourth, and the last */
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 1);
    assert_int_equal(header_number(&first_dead(world)->properties.headers, LVT_HEADER_ATTEMPT), 4);
    assert_int_equal(world->acks, 2);
    assert_settled(world);
    world_free(world);
}

static void events_without_an_id_all_run(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    publish(world, "a", NULL);
    publish(world, "a", NULL);
    go(world);
    assert_int_equal(script->starts, 2);
    assert_string_equal(script->id, "");
    assert_int_equal(world->stats->events_without_id, 2);
    assert_int_equal(world->acks, 2);
    assert_settled(world);
    world_free(world);
}

static void busy_claim_is_looked_at_again(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    unsigned char key[LVT_KEY_BYTES];
    (void)state;
    key_of("a.queue", "a", "e1", key);
    assert_int_equal(lvt_memory_ledger_other_claims(world->ledger, key), LEVERET_OK);
    publish(world, "a", "e1");
    advance(world, 5000);
    assert_int_equal(script->starts, 0);
    assert_int_equal(world->acks, 0);
    lvt_memory_ledger_other_ends(world->ledger, key, false);
    advance(world, 1000);
    assert_int_equal(script->starts, 1);
    assert_int_equal(script->attempt, 1);
    assert_settled(world);
    world_free(world);
}

static void event_that_another_worker_finished_is_a_duplicate(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    unsigned char key[LVT_KEY_BYTES];
    (void)state;
    key_of("a.queue", "a", "e1", key);
    assert_int_equal(lvt_memory_ledger_other_claims(world->ledger, key), LEVERET_OK);
    publish(world, "a", "e1");
    advance(world, 100);
    lvt_memory_ledger_other_ends(world->ledger, key, true);
    advance(world, 1000);
    assert_int_equal(script->starts, 0);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

/* While the ledger was away another worker may have run what waits here for its turn. */
static void what_waits_is_looked_up_again_after_the_ledger_was_away(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    unsigned char key[LVT_KEY_BYTES];
    (void)state;
    script->handler->options.concurrency = 1;
    script->body = hold;
    publish(world, "a", "e1");
    publish(world, "a", "e2");
    go(world);
    assert_int_equal(script->starts, 1);
    lvt_memory_ledger_set_ready(world->ledger, false);
    go(world);
    key_of("a.queue", "a", "e2", key);
    lvt_memory_ledger_other_ends(world->ledger, key, true);
    lvt_memory_ledger_set_ready(world->ledger, true);
    finish(script->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    assert_int_equal(script->starts, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

/* ---- verdicts ---- */

static void retries_wait_longer_each_time_and_then_die(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    static const uint64_t delays_ms[] = {1000, 2000, 4000};
    (void)state;
    add_verdict(script, RETRY("it failed"));
    publish(world, "a", "e1");
    go(world);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(script->starts, i + 1);
        assert_int_equal(script->attempt, i + 1);
        assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), i + 1);
        advance(world, delays_ms[i] - 1);
        assert_int_equal(script->starts, i + 1);
        advance(world, 1);
    }
    assert_int_equal(script->starts, 4);
    assert_string_equal(script->exchange, EXCHANGE);
    assert_string_equal(script->routing_key, "a");
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 3);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1);
    assert_int_equal(world->acks, 4);
    assert_settled(world);
    world_free(world);
}

static void dead_letter_tells_its_story(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    struct lvt_verdict verdict = RETRY("no such ticket");
    (void)state;
    script->handler->options.retry.max = 1;
    handler_add(world, script);
    world_open(world);
    verdict.trace = LVT_LITERAL("stack traceback");
    add_verdict(script, verdict);
    publish(world, "a", "e1");
    advance(world, 60000);
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 1);
    const struct lvt_memory_message *dead = first_dead(world);
    const struct lvt_headers *headers = &dead->properties.headers;
    assert_true(lvt_bytes_is(dead->queue, DEAD));
    assert_true(lvt_bytes_is(dead->body, "{\"event\":\"a\",\"payload\":{\"n\":1}}"));
    assert_true(lvt_bytes_is(dead->properties.message_id, "e1"));
    assert_int_equal(dead->properties.delivery_mode, 2);
    assert_int_equal(header_number(headers, LVT_HEADER_ATTEMPT), 2);
    assert_header(headers, LVT_HEADER_ERROR, "no such ticket");
    assert_header(headers, LVT_HEADER_TRACE, "stack traceback");
    assert_header(headers, LVT_HEADER_HANDLER, "a");
    assert_header(headers, LVT_HEADER_ORIGIN_EXCHANGE, EXCHANGE);
    assert_header(headers, LVT_HEADER_ORIGIN_ROUTING_KEY, "a");
    assert_header(headers, LVT_HEADER_ORIGIN_QUEUE, "a.queue");
    assert_header(headers, LVT_HEADER_FIRST_FAILED_AT, "2026-09-21T14:13:20Z");
    assert_null(lvt_memory_broker_dead_next(world->broker, dead));
    world_free(world);
}

static void handler_names_its_own_delay(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_verdict verdict = RETRY("later");
    (void)state;
    verdict.after_ms = 7000;
    add_verdict(script, verdict);
    add_verdict(script, DONE);
    publish(world, "a", "e1");
    advance(world, 6999);
    assert_int_equal(script->starts, 1);
    advance(world, 1);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 2);
    assert_settled(world);
    world_free(world);
}

static void reject_dies_at_once(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT,
                                             .reason = LVT_LITERAL("not ours")});
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(script->starts, 1);
    assert_header(&first_dead(world)->properties.headers, LVT_HEADER_ERROR, "not ours");
    assert_int_equal(header_number(&first_dead(world)->properties.headers, LVT_HEADER_ATTEMPT), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 1);
    assert_settled(world);
    world_free(world);
}

static void dead_letter_may_be_published_again(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_header headers[] = {number_header("x-retry-count", 9),
                                   number_header(LVT_HEADER_ATTEMPT, 0)};
    (void)state;
    add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    add_verdict(script, DONE);
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 1);
    /* a dead letter is not recorded, so it is no duplicate; its attempts count from the start */
    publish_event(world, "a", "e1", (struct lvt_headers){headers, 2});
    go(world);
    assert_int_equal(script->starts, 2);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

static void drop_is_recorded(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_DROP});
    publish(world, "a", "e1");
    publish(world, "a", "e1");
    go(world);
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(script->starts, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_DROPPED), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 2);
    assert_settled(world);
    world_free(world);
}

static void snooze_costs_no_attempt(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    const struct lvt_verdict snooze = {.kind = LVT_VERDICT_SNOOZE, .after_ms = 500};
    for (int i = 0; i < 5; i++)
        add_verdict(script, snooze);
    add_verdict(script, DONE);
    publish(world, "a", "e1");
    advance(world, 2499);
    assert_int_equal(script->starts, 5);
    assert_int_equal(script->attempt, 1);
    advance(world, 1);
    assert_int_equal(script->starts, 6);
    assert_int_equal(script->attempt, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_settled(world);
    world_free(world);
}

static void counts_of_others_and_of_ours(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_header theirs[] = {text_header("x-retry-count", "2")};
    struct lvt_header both[] = {number_header("x-retry-count", 2),
                                number_header(LVT_HEADER_ATTEMPT, 1)};
    struct lvt_header negative[] = {number_header(LVT_HEADER_ATTEMPT, -5)};
    struct lvt_header elsewhere[] = {number_header(LVT_HEADER_ATTEMPT, 4),
                                     text_header(LVT_HEADER_ORIGIN_QUEUE, "b.queue")};
    (void)state;
    publish_event(world, "a", "e1", (struct lvt_headers){theirs, 1});
    go(world);
    assert_int_equal(script->attempt, 3);
    publish_event(world, "a", "e2", (struct lvt_headers){both, 2});
    go(world);
    assert_int_equal(script->attempt, 2);
    publish_event(world, "a", "e3", (struct lvt_headers){negative, 1});
    go(world);
    assert_int_equal(script->attempt, 1);
    publish_event(world, "a", "e9", (struct lvt_headers){elsewhere, 2});
    go(world);
    assert_int_equal(script->attempt, 1);
    world_free(world);
}

/* ---- what is wrong from the start ---- */

static void malformed_body_dies_with_it_intact(void **state) {
    static const char *const bodies[] = {"", "not json", "{\"payload\":1}", "{\"event\":\"b\"}",
                                         "{\"event\":\"a\",\"payload\":\"\xff\"}"};
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    const struct lvt_properties properties = {.present = LVT_HAS_MESSAGE_ID,
                                              .message_id = LVT_LITERAL("e1")};
    const struct lvt_memory_message *dead = NULL;
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        publish_message(world, "a", &properties, bodies[i]);
        go(world);
        dead = lvt_memory_broker_dead_next(world->broker, dead);
        assert_non_null(dead);
        assert_true(lvt_bytes_is(dead->body, bodies[i]));
        assert_non_null(lvt_headers_find(&dead->properties.headers, LVT_HEADER_ERROR));
        assert_int_equal(header_number(&dead->properties.headers, LVT_HEADER_ATTEMPT), 0);
    }
    assert_int_equal(script->starts, 0);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 5);
    assert_settled(world);
    world_free(world);
}

static void deeply_nested_headers_die_with_them_intact(void **state) {
    enum { DEPTH = 20000 };
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_header *levels = calloc(DEPTH, sizeof *levels);
    (void)state;
    assert_non_null(levels);
    for (size_t i = 0; i < DEPTH; i++) {
        levels[i].name = LVT_LITERAL("deep");
        levels[i].kind = i + 1 < DEPTH ? LVT_HEADER_TABLE : LVT_HEADER_VOID;
        if (i + 1 < DEPTH)
            levels[i].value.nested = (struct lvt_headers){&levels[i + 1], 1};
    }
    publish_event(world, "a", "e1", (struct lvt_headers){levels, 1});
    free(levels);
    go(world);
    assert_int_equal(script->starts, 0);
    const struct lvt_header *header =
        lvt_headers_find(&first_dead(world)->properties.headers, "deep");
    for (size_t i = 0; i + 1 < DEPTH; i++) {
        assert_non_null(header);
        assert_int_equal(header->kind, LVT_HEADER_TABLE);
        assert_int_equal(header->value.nested.count, 1);
        header = &header->value.nested.items[0];
    }
    assert_int_equal(header->kind, LVT_HEADER_VOID);
    assert_settled(world);
    world_free(world);
}

static void properties_that_would_harm_are_moved(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    struct lvt_header cc = {.name = LVT_LITERAL("CC"), .kind = LVT_HEADER_ARRAY};
    struct lvt_properties properties = {.present = LVT_HAS_USER_ID | LVT_HAS_EXPIRATION |
                                                   LVT_HAS_MESSAGE_ID | LVT_HAS_HEADERS,
                                        .user_id = LVT_LITERAL("guest"),
                                        .expiration = LVT_LITERAL("100"),
                                        .message_id = LVT_LITERAL("e1"),
                                        .headers = {&cc, 1}};
    (void)state;
    add_verdict(script, RETRY("once"));
    add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    publish_message(world, "a", &properties, "{\"event\":\"a\",\"payload\":1}");
    advance(world, 1000);
    const struct lvt_memory_message *dead = first_dead(world);
    assert_int_equal(dead->properties.present & (LVT_HAS_USER_ID | LVT_HAS_EXPIRATION), 0);
    assert_header(&dead->properties.headers, "leveret-origin-user-id", "guest");
    assert_header(&dead->properties.headers, "leveret-origin-expiration", "100");
    assert_null(lvt_headers_find(&dead->properties.headers, "CC"));
    assert_non_null(lvt_headers_find(&dead->properties.headers, "leveret-origin-cc"));
    world_free(world);
}

/* ---- turns ---- */

static void no_more_run_at_once_than_concurrency(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    char id[16];
    (void)state;
    script->handler->options.concurrency = 3;
    script->body = hold;
    handler_add(world, script);
    world_open(world);
    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
    }
    go(world);
    assert_int_equal(script->starts, 3);
    for (unsigned i = 1; i <= 10; i++) {
        finish(script->held[0], LVT_VERDICT_DONE, NULL);
        go(world);
        assert_int_equal(script->starts, i + 3 < 10 ? i + 3 : 10);
    }
    assert_int_equal(script->running_max, 3);
    assert_settled(world);
    world_free(world);
}

static void slow_handler_holds_up_no_other_queue(void **state) {
    struct world *world = world_new();
    struct script *slow = handler_new(world, "slow");
    struct script *fast = handler_add(world, handler_new(world, "fast"));
    char id[16];
    (void)state;
    slow->handler->options.concurrency = 1;
    slow->body = hold;
    handler_add(world, slow);
    world_open(world);
    for (int i = 0; i < 500; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "slow", id);
        publish(world, "fast", id);
    }
    go(world);
    assert_int_equal(slow->starts, 1);
    assert_int_equal(fast->starts, 500);
    world_free(world);
}

static void rate_is_kept(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    char id[16];
    (void)state;
    script->handler->options.rate = 10;
    handler_add(world, script);
    world_open(world);
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
    }
    go(world);
    assert_int_equal(script->starts, 1);
    advance(world, 5000);
    assert_in_range(script->starts, 48, 52);
    advance(world, 6000);
    assert_int_equal(script->starts, 100);
    assert_settled(world);
    world_free(world);
}

static void pump_stops_to_look_at_sockets(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    char id[16];
    (void)state;
    script->handler->options.concurrency = 1000;
    script->body = hold;
    handler_add(world, script);
    world_open(world);
    for (int i = 0; i < 600; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
    }
    lvt_memory_broker_poll(world->broker);
    (void)lvt_engine_pump(world->engine);
    lvt_memory_ledger_poll(world->ledger);
    assert_true(lvt_engine_pump(world->engine));
    assert_int_equal(script->starts, 256);
    assert_true(lvt_engine_pump(world->engine));
    assert_int_equal(script->starts, 512);
    assert_false(lvt_engine_pump(world->engine));
    assert_int_equal(script->starts, 600);
    world_free(world);
}

static void woken(void *ctx) {
    finish(ctx, LVT_VERDICT_DONE, NULL);
}

static void sleep_50(struct script *script, struct lvt_run *run) {
    (void)script;
    assert_false(lvt_effect_sleeps(run));
    lvt_effect_sleep(run, 50, woken, run);
    assert_true(lvt_effect_sleeps(run));
}

static void sleeping_handlers_overlap(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    char id[16];
    (void)state;
    script->body = sleep_50;
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
    }
    go(world);
    assert_int_equal(script->running, 100);
    advance(world, 50);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 100);
    assert_settled(world);
    world_free(world);
}

static void timeout_ends_a_run_and_counts(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    (void)state;
    script->handler->options.timeout_ms = 100;
    script->handler->options.retry.max = 0;
    script->body = hold;
    handler_add(world, script);
    world_open(world);
    publish(world, "a", "e1");
    advance(world, 99);
    assert_int_equal(script->aborts, 0);
    advance(world, 1);
    assert_int_equal(script->aborts, 1);
    assert_header(&first_dead(world)->properties.headers, LVT_HEADER_ERROR,
                  "the handler did not finish within timeout_ms = 100");
    assert_settled(world);
    world_free(world);
}

/* ---- the end ---- */

static void drain_finishes_what_runs_and_returns_the_rest(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    char id[16];
    (void)state;
    script->handler->options.concurrency = 2;
    script->body = hold;
    handler_add(world, script);
    world_open(world);
    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
    }
    go(world);
    struct lvt_memory_ledger_status ledger;
    lvt_engine_drain(world->engine);
    lvt_memory_ledger_status(world->ledger, &ledger);
    assert_int_equal(lvt_engine_in_flight(world->engine), 2);
    assert_int_equal(ledger.held, 2); /* the others' claims are given up */
    finish(script->held[1], LVT_VERDICT_DONE, NULL);
    finish(script->held[0], LVT_VERDICT_RETRY, "unlucky");
    go(world);
    assert_int_equal(script->starts, 2);
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    assert_int_equal(world->acks, 2);
    /* eight unacked, and the retry, which waits */
    assert_int_equal(lvt_memory_broker_count(world->broker), 9);
    world_free(world);
}

static void drain_forgets_what_waits(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    unsigned char key[LVT_KEY_BYTES];
    (void)state;
    add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_OUTAGE});
    key_of("a.queue", "a", "busy", key);
    assert_int_equal(lvt_memory_ledger_other_claims(world->ledger, key), LEVERET_OK);
    publish(world, "a", "busy");
    publish(world, "a", "out");
    go(world);
    assert_int_equal(world->timers.count, 2);
    lvt_engine_drain(world->engine);
    assert_int_equal(world->timers.count, 0);
    advance(world, 60000);
    assert_int_equal(script->starts, 1);
    world_free(world);
}

static void drain_at_any_moment_loses_nothing(void **state) {
    (void)state;
    for (unsigned steps = 0; steps < 12; steps++) {
        struct world *world = world_new();
        struct script *script = world_one(world, "a");
        struct lvt_memory_broker_status status;
        char id[16];
        add_verdict(script, DONE);
        add_verdict(script, RETRY("odd"));
        add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
        add_verdict(script, DONE);
        for (int i = 0; i < 6; i++) {
            snprintf(id, sizeof id, "e%d", i);
            publish(world, "a", id);
        }
        /* one port at a time, so that every answer is late once */
        for (unsigned i = 0; i < steps; i++) {
            if (i % 3 == 0)
                lvt_memory_broker_poll(world->broker);
            else if (i % 3 == 1)
                lvt_memory_ledger_poll(world->ledger);
            else
                (void)lvt_engine_pump(world->engine);
        }
        lvt_engine_drain(world->engine);
        go(world);
        lvt_memory_broker_status(world->broker, &status);
        struct lvt_memory_ledger_status ledger;
        lvt_memory_ledger_status(world->ledger, &ledger);
        assert_int_equal(lvt_engine_in_flight(world->engine), 0);
        assert_int_equal(status.unacked + status.delayed + status.ready + ledger.records +
                             lvt_memory_broker_dead_count(world->broker),
                         6);
        world_free(world);
    }
}

static void abandon_stops_what_runs(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->body = hold;
    publish(world, "a", "e1");
    publish(world, "a", "e2");
    go(world);
    publish(world, "a", "e1"); /* joined */
    go(world);
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    assert_int_equal(script->aborts, 2);
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    assert_int_equal(world->acks, 0);
    assert_int_equal(lvt_memory_broker_count(world->broker), 3);
    world_free(world);
}

static void abandon_forgets_what_is_being_published(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    add_verdict(script, RETRY("no"));
    publish(world, "a", "e1");
    lvt_memory_broker_poll(world->broker);
    (void)lvt_engine_pump(world->engine);
    lvt_memory_ledger_poll(world->ledger);
    (void)lvt_engine_pump(world->engine);
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    go(world);
    assert_int_equal(world->acks, 0);
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    world_free(world);
}

/* What arrives after the last pump is freed with the engine. */
static void free_takes_what_has_just_arrived(void **state) {
    struct world *world = world_new();
    (void)state;
    (void)world_one(world, "a");
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    world->ended = true;
    publish(world, "a", "e1");
    lvt_memory_broker_poll(world->broker);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processed_event_is_recorded_and_acked),
        cmocka_unit_test(second_publish_is_a_duplicate),
        cmocka_unit_test(one_event_in_two_queues_runs_in_both),
        cmocka_unit_test(same_event_twice_at_once_runs_once),
        cmocka_unit_test(joined_delivery_with_more_attempts_counts),
        cmocka_unit_test(events_without_an_id_all_run),
        cmocka_unit_test(busy_claim_is_looked_at_again),
        cmocka_unit_test(what_waits_is_looked_up_again_after_the_ledger_was_away),
        cmocka_unit_test(event_that_another_worker_finished_is_a_duplicate),
        cmocka_unit_test(retries_wait_longer_each_time_and_then_die),
        cmocka_unit_test(dead_letter_tells_its_story),
        cmocka_unit_test(handler_names_its_own_delay),
        cmocka_unit_test(reject_dies_at_once),
        cmocka_unit_test(dead_letter_may_be_published_again),
        cmocka_unit_test(drop_is_recorded),
        cmocka_unit_test(snooze_costs_no_attempt),
        cmocka_unit_test(counts_of_others_and_of_ours),
        cmocka_unit_test(malformed_body_dies_with_it_intact),
        cmocka_unit_test(deeply_nested_headers_die_with_them_intact),
        cmocka_unit_test(properties_that_would_harm_are_moved),
        cmocka_unit_test(no_more_run_at_once_than_concurrency),
        cmocka_unit_test(slow_handler_holds_up_no_other_queue),
        cmocka_unit_test(rate_is_kept),
        cmocka_unit_test(pump_stops_to_look_at_sockets),
        cmocka_unit_test(sleeping_handlers_overlap),
        cmocka_unit_test(timeout_ends_a_run_and_counts),
        cmocka_unit_test(drain_finishes_what_runs_and_returns_the_rest),
        cmocka_unit_test(drain_forgets_what_waits),
        cmocka_unit_test(drain_at_any_moment_loses_nothing),
        cmocka_unit_test(abandon_stops_what_runs),
        cmocka_unit_test(abandon_forgets_what_is_being_published),
        cmocka_unit_test(free_takes_what_has_just_arrived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
