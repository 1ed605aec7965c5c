/* The ledger port's transactions: each begins with its event's record, and a COMMIT whose answer
 * was lost is looked up. A transaction has a connection of its own here, which may be cut. */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

#define LOCK_TIMEOUT_MS 2000

static struct lvt_tx *find_tx(struct sim_worker *worker, uint64_t number) {
    struct lvt_tx *tx = worker->ledger.txs;
    while (tx && tx->number != number)
        tx = tx->next;
    return tx;
}

static void free_tx(struct lvt_tx *tx) {
    struct sim_ledger *ledger = &tx->worker->ledger;
    struct lvt_tx **at = &ledger->txs;
    while (*at != tx)
        at = &(*at)->next;
    *at = tx->next;
    ledger->tx_count--;
    while (tx->calls) {
        struct sim_call *call = tx->calls;
        tx->calls = call->next;
        free(call);
    }
    free(tx);
}

/* ---- begin ---- */

/* As all answers: for a transaction that may be gone by now, and perhaps overtaken by a cut. */
static void begin_answered(struct sim *sim, struct sim_worker *worker, uint64_t number,
                           uint64_t result) {
    struct lvt_tx *tx = find_tx(worker, number);
    if (!tx || tx->phase != SIM_TX_BEGINNING)
        return;
    if (!tx->connected)
        result = LVT_TX_OUTAGE;
    SIM_SAY(sim, "worker %u: the begin of fact %u is answered (%d)", worker->index, tx->fact->index,
            (int)result);
    tx->phase = result == LVT_TX_OK ? SIM_TX_OPEN : SIM_TX_OVER;
    if (result != LVT_TX_OK)
        sim_db_tx_end(sim, worker, number, false);
    tx->done(tx->ctx, (enum lvt_tx_result)result, NULL);
    sim_worker_wake(worker);
}

static void begin(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t until_ms) {
    struct lvt_tx *tx = find_tx(worker, number);
    enum lvt_tx_result result = LVT_TX_OK;
    if (!tx || tx->phase != SIM_TX_BEGINNING || !tx->connected)
        return;
    const bool has_record = tx->fact->id[0] != '\0';
    if (sim->db.down) {
        result = LVT_TX_OUTAGE;
    } else if (has_record && sim_db_record_held(sim, tx->fact, 0)) {
        if (sim->now_ms < until_ms) {
            sim_after_for(worker, 10, begin, number, until_ms);
            return;
        }
        result = LVT_TX_OUTAGE;
    } else if (has_record && tx->fact->recorded) {
        result = LVT_TX_DUPLICATE;
    } else {
        struct sim_server_tx *server = sim_alloc(sizeof *server);
        *server = (struct sim_server_tx){
            .next = sim->db.txs, .number = number, .fact = tx->fact, .inserted = has_record};
        sim->db.txs = server;
    }
    sim_after_for(worker, sim_latency(sim), begin_answered, number, result);
}

struct lvt_tx *sim_tx_begin(void *self, struct lvt_claim *claim, lvt_tx_done *done, void *ctx) {
    struct sim_worker *worker = self;
    struct sim *sim = worker->sim;
    const struct lvt_run *run = ctx; /* who begins is always a run */
    struct lvt_tx *tx = sim_alloc(sizeof *tx);
    tx->worker = worker;
    tx->number = ++sim->db.last_tx;
    tx->claim = claim;
    tx->fact = sim_fact_of_headers(sim, &run->event->delivery->properties.headers);
    tx->connected = true;
    tx->done = done;
    tx->ctx = ctx;
    tx->next = worker->ledger.txs;
    worker->ledger.txs = tx;
    if (++worker->ledger.tx_count > sim->pool)
        sim_fail(sim, "worker %u has %u transactions open, its pool is %u", worker->index,
                 worker->ledger.tx_count, sim->pool);
    if ((claim != NULL) != (tx->fact->id[0] != '\0'))
        sim_fail(sim, "the transaction of fact %u begins without its record", tx->fact->index);
    sim_after_for(worker, sim_latency(sim), begin, tx->number, sim->now_ms + LOCK_TIMEOUT_MS);
    return tx;
}

/* ---- statements ---- */

static const char *number_name(void *self, size_t column) {
    (void)self, (void)column;
    return "number";
}

