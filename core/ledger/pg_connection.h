/* One session of PostgreSQL on the loop: connects by itself for as long as it takes, never blocks,
 * and speaks in pipeline mode. Statements are answered in order; when the connection is lost their
 * answers never come, and `down` is called instead. */
#ifndef LEVERET_LEDGER_PG_CONNECTION_H
#define LEVERET_LEDGER_PG_CONNECTION_H

#include <libpq-fe.h>
#include <uv.h>

#include "base/error.h"
#include "base/log.h"

struct lvt_pg;

struct lvt_pg_prepared {
    const char *name, *sql;
};

/* Everything pointed to outlives the session. */
struct lvt_pg_options {
    const char *url;
    const char *application;
    const char *setup; /* a SELECT whose first column is pg_backend_pid() */
    const struct lvt_pg_prepared *prepared;
    size_t prepared_count;
    bool eager; /* its pauses stay short: everything waits for it */
    uv_loop_t *loop;
    void *ctx;
    /* Connected, set up, and everything prepared. */
    void (*up)(void *ctx);
    /* After up, or instead of it; another try is under way already. LEVERET_CONFIG: trying again
     * will not help until somebody changes something. */
    void (*down)(void *ctx, const struct leveret_error *err);
};

/* The receiver owns the result, and clears it. */
typedef void lvt_pg_done(void *ctx, PGresult *result);

struct lvt_pg *lvt_pg_new(const struct lvt_pg_options *options); /* NULL when out of memory */
void lvt_pg_open(struct lvt_pg *pg);
/* Ends the session and connects anew after a pause, which grows with each loss until lvt_pg_well
 * is called. down is not called. */
void lvt_pg_drop(struct lvt_pg *pg);
void lvt_pg_well(struct lvt_pg *pg);
/* The server has been seen: an end to the pause. */
void lvt_pg_hurry(struct lvt_pg *pg);
/* Frees it; `closed` comes later, from the loop. */
void lvt_pg_close(struct lvt_pg *pg, void (*closed)(void *ctx), void *ctx);

/* A parameter in PostgreSQL's binary form, or as NUL-terminated text; data NULL is SQL's NULL. */
struct lvt_pg_param {
    const char *data;
    size_t len;
    bool binary;
};

#define LVT_PG_PARAMS_MAX 8

/* A prepared statement, with its rows in binary. */
void lvt_pg_execute(struct lvt_pg *pg, const char *name, const struct lvt_pg_param *params,
                    size_t param_count, lvt_pg_done *done, void *ctx);
/* Any statement, with parameters and rows as text. */
void lvt_pg_query(struct lvt_pg *pg, const char *sql, const char *const *params, size_t param_count,
                  lvt_pg_done *done, void *ctx);
/* The same; done gets each row as it comes, in a result of PGRES_SINGLE_TUPLE, and then the answer
 * without them. */
void lvt_pg_query_by_row(struct lvt_pg *pg, const char *sql, const char *const *params,
                         size_t param_count, lvt_pg_done *done, void *ctx);
/* Ends a unit: an error skips what follows up to here. Without an open transaction it commits. */
void lvt_pg_sync(struct lvt_pg *pg, lvt_pg_done *done, void *ctx);
/* The server sends the answers that it has so far, within a unit. */
void lvt_pg_send_answers(struct lvt_pg *pg);
/* Sends what has been asked. */
void lvt_pg_flush(struct lvt_pg *pg);

PGTransactionStatusType lvt_pg_transaction_status(const struct lvt_pg *pg);
/* To cancel what runs, on another thread; the caller frees it with PQfreeCancel. */
PGcancel *lvt_pg_cancel(const struct lvt_pg *pg);
/* As the server says, and as the connection's start said: a pooler between them makes these differ.
 */
int lvt_pg_server_pid(const struct lvt_pg *pg);
int lvt_pg_start_pid(const struct lvt_pg *pg);
/* What the set-up has written into the session, by which a statement knows that it runs in this one
 * and no other: a pooler may give each transaction another. */
const char *lvt_pg_mark(const struct lvt_pg *pg);
#define LVT_PG_MARK_SQL "current_setting('leveret.session', true)"
/* Whether the connection was lost because its session is not its own: there is another's mark in
 * it, of a client that still uses it or left locks there; or what the set-up prepared is not. */
bool lvt_pg_is_shared(const struct lvt_pg *pg);

/* ---- what answers mean ---- */

bool lvt_pg_failed(const PGresult *result);
/* "" when the error is not the server's. */
const char *lvt_pg_sqlstate(const PGresult *result);
/* Whether the server, not the statement, is the trouble: it is ending, full, or only reads. */
bool lvt_pg_is_outage(const char *sqlstate);
/* Why a connection could not be made: the server is not ready yet. */
bool lvt_pg_is_starting(const PGconn *conn);
/* One session for several clients. */
void lvt_pg_explain_shared(struct leveret_error *ret_err);
/* One line for people, with the next step where one is known. */
void lvt_pg_explain(const PGresult *result, struct leveret_error *ret_err);

/* Checks the URL without connecting. The text never repeats it, for it may hold a password. */
enum leveret_code lvt_pg_check_url(const char *url, struct leveret_error *err);
/* The same for a connection that could not be made. */
void lvt_pg_explain_connection(const PGconn *conn, struct leveret_error *ret_err);

#endif
