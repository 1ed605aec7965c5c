/* The connections that transactions of handlers run on, opened when they are first needed. */
#include <stdlib.h>

#include "ledger/state.h"

#define CANCELS_MAX 50
#define CANCEL_PAUSE_MS 50

static const char setup_sql[] = LVT_SETUP_SQL("");

static const struct lvt_pg_prepared prepared[] = {
    {"record",
     "INSERT INTO processed_events"
     " (id, event_id, event_type, queue, processor_name, processed_at)"
     " VALUES ($1::uuid, $2::text, $3::text, $4::text, $5::text, timezone('utc', now()))"
     " ON CONFLICT (id) DO NOTHING"},
};

static bool is_free(const struct lvt_pooled *pooled) {
    return pooled->up && !pooled->tx && pooled->syncs == 0 && !pooled->cancelling;
}

static void give(struct lvt_pooled *pooled, struct lvt_tx *tx) {
    pooled->tx = tx;
    tx->on = pooled;
    lvt_tx_run(pooled);
}

static void take_next(struct lvt_pooled *pooled) {
    struct lvt_ledger *ledger = pooled->ledger;
    struct lvt_tx *tx = ledger->tx_first;
    if (!tx)
        return;
    lvt_pool_forget(ledger, tx);
    give(pooled, tx);
}

/* ---- a connection's life ---- */

static void on_up(void *ctx) {
    struct lvt_pooled *pooled = ctx;
    struct lvt_ledger *ledger = pooled->ledger;
    pooled->up = true;
    ledger->pool_logged = false;
    lvt_pg_well(pooled->pg);
    lvt_pool_settle(pooled);
}

static void lost(struct lvt_pooled *pooled) {
    pooled->up = pooled->dirty = pooled->rolled_back = false;
    pooled->syncs = 0;
    lvt_tx_lost(pooled);
}

static void on_down(void *ctx, const struct leveret_error *err) {
    struct lvt_pooled *pooled = ctx;
    struct lvt_ledger *ledger = pooled->ledger;
    /* while the ledger's own session is away, that one tells the log */
    if (ledger->session == LVT_SESSION_READY && !ledger->pool_logged) {
        ledger->pool_logged = true;
        lvt_logf(ledger->options.log, LVT_WARN,
                 "a connection of PostgreSQL's pool is lost, trying again: %s", err->text);
    }
    lost(pooled);
    bool some_up = false;
    for (const struct lvt_pooled *other = ledger->pooled; other; other = other->next)
        some_up = some_up || other->up;
    if (!some_up)
        lvt_tx_refuse_waiting(ledger);
    lvt_session_no_second(ledger, pooled->pg, err);
}

void lvt_pool_drop(struct lvt_pooled *pooled) {
    lvt_pg_drop(pooled->pg);
    lost(pooled);
}

void lvt_pool_hurry(struct lvt_ledger *ledger) {
    for (struct lvt_pooled *pooled = ledger->pooled; pooled; pooled = pooled->next)
        lvt_pg_hurry(pooled->pg);
}

static void open_another(struct lvt_ledger *ledger) {
    struct lvt_pooled *pooled = calloc(1, sizeof *pooled);
    const struct lvt_pg_options options = {
        .url = ledger->url,
        .application = ledger->application,
        .setup = setup_sql,
        .prepared = prepared,
        .prepared_count = sizeof prepared / sizeof prepared[0],
        .loop = ledger->options.loop,
        .ctx = pooled,
        .up = on_up,
        .down = on_down,
    };
    if (!pooled)
        return;
    pooled->ledger = ledger;
    pooled->pg = lvt_pg_new(&options);
    if (!pooled->pg) {
        free(pooled);
        return;
    }
    uv_timer_init(ledger->options.loop, &pooled->timer);
    pooled->timer.data = pooled;
    pooled->next = ledger->pooled;
    ledger->pooled = pooled;
    ledger->pooled_count++;
    lvt_pg_open(pooled->pg);
}

/* ---- who has it ---- */

void lvt_pool_want(struct lvt_ledger *ledger, struct lvt_tx *tx, bool first) {
    for (struct lvt_pooled *pooled = ledger->pooled; pooled; pooled = pooled->next)
        if (is_free(pooled) && !ledger->tx_first) {
            give(pooled, tx);
            return;
        }
    tx->waiting_next = first ? ledger->tx_first : NULL;
    if (first)
        ledger->tx_first = tx;
    else if (ledger->tx_last)
        ledger->tx_last->waiting_next = tx;
    else
        ledger->tx_first = tx;
    if (!tx->waiting_next)
        ledger->tx_last = tx;
    if (ledger->pooled_count < ledger->options.pool)
        open_another(ledger);
    if (!ledger->pooled) /* out of memory */
        lvt_tx_refuse_waiting(ledger);
}

void lvt_pool_forget(struct lvt_ledger *ledger, struct lvt_tx *tx) {
    struct lvt_tx *before = NULL;
    struct lvt_tx *at = ledger->tx_first;
    while (at && at != tx) {
        before = at;
        at = at->waiting_next;
    }
    if (!at)
        return;
    if (before)
        before->waiting_next = tx->waiting_next;
    else
        ledger->tx_first = tx->waiting_next;
    if (ledger->tx_last == tx)
        ledger->tx_last = before;
    tx->waiting_next = NULL;
}

