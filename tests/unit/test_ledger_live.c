/* The ledger against a real PostgreSQL: claims, records, sessions, the schema and retention. */
#include "ledger_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* ---- claims, records, sessions ---- */

static void test_half_is_recorded(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_claim *claims = make_claims(500, 0), *again = make_claims(500, 0);
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    claim_all(&world, claims, 500); /* before there is a connection: it waits */
    WAIT(&world, world.got == 500);
    link_claims(claims, 500, 2);
    world.port.record(world.port.self, claims);
    WAIT(&world, world.recorded == 250);
    for (size_t i = 1; i < 500; i += 2)
        world.port.release(world.port.self, &claims[i]);
    claim_all(&world, again, 500);
    WAIT(&world, world.got + world.duplicate == 1000);
    assert_int_equal(world.duplicate, 250);
    for (size_t i = 0; i < 500; i++)
        assert_int_equal(again[i].result, i % 2 ? LVT_CLAIM_GOT : LVT_CLAIM_DUPLICATE);
    assert_int_equal(ask("SELECT count(*) FROM processed_events WHERE queue = 'q' AND event_type ="
                         " 't' AND 'leveret ' || processor_name = ours() AND event_id LIKE"
                         " 'event-%'"),
                     250);
    assert_true(ask("SELECT count(*) FROM processed_events WHERE abs(extract(epoch FROM"
                    " timezone('utc', now()) - processed_at)) < 60") == 250);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
    free(again);
}

static void test_one_of_two_gets_it(void **state) {
    uv_loop_t loop;
    struct world a, b;
    struct lvt_claim *claims_a = make_claims(500, 0), *claims_b = make_claims(500, 0);
    (void)state;
    uv_loop_init(&loop);
    open_world(&a, &loop, url, 2000, 0);
    open_world(&b, &loop, url, 2000, 0);
    WAIT(&a, is_ready(&a) && is_ready(&b));
    claim_all(&a, claims_a, 500);
    claim_all(&b, claims_b, 500);
    WAIT(&a, a.got + a.busy == 500 && b.got + b.busy == 500);
    for (size_t i = 0; i < 500; i++) /* perhaps neither, when they met */
        assert_false(claims_a[i].result == LVT_CLAIM_GOT && claims_b[i].result == LVT_CLAIM_GOT);
    assert_int_equal(a.got + b.got, 500);
    close_world(&a);
    close_world(&b);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims_a);
    free(claims_b);
}

