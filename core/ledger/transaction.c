/* A handler's transaction: it begins with the event's record, so that both commit together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ledger/state.h"
#include "ledger/statement.h"

#define STATEMENTS_MAX 200 /* of one transaction without an answer */

static void on_begun_synced(void *ctx, PGresult *result);

/* ---- life ---- */

static struct lvt_ledger *ledger_of(void *self) {
    return self;
}

static void free_tx(struct lvt_ledger *ledger, struct lvt_tx *tx) {
    if (tx->prev)
        tx->prev->next = tx->next;
    else
        ledger->txs = tx->next;
    if (tx->next)
        tx->next->prev = tx->prev;
    free(tx);
}

static void set_error(struct lvt_sql_error *error, const char *sqlstate, const char *text) {
    snprintf(error->sqlstate, sizeof error->sqlstate, "%s", sqlstate);
    snprintf(error->text, sizeof error->text, "%s", text);
}

static void note_error(struct lvt_sql_error *error, const PGresult *result) {
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    set_error(error, lvt_pg_sqlstate(result), message ? message : "unknown error");
    size_t len = strlen(error->text);
    if (detail)
        snprintf(error->text + len, sizeof error->text - len, " (%s)", detail);
}

/* Keeps the first error of a unit: what follows it was only skipped. */
static bool note_failure(struct lvt_tx *tx, const PGresult *result) {
    if (!lvt_pg_failed(result))
        return false;
    if (PQresultStatus(result) != PGRES_PIPELINE_ABORTED && tx->error.text[0] == '\0')
        note_error(&tx->error, result);
    return true;
}

/* ---- answers that wait for the loop ---- */

static void defer(struct lvt_ledger *ledger, struct lvt_call *call) {
    call->next = NULL;
    call->turn = ledger->turn;
    if (ledger->deferred_last)
        ledger->deferred_last->next = call;
    else
        ledger->deferred = call;
    ledger->deferred_last = call;
    lvt_ledger_soon(ledger);
}

/* A statement of a transaction that is over. When the handler's own mistake has ended it, that is
 * the answer: an outage would have the event run again, at no cost of an attempt, for ever. */
static void defer_over(struct lvt_ledger *ledger, struct lvt_call *call) {
    const struct lvt_tx *tx = call->tx;
    call->answer = LVT_ANSWER_OUTAGE;
    if (tx && tx->over == LVT_TX_ERROR) {
        call->answer = LVT_ANSWER_ERROR;
        call->error = tx->error;
    }
    defer(ledger, call);
}

/* A transaction that goes gets no answer, neither its own nor a statement's. */
static void forget_deferred(struct lvt_ledger *ledger, struct lvt_tx *tx) {
    struct lvt_call *before = NULL;
    for (struct lvt_call *call = ledger->deferred; call; call = call->next) {
        if (call != &tx->own) {
            if (call->tx == tx)
                call->tx = NULL;
            before = call;
            continue;
        }
        if (before)
            before->next = call->next;
        else
            ledger->deferred = call->next;
        if (ledger->deferred_last == call)
            ledger->deferred_last = before;
    }
}

static void free_call(struct lvt_call *call) {
    PQclear(call->result);
    lvt_row_store_free(&call->rows);
    free(call);
}

/* Ends a commit whose transaction is over, with what is known of it. */
static void answer_commit(struct lvt_ledger *ledger, struct lvt_tx *tx, enum lvt_tx_result result) {
    const struct lvt_sql_error error = tx->error;
    lvt_tx_done *done = tx->done;
    void *ctx = tx->ctx;
    if ((result == LVT_TX_OK || result == LVT_TX_DUPLICATE) && tx->claim)
        lvt_claims_end(ledger, tx->claim);
    if (result == LVT_TX_OK && tx->published)
        lvt_outbox_look(ledger);
    free_tx(ledger, tx);
    done(ctx, result, result == LVT_TX_ERROR ? &error : NULL);
}

/* A begin's answer leaves the transaction to its owner, unlike a commit's. */
static void answer_begin(struct lvt_tx *tx, enum lvt_tx_result result) {
    const struct lvt_sql_error error = tx->error;
    lvt_tx_done *done = tx->done;
    tx->done = NULL;
    done(tx->ctx, result, result == LVT_TX_ERROR ? &error : NULL);
}

