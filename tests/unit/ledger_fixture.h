/* A ledger against a real PostgreSQL: DATABASE_URL names it, and without it nothing is tested.
 * Everything happens in a schema of the process's own, under a worker's name of its own, so that
 * several test programs can use one database at a time. */
#ifndef LEVERET_TESTS_LEDGER_FIXTURE_H
#define LEVERET_TESTS_LEDGER_FIXTURE_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
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
    struct lvt_outbox_row *rows; /* handed over, and not given back */
    bool closed;
    bool record_at_once;
    char log[1024];
};
static inline void on_claimed(void *ctx, struct lvt_claim *list) {
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

static inline void on_recorded(void *ctx, struct lvt_claim *list) {
    struct world *world = ctx;
    for (; list; list = list->next)
        world->recorded++;
}

static inline void on_ready_changed(void *ctx, bool ready) {
    (void)ctx;
    (void)ready;
}

static inline void on_invalidation_due(void *ctx, int64_t number, struct lvt_bytes pattern) {
    struct world *world = ctx;
    world->due++;
    world->due_number = number;
    snprintf(world->due_pattern, sizeof world->due_pattern, "%.*s", (int)pattern.len, pattern.data);
}

static inline void on_outbox_due(void *ctx, struct lvt_outbox_row *list) {
    struct world *world = ctx;
    assert_null(world->rows);
    world->rows = list;
}

static inline void on_log(void *ctx, enum lvt_level level, const char *text,
                          const struct lvt_field *fields, size_t field_count) {
    struct world *world = ctx;
    (void)fields;
    (void)field_count;
    if (getenv("LEDGER_TEST_LOG"))
        fprintf(stderr, "[%d] %s\n", level, text);
    if (level >= LVT_WARN)
        snprintf(world->log, sizeof world->log, "%s", text);
}

static inline void on_closed(void *ctx) {
    struct world *world = ctx;
    world->closed = true;
}

static struct lvt_log logs[8];
static size_t log_count;
static uint64_t outbox_retention_ms = 86400000;

static inline void open_world(struct world *world, uv_loop_t *loop, const char *to,
                              uint32_t max_claims, uint64_t retention_ms) {
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
        .outbox_retention_ms = outbox_retention_ms,
        .max_body_bytes = 1048576,
        .log = log,
        .sink = {world, on_claimed, on_recorded, on_ready_changed, on_invalidation_due,
                 on_outbox_due},
        .loop = loop,
    };
    world->loop = loop;
    assert_int_equal(lvt_ledger_new(&options, &world->ledger, &err), LEVERET_OK);
    world->port = lvt_ledger_port(world->ledger);
    lvt_ledger_start(world->ledger);
}

static inline void on_wait_over(uv_timer_t *timer) {
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

static inline bool is_ready(const struct world *world) {
    return world->port.ready(world->port.self);
}

static inline void close_world(struct world *world) {
    lvt_ledger_close(world->ledger, on_closed, world);
    WAIT(world, world->closed);
    lvt_ledger_free(world->ledger);
}

/* ---- the server, from outside ---- */

static inline int64_t ask(const char *sql) {
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

static inline void ignore_line(void *ctx, const char *line) {
    strncat(ctx, line, 1000 - strlen(ctx));
    strncat(ctx, "\n", 1000 - strlen(ctx));
}

static inline void migrate(char ret_lines[1024]) {
    struct leveret_error err = {.text = ""};
    ret_lines[0] = '\0';
    if (lvt_ledger_migrate(url, ignore_line, ret_lines, &err) != LEVERET_OK)
        fail_msg("migrate: %s", err.text);
}

static inline int set_up(void **state) {
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

static inline void no_ledger_sessions(void) {
    for (int i = 0; i < 200; i++) {
        if (ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = ours()") == 0)
            return;
        usleep(20000);
    }
}

static inline int tear_down(void **state) {
    char sql[100];
    (void)state;
    no_ledger_sessions();
    snprintf(sql, sizeof sql, "DROP SCHEMA %s CASCADE", schema);
    ask(sql);
    return 0;
}

/* ---- claims ---- */

static inline struct lvt_claim *make_claims(size_t count, size_t from) {
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
    }
    return claims;
}

static inline void link_claims(struct lvt_claim *claims, size_t count, size_t step) {
    for (size_t i = 0; i < count; i += step)
        claims[i].next = i + step < count ? &claims[i + step] : NULL;
}

static inline void claim_all(struct world *world, struct lvt_claim *claims, size_t count) {
    link_claims(claims, count, 1);
    world->port.claim(world->port.self, claims);
}

static inline int64_t locks(void) {
    return ask(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND objsubid = 1 AND application_name = ours()");
}

static inline void end_sessions(void) {
    ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name ="
        " ours()");
}

/* ---- the programs ---- */

#define LIVE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* False when there is nothing to test on; the program ends with the code then. */
static inline bool find_server(int *ret_code) {
    const char *server = getenv("DATABASE_URL");
    *ret_code = 0;
    if (!server || !server[0]) {
        printf("DATABASE_URL is not set: nothing is tested\n");
        return false;
    }
    snprintf(schema, sizeof schema, "ledger_test_%d", (int)getpid());
    snprintf(name, sizeof name, "ledger-test-%d", (int)getpid());
    snprintf(url, sizeof url, "%s%coptions=-csearch_path%%3D%s", server,
             strchr(server, '?') ? '&' : '?', schema);
    admin = PQconnectdb(server);
    if (PQstatus(admin) == CONNECTION_OK)
        return true;
    fprintf(stderr, "%s", PQerrorMessage(admin));
    PQfinish(admin);
    *ret_code = 1;
    return false;
}

#endif
