#include "memory/memory_ledger.h"

#include <stdio.h>
#include <stdlib.h>

#include "memory/memory_outbox.h"
#include "memory/memory_records.h"

/* A claim's phase while this ledger knows it. */
enum phase { PHASE_NONE, PHASE_ASKED, PHASE_HELD, PHASE_RECORDING };

struct claim_list {
    struct lvt_claim *first, *last;
    size_t count;
};

enum step_kind { STEP_BEGIN, STEP_QUERY, STEP_WRITE, STEP_COMMIT };

/* What was asked of a transaction and has not been answered. */
struct step {
    struct step *next;
    struct lvt_tx *tx;
    enum step_kind kind;
    union {
        lvt_tx_done *tx;
        lvt_rows_done *rows;
    } done;
    void *ctx;
};

struct lvt_tx {
    struct lvt_tx *prev, *next;
    struct lvt_claim *claim;
    uint64_t generation; /* of the sessions that it began on */
    struct lvt_memory_rows published;
    struct step last; /* its begin, then its commit: both must be answered */
};

struct other_claim {
    struct other_claim *next;
    unsigned char key[LVT_KEY_BYTES];
};

struct lvt_memory_ledger {
    struct lvt_ledger_sink sink;
    struct lvt_records records;
    struct claim_list asked, held, recording;
    struct other_claim *others;
    struct lvt_tx *transactions;
    struct step *steps, **steps_last;
    int64_t invalidation_number;
    struct lvt_memory_outbox outbox;
    uint64_t generation; /* one more with each loss of the sessions */
    bool ready;
    bool ready_told; /* what the sink knows */
};

enum leveret_code lvt_memory_ledger_new(struct lvt_ledger_sink sink,
                                        struct lvt_memory_ledger **ret_ledger,
                                        struct leveret_error *err) {
    struct lvt_memory_ledger *ledger = calloc(1, sizeof *ledger);
    if (!ledger)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the embedded ledger");
    ledger->sink = sink;
    ledger->steps_last = &ledger->steps;
    ledger->ready = true;
    lvt_records_init(&ledger->records, LVT_MEMORY_RECORDS_MAX);
    *ret_ledger = ledger;
    return LEVERET_OK;
}

static void free_step(struct step *step) {
    if (step != &step->tx->last)
        free(step);
}

void lvt_memory_ledger_free(struct lvt_memory_ledger *ledger) {
    if (!ledger)
        return;
    while (ledger->steps) {
        struct step *step = ledger->steps;
        ledger->steps = step->next;
        free_step(step);
    }
    while (ledger->transactions) {
        struct lvt_tx *tx = ledger->transactions;
        ledger->transactions = tx->next;
        lvt_memory_rows_free(&tx->published);
        free(tx);
    }
    lvt_memory_rows_free(&ledger->outbox.committed);
    while (ledger->others) {
        struct other_claim *other = ledger->others;
        ledger->others = other->next;
        free(other);
    }
    lvt_records_free(&ledger->records);
    free(ledger);
}

/* ---- claims and records ---- */

static void append_claim(struct claim_list *list, struct lvt_claim *claim, enum phase phase) {
    claim->phase = phase;
    claim->held_prev = list->last;
    claim->held_next = NULL;
    if (list->last)
        list->last->held_next = claim;
    else
        list->first = claim;
    list->last = claim;
    list->count++;
}

static void unlink_claim(struct lvt_memory_ledger *ledger, struct lvt_claim *claim) {
    struct claim_list *lists[] = {NULL, &ledger->asked, &ledger->held, &ledger->recording};
    struct claim_list *list = lists[claim->phase];
    if (!list)
        return;
    if (claim->held_prev)
        claim->held_prev->held_next = claim->held_next;
    else
        list->first = claim->held_next;
    if (claim->held_next)
        claim->held_next->held_prev = claim->held_prev;
    else
        list->last = claim->held_prev;
    list->count--;
    claim->phase = PHASE_NONE;
    claim->held = false;
}

static bool port_ready(void *self) {
    return ((struct lvt_memory_ledger *)self)->ready;
}

static void port_claim(void *self, struct lvt_claim *list) {
    struct lvt_memory_ledger *ledger = self;
    while (list) {
        struct lvt_claim *next = list->next;
        append_claim(&ledger->asked, list, PHASE_ASKED);
        list = next;
    }
}

