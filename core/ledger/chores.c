/* What the ledger does beside the events, on a connection of its own and one thing at a time:
 * strikes off invalidations that are done, finds those that a crash left behind, and deletes
 * records that are older than the retention. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/state.h"

#define DONE_MAX 10000 /* what is over it stays, is found again, and invalidated twice */
#define SWEEP_MS 30000
#define SWEEP_SOON_MS 1000 /* more are left than one sweep took */
#define SWEEP_ROWS 500
#define EXPIRE_ROWS 10000 /* the index is coarse: each batch has to find its rows anew */
#define EXPIRE_MIN_MS 10000
#define EXPIRE_MAX_MS 3600000
#define EXPIRE_PART 1000 /* of the retention is how long expired rows may stay */
#define FIRST_MS 200

struct lvt_chores {
    struct lvt_ledger *ledger;
    struct lvt_pg *pg;
    uv_timer_t timer;
    bool up, busy, logged;
    uint64_t sweep_due_ms, expire_due_ms; /* by the loop's clock */
    uint64_t expire_began_ms;
    int64_t done[DONE_MAX];
    uint32_t done_count, striking; /* the first `striking` are in the statement under way */
    struct lvt_pg_array numbers;
};

static const char setup_sql[] =
    LVT_SETUP_SQL(" set_config('enable_seqscan', 'off', false)," LVT_NO_JIT_SQL
                  " set_config('lock_timeout', '2s', false),");

static const struct lvt_pg_prepared prepared[] = {
    {"strike", "DELETE FROM pending_invalidations WHERE id = ANY($1::bigint[])"},
    /* A row that has been handed out is due again after another 30 s, if it is still there. */
    {"sweep",
     "UPDATE pending_invalidations SET created_at = now() WHERE id = ANY(ARRAY("
     "  SELECT id FROM pending_invalidations"
     "  WHERE created_at < now() - interval '30 s' ORDER BY id LIMIT $1::text::int"
     "  FOR UPDATE SKIP LOCKED)) RETURNING id, pattern"},
    {"expire",
     "DELETE FROM processed_events WHERE ctid = ANY(ARRAY("
     "  SELECT ctid FROM processed_events WHERE processed_at <"
     "   timezone('utc', now()) - $1::text::bigint * interval '1 ms'"
     "  LIMIT $2::text::int))"
     " AND (SELECT pg_try_advisory_xact_lock(" LVT_LOCK_RETENTION "))"},
};

static void next_chore(struct lvt_chores *chores);

static uint64_t now_ms(const struct lvt_chores *chores) {
    return uv_now(chores->ledger->options.loop);
}

static void on_timer(uv_timer_t *timer) {
    next_chore(timer->data);
}

static void failed(struct lvt_chores *chores, const PGresult *result) {
    struct leveret_error err;
    lvt_pg_explain(result, &err);
    lvt_logf(chores->ledger->options.log, LVT_WARN, "the ledger's housekeeping failed: %s",
             err.text);
}

static void on_synced(void *ctx, PGresult *result) {
    struct lvt_chores *chores = ctx;
    PQclear(result);
    chores->busy = false;
    next_chore(chores);
}

static void send_chore(struct lvt_chores *chores, const char *name,
                       const struct lvt_pg_param *params, size_t param_count, lvt_pg_done *done) {
    chores->busy = true;
    lvt_pg_execute(chores->pg, name, params, param_count, done, chores);
    lvt_pg_sync(chores->pg, on_synced, chores);
    lvt_pg_flush(chores->pg);
}

/* ---- invalidations that are done ---- */

static void on_struck(void *ctx, PGresult *result) {
    struct lvt_chores *chores = ctx;
    if (lvt_pg_failed(result))
        failed(chores, result); /* the sweep finds them again */
    PQclear(result);
    memmove(chores->done, chores->done + chores->striking,
            (chores->done_count - chores->striking) * sizeof chores->done[0]);
    chores->done_count -= chores->striking;
    chores->striking = 0;
}

static bool strike(struct lvt_chores *chores) {
    lvt_pg_array_begin(&chores->numbers);
    for (uint32_t i = 0; i < chores->done_count; i++)
        lvt_pg_array_int8(&chores->numbers, chores->done[i]);
    if (!lvt_pg_array_end(&chores->numbers))
        return false;
    const struct lvt_pg_param numbers = {chores->numbers.buffer.data, chores->numbers.buffer.len,
                                         true};
    chores->striking = chores->done_count;
    send_chore(chores, "strike", &numbers, 1, on_struck);
    return true;
}

void lvt_chores_invalidated(void *self, int64_t number) {
    struct lvt_ledger *ledger = self;
    struct lvt_chores *chores = ledger->chores;
    if (!chores || ledger->closing || chores->done_count == DONE_MAX)
        return;
    chores->done[chores->done_count++] = number;
    if (chores->up && !chores->busy)
        uv_timer_start(&chores->timer, on_timer, 0, 0);
}

/* ---- invalidations left behind ---- */

static void on_swept(void *ctx, PGresult *result) {
    struct lvt_chores *chores = ctx;
    const struct lvt_ledger_sink *sink = &chores->ledger->options.sink;
    bool full = false;
    if (lvt_pg_failed(result)) {
        failed(chores, result);
    } else {
        full = PQntuples(result) == SWEEP_ROWS;
        for (int row = 0; row < PQntuples(result); row++)
            sink->invalidation_due(
                sink->ctx, lvt_claims_lock_key((const unsigned char *)PQgetvalue(result, row, 0)),
                lvt_bytes(PQgetvalue(result, row, 1), (size_t)PQgetlength(result, row, 1)));
    }
    PQclear(result);
    chores->sweep_due_ms = now_ms(chores) + (full ? SWEEP_SOON_MS : SWEEP_MS);
}

