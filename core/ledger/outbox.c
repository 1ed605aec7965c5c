/* Relays the outbox: one worker of all that share the database, on a connection of its own. Rows
 * are read in batches, given to the engine, and marked as they come back; a batch is over before
 * the next is read. There is no NOTIFY: it would serialise the commits of the whole server. The
 * pause between two looks grows while there is nothing to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/outbox_batch.h"
#include "ledger/state.h"

/* How soon another worker takes over. */
#define LEAD_MS 1000
#define LOOK_MIN_MS 20
#define LOOK_MAX_MS 500
/* Rows of one batch, and bytes of their payloads and headers, which one row alone may exceed. */
#define BATCH_ROWS "2000"
#define BATCH_BYTES "8388608"
#define HEADERS_BYTES "1048576"
/* Marked at once while a batch is under way. */
#define MARK_ROWS 500
#define COUNT_MS 5000
#define COUNT_ROWS "100000"
#define EXPIRE_MS 10000
/* What was confirmed is marked before the end, lest an orderly restart send it again. */
#define CLOSE_MS 2000
#define EXPIRE_ROWS 10000

/* What the connection is doing. */
enum step { STEP_NONE, STEP_LEAD, STEP_READ, STEP_MARK, STEP_COUNT, STEP_EXPIRE };

struct lvt_outbox {
    struct lvt_ledger *ledger;
    struct lvt_pg *pg;
    uv_timer_t timer;
    bool up, leading, logged;
    enum step step;
    uint64_t look_ms;                                  /* the pause between two looks */
    uint64_t read_due_ms, count_due_ms, expire_due_ms; /* by the loop's clock */
    struct lvt_outbox_batch *batch;                    /* under way; NULL: none */
    uint32_t sent;                                     /* of the batch */
    struct lvt_outbox_marks marks, marking; /* to be marked, and in the statement under way */
    int64_t pending, lag_ms, failed;
};

#define UNSENT "sent_at IS NULL AND failed_at IS NULL"

static const char setup_sql[] = LVT_SETUP_SQL(
    " set_config('enable_seqscan', 'off', false)," LVT_NO_JIT_SQL
    /* a mark that is lost has its event sent again, and taken for the duplicate that it is */
    " set_config('synchronous_commit', 'off', false),"
    " set_config('lock_timeout', '2s', false),");

static const struct lvt_pg_prepared prepared[] = {
    /* The table's own number makes it a lock of this outbox, and not of another schema's. */
    {"lead", "SELECT pg_try_advisory_lock(" LVT_LOCK_OUTBOX
             ", ('outbox'::regclass::oid::bigint - 2147483648)::int)"},
    {"mark",
     "UPDATE outbox SET sent_at = clock_timestamp(), error = NULL"
     " WHERE id = ANY($1::bigint[]) AND sent_at IS NULL"},
    {"strike", "DELETE FROM outbox WHERE id = ANY($1::bigint[])"},
    {"delay",
     "UPDATE outbox o SET tries = o.tries + 1, error = u.error,"
     "  due_at = clock_timestamp() + least(300, 2 ^ least(o.tries, 10)) * interval '1 s'"
     " FROM unnest($1::bigint[], $2::text[]) u(id, error) WHERE o.id = u.id AND o.sent_at IS NULL"},
    {"fail",
     "UPDATE outbox o SET failed_at = clock_timestamp(), error = u.error"
     " FROM unnest($1::bigint[], $2::text[]) u(id, error) WHERE o.id = u.id AND o.sent_at IS NULL"},
    {"count",
     "SELECT count(*), coalesce((extract(epoch FROM clock_timestamp() -"
     "  min(created_at) FILTER (WHERE isfinite(created_at))) * 1000)::bigint, 0),"
     " (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE failed_at IS NOT NULL"
     "  LIMIT " COUNT_ROWS ") f)"
     " FROM (SELECT created_at FROM outbox WHERE " UNSENT " LIMIT " COUNT_ROWS ") o"},
    {"expire",
     "DELETE FROM outbox WHERE ctid = ANY(ARRAY("
     " SELECT ctid FROM outbox WHERE sent_at <"
     "  now() - $1::text::bigint * interval '1 ms' LIMIT $2::text::int))"},
};

/* A row of a key waits until the one before it, which was not taken, has been. Rows are anybody's
 * to write: what is too long to be published is not read, and no number fails the statement, which
 * would hold up all of them. */