static void give_answer(struct lvt_ledger *ledger, struct lvt_call *call) {
    struct lvt_tx *tx = call->tx;
    struct lvt_rows rows;
    if (tx && call == &tx->own) {
        if (tx->ending)
            answer_commit(ledger, tx, tx->over);
        else
            answer_begin(tx, tx->over);
        return;
    }
    if (tx) {
        if (call->answer == LVT_ANSWER_OK)
            lvt_rows_of(&call->rows, call->result, &rows);
        call->done(call->ctx, call->answer, call->answer == LVT_ANSWER_OK ? &rows : NULL,
                   call->answer == LVT_ANSWER_ERROR ? &call->error : NULL);
    }
    free_call(call);
}

void lvt_tx_answer_deferred(struct lvt_ledger *ledger) {
    /* what is deferred meanwhile waits for the next turn of the loop */
    uint64_t turn = ledger->turn++;
    while (ledger->deferred && ledger->deferred->turn <= turn && !ledger->closing) {
        struct lvt_call *call = ledger->deferred;
        ledger->deferred = call->next;
        if (!ledger->deferred)
            ledger->deferred_last = NULL;
        give_answer(ledger, call);
    }
}

/* ---- begin ---- */

struct lvt_tx *lvt_tx_begin(void *self, struct lvt_claim *claim, lvt_tx_done *done, void *ctx) {
    struct lvt_ledger *ledger = ledger_of(self);
    struct lvt_tx *tx = ledger->closing ? NULL : calloc(1, sizeof *tx);
    if (!tx)
        return NULL;
    tx->claim = claim;
    tx->over = LVT_TX_OUTAGE; /* unless it ends in another way */
    tx->own.tx = tx;
    tx->done = done;
    tx->ctx = ctx;
    tx->next = ledger->txs;
    if (tx->next)
        tx->next->prev = tx;
    ledger->txs = tx;
    tx->phase = LVT_TX_PHASE_WAITING;
    lvt_pool_want(ledger, tx, false);
    return tx;
}

static void on_begun(void *ctx, PGresult *result) {
    struct lvt_pooled *pooled = ctx;
    if (pooled->tx)
        (void)note_failure(pooled->tx, result);
    PQclear(result);
}

static void on_recorded(void *ctx, PGresult *result) {
    struct lvt_pooled *pooled = ctx;
    if (pooled->tx && !note_failure(pooled->tx, result))
        pooled->tx->inserted = atoi(PQcmdTuples(result)) == 1;
    PQclear(result);
}

static bool send_record(struct lvt_pooled *pooled, const struct lvt_claim *claim) {
    const char *name = pooled->ledger->name;
    struct lvt_buffer id, type, queue;
    lvt_buffer_init(&id, (size_t)1 << 28);
    lvt_buffer_init(&type, (size_t)1 << 28);
    lvt_buffer_init(&queue, (size_t)1 << 28);
    lvt_pg_text(&id, claim->id);
    lvt_pg_text(&type, claim->type);
    lvt_pg_text(&queue, claim->queue);
    bool ok = !id.failed && !type.failed && !queue.failed && id.data && type.data && queue.data;
    if (ok) {
        const struct lvt_pg_param params[] = {{(const char *)claim->key, LVT_KEY_BYTES, true},
                                              {id.data, id.len, true},
                                              {type.data, type.len, true},
                                              {queue.data, queue.len, true},
                                              {name, strlen(name), true}};
        /* another's uncommitted record of the same event is waited for, but not for long */
        lvt_pg_query(pooled->pg, "SET LOCAL lock_timeout TO '2s'", NULL, 0, on_begun, pooled);
        lvt_pg_execute(pooled->pg, "record", params, 5, on_recorded, pooled);
        lvt_pg_query(pooled->pg, "SET LOCAL lock_timeout TO DEFAULT", NULL, 0, on_begun, pooled);
    }
    lvt_buffer_free(&id);
    lvt_buffer_free(&type);
    lvt_buffer_free(&queue);
    return ok;
}

void lvt_tx_run(struct lvt_pooled *pooled) {
    struct lvt_tx *tx = pooled->tx;
    if (tx->phase == LVT_TX_PHASE_WAITING)
        tx->phase = LVT_TX_PHASE_BEGINNING;
    tx->inserted = !tx->claim;
    tx->error = (struct lvt_sql_error){.text = ""};
    pooled->set = false;
    lvt_pg_query(pooled->pg, "BEGIN", NULL, 0, on_begun, pooled);
    if (tx->claim && !send_record(pooled, tx->claim))
        set_error(&tx->error, "53200", "out of memory");
    pooled->syncs++;
    lvt_pg_sync(pooled->pg, on_begun_synced, pooled);
    lvt_pg_flush(pooled->pg);
}

