/* The outbox against a real PostgreSQL: what is written, read, and marked. */
#include "ledger_fixture.h"

/* ---- the test as the engine ---- */

static void give_back(struct world *world, enum lvt_outbox_result result, const char *reason) {
    struct lvt_outbox_row *row = world->rows;
    world->rows = NULL;
    while (row) {
        struct lvt_outbox_row *next = row->next;
        row->result = result;
        snprintf(row->reason, sizeof row->reason, "%s", reason);
        world->port.outbox_done(world->port.self, row);
        row = next;
    }
}

static size_t row_count(const struct world *world) {
    size_t count = 0;
    for (const struct lvt_outbox_row *row = world->rows; row; row = row->next)
        count++;
    return count;
}

static void is_text(struct lvt_bytes text, const char *expected) {
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.data, expected, text.len);
}

static bool is_relaying(const struct world *world) {
    struct lvt_ledger_status status;
    lvt_ledger_status(world->ledger, &status);
    return status.outbox.relaying;
}

static void end_world(struct world *world, uv_loop_t *loop) {
    give_back(world, LVT_OUTBOX_SKIPPED, "");
    close_world(world);
    assert_int_equal(uv_loop_close(loop), 0);
}

/* ---- the function ---- */

static void refused(const char *arguments, const char *why) {
    char sql[400];
    snprintf(sql, sizeof sql, "SELECT leveret_publish(%s)", arguments);
    PGresult *result = PQexec(admin, sql);
    assert_int_equal(PQresultStatus(result), PGRES_FATAL_ERROR);
    assert_string_equal(PQresultErrorField(result, PG_DIAG_SQLSTATE), "22023");
    if (!strstr(PQresultErrorMessage(result), why))
        fail_msg("%s: %s", arguments, PQresultErrorMessage(result));
    PQclear(result);
}

static void function_refuses_what_makes_no_sense(void **state) {
    (void)state;
    refused("'', '{}'", "event must not be empty");
    refused("'e', '[1]'", "must be a JSON object, not of type array");
    refused("'e', '\"text\"'", "not of type string");
    refused("'e', NULL", "not NULL");
    refused("'e', '{}', priority => -1", "priority");
    refused("'e', '{}', priority => 256", "priority");
    refused("'e', '{}', max_attempts => 0", "max_attempts");
    refused("'e', '{}', max_attempts => -1", "max_attempts");
    refused("'e', '{}', delay => '-1 s'", "delay");
    refused("'e', '{}', delay => '49 days'", "delay");
    refused("'e', '{}', exchange => 'x', queue => 'q'", "not both");
    refused("'e', '{}', id => ''", "id");
    refused("'e', '{}', headers => '[]'", "headers");
    assert_int_equal(ask("SELECT count(*) FROM outbox"), 0);
}

/* An index of the table takes no longer one: the relay could mark nothing any more. */
static void key_is_short(void **state) {
    (void)state;
    for (int over = 0; over < 2; over++) {
        char sql[200];
        snprintf(sql, sizeof sql, "SELECT leveret_publish('e', '{}', key => repeat('k', %d))",
                 255 + over);
        PGresult *result = PQexec(admin, sql);
        assert_int_equal(PQresultStatus(result) == PGRES_TUPLES_OK, !over);
        assert_true(!over || strstr(PQresultErrorMessage(result), "outbox_key_is_short"));
        PQclear(result);
    }
}

static void function_writes_all_of_it(void **state) {
    uv_loop_t loop;
    struct world world;
    int64_t integer = 0;
    (void)state;
    ask("SELECT leveret_publish('first', '{\"n\": 1.0}')");
    ask("SELECT leveret_publish('second', '{}', id => 'own', key => 'k', delay => '1 hour',"
        " ttl => '1 min', priority => 3, max_attempts => 5, queue => 'q', whole => true,"
        " headers => '{\"t\": \"a\\\"b\", \"i\": 7, \"d\": 1.5, \"b\": true}')");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, world.rows);
    assert_int_equal(row_count(&world), 2);
    const struct lvt_outgoing *first = &world.rows->outgoing, *second = &world.rows->next->outgoing;
    is_text(first->event, "first");
    is_text(first->payload, "{\"n\": 1.0}");
    assert_int_equal(first->id.len, 36);
    assert_int_equal(first->id.data[14], '7');
    assert_null(first->exchange.data);
    assert_false(first->whole);
    assert_int_equal(first->priority, LVT_NO_PRIORITY);
    assert_int_equal(first->delay_ms + first->ttl_ms + first->max_attempts, 0);
    is_text(world.rows->next->key, "k");
    is_text(second->id, "own");
    is_text(second->queue, "q");
    assert_true(second->whole);
    assert_true(second->delay_ms > 3590000 && second->delay_ms <= 3600000);
    assert_int_equal(second->ttl_ms, 60000);
    assert_int_equal(second->priority, 3);
    assert_int_equal(second->max_attempts, 5);
    assert_int_equal(second->header_count, 4);
    const struct lvt_headers headers = {(struct lvt_header *)second->headers, 4};
    is_text(lvt_headers_find(&headers, "t")->value.bytes, "a\"b");
    assert_true(lvt_header_integer(lvt_headers_find(&headers, "i"), &integer) && integer == 7);
    assert_true(lvt_headers_find(&headers, "d")->value.number == 1.5);
    assert_true(lvt_headers_find(&headers, "b")->value.boolean);
    give_back(&world, LVT_OUTBOX_SENT, "");
    WAIT(&world, ask("SELECT count(*) FROM outbox WHERE sent_at IS NULL") == 0);
    end_world(&world, &loop);
}