static const char read_sql[] =
    "SELECT id, event, CASE WHEN octet_length(payload) <= $1::bigint THEN payload END, event_id, "
    "key,"
    " exchange, queue,"
    " CASE WHEN delay_ms BETWEEN 1 AND 4294967295 THEN greatest(0, delay_ms - age_ms)"
    "  ELSE delay_ms END,"
    " ttl_ms, priority, max_attempts,"
    " CASE WHEN octet_length(headers) <= " HEADERS_BYTES
    " THEN headers END, whole FROM ("
    "  SELECT *, sum(octet_length(payload) + octet_length(headers)) OVER (ORDER BY due_at, id)"
    "   - octet_length(payload) - octet_length(headers) AS before FROM ("
    "   SELECT id, left(event, 256) AS event, payload::text, left(event_id, 256) AS event_id,"
    "    key, left(exchange, 256) AS exchange, left(queue, 256) AS queue, "
    "delay_ms,"
    "    ttl_ms, priority, max_attempts, headers::text, whole, due_at,"
    "    CASE WHEN isfinite(created_at)"
    "     THEN (extract(epoch FROM clock_timestamp() - created_at) * 1000)::bigint ELSE 0 END"
    "     AS age_ms"
    "    FROM outbox o WHERE " UNSENT
    " AND due_at <= clock_timestamp() AND (key = '' OR NOT EXISTS ("
    "    SELECT 1 FROM outbox e WHERE e.sent_at IS NULL AND e.failed_at IS NULL AND e.tries > 0"
    "     AND e.key <> '' AND e.key = o.key AND e.id < o.id))"
    "   ORDER BY due_at, id LIMIT " BATCH_ROWS
    ") r) w"
    " WHERE before < " BATCH_BYTES " ORDER BY due_at, id";

static void next_step(struct lvt_outbox *outbox);

static uint64_t now_ms(const struct lvt_outbox *outbox) {
    return uv_now(outbox->ledger->options.loop);
}

static void on_timer(uv_timer_t *timer) {
    next_step(timer->data);
}

static void wake_in(struct lvt_outbox *outbox, uint64_t delay_ms) {
    if (outbox->up && !outbox->ledger->closing)
        uv_timer_start(&outbox->timer, on_timer, delay_ms, 0);
}

/* True when the statement failed, which the log is told. */
static bool failed(struct lvt_outbox *outbox, const PGresult *result) {
    struct leveret_error err;
    if (!lvt_pg_failed(result))
        return false;
    if (PQresultStatus(result) != PGRES_PIPELINE_ABORTED) {
        lvt_pg_explain(result, &err);
        lvt_logf(outbox->ledger->options.log, LVT_WARN, "the outbox's relay failed: %s", err.text);
    }
    return true;
}

static void on_synced(void *ctx, PGresult *result) {
    struct lvt_outbox *outbox = ctx;
    PQclear(result);
    outbox->step = STEP_NONE;
    next_step(outbox);
}

static void send_step(struct lvt_outbox *outbox, enum step step) {
    outbox->step = step;
    lvt_pg_sync(outbox->pg, on_synced, outbox);
    lvt_pg_flush(outbox->pg);
}

/* ---- leading ---- */

static void on_led(void *ctx, PGresult *result) {
    struct lvt_outbox *outbox = ctx;
    bool got = !failed(outbox, result) && PQgetvalue(result, 0, 0)[0] == 1; /* in binary */
    PQclear(result);
    outbox->read_due_ms = now_ms(outbox) + (got ? 0 : LEAD_MS);
    outbox->leading = got;
    outbox->look_ms = LOOK_MIN_MS;
    outbox->count_due_ms = outbox->expire_due_ms = now_ms(outbox);
    if (got)
        lvt_logf(outbox->ledger->options.log, LVT_INFO, "relays the outbox");
}

static void lead(struct lvt_outbox *outbox) {
    lvt_pg_execute(outbox->pg, "lead", NULL, 0, on_led, outbox);
    send_step(outbox, STEP_LEAD);
}

/* ---- reading ---- */

/* With nothing to do the next look comes later and later; with a full table at once. */
static void plan_read(struct lvt_outbox *outbox, bool worked) {
    if (worked)
        outbox->look_ms = LOOK_MIN_MS;
    outbox->read_due_ms = now_ms(outbox) + (worked ? 0 : outbox->look_ms);
    if (!worked && (outbox->look_ms *= 2) > LOOK_MAX_MS)
        outbox->look_ms = LOOK_MAX_MS;
}