static void on_rolled_back(void *ctx, PGresult *result) {
    struct lvt_pooled *pooled = ctx;
    PQclear(result);
    pooled->syncs--;
    lvt_pool_settle(pooled);
}

void lvt_pool_settle(struct lvt_pooled *pooled) {
    if (!is_free(pooled))
        return;
    if (lvt_pg_transaction_status(pooled->pg) != PQTRANS_IDLE) {
        if (pooled->rolled_back) {
            lvt_pool_drop(pooled);
            return;
        }
        pooled->rolled_back = true;
        pooled->syncs++;
        lvt_pg_query(pooled->pg, "ROLLBACK", NULL, 0, NULL, NULL);
        lvt_pg_sync(pooled->pg, on_rolled_back, pooled);
        lvt_pg_flush(pooled->pg);
        return;
    }
    pooled->rolled_back = false;
    if (pooled->dirty)
        lvt_pool_drop(pooled);
    else
        take_next(pooled);
}

/* ---- cancelling: PQcancel blocks, so another thread does it ---- */

static void cancel(struct lvt_pooled *pooled);

static void cancel_on_thread(uv_work_t *work) {
    struct lvt_pooled *pooled = work->data;
    char ignored[256];
    (void)PQcancel(pooled->cancel, ignored, sizeof ignored);
}

static void on_cancel_due(uv_timer_t *timer) {
    struct lvt_pooled *pooled = timer->data;
    if (pooled->up && !pooled->tx && pooled->syncs > 0)
        cancel(pooled);
}

/* A request that overtakes its statement is forgotten by the server: so it is made again. */
static void on_cancelled(uv_work_t *work, int status) {
    struct lvt_pooled *pooled = work->data;
    (void)status;
    PQfreeCancel(pooled->cancel);
    pooled->cancel = NULL;
    pooled->cancelling = false;
    if (pooled->ledger->closing)
        lvt_ledger_count_closed(pooled->ledger);
    else if (pooled->syncs == 0)
        lvt_pool_settle(pooled);
    else if (++pooled->cancels < CANCELS_MAX)
        uv_timer_start(&pooled->timer, on_cancel_due, CANCEL_PAUSE_MS, 0);
    else
        lvt_pool_drop(pooled);
}

static void cancel(struct lvt_pooled *pooled) {
    if (pooled->cancelling || pooled->ledger->closing)
        return;
    pooled->cancel = lvt_pg_cancel(pooled->pg);
    pooled->work.data = pooled;
    if (!pooled->cancel || uv_queue_work(pooled->ledger->options.loop, &pooled->work,
                                         cancel_on_thread, on_cancelled) != 0) {
        PQfreeCancel(pooled->cancel);
        pooled->cancel = NULL;
        lvt_pool_drop(pooled);
        return;
    }
    pooled->cancelling = true;
}

static void take_off(struct lvt_pooled *pooled) {
    pooled->tx->on = NULL;
    pooled->tx = NULL;
    for (struct lvt_call *call = pooled->first; call; call = call->next)
        call->tx = NULL;
}

void lvt_pool_detach(struct lvt_pooled *pooled, bool stop) {
    take_off(pooled);
    pooled->cancels = 0;
    if (stop && pooled->syncs > 0)
        cancel(pooled);
    else
        lvt_pool_settle(pooled);
}

/* ---- the end ---- */

static void on_timer_closed(uv_handle_t *handle) {
    const struct lvt_pooled *pooled = handle->data;
    lvt_ledger_count_closed(pooled->ledger);
}

void lvt_pool_close(struct lvt_ledger *ledger) {
    for (struct lvt_pooled *pooled = ledger->pooled; pooled; pooled = pooled->next) {
        pooled->up = false;
        if (pooled->tx) { /* its owner may still roll it back */
            pooled->tx->phase = LVT_TX_PHASE_OVER;
            pooled->tx->over = LVT_TX_OUTAGE;
            take_off(pooled);
        }
        ledger->open_handles += pooled->cancelling ? 3 : 2;
        uv_close((uv_handle_t *)&pooled->timer, on_timer_closed);
        lvt_pg_close(pooled->pg, lvt_ledger_count_closed, ledger);
    }
}

static void free_calls(struct lvt_call *call) {
    while (call) {
        struct lvt_call *next = call->next;
        PQclear(call->result);
        lvt_row_store_free(&call->rows);
        if (!call->tx || call != &call->tx->own)
            free(call);
        call = next;
    }
}

void lvt_pool_free(struct lvt_ledger *ledger) {
    while (ledger->pooled) {
        struct lvt_pooled *next = ledger->pooled->next;
        free_calls(ledger->pooled->first);
        free(ledger->pooled);
        ledger->pooled = next;
    }
    free_calls(ledger->deferred);
    while (ledger->txs) {
        struct lvt_tx *next = ledger->txs->next;
        free(ledger->txs);
        ledger->txs = next;
    }
}