static enum lvt_column_kind number_kind(void *self, size_t column) {
    (void)self, (void)column;
    return LVT_COLUMN_INTEGER;
}

static bool number_cell(void *self, size_t row, size_t column, struct lvt_bytes *ret_text) {
    (void)row, (void)column;
    *ret_text = lvt_bytes_of(self);
    return true;
}

static struct sim_call *take_call(struct lvt_tx *tx, uint64_t number) {
    struct sim_call **at = &tx->calls;
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    struct sim_call *call = *at;
    if (call)
        *at = call->next;
    return call;
}

static void give_rows(struct sim_call *call, int64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)number);
    const struct lvt_rows rows = {text, 1, 1, 1, number_name, number_kind, number_cell};
    call->done(call->ctx, LVT_ANSWER_OK, &rows, NULL);
}

static const char *const sqlstates[] = {"40001", "40P01", "22P02", "23505", "25P02"};
#define STATE_ABORTED 4
#define ANSWER_OUTAGE 100
#define ANSWER_OK 200 /* and the number of an invalidation, if it is one */

static void statement_answered(struct sim *sim, struct sim_worker *worker, uint64_t call_number,
                               uint64_t answer) {
    struct sim_call *call = NULL;
    struct lvt_tx *tx = worker->ledger.txs;
    while (tx && !(call = take_call(tx, call_number)))
        tx = tx->next;
    if (!call)
        return;
    if (!tx->connected)
        answer = ANSWER_OUTAGE;
    SIM_SAY(sim, "worker %u: a statement of fact %u is answered (%d)", worker->index,
            tx->fact->index, (int)answer);
    if (answer == ANSWER_OUTAGE) {
        call->done(call->ctx, LVT_ANSWER_OUTAGE, NULL, NULL);
    } else if (answer >= ANSWER_OK) {
        give_rows(call, (int64_t)(answer - ANSWER_OK));
    } else {
        struct lvt_sql_error error = {.text = "the database says no"};
        memcpy(error.sqlstate, sqlstates[answer], sizeof error.sqlstate);
        call->done(call->ctx, LVT_ANSWER_ERROR, NULL, &error);
    }
    free(call);
    sim_worker_wake(worker);
}

static uint64_t invalidation(struct sim *sim, struct sim_server_tx *tx, const char *pattern) {
    struct sim_database *db = &sim->db;
    if (db->pending_count == SIM_PENDING_MAX ||
        tx->pending_count == sizeof tx->pending / sizeof tx->pending[0])
        abort();
    struct sim_pending *pending = &db->pending[db->pending_count++];
    pending->number = ++db->last_number;
    snprintf(pending->pattern, sizeof pending->pattern, "%s", pattern);
    tx->pending[tx->pending_count++] = pending->number;
    return ANSWER_OK + (uint64_t)pending->number;
}

static void write_row(struct sim_server_tx *tx, struct sim_child *child) {
    if (tx->child_count == sizeof tx->children / sizeof tx->children[0])
        abort();
    tx->children[tx->child_count++] = child;
    child->row = SIM_ROW_WRITTEN;
}

static void statement(struct sim *sim, struct sim_worker *worker, uint64_t tx_number,
                      uint64_t call_number) {
    struct lvt_tx *tx = find_tx(worker, tx_number);
    struct sim_server_tx *server = sim_db_tx(sim, tx_number);
    struct sim_call *call = tx ? tx->calls : NULL;
    uint64_t answer = ANSWER_OK;
    while (call && call->number != call_number)
        call = call->next;
    if (!call)
        return;
    if (!tx->connected || !server) {
        answer = ANSWER_OUTAGE;
    } else if (server->aborted) {
        answer = STATE_ABORTED;
    } else if (sim_bad_luck(sim, 60)) {
        answer = sim_below(sim, STATE_ABORTED);
        server->aborted = true;
    } else if (call->kind == SIM_CALL_INSERT) {
        server->rows++;
    } else if (call->kind == SIM_CALL_INVALIDATE) {
        answer = invalidation(sim, server, call->pattern);
    } else if (call->kind == SIM_CALL_PUBLISH) {
        write_row(server, call->child);
    }
    sim_after_for(worker, sim_latency(sim), statement_answered, call_number, answer);
}