static void end_batch(struct lvt_outbox *outbox) {
    lvt_outbox_batch_free(outbox->batch);
    outbox->batch = NULL;
    plan_read(outbox, outbox->sent > 0);
}

static void on_read(void *ctx, PGresult *result) {
    struct lvt_outbox *outbox = ctx;
    const struct lvt_ledger_sink *sink = &outbox->ledger->options.sink;
    outbox->sent = 0;
    if (failed(outbox, result) || PQntuples(result) == 0 || outbox->ledger->closing) {
        PQclear(result);
        plan_read(outbox, false);
        return;
    }
    outbox->batch = lvt_outbox_batch_new(result); /* owns the result, also when it fails */
    if (!outbox->batch) {
        plan_read(outbox, false);
        return;
    }
    struct lvt_outbox_row *list = lvt_outbox_batch_rows(outbox->batch, &outbox->marks);
    if (list)
        sink->outbox_due(sink->ctx, list);
}

static void read_batch(struct lvt_outbox *outbox) {
    char most[24];
    const char *const params[] = {most};
    snprintf(most, sizeof most, "%llu", (unsigned long long)outbox->ledger->options.max_body_bytes);
    lvt_pg_query(outbox->pg, read_sql, params, 1, on_read, outbox);
    send_step(outbox, STEP_READ);
}

/* ---- marking ---- */

/* Not marked, they are sent again: after a pause, lest it go round at full speed. */
static void on_marked(void *ctx, PGresult *result) {
    struct lvt_outbox *outbox = ctx;
    if (failed(outbox, result))
        outbox->sent = 0;
    PQclear(result);
}

static bool send_marks(struct lvt_outbox *outbox, const char *name, struct lvt_outbox_list *list,
                       bool reasons) {
    if (list->ids.count == 0)
        return true;
    if (!lvt_pg_array_end(&list->ids) || !lvt_pg_array_end(&list->reasons))
        return false;
    const struct lvt_pg_param params[] = {
        {list->ids.buffer.data, list->ids.buffer.len, true},
        {list->reasons.buffer.data, list->reasons.buffer.len, true}};
    lvt_pg_execute(outbox->pg, name, params, reasons ? 2 : 1, on_marked, outbox);
    return true;
}

static void log_marks(struct lvt_outbox *outbox) {
    const struct lvt_outbox_marks *marks = &outbox->marking;
    const struct lvt_log *log = outbox->ledger->options.log;
    if (marks->later.ids.count > 0)
        LVT_LOG(log, LVT_WARN, "events of the outbox were not taken; trying again later",
                LVT_INTEGER("events", (int64_t)marks->later.ids.count),
                LVT_INTEGER("first", marks->later.first),
                LVT_STRING("reason", marks->later.first_reason));
    if (marks->wrong.ids.count > 0)
        LVT_LOG(log, LVT_ERROR,
                "events of the outbox cannot be published; they stay there, with failed_at set",
                LVT_INTEGER("events", (int64_t)marks->wrong.ids.count),
                LVT_INTEGER("first", marks->wrong.first),
                LVT_STRING("reason", marks->wrong.first_reason));
}

static void mark(struct lvt_outbox *outbox) {
    struct lvt_outbox_marks *marks = &outbox->marking;
    const struct lvt_outbox_marks full = outbox->marks;
    outbox->marks = *marks;
    *marks = full;
    log_marks(outbox);
    bool keep = outbox->ledger->options.outbox_retention_ms > 0;
    bool sent = send_marks(outbox, keep ? "mark" : "strike", &marks->sent, false) &&
                send_marks(outbox, "delay", &marks->later, true) &&
                send_marks(outbox, "fail", &marks->wrong, true);
    if (!sent)
        lvt_logf(outbox->ledger->options.log, LVT_ERROR,
                 "out of memory: events of the outbox will be sent twice");
    lvt_outbox_marks_clear(&outbox->marks);
    send_step(outbox, STEP_MARK);
}

/* ---- counting, and the end of rows that were sent ---- */

static int64_t integer(const PGresult *result, int column) {
    return lvt_claims_lock_key((const unsigned char *)PQgetvalue(result, 0, column));
}

