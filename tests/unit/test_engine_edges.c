/* The engine's seldom ways: what events may be like, and what becomes of them. */
#include "engine_fixture.h"

#include "engine/forward.h"
#include "engine/state.h"

static struct script *add(struct world *world, const char *name) {
    return handler_add(world, handler_new(world, name));
}

static struct lvt_header integer(const char *name, int64_t value) {
    return (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = LVT_HEADER_INT64, .value.integer = value};
}

static struct lvt_header text(const char *name, enum lvt_header_kind kind, const char *value) {
    return (struct lvt_header){
        .name = lvt_bytes_of(name), .kind = kind, .value.bytes = lvt_bytes_of(value)};
}

/* ---- what an event asks for itself ---- */

static void publish_with(struct world *world, struct lvt_header header) {
    publish_event(world, "a", "e", (struct lvt_headers){&header, 1});
    advance(world, 100000000);
}

/* The one dead letter says so. */
static void dies_saying(struct lvt_header header, const char *why) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    publish_with(world, header);
    const struct lvt_header *error =
        lvt_headers_find(&first_dead(world)->properties.headers, LVT_HEADER_ERROR);
    char said[LVT_REASON_MAX + 1];
    copy_text(said, sizeof said, error->value.bytes);
    if (!strstr(said, why))
        fail_msg("\"%s\" does not say \"%s\"", said, why);
    assert_int_equal(script->starts, 0);
    assert_settled(world);
    world_free(world);
}

static void wishes_that_cannot_be_read_are_dead_letters(void **state) {
    (void)state;
    dies_saying(text(LVT_HEADER_MAX_ATTEMPTS, LVT_HEADER_STRING, "many"), "a whole number from 1");
    dies_saying(integer(LVT_HEADER_MAX_ATTEMPTS, 0), "a whole number from 1");
    dies_saying(integer(LVT_HEADER_DELAY, -1), "a whole number from 0");
    dies_saying(integer(LVT_HEADER_DELAY, 86400001), "limits.max_delay is 86400000 ms");
}

static void wishes_are_cut_to_the_limits(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    script->handler->options.retry.base_ms = 0;
    add_verdict(script, RETRY("no"));
    publish_with(world, integer(LVT_HEADER_MAX_ATTEMPTS, 1000));
    assert_int_equal(script->starts, 100); /* limits.max_attempts */
    world_free(world);
}

static void attempts_that_nobody_makes_are_cut(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    (void)state;
    publish_with(world, integer(LVT_HEADER_ATTEMPT, INT64_MAX));
    assert_int_equal(script->attempt, 1000001);
    world_free(world);
}

static void the_envelope_asks_for_a_delay(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    const struct lvt_properties properties = {.present = LVT_HAS_PRIORITY, .priority = 7};
    (void)state;
    assert_int_equal(
        publish_message(world, "a", &properties,
                        "{\"id\":\"1\",\"type\":\"a\",\"payload\":{},\"max_attempts\":3,"
                        "\"delay\":5,\"priority\":1,\"created_at\":\"2026-01-01T00:00:00Z\"}"),
        1);
    advance(world, 4000);
    assert_int_equal(script->starts, 0);
    advance(world, 4000);
    assert_int_equal(script->starts, 1);
    assert_string_equal(world->last_log, "processed");
    assert_settled(world);
    world_free(world);
}

/* ---- its origin ---- */

static void an_origin_of_another_kind_is_none(void **state) {
    const struct lvt_header headers[] = {
        integer(LVT_HEADER_ORIGIN_QUEUE, 1), text(LVT_HEADER_ORIGIN_QUEUE, LVT_HEADER_BYTES, "b"),
        text(LVT_HEADER_ORIGIN_QUEUE, LVT_HEADER_BYTES, "a.queue")};
    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct world *world = world_new();
        struct script *script = world_one(world, "a");
        publish_with(world, headers[i]);
        assert_string_equal(script->exchange, EXCHANGE);
        assert_string_equal(script->routing_key, "a");
        world_free(world);
    }
}

/* ---- its id ---- */

static void id_of(const char *option, struct lvt_bytes message_id, const char *body,
                  const char *expected) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    const struct lvt_properties properties = {.present = message_id.data ? LVT_HAS_MESSAGE_ID : 0,
                                              .message_id = message_id};
    script->handler->options.id = option ? strdup(option) : NULL;
    handler_add(world, script);
    world_open(world);
    world->engine->broker = world->broker_port; /* unwatched: its records are of another id */
    assert_int_equal(publish_message(world, "a", &properties, body), 1);
    go(world);
    if (expected) {
        assert_int_equal(script->starts, 1);
        assert_string_equal(script->id, expected);
    } else {
        assert_int_equal(script->starts, 0);
        assert_int_equal(lvt_memory_broker_dead_count(world->broker), 1);
    }
    world_free(world);
}