static void port_record(void *self, struct lvt_claim *list) {
    struct lvt_memory_ledger *ledger = self;
    while (list) {
        struct lvt_claim *next = list->next;
        unlink_claim(ledger, list);
        append_claim(&ledger->recording, list, PHASE_RECORDING);
        list = next;
    }
}

static void port_release(void *self, struct lvt_claim *claim) {
    unlink_claim(self, claim);
}

static bool others_hold(const struct lvt_memory_ledger *ledger, const unsigned char *key) {
    const struct other_claim *other = ledger->others;
    while (other && memcmp(other->key, key, LVT_KEY_BYTES) != 0)
        other = other->next;
    return other != NULL;
}

static void answer_claims(struct lvt_memory_ledger *ledger) {
    struct lvt_claim *answers = NULL, **last = &answers, *claim;
    while ((claim = ledger->asked.first)) {
        unlink_claim(ledger, claim);
        if (others_hold(ledger, claim->key)) {
            claim->result = LVT_CLAIM_BUSY;
        } else if (lvt_records_has(&ledger->records, claim->key)) {
            claim->result = LVT_CLAIM_DUPLICATE;
        } else {
            claim->result = LVT_CLAIM_GOT;
            append_claim(&ledger->held, claim, PHASE_HELD);
            claim->held = true;
        }
        *last = claim;
        last = &claim->next;
    }
    *last = NULL;
    if (answers)
        ledger->sink.claimed(ledger->sink.ctx, answers);
}

/* Records for which there is no memory wait for the next poll. */
static void answer_records(struct lvt_memory_ledger *ledger) {
    struct lvt_claim *answers = NULL, **last = &answers, *claim;
    while ((claim = ledger->recording.first) && lvt_records_add(&ledger->records, claim->key)) {
        unlink_claim(ledger, claim);
        *last = claim;
        last = &claim->next;
    }
    *last = NULL;
    if (answers)
        ledger->sink.recorded(ledger->sink.ctx, answers);
}

/* ---- transactions ---- */

static void ask(struct lvt_memory_ledger *ledger, struct step *step) {
    step->next = NULL;
    *ledger->steps_last = step;
    ledger->steps_last = &step->next;
}

static struct lvt_tx *port_tx_begin(void *self, struct lvt_claim *claim, lvt_tx_done *done,
                                    void *ctx) {
    struct lvt_memory_ledger *ledger = self;
    struct lvt_tx *tx = calloc(1, sizeof *tx);
    if (!tx)
        return NULL;
    tx->claim = claim;
    tx->generation = ledger->generation;
    tx->next = ledger->transactions;
    if (tx->next)
        tx->next->prev = tx;
    ledger->transactions = tx;
    tx->last = (struct step){.tx = tx, .kind = STEP_BEGIN, .done.tx = done, .ctx = ctx};
    ask(ledger, &tx->last);
    return tx;
}

/* Without memory to ask with the answer never comes, and the handler's timeout ends its run. */
static void ask_rows(struct lvt_memory_ledger *ledger, struct lvt_tx *tx, enum step_kind kind,
                     lvt_rows_done *done, void *ctx) {
    struct step *step = malloc(sizeof *step);
    if (!step)
        return;
    *step = (struct step){.tx = tx, .kind = kind, .done.rows = done, .ctx = ctx};
    ask(ledger, step);
}

static void port_tx_query(void *self, struct lvt_tx *tx, const struct lvt_sql *sql,
                          lvt_rows_done *done, void *ctx) {
    (void)sql;
    ask_rows(self, tx, STEP_QUERY, done, ctx);
}

static void port_tx_invalidate(void *self, struct lvt_tx *tx, struct lvt_bytes pattern,
                               lvt_rows_done *done, void *ctx) {
    (void)pattern; /* nothing here outlives the engine, which keeps it too */
    ask_rows(self, tx, STEP_WRITE, done, ctx);
}

static void port_invalidated(void *self, int64_t number) {
    (void)self;
    (void)number;
}

