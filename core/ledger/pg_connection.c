#include "ledger/pg_connection.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/container.h"
#include "base/uuid.h"
#include "ledger/pg_address.h"

#define CONNECT_MS 10000  /* for the name, the connection and the set-up together */
#define EXPECTED_MAX 1024 /* statements and syncs under way; a power of two */
#define BACKOFF_CAP_MS 30000
#define BACKOFF_STEPS 9
#define EAGER_STEPS 4
#define STARTING_STEP 1

enum state { STATE_CLOSED, STATE_PAUSED, STATE_RESOLVING, STATE_CONNECTING, STATE_SETUP, STATE_UP };

struct expected {
    lvt_pg_done *done;
    void *ctx;
    bool by_row;
    bool prepared; /* at the beginning */
};

struct lvt_pg {
    struct lvt_pg_options options;
    PQconninfoOption *url;
    struct lvt_pg_address address;
    enum state state;
    PGconn *conn;
    uv_poll_t *poll;
    int poll_events;
    int poll_fd;
    uv_timer_t timer; /* the pause, then the deadline, then a loss noticed while sending */
    unsigned step;    /* of the backoff */
    uint32_t random;
    int server_pid;
    char mark[LVT_UUID_SIZE];
    bool shared;
    struct leveret_error setup_error;
    struct expected expected[EXPECTED_MAX];
    unsigned first, count;
    bool separator_due; /* libpq ends each statement's results with a NULL */
    bool broken;        /* a send failed: what follows is not sent */
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void connect_now(struct lvt_pg *pg);
static void on_poll(uv_poll_t *poll, int status, int events);

/* ---- the end of a connection ---- */

static void free_handle(uv_handle_t *handle) {
    free(handle);
}

static void stop_polling(struct lvt_pg *pg) {
    if (pg->poll)
        uv_close((uv_handle_t *)pg->poll, free_handle);
    pg->poll = NULL;
    pg->poll_events = 0;
}

static void disconnect(struct lvt_pg *pg) {
    stop_polling(pg);
    if (pg->conn)
        PQfinish(pg->conn);
    pg->conn = NULL;
    pg->first = pg->count = 0;
    pg->separator_due = pg->broken = false;
    uv_timer_stop(&pg->timer);
}

static void on_pause_over(uv_timer_t *timer) {
    connect_now(timer->data);
}

/* The first tries come quickly, for most losses are short; then 1 to 30 s, 1 s where somebody is
 * eager, give or take a half. */
static uint64_t next_pause_ms(struct lvt_pg *pg) {
    static const uint64_t pauses_ms[BACKOFF_STEPS] = {50,   200,  500,   1000,          2000,
                                                      4000, 8000, 16000, BACKOFF_CAP_MS};
    uint64_t pause_ms = pauses_ms[pg->step];
    if (pg->step + 1 < (pg->options.eager ? EAGER_STEPS : BACKOFF_STEPS))
        pg->step++;
    pg->random = pg->random * 1664525u + 1013904223u;
    pause_ms = pause_ms / 2 + (uint64_t)(pg->random >> 8) % (pause_ms + 1);
    return pause_ms < BACKOFF_CAP_MS ? pause_ms : BACKOFF_CAP_MS;
}

void lvt_pg_drop(struct lvt_pg *pg) {
    disconnect(pg);
    if (pg->closing)
        return;
    pg->state = STATE_PAUSED;
    uv_timer_start(&pg->timer, on_pause_over, next_pause_ms(pg), 0);
}

static void lose(struct lvt_pg *pg, const struct leveret_error *err) {
    const struct leveret_error copy = *err; /* it may point into the session */
    lvt_pg_drop(pg);
    pg->options.down(pg->options.ctx, &copy);
}

/* A server that says that it is starting will not be long. */
static void lose_connection(struct lvt_pg *pg) {
    struct leveret_error err;
    if (pg->options.eager && lvt_pg_is_starting(pg->conn))
        pg->step = STARTING_STEP;
    lvt_pg_explain_connection(pg->conn, &err);
    lose(pg, &err);
}

static void on_deadline(uv_timer_t *timer) {
    struct lvt_pg *pg = timer->data;
    struct leveret_error err;
    leveret_fail(&err, LEVERET_UNAVAILABLE, "PostgreSQL did not answer within %d s",
                 CONNECT_MS / 1000);
    if (pg->state == STATE_RESOLVING) {
        uv_cancel((uv_req_t *)&pg->address.request); /* its callback tells the loss */
        return;
    }
    lose(pg, &err);
}

static void on_broken(uv_timer_t *timer) {
    lose_connection(timer->data);
}

static void set_broken(struct lvt_pg *pg) {
    if (pg->broken || !pg->conn)
        return;
    pg->broken = true;
    uv_timer_start(&pg->timer, on_broken, 0, 0);
}

/* ---- waiting for the socket ---- */

static bool poll_for(struct lvt_pg *pg, int events) {
    int fd = PQsocket(pg->conn);
    if (pg->poll && (fd != pg->poll_fd || fd < 0))
        stop_polling(pg);
    if (fd < 0)
        return false;
    if (!pg->poll) {
        uv_poll_t *poll = calloc(1, sizeof *poll);
        if (!poll || uv_poll_init(pg->options.loop, poll, fd) != 0) {
            free(poll);
            return false;
        }
        poll->data = pg;
        pg->poll = poll;
        pg->poll_fd = fd;
    }
    if (events != pg->poll_events && uv_poll_start(pg->poll, events, on_poll) != 0)
        return false;
    pg->poll_events = events;
    return true;
}

void lvt_pg_flush(struct lvt_pg *pg) {
    if (!pg->conn || pg->broken || pg->state < STATE_SETUP)
        return;
    int left = PQflush(pg->conn);
    if (left < 0 || !poll_for(pg, left ? UV_READABLE | UV_WRITABLE : UV_READABLE))
        set_broken(pg);
}

/* ---- asking ---- */

static bool can_send(struct lvt_pg *pg) {
    if (!pg->conn || pg->broken || pg->state < STATE_SETUP)
        return false;
    if (pg->count == EXPECTED_MAX) {
        set_broken(pg);
        return false;
    }
    return true;
}

static void expect(struct lvt_pg *pg, int sent, struct expected expected) {
    if (sent)
        pg->expected[(pg->first + pg->count++) % EXPECTED_MAX] = expected;
    else
        set_broken(pg);
}

void lvt_pg_execute(struct lvt_pg *pg, const char *name, const struct lvt_pg_param *params,
                    size_t param_count, lvt_pg_done *done, void *ctx) {
    const char *values[LVT_PG_PARAMS_MAX];
    int lengths[LVT_PG_PARAMS_MAX], formats[LVT_PG_PARAMS_MAX];
    if (!can_send(pg))
        return;
    for (size_t i = 0; i < param_count; i++) {
        values[i] = params[i].data;
        lengths[i] = (int)params[i].len;
        formats[i] = params[i].binary;
    }
    expect(pg, PQsendQueryPrepared(pg->conn, name, (int)param_count, values, lengths, formats, 1),
           (struct expected){.done = done, .ctx = ctx, .prepared = true});
}

static void send_text(struct lvt_pg *pg, const char *sql, const char *const *params,
                      size_t param_count, struct expected expected) {
    if (can_send(pg))
        expect(pg, PQsendQueryParams(pg->conn, sql, (int)param_count, NULL, params, NULL, NULL, 0),
               expected);
}

void lvt_pg_query(struct lvt_pg *pg, const char *sql, const char *const *params, size_t param_count,
                  lvt_pg_done *done, void *ctx) {
    send_text(pg, sql, params, param_count, (struct expected){.done = done, .ctx = ctx});
}

/* libpq takes the wish for the statement whose answer is next, before it has read any of it. */
static void next_by_row(struct lvt_pg *pg) {
    if (pg->count > 0 && pg->expected[pg->first].by_row && !pg->separator_due)
        PQsetSingleRowMode(pg->conn);
}

void lvt_pg_query_by_row(struct lvt_pg *pg, const char *sql, const char *const *params,
                         size_t param_count, lvt_pg_done *done, void *ctx) {
    send_text(pg, sql, params, param_count,
              (struct expected){.done = done, .ctx = ctx, .by_row = true});
    if (pg->count == 1)
        next_by_row(pg);
}

void lvt_pg_sync(struct lvt_pg *pg, lvt_pg_done *done, void *ctx) {
    if (can_send(pg))
        expect(pg, PQpipelineSync(pg->conn), (struct expected){.done = done, .ctx = ctx});
}

void lvt_pg_send_answers(struct lvt_pg *pg) {
    if (can_send(pg) && !PQsendFlushRequest(pg->conn))
        set_broken(pg);
}

/* ---- answers ---- */

/* An error that is the connection's end, not a statement's answer. */
static bool is_last_word(const PGresult *result) {
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return PQresultStatus(result) == PGRES_FATAL_ERROR &&
           (!severity || strcmp(severity, "ERROR") != 0);
}

/* One that was prepared at the beginning is not there: another session answers. */
static bool is_anothers(const struct lvt_pg *pg, const PGresult *result) {
    return pg->count > 0 && pg->expected[pg->first].prepared &&
           strcmp(lvt_pg_sqlstate(result), "26000") == 0;
}

/* False when the session is not the one it was any more. */
static bool answer(struct lvt_pg *pg, PGresult *result) {
    PGconn *conn = pg->conn;
    bool anothers = is_anothers(pg, result);
    if (anothers || is_last_word(result)) {
        struct leveret_error err;
        pg->shared = anothers;
        if (anothers)
            lvt_pg_explain_shared(&err);
        else
            lvt_pg_explain(result, &err);
        PQclear(result);
        lose(pg, &err);
        return false;
    }
    if (pg->count == 0) {
        PQclear(result);
        return true;
    }
    struct expected expected = pg->expected[pg->first];
    if (PQresultStatus(result) == PGRES_SINGLE_TUPLE) {
        expected.done(expected.ctx, result);
        return pg->conn == conn;
    }
    pg->separator_due = PQresultStatus(result) != PGRES_PIPELINE_SYNC;
    pg->first = (pg->first + 1) % EXPECTED_MAX;
    pg->count--;
    if (expected.done)
        expected.done(expected.ctx, result);
    else
        PQclear(result);
    return pg->conn == conn;
}

static bool read_answers(struct lvt_pg *pg) {
    for (;;) {
        next_by_row(pg);
        if (PQisBusy(pg->conn))
            return true;
        PGresult *result = PQgetResult(pg->conn);
        if (result) {
            if (!answer(pg, result))
                return false;
        } else if (pg->separator_due) {
            pg->separator_due = false;
        } else {
            return true;
        }
    }
}

static void drop_notifications(struct lvt_pg *pg) {
    PGnotify *notification;
    while ((notification = PQnotifies(pg->conn)))
        PQfreemem(notification);
}

static void exchange(struct lvt_pg *pg) {
    bool readable = PQconsumeInput(pg->conn);
    drop_notifications(pg);
    if (!read_answers(pg))
        return;
    if (!readable || PQstatus(pg->conn) == CONNECTION_BAD)
        lose_connection(pg);
    else
        lvt_pg_flush(pg);
}

/* ---- connecting ---- */

static void on_setup(void *ctx, PGresult *result) {
    struct lvt_pg *pg = ctx;
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK && PQntuples(result) == 1)
        pg->server_pid = atoi(PQgetvalue(result, 0, 0));
    if (lvt_pg_failed(result) && status != PGRES_PIPELINE_ABORTED)
        lvt_pg_explain(result, &pg->setup_error);
    PQclear(result);
    if (status != PGRES_PIPELINE_SYNC)
        return;
    if (pg->setup_error.code != LEVERET_OK) {
        lose(pg, &pg->setup_error);
        return;
    }
    uv_timer_stop(&pg->timer);
    pg->state = STATE_UP;
    pg->options.up(pg->options.ctx);
}