static void ids_come_from_where_the_handler_says(void **state) {
    static const char body[] = "{\"event\":\"a\",\"payload\":{\"n\":\"x1\",\"e\":\"\"}}";
    static const char bare[] = "{\"event\":\"a\",\"payload\":{}}";
    const struct lvt_bytes none = {NULL, 0};
    static char longest[16400];
    (void)state;
    id_of("payload.n", LVT_LITERAL("m"), body, "x1");
    id_of("payload.e", LVT_LITERAL("m"), body, "m");
    id_of("payload.none", LVT_LITERAL("m"), body, "m");
    id_of("payload.none", none, body, "");
    id_of(NULL, lvt_bytes("", 0), bare, "");
    id_of(NULL, lvt_bytes("a\0b", 3), bare, NULL);
    id_of(NULL, lvt_bytes("a\xff", 2), bare, NULL);
    memset(longest, 'x', sizeof longest);
    id_of(NULL, lvt_bytes(longest, sizeof longest), bare, NULL);
    id_of("hash", LVT_LITERAL("m"), bare, "m");
}

static void a_body_over_the_limit_is_a_dead_letter(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    static char body[(1 << 20) + 2];
    (void)state;
    memset(body, ' ', sizeof body - 1);
    const struct lvt_properties properties = {0};
    assert_int_equal(publish_message(world, "a", &properties, body), 1);
    go(world);
    assert_int_equal(script->starts, 0);
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 1);
    world_free(world);
}

/* ---- its end ---- */

static void a_long_reason_is_cut(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    static char reason[2000];
    (void)state;
    memset(reason, 'r', sizeof reason);
    add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT,
                                             .reason = lvt_bytes(reason, sizeof reason)});
    publish(world, "a", "e");
    go(world);
    const struct lvt_header *error =
        lvt_headers_find(&first_dead(world)->properties.headers, LVT_HEADER_ERROR);
    assert_int_equal(error->value.bytes.len, LVT_REASON_MAX);
    world_free(world);
}

/* Headers that leave no room in a frame, and some that are bytes. */
static void a_story_beside_large_headers_is_short(void **state) {
    struct world *world = world_new();
    struct script *script = world_one(world, "a");
    static char large[119900], reason[1000];
    (void)state;
    memset(large, 'l', sizeof large);
    memset(reason, 'r', sizeof reason);
    struct lvt_header header = {.name = LVT_LITERAL("large"),
                                .kind = LVT_HEADER_BYTES,
                                .value.bytes = lvt_bytes(large, sizeof large)};
    add_verdict(script, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT,
                                             .reason = lvt_bytes(reason, sizeof reason)});
    publish_event(world, "a", "e", (struct lvt_headers){&header, 1});
    go(world);
    const struct lvt_header *error =
        lvt_headers_find(&first_dead(world)->properties.headers, LVT_HEADER_ERROR);
    assert_int_equal(error->value.bytes.len, 200);
    world_free(world);
}

static void end_twice(struct script *script, struct lvt_run *run) {
    const struct lvt_verdict second = {.kind = LVT_VERDICT_REJECT};
    finish(run, LVT_VERDICT_DONE, NULL);
    lvt_run_finish(run, &second);
    (void)script;
}

static void the_first_end_of_a_run_stands(void **state) {
    struct world *world = world_new();
    world_one(world, "a")->body = end_twice;
    (void)state;
    publish(world, "a", "e");
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_int_equal(counted(world, LVT_OUTCOME_FAILED), 0);
    assert_settled(world);
    world_free(world);
}

