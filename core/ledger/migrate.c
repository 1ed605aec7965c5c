/* `leveret migrate`: the only part of the ledger that blocks. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/ledger.h"
#include "ledger/migrations.h"
#include "ledger/pg_connection.h"

#define WAIT_MS 10000 /* for each word of the server's while it connects */
#define MIGRATE_LOCK "7307500317254018050"

struct migration {
    PGconn *conn;
    void (*progress)(void *ctx, const char *line);
    void *ctx;
    struct leveret_error *err;
};

static void on_notice(void *ctx, const PGresult *result) {
    const struct migration *migration = ctx;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (severity && text && strcmp(severity, "NOTICE") == 0)
        migration->progress(migration->ctx, text);
}

static enum leveret_code refused(const struct migration *migration, const PGresult *result) {
    struct leveret_error cause;
    lvt_pg_explain(result, &cause);
    if (strcmp(lvt_pg_sqlstate(result), "55P03") == 0)
        return leveret_fail(migration->err, LEVERET_REFUSED,
                            "another program uses the tables: stop the workers, then migrate again"
                            " (nothing was changed)");
    if (PQstatus(migration->conn) == CONNECTION_BAD)
        return leveret_fail(migration->err, LEVERET_UNAVAILABLE, "%s", cause.text);
    return leveret_fail(migration->err, LEVERET_REFUSED, "%s (nothing was changed)", cause.text);
}

/* One value of the last statement's only row, or `none` when there is no row. */
static enum leveret_code run(const struct migration *migration, const char *sql, int none,
                             int *ret_value) {
    enum leveret_code code = LEVERET_OK;
    PGresult *result = PQexec(migration->conn, sql);
    if (lvt_pg_failed(result))
        code = refused(migration, result);
    else if (ret_value)
        *ret_value = PQntuples(result) > 0 ? atoi(PQgetvalue(result, 0, 0)) : none;
    PQclear(result);
    return code;
}

static enum leveret_code apply(const struct migration *migration) {
    char text[160];
    int version = 0;
    enum leveret_code code =
        run(migration,
            "SET client_encoding TO UTF8; SET timezone TO UTC; SET lock_timeout TO '10s';"
            " SET client_min_messages TO warning; BEGIN;"
            " SELECT pg_advisory_xact_lock(" MIGRATE_LOCK
            ");"
            " CREATE TABLE IF NOT EXISTS leveret_schema ("
            "  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),"
            "  version integer NOT NULL, legacy_newest timestamp);"
            " INSERT INTO leveret_schema (version) VALUES (0) ON CONFLICT DO NOTHING;"
            " SET client_min_messages TO notice; SELECT version FROM leveret_schema",
            0, &version);
    for (size_t i = 0; i < lvt_migration_count && code == LEVERET_OK; i++) {
        const struct lvt_migration *step = &lvt_migrations[i];
        if (step->version <= version)
            continue;
        snprintf(text, sizeof text, "applying %s", step->name);
        migration->progress(migration->ctx, text);
        code = run(migration, step->sql, 0, NULL);
        snprintf(text, sizeof text, "UPDATE leveret_schema SET version = %d", step->version);
        if (code == LEVERET_OK)
            code = run(migration, text, 0, NULL);
        if (code == LEVERET_OK)
            version = step->version;
    }
    if (code == LEVERET_OK)
        code = run(migration, "COMMIT", 0, NULL);
    if (code != LEVERET_OK)
        return code;
    snprintf(text, sizeof text, "the tables are up to date (version %d)", version);
    migration->progress(migration->ctx, text);
    return LEVERET_OK;
}

/* As PQconnectdb, but with the SQLSTATE of a refusal. Neither CONNECTION_OK nor CONNECTION_BAD:
 * it took too long. */
static PGconn *connect_and_wait(const char *url) {
    const char *keywords[] = {"fallback_application_name", "dbname", NULL};
    const char *values[] = {"leveret migrate", url, NULL};
    PGconn *conn = PQconnectStartParams(keywords, values, 1);
    if (!conn)
        return NULL;
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (PQstatus(conn) != CONNECTION_BAD && status != PGRES_POLLING_OK &&
           status != PGRES_POLLING_FAILED) {
        struct pollfd wait = {.fd = PQsocket(conn),
                              .events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        int ready = poll(&wait, 1, WAIT_MS);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            break;
        status = PQconnectPoll(conn);
    }
    PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
    return conn;
}

enum leveret_code lvt_ledger_migrate(const char *url, void (*progress)(void *ctx, const char *line),
                                     void *ctx, struct leveret_error *err) {
    struct migration migration = {.progress = progress, .ctx = ctx, .err = err};
    struct leveret_error cause;
    enum leveret_code code = lvt_pg_check_url(url, err);
    if (code != LEVERET_OK)
        return code;
    migration.conn = connect_and_wait(url);
    ConnStatusType status = migration.conn ? PQstatus(migration.conn) : CONNECTION_BAD;
    if (status == CONNECTION_BAD) {
        lvt_pg_explain_connection(migration.conn, &cause);
        code = leveret_fail(err, cause.code, "%s", cause.text);
    } else if (status != CONNECTION_OK) {
        code = leveret_fail(err, LEVERET_UNAVAILABLE,
                            "PostgreSQL did not answer within %d s; is it what listens at the "
                            "address in DATABASE_URL or postgres.url, and can it be reached?",
                            WAIT_MS / 1000);
    } else {
        PQsetNoticeReceiver(migration.conn, on_notice, &migration);
        code = apply(&migration);
    }
    PQfinish(migration.conn); /* which rolls back what was not committed */
    return code;
}