static void sweep(struct lvt_chores *chores) {
    char limit[16];
    const struct lvt_pg_param param = {limit, 0, false};
    snprintf(limit, sizeof limit, "%d", SWEEP_ROWS);
    send_chore(chores, "sweep", &param, 1, on_swept);
}

/* ---- retention ---- */

static void on_expired(void *ctx, PGresult *result) {
    struct lvt_chores *chores = ctx;
    uint64_t took_ms = now_ms(chores) - chores->expire_began_ms;
    uint64_t pause_ms = chores->ledger->options.retention_ms / EXPIRE_PART;
    uint64_t rows = 0;
    if (lvt_pg_failed(result))
        failed(chores, result);
    else
        rows = strtoull(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    if (pause_ms < EXPIRE_MIN_MS)
        pause_ms = EXPIRE_MIN_MS;
    if (pause_ms > EXPIRE_MAX_MS)
        pause_ms = EXPIRE_MAX_MS;
    if (rows == EXPIRE_ROWS) /* there are more; the server rests as long as it has worked */
        pause_ms = took_ms + 10;
    chores->expire_due_ms = now_ms(chores) + pause_ms;
}

static void expire(struct lvt_chores *chores) {
    char retention[24], limit[16];
    const struct lvt_pg_param params[] = {{retention, 0, false}, {limit, 0, false}};
    snprintf(retention, sizeof retention, "%llu",
             (unsigned long long)chores->ledger->options.retention_ms);
    snprintf(limit, sizeof limit, "%d", EXPIRE_ROWS);
    chores->expire_began_ms = now_ms(chores);
    send_chore(chores, "expire", params, 2, on_expired);
}

/* ---- one after the other ---- */

static void next_chore(struct lvt_chores *chores) {
    uint64_t now = now_ms(chores), due = chores->sweep_due_ms;
    if (!chores->up || chores->busy || chores->ledger->closing)
        return;
    if (chores->done_count > 0 && strike(chores))
        return;
    if (chores->sweep_due_ms <= now) {
        sweep(chores);
        return;
    }
    if (chores->ledger->options.retention_ms > 0) {
        if (chores->expire_due_ms <= now) {
            expire(chores);
            return;
        }
        if (chores->expire_due_ms < due)
            due = chores->expire_due_ms;
    }
    uv_timer_start(&chores->timer, on_timer, due - now, 0);
}

static void on_up(void *ctx) {
    struct lvt_chores *chores = ctx;
    chores->up = true;
    chores->logged = false;
    lvt_pg_well(chores->pg);
    lvt_session_second(chores->ledger);
    next_chore(chores);
}

static void lost(struct lvt_chores *chores) {
    chores->up = chores->busy = false;
    chores->striking = 0;
    uv_timer_stop(&chores->timer);
}

static void on_down(void *ctx, const struct leveret_error *err) {
    struct lvt_chores *chores = ctx;
    /* while the session that holds the locks is away, that one tells the log */
    if (chores->ledger->session == LVT_SESSION_READY && !chores->logged) {
        chores->logged = true;
        lvt_logf(chores->ledger->options.log, LVT_WARN,
                 "the ledger's housekeeping has no connection, trying again: %s", err->text);
    }
    lost(chores);
    lvt_session_no_second(chores->ledger, chores->pg, err);
}

/* ---- life ---- */

bool lvt_chores_init(struct lvt_ledger *ledger) {
    struct lvt_chores *chores = calloc(1, sizeof *chores);
    const struct lvt_pg_options options = {
        .url = ledger->url,
        .application = ledger->application,
        .setup = setup_sql,
        .prepared = prepared,
        .prepared_count = sizeof prepared / sizeof prepared[0],
        .loop = ledger->options.loop,
        .ctx = chores,
        .up = on_up,
        .down = on_down,
    };
    if (!chores)
        return false;
    chores->pg = lvt_pg_new(&options);
    if (!chores->pg) {
        free(chores);
        return false;
    }
    chores->ledger = ledger;
    lvt_pg_array_init(&chores->numbers, LVT_PG_INT8);
    uv_timer_init(ledger->options.loop, &chores->timer);
    chores->timer.data = chores;
    chores->sweep_due_ms = now_ms(chores) + FIRST_MS;
    chores->expire_due_ms = now_ms(chores) + FIRST_MS;
    ledger->chores = chores;
    return true;
}

void lvt_chores_open(struct lvt_ledger *ledger) {
    lvt_pg_open(ledger->chores->pg);
}

void lvt_chores_reopen(struct lvt_ledger *ledger) {
    struct lvt_chores *chores = ledger->chores;
    if (chores->up) {
        lvt_pg_drop(chores->pg);
        lost(chores);
    }
    lvt_pg_hurry(chores->pg);
}

static void on_timer_closed(uv_handle_t *handle) {
    const struct lvt_chores *chores = handle->data;
    lvt_ledger_count_closed(chores->ledger);
}

void lvt_chores_close(struct lvt_ledger *ledger) {
    struct lvt_chores *chores = ledger->chores;
    if (!chores)
        return;
    chores->up = false;
    ledger->open_handles += 2;
    uv_close((uv_handle_t *)&chores->timer, on_timer_closed);
    lvt_pg_close(chores->pg, lvt_ledger_count_closed, ledger);
}

void lvt_chores_free(struct lvt_ledger *ledger) {
    if (!ledger->chores)
        return;
    lvt_pg_array_free(&ledger->chores->numbers);
    free(ledger->chores);
    ledger->chores = NULL;
}