static void on_counted(void *ctx, PGresult *result) {
    struct lvt_outbox *outbox = ctx;
    if (!failed(outbox, result)) {
        outbox->pending = integer(result, 0);
        outbox->lag_ms = integer(result, 1);
        outbox->failed = integer(result, 2);
    }
    PQclear(result);
    outbox->count_due_ms = now_ms(outbox) + COUNT_MS;
}

static void count(struct lvt_outbox *outbox) {
    lvt_pg_execute(outbox->pg, "count", NULL, 0, on_counted, outbox);
    send_step(outbox, STEP_COUNT);
}

static void on_expired(void *ctx, PGresult *result) {
    struct lvt_outbox *outbox = ctx;
    bool more = !failed(outbox, result) && atoi(PQcmdTuples(result)) == EXPIRE_ROWS;
    PQclear(result);
    outbox->expire_due_ms = now_ms(outbox) + (more ? LOOK_MAX_MS : EXPIRE_MS);
}

static void expire(struct lvt_outbox *outbox) {
    char retention[24], limit[16];
    const struct lvt_pg_param params[] = {{retention, 0, false}, {limit, 0, false}};
    snprintf(retention, sizeof retention, "%llu",
             (unsigned long long)outbox->ledger->options.outbox_retention_ms);
    snprintf(limit, sizeof limit, "%d", EXPIRE_ROWS);
    lvt_pg_execute(outbox->pg, "expire", params, 2, on_expired, outbox);
    send_step(outbox, STEP_EXPIRE);
}

/* ---- the end ---- */

static void on_timer_closed(uv_handle_t *handle) {
    const struct lvt_outbox *outbox = handle->data;
    lvt_ledger_count_closed(outbox->ledger);
}

static void close_now(struct lvt_outbox *outbox) {
    outbox->up = false;
    uv_close((uv_handle_t *)&outbox->timer, on_timer_closed);
    lvt_pg_close(outbox->pg, lvt_ledger_count_closed, outbox->ledger);
}

static void on_close_due(uv_timer_t *timer) {
    close_now(timer->data);
}

/* Not in a callback of the session. */
static void close_soon(struct lvt_outbox *outbox) {
    uv_timer_start(&outbox->timer, on_close_due, 0, 0);
}

static void close_step(struct lvt_outbox *outbox) {
    if (lvt_outbox_marks_count(&outbox->marks) > 0)
        mark(outbox);
    else
        close_soon(outbox);
}

void lvt_outbox_close(struct lvt_ledger *ledger) {
    struct lvt_outbox *outbox = ledger->outbox;
    if (!outbox)
        return;
    ledger->open_handles += 2;
    if (!outbox->up) {
        close_now(outbox);
        return;
    }
    uv_timer_start(&outbox->timer, on_close_due, CLOSE_MS, 0);
    next_step(outbox);
}

/* ---- one after the other ---- */

static bool wants_mark(const struct lvt_outbox *outbox) {
    uint32_t count = lvt_outbox_marks_count(&outbox->marks);
    bool over = !outbox->batch || lvt_outbox_batch_open(outbox->batch) == 0;
    return count > 0 && (over || count >= MARK_ROWS);
}

static void sleep_until_due(struct lvt_outbox *outbox) {
    uint64_t now = now_ms(outbox), due = outbox->count_due_ms;
    if (outbox->expire_due_ms < due)
        due = outbox->expire_due_ms;
    if (!outbox->leading || (!outbox->batch && outbox->read_due_ms < due))
        due = outbox->read_due_ms;
    wake_in(outbox, due > now ? due - now : 0);
}

static void next_step(struct lvt_outbox *outbox) {
    uint64_t now = now_ms(outbox);
    if (!outbox->up || outbox->step != STEP_NONE)
        return;
    if (outbox->ledger->closing) {
        close_step(outbox);
        return;
    }
    if (wants_mark(outbox)) {
        mark(outbox);
        return;
    }
    if (outbox->batch && lvt_outbox_batch_open(outbox->batch) == 0)
        end_batch(outbox);
    if (!outbox->leading && outbox->read_due_ms <= now)
        lead(outbox);
    else if (outbox->leading && outbox->count_due_ms <= now)
        count(outbox);
    else if (outbox->leading && outbox->expire_due_ms <= now)
        expire(outbox);
    else if (outbox->leading && !outbox->batch && outbox->read_due_ms <= now)
        read_batch(outbox);
    else
        sleep_until_due(outbox);
}

