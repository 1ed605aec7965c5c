/* The session that holds the locks: its checks, what happens when it is lost, and how everything in
 * hand is locked again before any new claim. */
#include <stdlib.h>
#include <string.h>

#include "ledger/state.h"

#define GHOST_LOOKS 60
#define GHOST_LOOK_MS 50
#define RELOCK_PAUSE_MS 500

/* The planner must use the key's index whatever it believes about the table's size. */
static const char setup_sql[] =
    LVT_SETUP_SQL(" set_config('enable_seqscan', 'off', false)," LVT_NO_JIT_SQL
                  " set_config('plan_cache_mode', 'force_generic_plan', false),"
                  " set_config('statement_timeout', '0', false),"
                  " set_config('lock_timeout', '500ms', false),");

#define INSERT_SQL                                                                                 \
    "INSERT INTO processed_events"                                                                 \
    " (id, event_id, event_type, queue, processor_name, processed_at)"                             \
    " SELECT k, i, t, q, $5::text, timezone('utc', now())"                                         \
    " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) u(k, i, t, q)"

static const struct lvt_pg_prepared prepared[] = {
    {"unlock",
     "SELECT count(*) FROM (SELECT pg_advisory_unlock(k) FROM unnest($1::bigint[]) k"
     " OFFSET 0) u"},
    /* In another's session none is taken, and 0 is no place. */
    {"lock",
     "SELECT 0::bigint WHERE " LVT_PG_MARK_SQL " IS DISTINCT FROM $2::text"
     " UNION ALL SELECT n FROM unnest($1::bigint[]) WITH ORDINALITY t(k, n)"
     " WHERE " LVT_PG_MARK_SQL " IS NOT DISTINCT FROM $2::text AND NOT pg_try_advisory_lock(k)"},
    {"relock", "SELECT k FROM unnest($1::bigint[]) k WHERE NOT pg_try_advisory_lock(k)"},
    {"look_up", "SELECT id FROM processed_events WHERE id = ANY($1::uuid[])"},
    {"insert", INSERT_SQL},
    {"insert_missing", INSERT_SQL " ON CONFLICT (id) DO NOTHING"},
};

static const char check_sql[] =
    "SELECT pg_backend_pid(), current_setting('synchronous_commit'),"
    " current_setting('server_encoding'), current_setting('enable_seqscan'),"
    " current_setting('fsync'),"
    " current_setting('max_locks_per_transaction')::bigint *"
    "  (current_setting('max_connections')::bigint +"
    "   current_setting('max_prepared_transactions')::bigint),"
    " pg_is_in_recovery(), s.version,"
    " coalesce(s.legacy_newest >= timezone('utc', now()) - interval '1 day'"
    "   - $1::bigint * interval '1 ms' OR (s.legacy_newest IS NOT NULL AND $1::bigint = 0), false),"
    " (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid())"
    " FROM leveret_schema s";

enum check_column {
    CHECK_PID,
    CHECK_COMMIT,
    CHECK_ENCODING,
    CHECK_SEQSCAN,
    CHECK_FSYNC,
    CHECK_LOCKS,
    CHECK_STANDBY,
    CHECK_VERSION,
    CHECK_LEGACY,
    CHECK_BEGAN,
};

static void wait_for_second(struct lvt_ledger *ledger);
static void end_ghost(struct lvt_ledger *ledger);
static void lock_in_hand(struct lvt_ledger *ledger);

/* ---- losing it ---- */

static void away(struct lvt_ledger *ledger, const struct leveret_error *err) {
    bool was_ready = ledger->session == LVT_SESSION_READY;
    ledger->session = LVT_SESSION_AWAY;
    if (err->code == LEVERET_CONFIG)
        ledger->sure_of_pooler = false;
    uv_timer_stop(&ledger->session_timer);
    ledger->unlock_count = 0;
    lvt_round_lost(ledger);
    if (err->code == LEVERET_CONFIG && !ledger->was_ready) {
        ledger->failed = true; /* the host's to report */
        ledger->failure = *err;
    } else if (strcmp(ledger->logged, err->text) != 0) {
        strcpy(ledger->logged, err->text);
        lvt_logf(ledger->options.log, err->code == LEVERET_CONFIG ? LVT_ERROR : LVT_WARN,
                 "PostgreSQL is away, trying again: %s", err->text);
    }
    if (was_ready)
        ledger->options.sink.ready_changed(ledger->options.sink.ctx, false);
}

static void on_down(void *ctx, const struct leveret_error *err) {
    away(ctx, err);
}