/* The record of a COMMIT whose answer was lost has been tried anew. That waits for the commit, if
 * the server is still at it, so the result is certain. */
static void looked_up(struct lvt_pooled *pooled, struct lvt_tx *tx) {
    struct lvt_ledger *ledger = pooled->ledger;
    if (strcmp(tx->error.sqlstate, "55P03") == 0) {
        lvt_pool_detach(pooled, false);
        lvt_pool_want(ledger, tx, true);
    } else if (tx->error.text[0]) {
        lvt_pool_drop(pooled); /* which has it looked up again */
    } else {
        lvt_pool_detach(pooled, false);
        answer_commit(ledger, tx, tx->inserted ? LVT_TX_OUTAGE : LVT_TX_OK);
    }
}

static void on_begun_synced(void *ctx, PGresult *result) {
    struct lvt_pooled *pooled = ctx;
    struct lvt_tx *tx = pooled->tx;
    enum lvt_tx_result answer = LVT_TX_OK;
    PQclear(result);
    pooled->syncs--;
    if (!tx) {
        lvt_pool_settle(pooled);
        return;
    }
    if (tx->phase == LVT_TX_PHASE_LOOKING_UP) {
        looked_up(pooled, tx);
        return;
    }
    if (tx->error.text[0]) {
        answer = strncmp(tx->error.sqlstate, "22", 2) == 0 ? LVT_TX_ERROR : LVT_TX_OUTAGE;
        lvt_logf(pooled->ledger->options.log, LVT_WARN,
                 "a transaction could not begin with its record: %s (SQLSTATE %s)", tx->error.text,
                 tx->error.sqlstate);
    } else if (!tx->inserted) {
        answer = LVT_TX_DUPLICATE;
    }
    tx->phase = answer == LVT_TX_OK ? LVT_TX_PHASE_OPEN : LVT_TX_PHASE_OVER;
    tx->over = answer;
    if (answer != LVT_TX_OK)
        lvt_pool_detach(pooled, false);
    answer_begin(tx, answer);
}

/* ---- statements ---- */

/* Ends the transaction together with its session, which goes on talking about the statement. */
static void break_off(struct lvt_call *call, const char *sqlstate, const char *text) {
    struct lvt_tx *tx = call->tx;
    if (tx && tx->phase == LVT_TX_PHASE_OPEN) {
        tx->phase = LVT_TX_PHASE_OVER;
        tx->over = LVT_TX_ERROR;
        set_error(&tx->error, sqlstate, text);
    }
    lvt_pool_drop(call->on); /* which answers what is under way, this call, too */
}

static void on_query_answered(void *ctx, PGresult *result) {
    struct lvt_call *call = ctx;
    bool added;
    switch (PQresultStatus(result)) {
    case PGRES_SINGLE_TUPLE:
        added = !call->tx || lvt_row_store_add(&call->rows, result);
        PQclear(result);
        if (!added)
            break_off(call, "54000", LVT_ROWS_REFUSAL);
        break;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        PQclear(result);
        break_off(call, "0A000", "COPY is not possible in a handler");
        break;
    default:
        PQclear(call->result);
        call->result = result;
    }
}

static void judge(struct lvt_call *call) {
    if (!call->result) {
        call->answer = LVT_ANSWER_OUTAGE;
    } else if (lvt_pg_failed(call->result)) {
        note_error(&call->error, call->result);
        call->answer =
            lvt_pg_is_outage(call->error.sqlstate) ? LVT_ANSWER_OUTAGE : LVT_ANSWER_ERROR;
    } else {
        call->answer = LVT_ANSWER_OK;
    }
}

static void on_query_synced(void *ctx, PGresult *result) {
    struct lvt_call *call = ctx;
    struct lvt_pooled *pooled = call->on;
    struct lvt_tx *tx = call->tx;
    PQclear(result);
    pooled->syncs--;
    pooled->first = call->next;
    if (!pooled->first)
        pooled->last = NULL;
    if (call->result && lvt_statement_changes_session(PQcmdStatus(call->result))) {
        pooled->set = true;
        pooled->dirty = pooled->dirty || !call->local;
    }
    if (!tx) {
        free_call(call);
        lvt_pool_settle(pooled);
        return;
    }
    judge(call);
    if (lvt_pg_transaction_status(pooled->pg) == PQTRANS_IDLE) {
        call->answer = LVT_ANSWER_ERROR;
        set_error(&call->error, "2D000", "a handler must not end its transaction");
        tx->phase = LVT_TX_PHASE_OVER;
        tx->over = LVT_TX_ERROR;
        tx->error = call->error;
        lvt_pool_detach(pooled, false);
    }
    give_answer(pooled->ledger, call);
}