void lvt_outbox_done(void *self, struct lvt_outbox_row *row) {
    struct lvt_ledger *ledger = self;
    struct lvt_outbox *outbox = ledger->outbox;
    outbox->sent += row->result == LVT_OUTBOX_SENT;
    lvt_outbox_batch_close(outbox->batch, row, &outbox->marks);
    /* Not before the call has returned: the engine may be going through the batch. */
    if (outbox->step == STEP_NONE && wants_mark(outbox))
        wake_in(outbox, 0);
    else if (outbox->step == STEP_NONE && lvt_outbox_batch_open(outbox->batch) == 0)
        wake_in(outbox, 0);
}

void lvt_outbox_look(struct lvt_ledger *ledger) {
    struct lvt_outbox *outbox = ledger->outbox;
    if (!outbox || !outbox->leading || outbox->batch)
        return;
    outbox->read_due_ms = now_ms(outbox);
    if (outbox->step == STEP_NONE)
        wake_in(outbox, 0);
}

void lvt_outbox_status(const struct lvt_ledger *ledger, struct lvt_outbox_status *ret_status) {
    const struct lvt_outbox *outbox = ledger->outbox;
    *ret_status = (struct lvt_outbox_status){.pending = -1, .lag_ms = -1, .failed = -1};
    if (outbox && outbox->leading)
        *ret_status = (struct lvt_outbox_status){.relaying = true,
                                                 .pending = outbox->pending,
                                                 .lag_ms = outbox->lag_ms,
                                                 .failed = outbox->failed};
}

/* ---- life ---- */

static void on_up(void *ctx) {
    struct lvt_outbox *outbox = ctx;
    outbox->up = true;
    outbox->logged = false;
    outbox->step = STEP_NONE;
    outbox->read_due_ms = now_ms(outbox);
    lvt_pg_well(outbox->pg);
    next_step(outbox);
}

static void on_down(void *ctx, const struct leveret_error *err) {
    struct lvt_outbox *outbox = ctx;
    /* while the session that holds the locks is away, that one tells the log */
    if (outbox->ledger->session == LVT_SESSION_READY && !outbox->logged) {
        outbox->logged = true;
        lvt_logf(outbox->ledger->options.log, LVT_WARN,
                 "the outbox's relay has no connection, trying again: %s", err->text);
    }
    outbox->up = outbox->leading = false;
    outbox->pending = outbox->lag_ms = outbox->failed = -1;
    uv_timer_stop(&outbox->timer);
    lvt_session_no_second(outbox->ledger, outbox->pg, err);
    if (outbox->ledger->closing)
        close_soon(outbox);
}

bool lvt_outbox_init(struct lvt_ledger *ledger) {
    struct lvt_outbox *outbox = calloc(1, sizeof *outbox);
    const struct lvt_pg_options options = {
        .url = ledger->url,
        .application = ledger->application,
        .setup = setup_sql,
        .prepared = prepared,
        .prepared_count = sizeof prepared / sizeof prepared[0],
        .eager = true,
        .loop = ledger->options.loop,
        .ctx = outbox,
        .up = on_up,
        .down = on_down,
    };
    if (!outbox)
        return false;
    outbox->pg = lvt_pg_new(&options);
    if (!outbox->pg) {
        free(outbox);
        return false;
    }
    outbox->ledger = ledger;
    outbox->pending = outbox->lag_ms = outbox->failed = -1;
    lvt_outbox_marks_init(&outbox->marks);
    lvt_outbox_marks_init(&outbox->marking);
    uv_timer_init(ledger->options.loop, &outbox->timer);
    outbox->timer.data = outbox;
    ledger->outbox = outbox;
    return true;
}

void lvt_outbox_open(struct lvt_ledger *ledger) {
    lvt_pg_open(ledger->outbox->pg);
}

void lvt_outbox_free(struct lvt_ledger *ledger) {
    struct lvt_outbox *outbox = ledger->outbox;
    if (!outbox)
        return;
    lvt_outbox_batch_free(outbox->batch);
    lvt_outbox_marks_free(&outbox->marks);
    lvt_outbox_marks_free(&outbox->marking);
    free(outbox);
    ledger->outbox = NULL;
}