void lvt_session_fail(struct lvt_ledger *ledger, const struct leveret_error *err) {
    const struct leveret_error copy = *err;
    lvt_pg_drop(ledger->pg);
    away(ledger, &copy);
}

/* An error of one of the session's own statements. */
static bool ended_it(struct lvt_ledger *ledger, PGresult *result) {
    struct leveret_error err;
    if (!lvt_pg_failed(result))
        return false;
    lvt_pg_explain(result, &err);
    PQclear(result);
    lvt_session_fail(ledger, &err);
    return true;
}

/* ---- checks ---- */

static void refuse(struct lvt_ledger *ledger, const char *text) {
    struct leveret_error err;
    leveret_fail(&err, LEVERET_CONFIG, "%s", text);
    lvt_session_fail(ledger, &err);
}

static bool is_pooled(const struct lvt_ledger *ledger) {
    return lvt_pg_start_pid(ledger->pg) != lvt_pg_server_pid(ledger->pg);
}

static void warn(struct lvt_ledger *ledger, const PGresult *row) {
    long long locks = atoll(PQgetvalue(row, 0, CHECK_LOCKS));
    const struct lvt_log *log = ledger->options.log;
    if (ledger->was_ready)
        return;
    if ((long long)ledger->options.max_claims * 2 > locks)
        lvt_logf(log, LVT_WARN,
                 "ledger.max_claims is %u, and PostgreSQL's lock table is sure of %lld locks for "
                 "everybody: lower it, or raise max_locks_per_transaction",
                 ledger->options.max_claims, locks);
    if (strcmp(PQgetvalue(row, 0, CHECK_FSYNC), "off") == 0)
        lvt_logf(
            log, LVT_WARN,
            "PostgreSQL runs with fsync = off: a crash of its machine loses records, and their "
            "events run again");
    if (is_pooled(ledger))
        lvt_logf(log, LVT_WARN,
                 "a pooler stands between here and PostgreSQL: it must pool by session "
                 "(pool_mode = session)");
}

static void on_checked(void *ctx, PGresult *result) {
    struct lvt_ledger *ledger = ctx;
    if (ended_it(ledger, result))
        return;
    const char *problem = NULL;
    if (PQntuples(result) != 1 || atoi(PQgetvalue(result, 0, CHECK_VERSION)) < LVT_SCHEMA_VERSION)
        problem = "the tables are of an older version; run `leveret migrate`";
    else if (atoi(PQgetvalue(result, 0, CHECK_PID)) != lvt_pg_server_pid(ledger->pg) ||
             strcmp(PQgetvalue(result, 0, CHECK_SEQSCAN), "off") != 0)
        problem =
            "the session changes under the worker: a pooler in between pools by transaction; "
            "it must pool by session (pool_mode = session)";
    else if (strcmp(PQgetvalue(result, 0, CHECK_COMMIT), "on") != 0 &&
             strcmp(PQgetvalue(result, 0, CHECK_COMMIT), "remote_apply") != 0)
        problem = "synchronous_commit cannot be turned on: acknowledged events could be lost";
    else if (strcmp(PQgetvalue(result, 0, CHECK_ENCODING), "UTF8") != 0)
        problem = "the database's encoding is not UTF8; create one with ENCODING 'UTF8'";
    if (problem) {
        PQclear(result);
        refuse(ledger, problem);
        return;
    }
    if (PQgetvalue(result, 0, CHECK_STANDBY)[0] == 't') {
        struct leveret_error err;
        PQclear(result);
        leveret_fail(&err, LEVERET_UNAVAILABLE, "the server is a standby, which only reads");
        lvt_session_fail(ledger, &err);
        return;
    }
    warn(ledger, result);
    ledger->legacy = PQgetvalue(result, 0, CHECK_LEGACY)[0] == 't';
    snprintf(ledger->began, sizeof ledger->began, "%s", PQgetvalue(result, 0, CHECK_BEGAN));
    PQclear(result);
    ledger->lock_tries = 0;
    wait_for_second(ledger);
}

static void on_up(void *ctx) {
    struct lvt_ledger *ledger = ctx;
    char retention[24];
    const char *params[] = {retention};
    snprintf(retention, sizeof retention, "%llu", (unsigned long long)ledger->options.retention_ms);
    ledger->session = LVT_SESSION_CHECKING;
    lvt_pg_query(ledger->pg, check_sql, params, 1, on_checked, ledger);
    lvt_pg_sync(ledger->pg, NULL, NULL);
    lvt_pg_flush(ledger->pg);
}

/* ---- a second session ---- */