static void test_claims_are_bounded(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_ledger_status status;
    struct lvt_claim *claims = make_claims(300, 0);
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 100, 0);
    claim_all(&world, claims, 300);
    WAIT(&world, world.got == 100);
    lvt_ledger_status(world.ledger, &status);
    assert_int_equal(status.claims_held, 100);
    assert_int_equal(status.claims_waiting, 200);
    for (size_t i = 0; i < 300 && world.got < 300; i++) {
        if (claims[i].held)
            world.port.release(world.port.self, &claims[i]);
        if (i % 50 == 49)
            WAIT(&world, world.got > 100 + i / 50 * 50 - 49 || world.got == 300);
    }
    WAIT(&world, world.got == 300);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void test_release_at_any_time(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_claim *claims = make_claims(100, 0);
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    claim_all(&world, claims, 40);
    for (size_t i = 0; i < 10; i++) /* waiting for the connection */
        world.port.release(world.port.self, &claims[i]);
    WAIT(&world, world.got == 30);
    claim_all(&world, claims + 40, 60);
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_run(&loop, UV_RUN_NOWAIT); /* in the round under way */
    for (size_t i = 40; i < 60; i++) {
        world.port.release(world.port.self, &claims[i]);
        memset(&claims[i], 0xee, sizeof claims[i]);
    }
    WAIT(&world, world.got >= 70);
    link_claims(claims + 10, 30, 1);
    world.port.record(world.port.self, claims + 10);
    for (size_t i = 10; i < 20; i++) {
        world.port.release(world.port.self, &claims[i]); /* not sent */
        memset(&claims[i], 0xee, sizeof claims[i]);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_run(&loop, UV_RUN_NOWAIT);
    for (size_t i = 20; i < 30; i++) {
        world.port.release(world.port.self, &claims[i]); /* on its way */
        memset(&claims[i], 0xee, sizeof claims[i]);
    }
    WAIT(&world, world.recorded >= 10);
    for (size_t i = 60; i < 100; i++)
        world.port.release(world.port.self, &claims[i]);
    WAIT(&world, locks() == 0);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void test_what_is_in_hand_survives_a_loss(void **state) {
    uv_loop_t loop;
    struct world a, b;
    struct lvt_claim *claims = make_claims(200, 0), *others = make_claims(200, 0);
    (void)state;
    uv_loop_init(&loop);
    open_world(&a, &loop, url, 2000, 0);
    claim_all(&a, claims, 200);
    WAIT(&a, a.got == 200);
    for (int i = 0; i < 3; i++) {
        end_sessions();
        WAIT(&a, !is_ready(&a));
        WAIT(&a, is_ready(&a));
    }
    assert_int_equal(locks(), 200);
    open_world(&b, &loop, url, 2000, 0);
    claim_all(&b, others, 200);
    WAIT(&b, b.busy == 200);
    assert_int_equal(b.got, 0);
    link_claims(claims, 200, 1);
    a.port.record(a.port.self, claims);
    end_sessions(); /* with the records on their way, or not sent yet */
    WAIT(&a, a.recorded == 200);
    assert_int_equal(ask("SELECT count(*) FROM processed_events"), 200);
    claim_all(&b, others, 200);
    WAIT(&b, b.duplicate == 200);
    close_world(&a);
    close_world(&b);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
    free(others);
}

/* Losses at any moment of a load: every event is recorded, each claim answered once. */
static void test_losses_under_load(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_claim *claims = make_claims(4000, 0);
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    world.record_at_once = true;
    WAIT(&world, is_ready(&world));
    for (uint32_t i = 0; i < 40; i++) {
        claim_all(&world, claims + i * 100, 100);
        uv_run(&loop, UV_RUN_NOWAIT);
        if (i % 4 == 3)
            end_sessions();
    }
    WAIT(&world, world.recorded + world.duplicate == 4000);
    assert_int_equal(ask("SELECT count(*) FROM processed_events"), 4000);
    assert_int_equal(world.busy, 0);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void test_a_record_that_is_there_already(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_claim *claims = make_claims(20, 0);
    char sql[256], hex[2 * LVT_KEY_BYTES + 1];
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    claim_all(&world, claims, 20);
    WAIT(&world, world.got == 20);
    for (size_t i = 0; i < LVT_KEY_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", claims[7].key[i]);
    snprintf(sql, sizeof sql,
             "INSERT INTO processed_events (id, event_id, event_type, processor_name)"
             " VALUES ('%s', 'another', 't', 'w')",
             hex);
    ask(sql);
    link_claims(claims, 20, 1);
    world.port.record(world.port.self, claims);
    WAIT(&world, world.recorded == 20);
    assert_int_equal(ask("SELECT count(*) FROM processed_events"), 20);
    assert_int_equal(ask("SELECT count(*) FROM processed_events WHERE event_id = 'another'"), 1);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

/* ---- retention ---- */

static void test_retention(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    ask("INSERT INTO processed_events (id, event_id, event_type, processor_name, processed_at)"
        " SELECT gen_random_uuid(), n, 't', 'worker', timezone('utc', now()) - n * interval '1 s'"
        " FROM generate_series(1, 25000) n");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 1000 * 1000);
    WAIT(&world, ask("SELECT count(*) FROM processed_events") < 1001);
    assert_true(ask("SELECT count(*) FROM processed_events") > 900);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- schema ---- */

static void test_a_seed_table_keeps_its_rows(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_claim *claims = make_claims(20, 0);
    char lines[1024];
    (void)state;
    ask("DROP TABLE processed_events, pending_invalidations, leveret_schema, outbox;"
        " DROP FUNCTION leveret_publish, leveret_uuid7;"
        " CREATE TABLE processed_events (id uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,"
        " event_id text NOT NULL, event_type text NOT NULL, processed_at timestamp DEFAULT now()"
        " NOT NULL, processor_name text NOT NULL, CONSTRAINT processed_events_event_id_unique"
        " UNIQUE (event_id))");
    ask("INSERT INTO processed_events (event_id, event_type, processor_name)"
        " SELECT 'event-' || n, 't', substr(ours(), 9) FROM generate_series(0, 9) n");
    migrate(lines);
    assert_non_null(strstr(lines, "stop the worker"));
    assert_non_null(strstr(lines, "kept 10 rows"));
    migrate(lines);
    assert_null(strstr(lines, "applying"));
    assert_non_null(strstr(lines, "up to date"));
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 7 * 86400000ull);
    claim_all(&world, claims, 20);
    WAIT(&world, world.got + world.duplicate == 20);
    assert_int_equal(world.duplicate, 10);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(claims[i].result, LVT_CLAIM_DUPLICATE);
    link_claims(claims + 10, 10, 1);
    world.port.record(world.port.self, claims + 10);
    WAIT(&world, world.recorded == 10);
    assert_int_equal(ask("SELECT count(*) FROM processed_events WHERE queue = ''"), 10);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void test_odd_ids(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_claim *claims = make_claims(4, 0);
    static char big[10240];
    (void)state;
    memset(big, 'x', sizeof big);
    claims[0].id = lvt_bytes(big, sizeof big);
    claims[1].id = LVT_LITERAL("nul\0inside");
    claims[2].id = LVT_LITERAL("\xff\xfe not utf-8");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    world.record_at_once = true;
    claim_all(&world, claims, 4);
    WAIT(&world, world.recorded == 4);
    assert_int_equal(ask("SELECT max(length(event_id)) FROM processed_events"), 10240);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void expect_failure(const char *to, const char *text) {
    uv_loop_t loop;
    struct world world;
    struct lvt_ledger_status status;
    uv_loop_init(&loop);
    open_world(&world, &loop, to, 2000, 0);
    WAIT(&world, (lvt_ledger_status(world.ledger, &status), status.failed));
    assert_int_equal(status.failure.code, LEVERET_CONFIG);
    if (!strstr(status.failure.text, text))
        fail_msg("no \"%s\" in \"%s\"", text, status.failure.text);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_failures_are_named(void **state) {
    char elsewhere[1200];
    struct leveret_error err;
    struct lvt_ledger *ledger = NULL;
    uv_loop_t loop;
    struct world world;
    (void)state;
    snprintf(elsewhere, sizeof elsewhere, "%s&dbname=there_is_no_such_database", url);
    expect_failure(elsewhere, "create the database");
    ask("DROP TABLE processed_events");
    expect_failure(url, "leveret migrate");

    const struct lvt_ledger_options options = {
        .url = "postgresql://u:sec%zzret@h/d", .name = "w", .pool = 1, .max_claims = 1};
    assert_int_equal(lvt_ledger_new(&options, &ledger, &err), LEVERET_CONFIG);
    assert_null(ledger);
    assert_null(strstr(err.text, "sec"));

    uv_loop_init(&loop);
    /* a port that is taken, and nobody listens on */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int taken = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(taken, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(taken, (struct sockaddr *)&address, &len), 0);
    snprintf(elsewhere, sizeof elsewhere, "postgresql://u:p@127.0.0.1:%d/d",
             ntohs(address.sin_port));
    open_world(&world, &loop, elsewhere, 10, 0);
    WAIT(&world, world.log[0]);
    assert_non_null(strstr(world.log, "refused"));
    close_world(&world);
    close(taken);
    open_world(&world, &loop, "postgresql://u:p@no-such-host.invalid/d", 10, 0);
    close_world(&world); /* with the resolution under way */
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* The look-up's plan, on a table that the statistics believe to be empty. */
static void test_look_up_uses_the_index(void **state) {
    (void)state;
    ask("ANALYZE processed_events; SET enable_seqscan TO off; SET plan_cache_mode TO"
        " force_generic_plan; PREPARE l (uuid[]) AS SELECT id FROM processed_events WHERE id ="
        " ANY($1)");
    PGresult *plan = PQexec(admin, "EXPLAIN EXECUTE l ('{}')");
    bool index = false;
    for (int row = 0; row < PQntuples(plan); row++)
        index = index || strstr(PQgetvalue(plan, row, 0), "processed_events_pkey");
    PQclear(plan);
    ask("RESET enable_seqscan; RESET plan_cache_mode; DEALLOCATE l");
    assert_true(index);
}

int main(void) {
    int code;
    if (!find_server(&code))
        return code;
    const struct CMUnitTest tests[] = {
        LIVE(test_half_is_recorded),
        LIVE(test_one_of_two_gets_it),
        LIVE(test_claims_are_bounded),
        LIVE(test_release_at_any_time),
        LIVE(test_what_is_in_hand_survives_a_loss),
        LIVE(test_losses_under_load),
        LIVE(test_a_record_that_is_there_already),
        LIVE(test_retention),
        LIVE(test_a_seed_table_keeps_its_rows),
        LIVE(test_odd_ids),
        LIVE(test_failures_are_named),
        LIVE(test_look_up_uses_the_index),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    PQfinish(admin);
    return failed;
}
