/* The ledger against a real PostgreSQL: DATABASE_URL names it, and without it nothing is tested.
 * Everything happens in a schema of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "event/key.h"
#include "ledger/ledger.h"

#define PATIENCE_MS 20000

static char url[1024], schema[32], name[32]; /* not the worker's: others may use the server */
static PGconn *admin;                        /* looks from outside */

/* ---- a ledger and what it told ---- */

struct world {
    uv_loop_t *loop;
    struct lvt_ledger *ledger;
    struct lvt_ledger_port port;
    uint32_t got, duplicate, busy, recorded, due;
    struct lvt_claim *last_got;
    int64_t due_number;
    char due_pattern[64];
    bool closed;
    bool record_at_once;
    char log[1024];
};

struct tx_answer {
    bool answered;
    enum lvt_tx_result result;
    char sqlstate[6], text[400];
};

struct rows_answer {
    bool answered;
    enum lvt_answer answer;
    size_t rows;
    int64_t affected;
    enum lvt_column_kind kind;
    char cell[64], text[400], sqlstate[6];
};

static void on_claimed(void *ctx, struct lvt_claim *list) {
    struct world *world = ctx;
    struct lvt_claim *got = NULL;
    while (list) {
        struct lvt_claim *next = list->next;
        world->got += list->result == LVT_CLAIM_GOT;
        world->duplicate += list->result == LVT_CLAIM_DUPLICATE;
        world->busy += list->result == LVT_CLAIM_BUSY;
        if (list->result == LVT_CLAIM_GOT) {
            list->next = got;
            got = list;
            world->last_got = list;
        }
        list = next;
    }
    if (got && world->record_at_once)
        world->port.record(world->port.self, got);
}

static void on_recorded(void *ctx, struct lvt_claim *list) {
    struct world *world = ctx;
    for (; list; list = list->next)
        world->recorded++;
}

static void on_ready_changed(void *ctx, bool ready) {
    (void)ctx;
    (void)ready;
}

static void on_invalidation_due(void *ctx, int64_t number, struct lvt_bytes pattern) {
    struct world *world = ctx;
    world->due++;
    world->due_number = number;
    snprintf(world->due_pattern, sizeof world->due_pattern, "%.*s", (int)pattern.len, pattern.data);
}

static void on_log(void *ctx, enum lvt_level level, const char *text,
                   const struct lvt_field *fields, size_t field_count) {
    struct world *world = ctx;
    (void)fields;
    (void)field_count;
    if (getenv("LEDGER_TEST_LOG"))
        fprintf(stderr, "[%d] %s\n", level, text);
    if (level >= LVT_WARN)
        snprintf(world->log, sizeof world->log, "%s", text);
}

static void on_closed(void *ctx) {
    struct world *world = ctx;
    world->closed = true;
}

static struct lvt_log logs[8];
static size_t log_count;

static void open_world(struct world *world, uv_loop_t *loop, const char *to, uint32_t max_claims,
                       uint64_t retention_ms) {
    struct leveret_error err;
    struct lvt_log *log = &logs[log_count++ % 8];
    memset(world, 0, sizeof *world);
    *log = (struct lvt_log){.sink = on_log, .ctx = world, .level = LVT_DEBUG};
    const struct lvt_ledger_options options = {
        .url = to,
        .name = name,
        .pool = 3,
        .max_claims = max_claims,
        .retention_ms = retention_ms,
        .log = log,
        .sink = {world, on_claimed, on_recorded, on_ready_changed, on_invalidation_due},
        .loop = loop,
    };
    world->loop = loop;
    assert_int_equal(lvt_ledger_new(&options, &world->ledger, &err), LEVERET_OK);
    world->port = lvt_ledger_port(world->ledger);
    lvt_ledger_start(world->ledger);
}

static void on_wait_over(uv_timer_t *timer) {
    *(bool *)timer->data = true;
}