/* Another's mark stays. */
static const char mark_sql[] =
    "SELECT set_config('leveret.session', CASE coalesce(" LVT_PG_MARK_SQL
    ", '')"
    " WHEN '' THEN $1::text ELSE " LVT_PG_MARK_SQL " END, false) = $1::text";

static void on_marked(void *ctx, PGresult *result) {
    struct lvt_pg *pg = ctx;
    if (lvt_pg_failed(result)) {
        on_setup(ctx, result);
        return;
    }
    pg->shared = strcmp(PQgetvalue(result, 0, 0), "t") != 0;
    if (pg->shared)
        lvt_pg_explain_shared(&pg->setup_error);
    PQclear(result);
}

static void set_up(struct lvt_pg *pg) {
    const char *mark[] = {pg->mark};
    pg->state = STATE_SETUP;
    pg->setup_error.code = LEVERET_OK;
    PQsetErrorVerbosity(pg->conn, PQERRORS_DEFAULT);
    if (PQsetnonblocking(pg->conn, 1) != 0 || !PQenterPipelineMode(pg->conn)) {
        lose_connection(pg);
        return;
    }
    lvt_uuid7((uint64_t)time(NULL) * 1000, pg->mark);
    pg->shared = false;
    lvt_pg_query(pg, mark_sql, mark, 1, on_marked, pg);
    /* Behind a pooler the session may hold another client's statements. */
    lvt_pg_query(pg, "DEALLOCATE ALL", NULL, 0, on_setup, pg);
    lvt_pg_query(pg, pg->options.setup, NULL, 0, on_setup, pg);
    for (size_t i = 0; i < pg->options.prepared_count; i++) {
        const struct lvt_pg_prepared *one = &pg->options.prepared[i];
        if (can_send(pg))
            expect(pg, PQsendPrepare(pg->conn, one->name, one->sql, 0, NULL),
                   (struct expected){.done = on_setup, .ctx = pg});
    }
    lvt_pg_sync(pg, on_setup, pg);
    lvt_pg_flush(pg);
}