/* ---- the relay ---- */

static void row_that_commits_late_is_not_skipped(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    PGconn *late = PQconnectdb(url);
    PQclear(PQexec(late, "BEGIN"));
    PQclear(PQexec(late, "SELECT leveret_publish('late', '{}')"));
    ask("SELECT leveret_publish('early', '{}')");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, world.rows);
    assert_int_equal(row_count(&world), 1);
    is_text(world.rows->outgoing.event, "early");
    give_back(&world, LVT_OUTBOX_SENT, "");
    WAIT(&world, ask("SELECT count(*) FROM outbox WHERE sent_at IS NULL") == 0);
    PQclear(PQexec(late, "COMMIT"));
    PQfinish(late);
    WAIT(&world, world.rows);
    is_text(world.rows->outgoing.event, "late");
    end_world(&world, &loop);
}

static void row_that_was_not_taken_holds_up_its_key_only(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    ask("SELECT leveret_publish('e', '{}', key => 'a')");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, world.rows);
    give_back(&world, LVT_OUTBOX_LATER, "nobody took it");
    WAIT(&world, ask("SELECT tries FROM outbox WHERE error = 'nobody took it'") == 1);
    ask("SELECT leveret_publish('e', '{}', key => 'a'), leveret_publish('e', '{}', key => 'b')");
    WAIT(&world, world.rows);
    assert_int_equal(row_count(&world), 1);
    is_text(world.rows->key, "b");
    give_back(&world, LVT_OUTBOX_SENT, "");
    /* and after its pause, before the one behind it */
    WAIT(&world, world.rows);
    is_text(world.rows->key, "a");
    give_back(&world, LVT_OUTBOX_SENT, "");
    WAIT(&world, world.rows);
    is_text(world.rows->key, "a");
    give_back(&world, LVT_OUTBOX_SENT, "");
    WAIT(&world, ask("SELECT count(*) FROM outbox WHERE sent_at IS NULL") == 0);
    end_world(&world, &loop);
}

static void wrong_rows_are_marked_and_hold_up_nothing(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    ask("INSERT INTO outbox (event, payload, priority) VALUES ('e', '{}', -5);"
        " INSERT INTO outbox (event, payload, max_attempts) VALUES ('e', '{}', -1);"
        " INSERT INTO outbox (event, payload, delay_ms) VALUES ('e', '{}', -1);"
        " INSERT INTO outbox (event, payload, headers) VALUES ('e', '{}', '[]');"
        " INSERT INTO outbox (event, payload) VALUES ('e', '[]')");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, world.rows);
    /* that a payload is an object is the engine's to see */
    assert_int_equal(row_count(&world), 1);
    give_back(&world, LVT_OUTBOX_WRONG, "the payload is not a JSON object");
    WAIT(&world, ask("SELECT count(*) FROM outbox WHERE failed_at IS NOT NULL") == 5);
    assert_int_equal(ask("SELECT count(*) FROM outbox WHERE error = 'priority is negative'"), 1);
    assert_int_equal(ask("SELECT count(*) FROM outbox WHERE error LIKE '%not a JSON object'"), 2);
    assert_non_null(strstr(world.log, "cannot be published"));
    end_world(&world, &loop);
}