static void a_commit_may_find_the_record_there(void **state) {
    struct world *world = world_new();
    world_one(world, "a")->body = query_once;
    unsigned char key[LVT_KEY_BYTES];
    (void)state;
    publish(world, "a", "e");
    world->hold_queries = true;
    go(world);
    key_of("a.queue", "a", "e", key);
    lvt_memory_ledger_other_ends(world->ledger, key, true);
    world->hold_queries = false;
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

/* ---- many ---- */

static void more_in_hand_than_the_map_was_made_for(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    char id[16];
    (void)state;
    script->handler->options.prefetch = 3000;
    script->handler->options.concurrency = 10;
    script->body = hold;
    handler_add(world, script);
    world_open(world);
    for (int i = 0; i < 2000; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
    }
    go(world);
    script->body = NULL;
    publish(world, "a", "e1999"); /* is still found */
    while (script->held_count > 0)
        finish(script->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    assert_int_equal(script->starts, 2000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 2000);
    assert_int_equal(counted(world, LVT_OUTCOME_DUPLICATE), 1);
    assert_settled(world);
    world_free(world);
}

static void a_high_rate_has_a_burst(void **state) {
    struct world *world = world_new();
    struct script *script = handler_new(world, "a");
    char id[16];
    (void)state;
    script->handler->options.rate = 500;
    handler_add(world, script);
    world_open(world);
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
    }
    go(world);
    assert_int_equal(script->starts, 10); /* what it gives in 20 ms */
    advance(world, 30);
    assert_int_equal(script->starts, 20);
    world_free(world);
}

/* ---- age ---- */

static void a_time_to_come_is_no_age(void **state) {
    struct world *world = world_new();
    struct lvt_properties properties = {.present = LVT_HAS_TIMESTAMP};
    static const char body[] = "{\"event\":\"a\",\"payload\":{}}";
    (void)state;
    world_one(world, "a");
    properties.timestamp = (uint64_t)WALL_MS / 1000 + 3600;
    assert_int_equal(publish_message(world, "a", &properties, body), 1);
    go(world);
    assert_int_equal(lvt_stats_event(world->stats, LVT_LITERAL("a"))->age.count, 0);
    properties.timestamp = (uint64_t)WALL_MS / 1000 - 2;
    assert_int_equal(publish_message(world, "a", &properties, body), 1);
    go(world);
    assert_int_equal(lvt_stats_event(world->stats, LVT_LITERAL("a"))->age.count, 1);
    world_free(world);
}

/* ---- small things ---- */

static void nothing_is_fine(void **state) {
    struct world *world = world_new();
    (void)state;
    world_one(world, "a");
    world->engine_sink.delivered(world->engine_sink.ctx, NULL);
    struct lvt_ledger_sink sink = lvt_engine_ledger_sink(world->engine);
    sink.claimed(sink.ctx, NULL);
    sink.recorded(sink.ctx, NULL);
    lvt_engine_free(NULL);
    assert_null(lvt_engine_blackbox(world->engine));
    assert_int_equal(lvt_routes_given(&world->routes), 1);
    world_free(world);
}

static size_t logged_fields;

static void count_fields(void *ctx, enum lvt_level level, const char *line,
                         const struct lvt_field *fields, size_t count) {
    (void)ctx;
    (void)level;
    (void)line;
    (void)fields;
    logged_fields = count;
}

static void log_and_end(struct script *script, struct lvt_run *run) {
    struct lvt_field fields[40];
    struct lvt_log *log = &script->world->log;
    struct lvt_subject subject;
    for (int i = 0; i < 40; i++)
        fields[i] = LVT_INTEGER("n", i);
    *log = (struct lvt_log){.sink = count_fields, .level = LVT_INFO};
    logged_fields = 0;
    lvt_run_log(run, LVT_DEBUG, "not said", fields, 1);
    assert_int_equal(logged_fields, 0);
    lvt_run_log(run, LVT_INFO, "said", fields, 2);
    assert_int_equal(logged_fields, run->event->id.len > 0 ? 6 : 5);
    lvt_run_log(run, LVT_INFO, "cut", fields, 40);
    assert_int_equal(logged_fields, run->event->id.len > 0 ? 36 : 35);
    lvt_run_subject(run, &subject);
    assert_int_equal(subject.attempt, 1);
    finish(run, LVT_VERDICT_DONE, NULL);
}

static void a_handlers_line_has_its_events_fields(void **state) {
    struct world *world = world_new();
    world_one(world, "a")->body = log_and_end;
    (void)state;
    publish(world, "a", "e");
    publish(world, "a", NULL);
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 2);
    world_free(world);
}

/* ---- what waits in leveret.outgoing ---- */

static struct world *forwarding(struct script **ret_to) {
    struct world *world = world_new();
    struct leveret_error err;
    struct lvt_config config;
    *ret_to = add(world, "to");
    assert_int_equal(lvt_config_init(&config, &err), LEVERET_OK);
    assert_int_equal(lvt_forward_add(&config, &world->routes, &err), LEVERET_OK);
    lvt_config_free(&config);
    world_open(world);
    return world;
}

static void put_outgoing(struct world *world, struct lvt_header *headers, size_t count) {
    size_t queues = 0;
    const struct lvt_properties properties = {.present = LVT_HAS_MESSAGE_ID | LVT_HAS_HEADERS,
                                              .message_id = LVT_LITERAL("e"),
                                              .headers = {headers, count}};
    assert_int_equal(lvt_memory_broker_publish(
                         world->broker, LVT_LITERAL(""), LVT_LITERAL(LVT_OUTGOING_QUEUE),
                         &properties, LVT_LITERAL("{\"event\":\"to\",\"payload\":{}}"), &queues),
                     LEVERET_OK);
    assert_int_equal(queues, 1);
}