static void step_connecting(struct lvt_pg *pg) {
    bool waiting = true;
    /* libpq may open another socket with the same number: forget the old one first */
    if (pg->poll)
        uv_poll_stop(pg->poll);
    pg->poll_events = 0;
    switch (PQconnectPoll(pg->conn)) {
    case PGRES_POLLING_READING:
        waiting = poll_for(pg, UV_READABLE);
        break;
    case PGRES_POLLING_WRITING:
        waiting = poll_for(pg, UV_WRITABLE);
        break;
    case PGRES_POLLING_OK:
        set_up(pg);
        return;
    default:
        waiting = false;
        break;
    }
    if (!waiting)
        lose_connection(pg);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct lvt_pg *pg = poll->data;
    (void)events;
    /* libpq finds the error itself, but maybe not before it has read what came before the error;
     * libuv has stopped the handle. */
    if (status < 0)
        pg->poll_events = 0;
    if (pg->state == STATE_CONNECTING)
        step_connecting(pg);
    else
        exchange(pg);
}

static void no_notice(void *ctx, const PGresult *result) {
    (void)ctx;
    (void)result;
}

/* Ours first, where the URL may say otherwise; last what it may not. */
static PGconn *start_connection(struct lvt_pg *pg) {
    const char *keywords[64] = {"fallback_application_name", "keepalives_idle",
                                "keepalives_interval", "keepalives_count", "tcp_user_timeout"};
    const char *values[64] = {pg->options.application, "10", "5", "2", "20000"};
    size_t count = 5;
    for (const PQconninfoOption *o = pg->url; o->keyword && count < 59; o++) {
        if (!o->val || !o->val[0])
            continue;
        keywords[count] = o->keyword;
        values[count++] = o->val;
    }
    if (pg->address.count > 0) {
        keywords[count] = "host";
        values[count++] = pg->address.hosts.data;
        keywords[count] = "hostaddr";
        values[count++] = pg->address.addresses.data;
        keywords[count] = "port";
        values[count++] = pg->address.ports.data;
    }
    keywords[count] = "client_encoding";
    values[count++] = "UTF8";
    keywords[count] = NULL;
    return PQconnectStartParams(keywords, values, 0);
}