static struct sim_call *add_call(struct lvt_tx *tx, lvt_rows_done *done, void *ctx) {
    struct sim *sim = tx->worker->sim;
    struct sim_call *call = sim_alloc(sizeof *call);
    struct sim_call **last = &tx->calls;
    call->number = ++sim->last_number;
    call->done = done;
    call->ctx = ctx;
    while (*last)
        last = &(*last)->next;
    *last = call;
    sim_after_for(tx->worker, sim_latency(sim), statement, tx->number, call->number);
    return call;
}

void sim_tx_query(void *self, struct lvt_tx *tx, const struct lvt_sql *sql, lvt_rows_done *done,
                  void *ctx) {
    (void)self;
    add_call(tx, done, ctx)->kind =
        lvt_bytes_is(sql->text, "insert") ? SIM_CALL_INSERT : SIM_CALL_SELECT;
}

void sim_tx_invalidate(void *self, struct lvt_tx *tx, struct lvt_bytes pattern, lvt_rows_done *done,
                       void *ctx) {
    struct sim_call *call = add_call(tx, done, ctx);
    (void)self;
    call->kind = SIM_CALL_INVALIDATE;
    snprintf(call->pattern, sizeof call->pattern, "%.*s", (int)pattern.len, pattern.data);
}

void sim_tx_publish(void *self, struct lvt_tx *tx, const struct lvt_outgoing *outgoing,
                    lvt_rows_done *done, void *ctx) {
    const struct sim_worker *worker = self;
    struct lvt_headers headers = {(struct lvt_header *)(uintptr_t)outgoing->headers,
                                  outgoing->header_count};
    struct sim_call *call = add_call(tx, done, ctx);
    call->kind = SIM_CALL_PUBLISH;
    call->child = sim_child_of_headers(worker->sim, &headers);
    if (!call->child || !call->child->in_tx || call->child->parent != tx->fact)
        sim_fail(worker->sim, "an event that is not its own is in the transaction of fact %u",
                 tx->fact->index);
}

/* ---- commit ---- */

static void note_commit_error(struct lvt_tx *tx, const char *sqlstate) {
    tx->fact->failures_max++;
    tx->fact->failures_min += strncmp(sqlstate, "40", 2) != 0;
    if (strncmp(sqlstate, "22", 2) == 0)
        tx->fact->rejections++;
}

static void end_commit(struct lvt_tx *tx, enum lvt_tx_result result, const char *sqlstate) {
    struct sim_worker *worker = tx->worker;
    lvt_tx_done *done = tx->done;
    void *ctx = tx->ctx;
    struct lvt_sql_error error = {.text = "the database says no"};
    snprintf(error.sqlstate, sizeof error.sqlstate, "%s", sqlstate);
    SIM_SAY(worker->sim, "worker %u: the commit of fact %u is answered (%d)", worker->index,
            tx->fact->index, (int)result);
    if (result == LVT_TX_ERROR)
        note_commit_error(tx, sqlstate);
    if ((result == LVT_TX_OK || result == LVT_TX_DUPLICATE) && tx->claim)
        sim_ledger_end_claim(worker, tx->claim);
    worker->signs += result == LVT_TX_OK;
    free_tx(tx);
    done(ctx, result, result == LVT_TX_ERROR ? &error : NULL);
    sim_worker_wake(worker);
}

static void commit_answered(struct sim *sim, struct sim_worker *worker, uint64_t number,
                            uint64_t state) {
    struct lvt_tx *tx = find_tx(worker, number);
    (void)sim;
    if (!tx || tx->phase != SIM_TX_COMMITTING || !tx->connected)
        return;
    if (state == ANSWER_OK)
        end_commit(tx, LVT_TX_OK, "");
    else if (state == ANSWER_OUTAGE)
        end_commit(tx, LVT_TX_OUTAGE, "");
    else
        end_commit(tx, LVT_TX_ERROR, sqlstates[state]);
}

/* Reaches the server even when the worker, or its connection, has gone meanwhile. */
static void commit(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t life) {
    struct sim_server_tx *server = sim_db_tx(sim, number);
    uint64_t state = ANSWER_OK;
    if (!server)
        state = ANSWER_OUTAGE;
    else if (server->aborted)
        state = STATE_ABORTED;
    else if (sim_bad_luck(sim, 50))
        state = 0;
    sim_db_tx_end(sim, worker, number, state == ANSWER_OK);
    if (worker->alive && worker->life == life)
        sim_after_for(worker, sim_latency(sim), commit_answered, number, state);
}