#define TO_EXCHANGE text(LVT_HEADER_TO_EXCHANGE, LVT_HEADER_STRING, EXCHANGE)
#define TO_KEY text(LVT_HEADER_TO_ROUTING_KEY, LVT_HEADER_STRING, "to")

static void headers_of_others_go_along(void **state) {
    struct script *to;
    struct world *world = forwarding(&to);
    struct lvt_header headers[] = {TO_EXCHANGE, TO_KEY, integer("a-name-that-is-longer", 1),
                                   integer("leveret-of-ours", 1), integer(LVT_HEADER_TTL, 9000)};
    (void)state;
    add_verdict(to, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT});
    put_outgoing(world, headers, 5);
    go(world);
    const struct lvt_headers *arrived = &first_dead(world)->properties.headers;
    assert_non_null(lvt_headers_find(arrived, "a-name-that-is-longer"));
    assert_null(lvt_headers_find(arrived, "leveret-of-ours"));
    assert_settled(world);
    world_free(world);
}

static void what_does_not_say_where_to_is_a_dead_letter(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct script *to;
        struct world *world = forwarding(&to);
        struct lvt_header headers[] = {i == 0 ? integer(LVT_HEADER_TO_EXCHANGE, 1) : TO_EXCHANGE};
        put_outgoing(world, headers, 1);
        go(world);
        assert_int_equal(lvt_memory_broker_dead_count(world->broker), 1);
        assert_int_equal(to->starts, 0);
        assert_settled(world);
        world_free(world);
    }
}

static void a_forward_waits_for_the_broker(void **state) {
    struct script *to;
    struct world *world = forwarding(&to);
    struct lvt_header headers[] = {TO_EXCHANGE, TO_KEY};
    (void)state;
    put_outgoing(world, headers, 2);
    lvt_memory_broker_poll(world->broker);
    lvt_engine_pump(world->engine);
    lvt_memory_broker_disconnect(world->broker);
    advance(world, 10 * 30000); /* its timeout comes and goes */
    lvt_memory_broker_reconnect(world->broker);
    advance(world, 1000);
    assert_int_equal(to->starts, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    assert_settled(world);
    world_free(world);
}

static void a_forward_that_is_dropped_comes_again(void **state) {
    struct script *to;
    struct world *world = forwarding(&to);
    struct lvt_header headers[] = {TO_EXCHANGE, TO_KEY};
    (void)state;
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_DROPPED, 1);
    put_outgoing(world, headers, 2);
    advance(world, 60000);
    assert_int_equal(to->starts, 1);
    assert_settled(world);
    world_free(world);
}

static void a_forward_is_forgotten_at_the_end(void **state) {
    struct script *to;
    struct world *world = forwarding(&to);
    struct lvt_header headers[] = {TO_EXCHANGE, TO_KEY};
    (void)state;
    put_outgoing(world, headers, 2);
    lvt_memory_broker_poll(world->broker);
    lvt_engine_pump(world->engine);
    lvt_memory_broker_disconnect(world->broker);
    go(world);
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    world->ended = true;
    lvt_memory_broker_reconnect(world->broker);
    lvt_memory_broker_poll(world->broker);
    assert_int_equal(lvt_engine_in_flight(world->engine), 0);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wishes_that_cannot_be_read_are_dead_letters),
        cmocka_unit_test(wishes_are_cut_to_the_limits),
        cmocka_unit_test(attempts_that_nobody_makes_are_cut),
        cmocka_unit_test(the_envelope_asks_for_a_delay),
        cmocka_unit_test(an_origin_of_another_kind_is_none),
        cmocka_unit_test(ids_come_from_where_the_handler_says),
        cmocka_unit_test(a_body_over_the_limit_is_a_dead_letter),
        cmocka_unit_test(a_long_reason_is_cut),
        cmocka_unit_test(a_story_beside_large_headers_is_short),
        cmocka_unit_test(the_first_end_of_a_run_stands),
        cmocka_unit_test(a_commit_may_find_the_record_there),
        cmocka_unit_test(more_in_hand_than_the_map_was_made_for),
        cmocka_unit_test(a_high_rate_has_a_burst),
        cmocka_unit_test(a_time_to_come_is_no_age),
        cmocka_unit_test(nothing_is_fine),
        cmocka_unit_test(a_handlers_line_has_its_events_fields),
        cmocka_unit_test(headers_of_others_go_along),
        cmocka_unit_test(what_does_not_say_where_to_is_a_dead_letter),
        cmocka_unit_test(a_forward_waits_for_the_broker),
        cmocka_unit_test(a_forward_that_is_dropped_comes_again),
        cmocka_unit_test(a_forward_is_forgotten_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