static void port_tx_publish(void *self, struct lvt_tx *tx, const struct lvt_outgoing *outgoing,
                            lvt_rows_done *done, void *ctx) {
    if (lvt_memory_rows_add(&tx->published, outgoing))
        ask_rows(self, tx, STEP_WRITE, done, ctx);
}

static void port_outbox_done(void *self, struct lvt_outbox_row *row) {
    struct lvt_memory_ledger *ledger = self;
    lvt_memory_outbox_done(&ledger->outbox, row);
}

static void port_tx_commit(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx) {
    tx->last = (struct step){.tx = tx, .kind = STEP_COMMIT, .done.tx = done, .ctx = ctx};
    ask(self, &tx->last);
}

static void forget_steps(struct lvt_memory_ledger *ledger, const struct lvt_tx *tx) {
    struct step **at = &ledger->steps;
    while (*at) {
        struct step *step = *at;
        if (step->tx != tx) {
            at = &step->next;
            continue;
        }
        *at = step->next;
        free_step(step);
    }
    ledger->steps_last = at;
}

static void end_tx(struct lvt_memory_ledger *ledger, struct lvt_tx *tx) {
    forget_steps(ledger, tx);
    if (tx->prev)
        tx->prev->next = tx->next;
    else
        ledger->transactions = tx->next;
    if (tx->next)
        tx->next->prev = tx->prev;
    lvt_memory_rows_free(&tx->published);
    free(tx);
}

static void port_tx_rollback(void *self, struct lvt_tx *tx) {
    end_tx(self, tx);
}

static enum lvt_tx_result try_begin(const struct lvt_memory_ledger *ledger,
                                    const struct lvt_tx *tx) {
    if (!ledger->ready || tx->generation != ledger->generation)
        return LVT_TX_OUTAGE;
    return tx->claim && lvt_records_has(&ledger->records, tx->claim->key) ? LVT_TX_DUPLICATE
                                                                          : LVT_TX_OK;
}

static enum lvt_tx_result try_commit(struct lvt_memory_ledger *ledger, struct lvt_tx *tx) {
    enum lvt_tx_result result = try_begin(ledger, tx);
    if (result == LVT_TX_OK && tx->claim && !lvt_records_add(&ledger->records, tx->claim->key))
        return LVT_TX_OUTAGE;
    if (result == LVT_TX_OK)
        lvt_memory_outbox_commit(&ledger->outbox, &tx->published);
    if (tx->claim && result != LVT_TX_OUTAGE)
        unlink_claim(ledger, tx->claim);
    return result;
}

static const char *number_name(void *self, size_t column) {
    (void)self;
    (void)column;
    return "number";
}

static enum lvt_column_kind number_kind(void *self, size_t column) {
    (void)self;
    (void)column;
    return LVT_COLUMN_INTEGER;
}

static bool number_cell(void *self, size_t row, size_t column, struct lvt_bytes *ret_text) {
    (void)row;
    (void)column;
    *ret_text = lvt_bytes_of(self);
    return true;
}

/* The transaction may be gone when it returns. */
static void answer_rows(struct lvt_memory_ledger *ledger, const struct step *step) {
    static const struct lvt_sql_error no_sql = {
        .text =
            "ctx.db needs PostgreSQL, which `leveret run --embedded` does without: set "
            "postgres.url and run without --embedded"};
    if (!ledger->ready || step->tx->generation != ledger->generation) {
        step->done.rows(step->ctx, LVT_ANSWER_OUTAGE, NULL, NULL);
    } else if (step->kind == STEP_QUERY) {
        step->done.rows(step->ctx, LVT_ANSWER_ERROR, NULL, &no_sql);
    } else {
        char text[24];
        snprintf(text, sizeof text, "%lld", (long long)++ledger->invalidation_number);
        const struct lvt_rows rows = {text, 1, 1, 1, number_name, number_kind, number_cell};
        step->done.rows(step->ctx, LVT_ANSWER_OK, &rows, NULL);
    }
}

static void answer_step(struct lvt_memory_ledger *ledger, struct step *from) {
    const struct step step = *from;
    free_step(from);
    if (step.kind == STEP_BEGIN) {
        step.done.tx(step.ctx, try_begin(ledger, step.tx), NULL);
    } else if (step.kind == STEP_COMMIT) {
        enum lvt_tx_result result = try_commit(ledger, step.tx);
        end_tx(ledger, step.tx);
        step.done.tx(step.ctx, result, NULL);
    } else {
        answer_rows(ledger, &step);
    }
}

