/* The ledger against a real PostgreSQL: transactions of handlers, their pool, and invalidations. */
#include "ledger_fixture.h"

struct tx_answer {
    bool answered;
    enum lvt_tx_result result;
    char sqlstate[6], text[400];
};

struct rows_answer {
    bool answered;
    enum lvt_answer answer;
    size_t rows, nulls, bytes;
    int64_t affected;
    enum lvt_column_kind kind;
    char cell[64], text[400], sqlstate[6];
};

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
        for (size_t i = 0; i < rows->row_count * rows->column_count; i++)
            if (rows->cell(rows->self, i / rows->column_count, i % rows->column_count, &cell))
                answer->bytes += cell.len;
            else
                answer->nulls++;
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

/* While connections come back, a begin may still meet an outage. */
static struct lvt_tx *begin_some_time(struct world *world) {
    for (;;) {
        struct tx_answer answer = {0};
        struct lvt_tx *tx = world->port.tx_begin(world->port.self, NULL, on_tx, &answer);
        WAIT(world, answer.answered);
        if (answer.result == LVT_TX_OK)
            return tx;
        world->port.tx_rollback(world->port.self, tx);
    }
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
    assert_string_equal(query(&world, tx, "SELECT 1", NULL).sqlstate, "0A000");
    assert_string_equal(commit(&world, tx).sqlstate, "0A000");
    assert_int_equal(ask("SELECT count(*) FROM processed_events"), 1);
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

static void test_answers_that_are_too_large(void **state) {
    static const char *const questions[] = {
        "SELECT repeat('x', 1000) FROM generate_series(1, 20000)",
        "SELECT (NULL::pg_class).* FROM generate_series(1, 100000)",
    };
    uv_loop_t loop;
    struct world world;
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    for (size_t i = 0; i < 4; i++) {
        struct lvt_tx *tx = begin_some_time(&world);
        const struct lvt_sql large = {lvt_bytes_of(questions[i / 2]), NULL, 0};
        const struct lvt_sql next = {LVT_LITERAL("SELECT 1"), NULL, 0};
        struct rows_answer rows = {0}, behind = {0};
        world.port.tx_query(world.port.self, tx, &large, on_rows, &rows);
        world.port.tx_query(world.port.self, tx, &next, on_rows, &behind);
        WAIT(&world, rows.answered && behind.answered);
        assert_int_equal(rows.answer, LVT_ANSWER_ERROR);
        assert_string_equal(rows.sqlstate, "54000");
        /* its own mistake, and no outage, which would have it run again for ever */
        assert_int_equal(behind.answer, LVT_ANSWER_ERROR);
        assert_string_equal(query(&world, tx, "SELECT 1", NULL).sqlstate, "54000");
        if (i % 2)
            rollback(&world, tx);
        else
            assert_string_equal(commit(&world, tx).sqlstate, "54000");
    }
    struct lvt_tx *tx = begin_some_time(&world);
    struct rows_answer rows = query(
        &world, tx, "SELECT n, NULL, '', repeat('x', n) FROM generate_series(1, 5000) n", NULL);
    assert_int_equal(rows.answer, LVT_ANSWER_OK);
    assert_int_equal(rows.rows, 5000);
    assert_int_equal(rows.nulls, 5000);
    assert_int_equal(rows.bytes, 5000 * 5001 / 2 + 9 + 180 + 2700 + 4001 * 4); /* and the digits */
    assert_string_equal(rows.cell, "1");
    assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
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
    WAIT(&world, ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = ours()"
                     " AND query LIKE '%pg_sleep(600)%' AND state = 'active'") == 0);
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

/* Answers that wait for the loop, of which a rollback takes the first or the last. */
static void test_rollback_takes_answers_back(void **state) {
    uv_loop_t loop;
    struct world world;
    (void)state;
    uv_loop_init(&loop);
    open_world(&world, &loop, url, 2000, 0);
    for (size_t back = 0; back < 2; back++) {
        struct lvt_tx *txs[3];
        struct tx_answer ends[3] = {{0}};
        struct rows_answer never = {0};
        const struct lvt_sql one = {LVT_LITERAL("SELECT 1"), NULL, 0};
        WAIT(&world, is_ready(&world));
        for (size_t i = 0; i < 3; i++)
            txs[i] = begin_some_time(&world);
        end_sessions();
        for (size_t i = 0; i < 3; i++) {
            struct rows_answer rows = query(&world, txs[i], "SELECT 1", NULL);
            assert_int_equal(rows.answer, LVT_ANSWER_OUTAGE);
        }
        world.port.tx_commit(world.port.self, txs[0], on_tx, &ends[0]);
        if (back == 1)
            world.port.tx_query(world.port.self, txs[1], &one, on_rows, &never);
        world.port.tx_commit(world.port.self, txs[1], on_tx, &ends[1]);
        rollback(&world, txs[back]);
        world.port.tx_commit(world.port.self, txs[2], on_tx, &ends[2]);
        for (size_t i = 0; i < 3; i++)
            if (i != back) {
                WAIT(&world, ends[i].answered);
                assert_int_equal(ends[i].result, LVT_TX_OUTAGE);
            }
        assert_int_equal(commit(&world, begin_some_time(&world)).result, LVT_TX_OK);
        assert_false(ends[back].answered || never.answered);
    }
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* A handler may think for longer than the server lets its role's sessions idle; how long its
 * statements may take is the role's to say. */
static void test_the_roles_timeouts(void **state) {
    uv_loop_t loop;
    struct world world;
    char strict[1200];
    (void)state;
    snprintf(strict, sizeof strict,
             "%s%%20-cidle_in_transaction_session_timeout%%3D100%%20-cstatement_timeout%%3D5s",
             url);
    uv_loop_init(&loop);
    open_world(&world, &loop, strict, 2000, 0);
    struct lvt_tx *tx = begin(&world, NULL, LVT_TX_OK);
    usleep(300000);
    struct rows_answer rows =
        query(&world, tx, "SELECT current_setting('statement_timeout')", NULL);
    assert_int_equal(rows.answer, LVT_ANSWER_OK);
    assert_string_equal(rows.cell, "5s");
    assert_int_equal(commit(&world, tx).result, LVT_TX_OK);
    close_world(&world);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- invalidations ---- */

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

int main(void) {
    int code;
    if (!find_server(&code))
        return code;
    const struct CMUnitTest tests[] = {
        LIVE(test_record_and_writes_commit_together),
        LIVE(test_errors_of_statements),
        LIVE(test_mistakes_are_not_outages),
        LIVE(test_answers_that_are_too_large),
        LIVE(test_local_settings_keep_the_connection),
        LIVE(test_rollback_cancels),
        LIVE(test_more_transactions_than_connections),
        LIVE(test_lost_commits),
        LIVE(test_lost_transactions),
        LIVE(test_rollback_takes_answers_back),
        LIVE(test_the_roles_timeouts),
        LIVE(test_invalidations),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    PQfinish(admin);
    return failed;
}