/* NUL-terminated copies in one block: the pointers to the parameters, then all texts. */
static const char **copy_texts(const struct lvt_sql *sql, const char **ret_text) {
    size_t size = sql->param_count * sizeof(char *) + sql->text.len + 1;
    for (size_t i = 0; i < sql->param_count; i++)
        size += sql->params[i].len + 1;
    const char **block = malloc(size);
    if (!block)
        return NULL;
    char *at = (char *)(block + sql->param_count);
    for (size_t i = 0; i < sql->param_count; i++) {
        block[i] = sql->params[i].data ? at : NULL;
        if (sql->params[i].data) {
            memcpy(at, sql->params[i].data, sql->params[i].len);
            at[sql->params[i].len] = '\0';
            at += sql->params[i].len + 1;
        }
    }
    memcpy(at, sql->text.data, sql->text.len);
    at[sql->text.len] = '\0';
    *ret_text = at;
    return block;
}

static void send_call(struct lvt_pooled *pooled, struct lvt_call *call, const char *text,
                      const char *const *params, size_t param_count) {
    call->on = pooled;
    if (pooled->last)
        pooled->last->next = call;
    else
        pooled->first = call;
    pooled->last = call;
    pooled->syncs++;
    lvt_pg_query_by_row(pooled->pg, text, params, param_count, on_query_answered, call);
    lvt_pg_sync(pooled->pg, on_query_synced, call);
    lvt_pg_flush(pooled->pg);
}

void lvt_tx_query(void *self, struct lvt_tx *tx, const struct lvt_sql *sql, lvt_rows_done *done,
                  void *ctx) {
    struct lvt_ledger *ledger = ledger_of(self);
    struct lvt_call *call = calloc(1, sizeof *call);
    const char *text = NULL;
    if (!call) {
        lvt_logf(ledger->options.log, LVT_ERROR, "out of memory: a statement is lost");
        return; /* the run's timeout ends it */
    }
    call->tx = tx;
    call->done = done;
    call->ctx = ctx;
    call->answer = LVT_ANSWER_OUTAGE;
    lvt_row_store_init(&call->rows);
    if (tx->phase != LVT_TX_PHASE_OPEN) {
        defer_over(ledger, call);
        return;
    }
    const char *refusal = lvt_statement_objection(sql);
    if (!refusal && tx->on->syncs >= STATEMENTS_MAX)
        refusal = "too many statements at once";
    if (refusal) {
        call->answer = LVT_ANSWER_ERROR;
        set_error(&call->error, strstr(refusal, "NUL") ? "22021" : "", refusal);
        defer(ledger, call);
        return;
    }
    call->local = lvt_statement_is_local_setting(sql->text);
    const char **block = copy_texts(sql, &text);
    if (block)
        send_call(tx->on, call, text, block, sql->param_count);
    else
        defer(ledger, call);
    free(block);
}

void lvt_tx_invalidate(void *self, struct lvt_tx *tx, struct lvt_bytes pattern, lvt_rows_done *done,
                       void *ctx) {
    const struct lvt_sql sql = {
        LVT_LITERAL("INSERT INTO pending_invalidations (pattern) VALUES ($1) RETURNING id"),
        &pattern, 1};
    lvt_tx_query(self, tx, &sql, done, ctx);
}

/* ---- commit, rollback ---- */

static void on_committed(void *ctx, PGresult *result) {
    struct lvt_pooled *pooled = ctx;
    struct lvt_tx *tx = pooled->tx;
    if (tx && !note_failure(tx, result) && strcmp(PQcmdStatus(result), "ROLLBACK") == 0)
        set_error(&tx->error, "25P02", "the transaction was aborted by an earlier error");
    PQclear(result);
}