#define WAIT(world, condition)                                                                     \
    do {                                                                                           \
        uv_timer_t timer_;                                                                         \
        bool over_ = false;                                                                        \
        uv_timer_init((world)->loop, &timer_);                                                     \
        timer_.data = &over_;                                                                      \
        uv_timer_start(&timer_, on_wait_over, PATIENCE_MS, 0);                                     \
        while (!(condition) && !over_)                                                             \
            uv_run((world)->loop, UV_RUN_ONCE);                                                    \
        uv_close((uv_handle_t *)&timer_, NULL);                                                    \
        uv_run((world)->loop, UV_RUN_NOWAIT);                                                      \
        if (over_)                                                                                 \
            fail_msg("no %s within %d ms (%s)", #condition, PATIENCE_MS, (world)->log);            \
    } while (0)

static bool is_ready(const struct world *world) {
    return world->port.ready(world->port.self);
}

static void close_world(struct world *world) {
    lvt_ledger_close(world->ledger, on_closed, world);
    WAIT(world, world->closed);
    lvt_ledger_free(world->ledger);
}

/* ---- the server, from outside ---- */

static int64_t ask(const char *sql) {
    PGresult *result = PQexec(admin, sql);
    int64_t value = -1;
    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0)
        value = atoll(PQgetvalue(result, 0, 0));
    else if (PQresultStatus(result) != PGRES_COMMAND_OK &&
             PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(admin));
    PQclear(result);
    return value;
}

static void ignore_line(void *ctx, const char *line) {
    strncat(ctx, line, 1000 - strlen(ctx));
    strncat(ctx, "\n", 1000 - strlen(ctx));
}

static void migrate(char ret_lines[1024]) {
    struct leveret_error err = {.text = ""};
    ret_lines[0] = '\0';
    if (lvt_ledger_migrate(url, ignore_line, ret_lines, &err) != LEVERET_OK)
        fail_msg("migrate: %s", err.text);
}

static int set_up(void **state) {
    char sql[400], lines[1024];
    (void)state;
    snprintf(sql, sizeof sql,
             "SET client_min_messages TO error; DROP SCHEMA IF EXISTS %s CASCADE;"
             " CREATE SCHEMA %s; SET search_path TO %s; CREATE FUNCTION ours() RETURNS text"
             " LANGUAGE sql AS $$SELECT 'leveret %s'$$",
             schema, schema, schema, name);
    ask(sql);
    migrate(lines);
    return 0;
}