/* A pooler that does not pool by session shows with the second connection, which gets the session
 * of the first as soon as that one rests. So the others are opened only now, and behind a pooler in
 * doubt the session waits for one that is set up after it. */
static void wait_for_second(struct lvt_ledger *ledger) {
    bool first = ledger->chores && !ledger->others_opened;
    bool waits = ledger->chores && !ledger->sure_of_pooler && is_pooled(ledger);
    ledger->session = LVT_SESSION_ALONE;
    if (first) {
        ledger->others_opened = true;
        lvt_chores_open(ledger);
        lvt_outbox_open(ledger);
    } else if (waits) {
        lvt_chores_reopen(ledger);
    }
    if (!waits)
        lvt_session_second(ledger);
}

void lvt_session_second(struct lvt_ledger *ledger) {
    if (ledger->session != LVT_SESSION_ALONE)
        return;
    ledger->sure_of_pooler = true;
    end_ghost(ledger);
}

void lvt_session_no_second(struct lvt_ledger *ledger, const struct lvt_pg *other,
                           const struct leveret_error *err) {
    struct leveret_error why;
    if (lvt_pg_is_shared(other) && ledger->session != LVT_SESSION_AWAY && is_pooled(ledger)) {
        lvt_session_fail(ledger, err);
    } else if (ledger->session == LVT_SESSION_ALONE) {
        leveret_fail(&why, err->code,
                     "there is no second connection (has the pooler's pool_size room for it?): %s",
                     err->text);
        lvt_session_fail(ledger, &why);
    }
}

/* ---- the session before ---- */

static void on_look_due(uv_timer_t *timer) {
    end_ghost(timer->data);
}

static void on_ghost_ended(void *ctx, PGresult *result) {
    struct lvt_ledger *ledger = ctx;
    bool gone = !lvt_pg_failed(result) && strcmp(PQgetvalue(result, 0, 0), "0") == 0;
    bool refused = lvt_pg_failed(result);
    PQclear(result);
    if (gone || refused || ++ledger->lock_tries > GHOST_LOOKS) {
        ledger->ghost_pid = 0;
        lock_in_hand(ledger);
        return;
    }
    uv_timer_start(&ledger->session_timer, on_look_due, GHOST_LOOK_MS, 0);
}

/* After a cut the server may keep the session before, with its locks, for a long time: our own
 * claims would seem another worker's. It is named by its process and its beginning, so no other
 * session can be meant. Behind a pooler it is the pooler's, and left alone. */
static void end_ghost(struct lvt_ledger *ledger) {
    char pid[16];
    const char *params[] = {pid, ledger->ghost_began};
    if (ledger->ghost_pid == 0) {
        lock_in_hand(ledger);
        return;
    }
    snprintf(pid, sizeof pid, "%d", ledger->ghost_pid);
    ledger->session = LVT_SESSION_GHOST;
    lvt_pg_query(ledger->pg,
                 "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                 " WHERE pid = $1::int AND backend_start::text = $2 AND pid <> pg_backend_pid()",
                 params, 2, on_ghost_ended, ledger);
    lvt_pg_sync(ledger->pg, NULL, NULL);
    lvt_pg_flush(ledger->pg);
}

/* ---- what is in hand ---- */

static void add_in_hand(struct lvt_ledger *ledger, struct lvt_claims *claims) {
    for (struct lvt_claim *claim = claims->first; claim; claim = claim->held_next) {
        claim->held = true;
        lvt_pg_array_int8(&ledger->round.lock_keys, lvt_claims_lock_key(claim->key));
        ledger->locks++;
    }
}

/* A worker that got a key meanwhile runs the event a second time; ours goes on without the lock. */
static void mark_lost(struct lvt_ledger *ledger, int64_t lock_key) {
    struct lvt_claims *lists[] = {&ledger->held, &ledger->to_record};
    for (size_t i = 0; i < 2; i++)
        for (struct lvt_claim *claim = lists[i]->first; claim; claim = claim->held_next)
            if (claim->held && lvt_claims_lock_key(claim->key) == lock_key) {
                claim->held = false;
                if (ledger->locks > 0)
                    ledger->locks--;
                return;
            }
}

static void on_unlocked_all(void *ctx, PGresult *result) {
    struct leveret_error err;
    if (ended_it(ctx, result))
        return;
    bool ours = PQntuples(result) > 0;
    PQclear(result);
    if (ours)
        return;
    lvt_pg_explain_shared(&err);
    lvt_session_fail(ctx, &err);
}

static void on_relock_due(uv_timer_t *timer) {
    lock_in_hand(timer->data);
}