static void on_resolved(struct lvt_pg_address *address, bool ok) {
    struct lvt_pg *pg = LVT_CONTAINER_OF(address, struct lvt_pg, address);
    struct leveret_error err;
    if (pg->closing) {
        lvt_pg_close(pg, pg->closed, pg->closed_ctx);
        return;
    }
    if (!ok) {
        leveret_fail(&err, LEVERET_UNAVAILABLE, "%s",
                     address->error[0] ? address->error : "no host was found");
        lose(pg, &err);
        return;
    }
    pg->state = STATE_CONNECTING;
    pg->conn = start_connection(pg);
    if (!pg->conn || PQstatus(pg->conn) == CONNECTION_BAD) {
        lose_connection(pg);
        return;
    }
    PQsetNoticeReceiver(pg->conn, no_notice, NULL);
    PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE); /* which tells the SQLSTATE */
    if (!poll_for(pg, UV_WRITABLE))                  /* as if PQconnectPoll had asked for it */
        lose_connection(pg);
}

static void connect_now(struct lvt_pg *pg) {
    pg->state = STATE_RESOLVING;
    uv_timer_start(&pg->timer, on_deadline, CONNECT_MS, 0);
    lvt_pg_address_resolve(&pg->address, pg->options.loop, pg->url, on_resolved);
}