/* A program may have written anything that the columns take. */
static void rows_beyond_all_limits_hold_up_nothing(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    ask("INSERT INTO outbox (event, payload) VALUES"
        "  ('e', format('{\"n\": \"%s\"}', repeat('x', 1048576))::json);"
        " INSERT INTO outbox (event, payload, headers) VALUES"
        "  ('e', '{}', format('{\"n\": \"%s\"}', repeat('x', 1048576))::json);"
        " INSERT INTO outbox (event, payload, delay_ms) VALUES"
        "  ('e', '{}', -9223372036854775808);"
        " INSERT INTO outbox (event, payload, created_at, delay_ms) VALUES"
        "  ('created never', '{}', '-infinity', 5000),"
        "  ('created later', '{}', '294276-01-01', 9223372036854775807);"
        " INSERT INTO outbox (event, payload, event_id) VALUES"
        "  (repeat('e', 1000000), '{}', repeat('i', 1000000))");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, world.rows);
    assert_int_equal(row_count(&world), 3);
    is_text(world.rows->outgoing.event, "created never");
    assert_int_equal(world.rows->outgoing.delay_ms, 5000);
    assert_true(world.rows->next->outgoing.delay_ms == INT64_MAX); /* the engine refuses it */
    assert_int_equal(world.rows->next->next->outgoing.event.len, 256);
    assert_int_equal(world.rows->next->next->outgoing.id.len, 256);
    give_back(&world, LVT_OUTBOX_LATER, "nobody took it");
    WAIT(&world, ask("SELECT count(*) FROM outbox WHERE tries = 1") == 3);
    assert_int_equal(ask("SELECT count(*) FROM outbox WHERE error LIKE '%max_body_bytes'"), 1);
    assert_int_equal(ask("SELECT count(*) FROM outbox WHERE error LIKE 'headers are longer%'"), 1);
    assert_int_equal(ask("SELECT count(*) FROM outbox WHERE error = 'delay_ms is negative'"), 1);
    assert_null(strstr(world.log, "failed: "));
    end_world(&world, &loop);
}

static void what_was_sent_is_marked_before_the_end(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    ask("SELECT leveret_publish('e', '{}') FROM generate_series(1, 300)");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, world.rows);
    give_back(&world, LVT_OUTBOX_SENT, "");
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(ask("SELECT count(*) FROM outbox WHERE sent_at IS NULL"), 0);
}

static void another_worker_takes_over(void **state) {
    uv_loop_t loop;
    struct world first, second;
    (void)state;
    uv_loop_init(&loop);
    open_world(&first, &loop, url, 2000, 0);
    WAIT(&first, is_relaying(&first));
    open_world(&second, &loop, url, 2000, 0);
    WAIT(&second, is_ready(&second));
    ask("SELECT leveret_publish('e', '{}')");
    WAIT(&first, first.rows);
    assert_false(is_relaying(&second));
    give_back(&first, LVT_OUTBOX_SKIPPED, "");
    close_world(&first);
    WAIT(&second, second.rows);
    assert_true(is_relaying(&second));
    end_world(&second, &loop);
}

static void sent_rows_end_with_the_retention(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    outbox_retention_ms = 3600000;
    ask("INSERT INTO outbox (event, payload, sent_at) VALUES ('old', '{}', now() - interval '2 h'),"
        " ('young', '{}', now())");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, ask("SELECT count(*) FROM outbox") == 1);
    assert_int_equal(ask("SELECT count(*) FROM outbox WHERE event = 'young'"), 1);
    outbox_retention_ms = 0;
    struct world strict;
    close_world(&world);
    open_world(&strict, &loop, url, 2000, 0);
    ask("SELECT leveret_publish('e', '{}')");
    WAIT(&strict, strict.rows);
    give_back(&strict, LVT_OUTBOX_SENT, "");
    WAIT(&strict, ask("SELECT count(*) FROM outbox") == 0);
    outbox_retention_ms = 86400000;
    end_world(&strict, &loop);
}

static void gauges_tell_the_lag(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_ledger_status status;
    (void)state;
    ask("INSERT INTO outbox (event, payload, created_at) VALUES"
        " ('e', '{}', now() - interval '1 h'), ('e', '{}', now())");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, (lvt_ledger_status(world.ledger, &status), status.outbox.pending == 2));
    assert_true(status.outbox.lag_ms >= 3600000 && status.outbox.lag_ms < 3700000);
    assert_int_equal(status.outbox.failed, 0);
    end_world(&world, &loop);
}

int main(void) {
    int code;
    if (!find_server(&code))
        return code;
    const struct CMUnitTest tests[] = {
        LIVE(function_refuses_what_makes_no_sense),
        LIVE(key_is_short),
        LIVE(function_writes_all_of_it),
        LIVE(row_that_commits_late_is_not_skipped),
        LIVE(row_that_was_not_taken_holds_up_its_key_only),
        LIVE(wrong_rows_are_marked_and_hold_up_nothing),
        LIVE(rows_beyond_all_limits_hold_up_nothing),
        LIVE(what_was_sent_is_marked_before_the_end),
        LIVE(another_worker_takes_over),
        LIVE(sent_rows_end_with_the_retention),
        LIVE(gauges_tell_the_lag),
    };
    code = cmocka_run_group_tests(tests, NULL, NULL);
    PQfinish(admin);
    return code;
}