static void set_ready(struct lvt_ledger *ledger, int lost) {
    const struct lvt_log *log = ledger->options.log;
    ledger->session = LVT_SESSION_READY;
    ledger->failed = false;
    ledger->ghost_pid = 0;
    if (!is_pooled(ledger)) {
        ledger->ghost_pid = lvt_pg_server_pid(ledger->pg);
        memcpy(ledger->ghost_began, ledger->began, sizeof ledger->began);
    }
    lvt_pg_well(ledger->pg);
    lvt_pool_hurry(ledger);
    lvt_logf(log, LVT_INFO, ledger->was_ready ? "PostgreSQL is back" : "connected to PostgreSQL");
    if (lost > 0)
        lvt_logf(log, LVT_WARN,
                 "another worker has taken %d of the events in hand meanwhile: they run twice",
                 lost);
    ledger->was_ready = true;
    ledger->logged[0] = '\0';
    lvt_ledger_soon(ledger);
    ledger->options.sink.ready_changed(ledger->options.sink.ctx, true);
}

static void on_locked_again(void *ctx, PGresult *result) {
    struct lvt_ledger *ledger = ctx;
    if (strcmp(lvt_pg_sqlstate(result), "53200") == 0) {
        PQclear(result);
        ledger->session = LVT_SESSION_PAUSED;
        uv_timer_start(&ledger->session_timer, on_relock_due, RELOCK_PAUSE_MS, 0);
        return;
    }
    if (ended_it(ledger, result))
        return;
    int lost = PQntuples(result);
    for (int row = 0; row < lost; row++)
        mark_lost(ledger, lvt_claims_lock_key((const unsigned char *)PQgetvalue(result, row, 0)));
    PQclear(result);
    set_ready(ledger, lost);
}

static void lock_in_hand(struct lvt_ledger *ledger) {
    struct lvt_pg_array *keys = &ledger->round.lock_keys;
    ledger->session = LVT_SESSION_LOCKING;
    ledger->locks = ledger->unlock_count = 0;
    lvt_pg_array_begin(keys);
    add_in_hand(ledger, &ledger->held);
    add_in_hand(ledger, &ledger->to_record);
    if (!lvt_pg_array_end(keys)) {
        ledger->session = LVT_SESSION_PAUSED;
        uv_timer_start(&ledger->session_timer, on_relock_due, RELOCK_PAUSE_MS, 0);
        return;
    }
    const struct lvt_pg_param param = {keys->buffer.data, keys->buffer.len, true};
    const char *marks[] = {lvt_pg_mark(ledger->pg)};
    lvt_pg_query(ledger->pg, "SELECT pg_advisory_unlock_all() WHERE " LVT_PG_MARK_SQL " = $1::text",
                 marks, 1, on_unlocked_all, ledger);
    lvt_pg_execute(ledger->pg, "relock", &param, 1, on_locked_again, ledger);
    lvt_pg_sync(ledger->pg, NULL, NULL);
    lvt_pg_flush(ledger->pg);
}

void lvt_session_relock(struct lvt_ledger *ledger, const struct leveret_error *err) {
    lvt_logf(ledger->options.log, LVT_WARN, "PostgreSQL is out of locks, trying again: %s",
             err->text);
    ledger->session = LVT_SESSION_PAUSED;
    ledger->unlock_count = 0;
    uv_timer_start(&ledger->session_timer, on_relock_due, RELOCK_PAUSE_MS, 0);
    ledger->options.sink.ready_changed(ledger->options.sink.ctx, false);
}

/* ---- life ---- */

bool lvt_session_init(struct lvt_ledger *ledger) {
    const struct lvt_pg_options options = {
        .url = ledger->url,
        .application = ledger->application,
        .setup = setup_sql,
        .prepared = prepared,
        .prepared_count = sizeof prepared / sizeof prepared[0],
        .eager = true,
        .loop = ledger->options.loop,
        .ctx = ledger,
        .up = on_up,
        .down = on_down,
    };
    ledger->pg = lvt_pg_new(&options);
    if (!ledger->pg)
        return false;
    uv_timer_init(ledger->options.loop, &ledger->session_timer);
    ledger->session_timer.data = ledger;
    return true;
}

static void on_timer_closed(uv_handle_t *handle) {
    lvt_ledger_count_closed(handle->data);
}

void lvt_session_close(struct lvt_ledger *ledger) {
    ledger->session = LVT_SESSION_AWAY;
    ledger->open_handles += 2;
    uv_close((uv_handle_t *)&ledger->session_timer, on_timer_closed);
    lvt_pg_close(ledger->pg, lvt_ledger_count_closed, ledger);
}