static void no_ledger_sessions(void) {
    for (int i = 0; i < 200; i++) {
        if (ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = ours()") == 0)
            return;
        usleep(20000);
    }
}

static int tear_down(void **state) {
    char sql[100];
    (void)state;
    no_ledger_sessions();
    snprintf(sql, sizeof sql, "DROP SCHEMA %s CASCADE", schema);
    ask(sql);
    return 0;
}

/* ---- claims ---- */

static struct lvt_claim *make_claims(size_t count, size_t from) {
    static char ids[4000][24];
    struct lvt_claim *claims = calloc(count, sizeof *claims);
    assert_non_null(claims);
    for (size_t i = 0; i < count; i++) {
        int len = snprintf(ids[from + i], sizeof ids[0], "event-%zu", from + i);
        claims[i].queue = LVT_LITERAL("q");
        claims[i].type = LVT_LITERAL("t");
        claims[i].id = lvt_bytes(ids[from + i], (size_t)len);
        lvt_event_key(lvt_bytes_of(name), claims[i].queue, claims[i].type, claims[i].id,
                      claims[i].key);
        lvt_event_key(lvt_bytes_of(name), lvt_bytes("", 0), claims[i].type, claims[i].id,
                      claims[i].legacy_key);
    }
    return claims;
}

static void link_claims(struct lvt_claim *claims, size_t count, size_t step) {
    for (size_t i = 0; i < count; i += step)
        claims[i].next = i + step < count ? &claims[i + step] : NULL;
}

static void claim_all(struct world *world, struct lvt_claim *claims, size_t count) {
    link_claims(claims, count, 1);
    world->port.claim(world->port.self, claims);
}

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

static int64_t locks(void) {
    return ask(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND application_name = ours()");
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

static void end_sessions(void) {
    ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name ="
        " ours()");
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

/* ---- transactions ---- */

static void on_tx(void *ctx, enum lvt_tx_result result, const struct lvt_sql_error *error) {
    struct tx_answer *answer = ctx;
    assert_false(answer->answered);
    answer->answered = true;
    answer->result = result;
    if (error) {
        strcpy(answer->sqlstate, error->sqlstate);
        strcpy(answer->text, error->text);
    }
}

static void on_rows(void *ctx, enum lvt_answer result, const struct lvt_rows *rows,
                    const struct lvt_sql_error *error) {
    struct rows_answer *answer = ctx;
    struct lvt_bytes cell;
    assert_false(answer->answered);
    answer->answered = true;
    answer->answer = result;
    if (rows) {
        answer->rows = rows->row_count;
        answer->affected = rows->affected;
        if (rows->row_count > 0 && rows->cell(rows->self, 0, 0, &cell))
            snprintf(answer->cell, sizeof answer->cell, "%.*s", (int)cell.len, cell.data);
        if (rows->column_count > 0)
            answer->kind = rows->kind(rows->self, 0);
    }
    if (error) {
        strcpy(answer->sqlstate, error->sqlstate);
        strcpy(answer->text, error->text);
    }
}

static struct lvt_tx *begin(struct world *world, struct lvt_claim *claim,
                            enum lvt_tx_result expected) {
    struct tx_answer answer = {0};
    struct lvt_tx *tx = world->port.tx_begin(world->port.self, claim, on_tx, &answer);
    assert_non_null(tx);
    assert_false(answer.answered);
    WAIT(world, answer.answered);
    assert_int_equal(answer.result, expected);
    return tx;
}

static struct rows_answer query(struct world *world, struct lvt_tx *tx, const char *sql,
                                const char *param) {
    struct rows_answer answer = {0};
    const struct lvt_bytes params[] = {lvt_bytes_of(param)};
    const struct lvt_sql statement = {lvt_bytes_of(sql), params, param ? 1 : 0};
    world->port.tx_query(world->port.self, tx, &statement, on_rows, &answer);
    assert_false(answer.answered);
    WAIT(world, answer.answered);
    return answer;
}

static struct tx_answer commit(struct world *world, struct lvt_tx *tx) {
    struct tx_answer answer = {0};
    world->port.tx_commit(world->port.self, tx, on_tx, &answer);
    assert_false(answer.answered);
    WAIT(world, answer.answered);
    return answer;
}

static void rollback(struct world *world, struct lvt_tx *tx) {
    world->port.tx_rollback(world->port.self, tx);
}

static struct lvt_claim *get(struct world *world, size_t count) {
    struct lvt_claim *claims = make_claims(count, 0);
    uint32_t before = world->got;
    claim_all(world, claims, count);
    WAIT(world, world->got == before + count);
    return claims;
}

static void test_record_and_writes_commit_together(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    struct lvt_claim *claims = get(&world, 3);
    ask("CREATE TABLE effect (n int, j jsonb)");

    struct lvt_tx *tx = begin(&world, &claims[0], LVT_TX_OK);
    struct rows_answer rows = query(&world, tx, "INSERT INTO effect (n) VALUES ($1)", "7");
    assert_int_equal(rows.answer, LVT_ANSWER_OK);
    assert_int_equal(rows.affected, 1);
    rows = query(&world, tx, "SELECT n FROM effect", NULL);
    assert_string_equal(rows.cell, "7");
    assert_int_equal(rows.kind, LVT_COLUMN_INTEGER);
    assert_int_equal(ask("SELECT count(*) FROM effect"), 0);
    assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
    assert_int_equal(ask("SELECT count(*) FROM effect"), 1);
    assert_int_equal(ask("SELECT count(*) FROM processed_events"), 1);
    assert_int_equal(claims[0].held, false);
    WAIT(&world, locks() == 2);

    tx = begin(&world, &claims[1], LVT_TX_OK);
    query(&world, tx, "INSERT INTO effect (n) VALUES (8)", NULL);
    rollback(&world, tx);
    WAIT(&world, ask("SELECT count(*) FROM pg_stat_activity WHERE application_name ="
                     " ours() AND state LIKE '%in transaction%'") == 0);
    assert_int_equal(ask("SELECT count(*) FROM effect"), 1);
    assert_true(claims[1].held);

    /* what another worker, having taken over, has recorded */
    ask("INSERT INTO processed_events (id, event_id, event_type, processor_name)"
        " SELECT gen_random_uuid(), 'x', 'x', 'x'");
    char sql[200] = "UPDATE processed_events SET id = '";
    for (int i = 0; i < LVT_KEY_BYTES; i++)
        sprintf(sql + strlen(sql), "%02x", claims[2].key[i]);
    strcat(sql, "' WHERE event_id = 'x'");
    ask(sql);
    tx = begin(&world, &claims[2], LVT_TX_DUPLICATE);
    rollback(&world, tx);

    tx = begin(&world, NULL, LVT_TX_OK);
    rows = query(&world, tx, "SELECT jsonb_build_object('a', $1::text)", "b");
    assert_int_equal(rows.kind, LVT_COLUMN_JSON);
    assert_string_equal(rows.cell, "{\"a\": \"b\"}");
    assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void test_errors_of_statements(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    struct lvt_claim *claims = get(&world, 4);
    ask("CREATE TABLE parent (n int PRIMARY KEY); CREATE TABLE child"
        " (n int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)");

    struct lvt_tx *tx = begin(&world, &claims[0], LVT_TX_OK);
    struct rows_answer rows = query(&world, tx, "SELECT 1/0", NULL);
    assert_int_equal(rows.answer, LVT_ANSWER_ERROR);
    assert_string_equal(rows.sqlstate, "22012");
    struct tx_answer end = commit(&world, tx);
    assert_int_equal(end.result, LVT_TX_ERROR);
    assert_string_equal(end.text, "the transaction was aborted by an earlier error");
    assert_true(claims[0].held);

    tx = begin(&world, &claims[1], LVT_TX_OK);
    query(&world, tx, "INSERT INTO child VALUES (1)", NULL);
    end = commit(&world, tx);
    assert_int_equal(end.result, LVT_TX_ERROR);
    assert_string_equal(end.sqlstate, "23503");

    tx = begin(&world, &claims[2], LVT_TX_OK);
    static const char *const refused[] = {"COMMIT", " -- x\n end;", "/* y */rollback work", "begin",
                                          "PREPARE TRANSACTION 'a'"};
    for (size_t i = 0; i < 5; i++) {
        rows = query(&world, tx, refused[i], NULL);
        assert_int_equal(rows.answer, LVT_ANSWER_ERROR);
        assert_non_null(strstr(rows.text, "must not"));
    }
    rows = query(&world, tx, "SAVEPOINT s", NULL);
    assert_int_equal(rows.answer, LVT_ANSWER_OK);
    rows = query(&world, tx, "ROLLBACK TO s", NULL);
    assert_int_equal(rows.answer, LVT_ANSWER_OK);
    rows = query(&world, tx, "SET work_mem = '1MB'", NULL);
    assert_int_equal(rows.answer, LVT_ANSWER_OK);
    assert_int_equal(commit(&world, tx).result, LVT_TX_OK);

    tx = begin(&world, &claims[3], LVT_TX_OK);
    rows = query(&world, tx, "SELECT current_setting('work_mem')", NULL);
    assert_string_equal(rows.cell, "4MB"); /* the change has not reached the next handler */
    rows = query(&world, tx, "COPY parent FROM STDIN", NULL);
    assert_int_equal(rows.answer, LVT_ANSWER_ERROR);
    assert_int_equal(commit(&world, tx).result, LVT_TX_OUTAGE);
    assert_int_equal(ask("SELECT count(*) FROM processed_events"), 1);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void test_rollback_cancels(void **state) {
    uv_loop_t loop;
    struct world world;
    struct rows_answer never = {0};
    const struct lvt_sql sleep = {LVT_LITERAL("SELECT pg_sleep(600)"), NULL, 0};
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    struct lvt_claim *claims = get(&world, 1);
    for (int i = 0; i < 10; i++) {
        struct lvt_tx *tx = begin(&world, &claims[0], LVT_TX_OK);
        world.port.tx_query(world.port.self, tx, &sleep, on_rows, &never);
        for (int turn = 0; turn < i; turn++)
            uv_run(&loop, UV_RUN_NOWAIT);
        rollback(&world, tx);
    }
    WAIT(&world, ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND"
                     " state = 'active' AND pid <> pg_backend_pid()") == 0);
    struct lvt_tx *tx = begin(&world, &claims[0], LVT_TX_OK);
    assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
    assert_false(never.answered);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void test_more_transactions_than_connections(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_tx *txs[20];
    struct tx_answer begun[20] = {{0}}, ended[20] = {{0}};
    uint32_t done = 0;
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    struct lvt_claim *claims = get(&world, 20);
    for (size_t i = 0; i < 20; i++)
        txs[i] = world.port.tx_begin(world.port.self, &claims[i], on_tx, &begun[i]);
    for (size_t i = 0; i < 20; i++) {
        WAIT(&world, begun[i].answered);
        assert_int_equal(begun[i].result, LVT_TX_OK);
        world.port.tx_commit(world.port.self, txs[i], on_tx, &ended[i]);
    }
    for (size_t i = 0; i < 20; i++) {
        WAIT(&world, ended[i].answered);
        done += ended[i].result == LVT_TX_OK;
    }
    assert_int_equal(done, 20);
    assert_int_equal(ask("SELECT count(*) FROM processed_events"), 20);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

/* A statement that fails each time must not be taken for an outage, which costs no attempt. */
static void test_mistakes_are_not_outages(void **state) {
    static const struct {
        const char *sql, *sqlstate;
    } mistakes[] = {
        {"SELECT $1::text, $2::text", "08P01"}, /* a parameter is missing */
        {"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'XX000'; END $$", "XX000"},
        {"LOAD 'there_is_no_such_library'", "58P01"},
    };
    uv_loop_t loop;
    struct world world;
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    struct lvt_claim *claims = get(&world, 1);
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        struct lvt_tx *tx = begin(&world, &claims[0], LVT_TX_OK);
        struct rows_answer rows = query(&world, tx, mistakes[i].sql, i == 0 ? "one" : NULL);
        assert_string_equal(rows.sqlstate, mistakes[i].sqlstate);
        assert_int_equal(rows.answer, LVT_ANSWER_ERROR);
        rollback(&world, tx);
    }
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

/* A setting for the transaction alone leaves its connection fit for the next one. */
static void test_local_settings_keep_the_connection(void **state) {
    static const char *const settings[] = {
        "SET LOCAL work_mem = '1MB'", "set /* x */ transaction isolation level serializable",
        "SET CONSTRAINTS ALL DEFERRED", "SET LOCAL synchronous_commit = off"};
    uv_loop_t loop;
    struct world world;
    char pid[64];
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    struct lvt_tx *tx = begin(&world, NULL, LVT_TX_OK);
    struct rows_answer rows = query(&world, tx, "SELECT pg_backend_pid()", NULL);
    strcpy(pid, rows.cell);
    assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        tx = begin(&world, NULL, LVT_TX_OK);
        rows = query(&world, tx, settings[i], NULL);
        assert_int_equal(rows.answer, LVT_ANSWER_OK);
        assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
        tx = begin(&world, NULL, LVT_TX_OK);
        rows = query(&world, tx, "SELECT pg_backend_pid()", NULL);
        assert_string_equal(rows.cell, pid);
        rows = query(&world, tx, "SELECT current_setting('work_mem')", NULL);
        assert_string_equal(rows.cell, "4MB");
        assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
    }
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* Whatever a lost commit answers is what the server has. */
static void test_lost_commits(void **state) {
    uv_loop_t loop;
    struct world world;
    uint32_t answered[4] = {0};
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    struct lvt_claim *claims = get(&world, 30);
    for (size_t i = 0; i < 30; i++) {
        struct tx_answer end = {0};
        int64_t before = ask("SELECT count(*) FROM processed_events");
        WAIT(&world, is_ready(&world));
        struct tx_answer begun = {0};
        struct lvt_tx *tx = world.port.tx_begin(world.port.self, &claims[i], on_tx, &begun);
        WAIT(&world, begun.answered);
        if (begun.result != LVT_TX_OK) { /* the end of the sessions before reached this one */
            rollback(&world, tx);
            continue;
        }
        if (i % 2)
            world.port.tx_commit(world.port.self, tx, on_tx, &end);
        end_sessions();
        if (i % 2 == 0)
            world.port.tx_commit(world.port.self, tx, on_tx, &end);
        WAIT(&world, end.answered);
        answered[end.result]++;
        assert_int_equal(ask("SELECT count(*) FROM processed_events"),
                         before + (end.result == LVT_TX_OK));
        assert_true(end.result == LVT_TX_OK || end.result == LVT_TX_OUTAGE);
    }
    assert_true(answered[LVT_TX_OUTAGE] > 0);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

static void test_lost_transactions(void **state) {
    uv_loop_t loop;
    struct world world;
    struct rows_answer rows = {0};
    const struct lvt_sql sleep = {LVT_LITERAL("SELECT pg_sleep(600)"), NULL, 0};
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    struct lvt_claim *claims = get(&world, 2);
    struct lvt_tx *tx = begin(&world, &claims[0], LVT_TX_OK);
    world.port.tx_query(world.port.self, tx, &sleep, on_rows, &rows);
    end_sessions();
    WAIT(&world, rows.answered);
    assert_int_equal(rows.answer, LVT_ANSWER_OUTAGE);
    rollback(&world, tx);
    WAIT(&world, is_ready(&world));
    tx = begin(&world, &claims[0], LVT_TX_OK);
    end_sessions();
    WAIT(&world, !is_ready(&world));
    WAIT(&world, is_ready(&world));
    rows = query(&world, tx, "SELECT 1", NULL);
    assert_int_equal(rows.answer, LVT_ANSWER_OUTAGE);
    assert_int_equal(commit(&world, tx).result, LVT_TX_OUTAGE);
    assert_int_equal(ask("SELECT count(*) FROM processed_events"), 0);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
    free(claims);
}

/* ---- housekeeping ---- */

static void test_invalidations(void **state) {
    uv_loop_t loop;
    struct world world;
    struct rows_answer rows = {0};
    (void)state;
    ask("INSERT INTO pending_invalidations (pattern, created_at) VALUES ('left:*', now() -"
        " interval '1 minute'), ('young:*', now())");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    WAIT(&world, world.due == 1);
    assert_string_equal(world.due_pattern, "left:*");
    world.port.invalidated(world.port.self, world.due_number);
    WAIT(&world, ask("SELECT count(*) FROM pending_invalidations WHERE pattern = 'left:*'") == 0);
    struct lvt_tx *tx = begin(&world, NULL, LVT_TX_OK);
    world.port.tx_invalidate(world.port.self, tx, LVT_LITERAL("mine:*"), on_rows, &rows);
    WAIT(&world, rows.answered);
    assert_int_equal(rows.answer, LVT_ANSWER_OK);
    assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
    assert_int_equal(ask("SELECT count(*) FROM pending_invalidations"), 2);
    world.port.invalidated(world.port.self, atoll(rows.cell));
    WAIT(&world, ask("SELECT count(*) FROM pending_invalidations") == 1);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void test_retention(void **state) {
    uv_loop_t loop;
    struct world world;
    struct lvt_ledger_status status;
    (void)state;
    ask("INSERT INTO processed_events (id, event_id, event_type, processor_name, processed_at)"
        " SELECT gen_random_uuid(), n, 't', 'worker', timezone('utc', now()) - n * interval '1 s'"
        " FROM generate_series(1, 25000) n");
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 1000 * 1000);
    WAIT(&world, ask("SELECT count(*) FROM processed_events") < 1001);
    assert_true(ask("SELECT count(*) FROM processed_events") > 900);
    WAIT(&world, (lvt_ledger_status(world.ledger, &status), status.rows_expired >= 24000));
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
    ask("DROP TABLE processed_events, pending_invalidations, leveret_schema;"
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
    const char *server = getenv("DATABASE_URL");
    if (!server || !server[0]) {
        printf("DATABASE_URL is not set: nothing is tested\n");
        return 0;
    }
    snprintf(schema, sizeof schema, "ledger_test_%d", (int)getpid());
    snprintf(name, sizeof name, "ledger-test-%d", (int)getpid());
    snprintf(url, sizeof url, "%s%coptions=-csearch_path%%3D%s", server,
             strchr(server, '?') ? '&' : '?', schema);
    admin = PQconnectdb(server);
    if (PQstatus(admin) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(admin));
        return 1;
    }
#define LIVE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        LIVE(test_half_is_recorded),
        LIVE(test_one_of_two_gets_it),
        LIVE(test_claims_are_bounded),
        LIVE(test_release_at_any_time),
        LIVE(test_what_is_in_hand_survives_a_loss),
        LIVE(test_losses_under_load),
        LIVE(test_record_and_writes_commit_together),
        LIVE(test_errors_of_statements),
        LIVE(test_mistakes_are_not_outages),
        LIVE(test_local_settings_keep_the_connection),
        LIVE(test_rollback_cancels),
        LIVE(test_more_transactions_than_connections),
        LIVE(test_lost_commits),
        LIVE(test_lost_transactions),
        LIVE(test_invalidations),
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