/* What an answer leads to being asked waits for the next poll. An answer can also end a transaction
 * whose later steps are among those that are left: they are taken one at a time. */
static void answer_steps(struct lvt_memory_ledger *ledger) {
    size_t left = 0;
    for (const struct step *step = ledger->steps; step; step = step->next)
        left++;
    for (; left > 0 && ledger->steps; left--) {
        struct step *step = ledger->steps;
        ledger->steps = step->next;
        if (!ledger->steps)
            ledger->steps_last = &ledger->steps;
        answer_step(ledger, step);
    }
}

struct lvt_ledger_port lvt_memory_ledger_port(struct lvt_memory_ledger *ledger) {
    return (struct lvt_ledger_port){
        .self = ledger,
        .ready = port_ready,
        .claim = port_claim,
        .record = port_record,
        .release = port_release,
        .tx_begin = port_tx_begin,
        .tx_query = port_tx_query,
        .tx_commit = port_tx_commit,
        .tx_rollback = port_tx_rollback,
        .tx_invalidate = port_tx_invalidate,
        .invalidated = port_invalidated,
        .tx_publish = port_tx_publish,
        .outbox_done = port_outbox_done,
    };
}

/* ---- the loop's side ---- */

void lvt_memory_ledger_poll(struct lvt_memory_ledger *ledger) {
    if (ledger->ready_told != ledger->ready) {
        ledger->ready_told = ledger->ready;
        ledger->sink.ready_changed(ledger->sink.ctx, ledger->ready);
    }
    answer_steps(ledger);
    if (!ledger->ready)
        return;
    answer_records(ledger);
    answer_claims(ledger);
    struct lvt_outbox_row *rows = lvt_memory_outbox_take(&ledger->outbox);
    if (rows)
        ledger->sink.outbox_due(ledger->sink.ctx, rows);
}

bool lvt_memory_ledger_pending(const struct lvt_memory_ledger *ledger) {
    return ledger->steps || ledger->ready_told != ledger->ready ||
           (ledger->ready && (ledger->asked.count > 0 || ledger->recording.count > 0 ||
                              lvt_memory_outbox_pending(&ledger->outbox)));
}

/* ---- faults ---- */

void lvt_memory_ledger_set_ready(struct lvt_memory_ledger *ledger, bool ready) {
    if (ledger->ready && !ready)
        ledger->generation++;
    ledger->ready = ready;
}

enum leveret_code lvt_memory_ledger_other_claims(struct lvt_memory_ledger *ledger,
                                                 const unsigned char key[LVT_KEY_BYTES]) {
    struct other_claim *other = malloc(sizeof *other);
    if (!other)
        return LEVERET_NO_MEMORY;
    other->next = ledger->others;
    memcpy(other->key, key, LVT_KEY_BYTES);
    ledger->others = other;
    return LEVERET_OK;
}

void lvt_memory_ledger_other_ends(struct lvt_memory_ledger *ledger,
                                  const unsigned char key[LVT_KEY_BYTES], bool record) {
    struct other_claim **at = &ledger->others;
    if (record)
        (void)lvt_records_add(&ledger->records, key);
    while (*at && memcmp((*at)->key, key, LVT_KEY_BYTES) != 0)
        at = &(*at)->next;
    if (!*at)
        return;
    struct other_claim *other = *at;
    *at = other->next;
    free(other);
}

void lvt_memory_ledger_status(const struct lvt_memory_ledger *ledger,
                              struct lvt_memory_ledger_status *ret_status) {
    *ret_status = (struct lvt_memory_ledger_status){
        .records = ledger->records.count,
        .held = ledger->held.count,
        .asked = ledger->asked.count,
        .recording = ledger->recording.count,
    };
    for (const struct lvt_tx *tx = ledger->transactions; tx; tx = tx->next)
        ret_status->transactions++;
}

bool lvt_memory_ledger_has(const struct lvt_memory_ledger *ledger,
                           const unsigned char key[LVT_KEY_BYTES]) {
    return lvt_records_has(&ledger->records, key);
}