static void on_commit_synced(void *ctx, PGresult *result) {
    struct lvt_pooled *pooled = ctx;
    struct lvt_ledger *ledger = pooled->ledger;
    struct lvt_tx *tx = pooled->tx;
    enum lvt_tx_result answer = LVT_TX_OK;
    PQclear(result);
    pooled->syncs--;
    if (!tx) {
        lvt_pool_settle(pooled);
        return;
    }
    if (tx->error.text[0])
        answer = lvt_pg_is_outage(tx->error.sqlstate) ? LVT_TX_OUTAGE : LVT_TX_ERROR;
    lvt_pool_detach(pooled, false);
    answer_commit(ledger, tx, answer);
}

static void on_ignored(void *ctx, PGresult *result) {
    (void)ctx;
    PQclear(result);
}

void lvt_tx_commit(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx) {
    struct lvt_ledger *ledger = ledger_of(self);
    struct lvt_pooled *pooled = tx->on;
    tx->done = done;
    tx->ctx = ctx;
    tx->ending = true;
    if (tx->phase == LVT_TX_PHASE_OPEN) {
        tx->phase = LVT_TX_PHASE_COMMITTING;
        tx->error = (struct lvt_sql_error){.text = ""};
        if (pooled->set) { /* an event is acknowledged after this: it must be durable */
            lvt_pg_query(pooled->pg, "SET LOCAL synchronous_commit TO on", NULL, 0, on_ignored,
                         NULL);
            lvt_pg_sync(pooled->pg, NULL, NULL);
        }
        pooled->syncs++;
        lvt_pg_query(pooled->pg, "COMMIT", NULL, 0, on_committed, pooled);
        lvt_pg_sync(pooled->pg, on_commit_synced, pooled);
        lvt_pg_flush(pooled->pg);
        return;
    }
    defer(ledger, &tx->own); /* it is over */
}

void lvt_tx_rollback(void *self, struct lvt_tx *tx) {
    struct lvt_ledger *ledger = ledger_of(self);
    bool running = tx->phase == LVT_TX_PHASE_BEGINNING || tx->phase == LVT_TX_PHASE_OPEN;
    forget_deferred(ledger, tx);
    if (tx->on)
        lvt_pool_detach(tx->on, running);
    else
        lvt_pool_forget(ledger, tx);
    free_tx(ledger, tx);
}

/* ---- losses ---- */

/* The calls of a lost connection are answered by the loop, for each answer may roll back. */
void lvt_tx_lost(struct lvt_pooled *pooled) {
    struct lvt_ledger *ledger = pooled->ledger;
    struct lvt_tx *tx = pooled->tx;
    struct lvt_call *call = pooled->first;
    pooled->first = pooled->last = NULL;
    pooled->tx = NULL;
    while (call) {
        struct lvt_call *next = call->next;
        PQclear(call->result);
        call->result = NULL;
        defer_over(ledger, call);
        call = next;
    }
    if (!tx)
        return;
    tx->on = NULL;
    if ((tx->phase == LVT_TX_PHASE_COMMITTING || tx->phase == LVT_TX_PHASE_LOOKING_UP) &&
        tx->claim) {
        tx->phase = LVT_TX_PHASE_LOOKING_UP;
        lvt_pool_want(ledger, tx, true);
        return;
    }
    enum lvt_tx_phase phase = tx->phase;
    if (phase != LVT_TX_PHASE_OVER)
        tx->over = LVT_TX_OUTAGE;
    tx->phase = LVT_TX_PHASE_OVER;
    if (phase == LVT_TX_PHASE_BEGINNING || phase == LVT_TX_PHASE_COMMITTING)
        defer(ledger, &tx->own);
}

void lvt_tx_refuse_waiting(struct lvt_ledger *ledger) {
    struct lvt_tx *next;
    for (struct lvt_tx *tx = ledger->tx_first; tx; tx = next) {
        next = tx->waiting_next;
        if (tx->phase != LVT_TX_PHASE_WAITING)
            continue; /* a commit's look-up waits as long as it takes */
        lvt_pool_forget(ledger, tx);
        tx->phase = LVT_TX_PHASE_OVER;
        tx->over = LVT_TX_OUTAGE;
        defer(ledger, &tx->own);
    }
}

void lvt_tx_claim_released(struct lvt_ledger *ledger, struct lvt_claim *claim) {
    for (struct lvt_tx *tx = ledger->txs; tx; tx = tx->next) {
        if (tx->claim != claim)
            continue;
        tx->claim = NULL;
        if (tx->phase == LVT_TX_PHASE_WAITING) { /* it must not begin without its record */
            lvt_pool_forget(ledger, tx);
            tx->phase = LVT_TX_PHASE_OVER;
            tx->over = LVT_TX_OUTAGE;
        }
    }
}