static void over_answered(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t b) {
    struct lvt_tx *tx = find_tx(worker, number);
    (void)sim, (void)b;
    if (tx)
        end_commit(tx, LVT_TX_OUTAGE, "");
}

void sim_tx_commit(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx) {
    struct sim_worker *worker = self;
    tx->done = done;
    tx->ctx = ctx;
    if (tx->phase != SIM_TX_OPEN) {
        sim_after_for(worker, 0, over_answered, tx->number, 0);
        return;
    }
    tx->phase = SIM_TX_COMMITTING;
    sim_after(worker->sim, sim_latency(worker->sim), commit, worker, tx->number, worker->life);
}

/* Tries the record anew, which waits for a commit that the server is still at. */
static void look_up(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t b) {
    struct lvt_tx *tx = find_tx(worker, number);
    (void)b;
    if (!tx || tx->phase != SIM_TX_LOOKING_UP)
        return;
    if (sim->db.down || sim_db_record_held(sim, tx->fact, 0) || sim_bad_luck(sim, 100))
        sim_after_for(worker, 20 + sim_below(sim, 50), look_up, number, 0);
    else
        end_commit(tx, tx->fact->recorded ? LVT_TX_OK : LVT_TX_OUTAGE, "");
}

/* ---- the end of one ---- */

/* The server has it for a while yet; a COMMIT that is on its way may still arrive. */
static void roll_back_later(struct sim_worker *worker, const struct lvt_tx *tx, uint64_t ms) {
    struct sim *sim = worker->sim;
    if (tx->phase != SIM_TX_COMMITTING || sim_chance(sim, 500))
        sim_after(sim, ms, sim_db_tx_end, worker, tx->number, false);
}

static void give_up(struct sim_worker *worker, struct lvt_tx *tx, uint64_t ms) {
    if (tx->phase == SIM_TX_COMMITTING || tx->phase == SIM_TX_LOOKING_UP)
        tx->fact->commit_unknown = tx->fact->ledger_lost = true;
    if (tx->connected)
        roll_back_later(worker, tx, ms);
    free_tx(tx);
}

void sim_tx_rollback(void *self, struct lvt_tx *tx) {
    struct sim_worker *worker = self;
    SIM_SAY(worker->sim, "worker %u rolls fact %u back", worker->index, tx->fact->index);
    give_up(worker, tx, sim_below(worker->sim, 20));
}

void sim_tx_cut(struct lvt_tx *tx) {
    struct sim_worker *worker = tx->worker;
    struct sim *sim = worker->sim;
    if (!tx->connected)
        return;
    SIM_SAY(sim, "fault: the transaction of fact %u loses its connection", tx->fact->index);
    roll_back_later(worker, tx, sim_latency(sim));
    tx->connected = false;
    for (const struct sim_call *call = tx->calls; call; call = call->next)
        sim_after_for(worker, 0, statement_answered, call->number, ANSWER_OUTAGE);
    if (tx->phase == SIM_TX_COMMITTING && tx->claim) {
        tx->phase = SIM_TX_LOOKING_UP;
        sim_after_for(worker, sim_below(sim, 50), look_up, tx->number, 0);
    } else if (tx->phase == SIM_TX_BEGINNING) {
        sim_after_for(worker, 0, begin_answered, tx->number, LVT_TX_OUTAGE);
    } else if (tx->phase == SIM_TX_COMMITTING) {
        tx->fact->commit_unknown = true;
        sim_fact_excuse(sim, tx->fact, "nothing tells whether it was committed");
        tx->phase = SIM_TX_OVER;
        sim_after_for(worker, 0, over_answered, tx->number, 0);
    } else if (tx->phase == SIM_TX_OPEN) {
        tx->phase = SIM_TX_OVER;
    }
}

void sim_tx_claim_released(struct sim_worker *worker, const struct lvt_claim *claim) {
    for (struct lvt_tx *tx = worker->ledger.txs; tx; tx = tx->next)
        if (tx->claim == claim)
            tx->claim = NULL;
}

void sim_txs_clear(struct sim_worker *worker) {
    while (worker->ledger.txs)
        give_up(worker, worker->ledger.txs, sim_latency(worker->sim));
}