/* ---- life ---- */

struct lvt_pg *lvt_pg_new(const struct lvt_pg_options *options) {
    struct lvt_pg *pg = calloc(1, sizeof *pg);
    PQconninfoOption *url = PQconninfoParse(options->url, NULL);
    if (!pg || !url) {
        PQconninfoFree(url);
        free(pg);
        return NULL;
    }
    pg->options = *options;
    pg->url = url;
    pg->random = (uint32_t)uv_hrtime() ^ (uint32_t)getpid() << 16;
    lvt_pg_address_init(&pg->address);
    uv_timer_init(options->loop, &pg->timer);
    pg->timer.data = pg;
    return pg;
}

static void on_timer_closed(uv_handle_t *handle) {
    struct lvt_pg *pg = handle->data;
    void (*closed)(void *ctx) = pg->closed;
    void *ctx = pg->closed_ctx;
    lvt_pg_address_free(&pg->address);
    PQconninfoFree(pg->url);
    free(pg);
    closed(ctx);
}

void lvt_pg_close(struct lvt_pg *pg, void (*closed)(void *ctx), void *ctx) {
    pg->closing = true;
    pg->closed = closed;
    pg->closed_ctx = ctx;
    disconnect(pg);
    pg->state = STATE_CLOSED;
    if (pg->address.busy) /* goes on when its callback comes */
        uv_cancel((uv_req_t *)&pg->address.request);
    else
        uv_close((uv_handle_t *)&pg->timer, on_timer_closed);
}

void lvt_pg_open(struct lvt_pg *pg) {
    pg->state = STATE_PAUSED;
    uv_timer_start(&pg->timer, on_pause_over, 0, 0);
}

void lvt_pg_hurry(struct lvt_pg *pg) {
    if (pg->state == STATE_PAUSED)
        uv_timer_start(&pg->timer, on_pause_over, 0, 0);
}

void lvt_pg_well(struct lvt_pg *pg) {
    pg->step = 0;
}

PGTransactionStatusType lvt_pg_transaction_status(const struct lvt_pg *pg) {
    return pg->conn ? PQtransactionStatus(pg->conn) : PQTRANS_UNKNOWN;
}

PGcancel *lvt_pg_cancel(const struct lvt_pg *pg) {
    return pg->conn ? PQgetCancel(pg->conn) : NULL;
}

int lvt_pg_server_pid(const struct lvt_pg *pg) {
    return pg->server_pid;
}

const char *lvt_pg_mark(const struct lvt_pg *pg) {
    return pg->mark;
}

bool lvt_pg_is_shared(const struct lvt_pg *pg) {
    return pg->shared;
}

int lvt_pg_start_pid(const struct lvt_pg *pg) {
    return pg->conn ? PQbackendPID(pg->conn) : 0;
}
