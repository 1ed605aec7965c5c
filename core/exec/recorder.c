#include "exec/recorder.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/message.h"

/* Something that was passed on and has not been answered. */
struct call {
    struct call *prev, *next;
    struct lvt_recorder *recorder;
    struct lvt_tx *tx; /* NULL for what belongs to no transaction */
    enum lvt_step_kind kind;
    unsigned number;
    union {
        lvt_tx_done *tx;
        lvt_rows_done *rows;
        lvt_reply_done *reply;
        lvt_invalidate_done *invalidate;
        lvt_http_done *http;
    } done;
    void *ctx;
};

struct lvt_recorder {
    struct lvt_recorder_options options;
    struct lvt_log log;
    struct lvt_ledger_port ledger; /* where things go */
    struct lvt_cache_port cache;
    struct lvt_http_port http;
    struct lvt_broker_sink broker_sink;
    struct lvt_ledger_sink ledger_sink;
    const struct lvt_runtime *runtime; /* the handler's own */
    void *runtime_self;
    struct lvt_run *run; /* the newest; valid until the event is settled */
    struct call *calls;
    size_t outstanding;
    unsigned steps;
    struct lvt_claim *claimed, *recorded; /* to be answered with the next poll */
    struct lvt_publish *published, **published_last;
    int64_t later_number;
    bool settled, failed;
    struct lvt_exec_result result;
};

/* ---- telling ---- */

static unsigned tell(struct lvt_recorder *recorder, struct lvt_step *step) {
    step->number = ++recorder->steps;
    recorder->options.watcher.step(recorder->options.watcher.ctx, step);
    return step->number;
}

/* NULL when out of memory, and then the recorder has failed. */
static struct call *new_call(struct lvt_recorder *recorder, struct lvt_step *step,
                             struct lvt_tx *tx, void *ctx) {
    struct call *call = calloc(1, sizeof *call);
    if (!call) {
        recorder->failed = true;
        return NULL;
    }
    *call = (struct call){.recorder = recorder, .tx = tx, .kind = step->kind, .ctx = ctx};
    call->number = tell(recorder, step);
    call->next = recorder->calls;
    if (recorder->calls)
        recorder->calls->prev = call;
    recorder->calls = call;
    recorder->outstanding++;
    return call;
}

static void free_call(struct call *call) {
    struct lvt_recorder *recorder = call->recorder;
    if (call->prev)
        call->prev->next = call->next;
    else
        recorder->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    recorder->outstanding--;
    free(call);
}

static void tell_answer(struct call *call, struct lvt_step_answer *answer) {
    const struct lvt_recorder_options *options = &call->recorder->options;
    options->tick(options->tick_ctx);
    answer->kind = call->kind;
    answer->number = call->number;
    options->watcher.answer(options->watcher.ctx, answer);
}

/* ---- the ledger ---- */

static bool ready(void *self) {
    (void)self;
    return true;
}

static void claim(void *self, struct lvt_claim *list) {
    struct lvt_recorder *recorder = self;
    for (struct lvt_claim *at = list; at; at = at->next)
        at->result = LVT_CLAIM_GOT;
    recorder->claimed = list;
}

static void record(void *self, struct lvt_claim *list) {
    struct lvt_recorder *recorder = self;
    recorder->recorded = list;
}

/* One event is in hand: what waits to be answered is its claim. */
static void release(void *self, struct lvt_claim *given_up) {
    struct lvt_recorder *recorder = self;
    if (recorder->claimed == given_up)
        recorder->claimed = NULL;
    if (recorder->recorded == given_up)
        recorder->recorded = NULL;
}

static enum lvt_answer answer_of(enum lvt_tx_result result) {
    if (result == LVT_TX_OUTAGE)
        return LVT_ANSWER_OUTAGE;
    return result == LVT_TX_OK ? LVT_ANSWER_OK : LVT_ANSWER_ERROR;
}

static void tx_answered(void *ctx, enum lvt_tx_result result, const struct lvt_sql_error *error) {
    struct call *call = ctx;
    struct lvt_step_answer answer = {.result = answer_of(result),
                                     .error = error ? error->text : "PostgreSQL is away"};
    tell_answer(call, &answer);
    lvt_tx_done *done = call->done.tx;
    void *done_ctx = call->ctx;
    free_call(call);
    done(done_ctx, result, error);
}

/* Without the claim, so without a record. */
static struct lvt_tx *tx_begin(void *self, struct lvt_claim *its_claim, lvt_tx_done *done,
                               void *ctx) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_BEGIN};
    (void)its_claim;
    struct call *call = new_call(recorder, &step, NULL, ctx);
    if (!call)
        return NULL;
    call->done.tx = done;
    call->tx = recorder->ledger.tx_begin(recorder->ledger.self, NULL, tx_answered, call);
    struct lvt_tx *tx = call->tx;
    if (!tx)
        free_call(call);
    return tx;
}

static void rows_answered(void *ctx, enum lvt_answer result, const struct lvt_rows *rows,
                          const struct lvt_sql_error *error) {
    struct call *call = ctx;
    struct lvt_step_answer answer = {
        .result = result, .error = error ? error->text : "PostgreSQL is away", .rows = rows};
    tell_answer(call, &answer);
    lvt_rows_done *done = call->done.rows;
    void *done_ctx = call->ctx;
    free_call(call);
    done(done_ctx, result, rows, error);
}

static void tx_query(void *self, struct lvt_tx *tx, const struct lvt_sql *sql, lvt_rows_done *done,
                     void *ctx) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_SQL, .of.sql = sql};
    struct call *call = new_call(recorder, &step, tx, ctx);
    if (!call)
        return;
    call->done.rows = done;
    recorder->ledger.tx_query(recorder->ledger.self, tx, sql, rows_answered, call);
}

static void tx_commit(void *self, struct lvt_tx *tx, lvt_tx_done *done, void *ctx) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_COMMIT};
    struct call *call = new_call(recorder, &step, tx, ctx);
    if (!call)
        return;
    call->done.tx = done;
    recorder->ledger.tx_commit(recorder->ledger.self, tx, tx_answered, call);
}

static void tx_rollback(void *self, struct lvt_tx *tx) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_ROLLBACK};
    struct call *next;
    for (struct call *call = recorder->calls; call; call = next) {
        next = call->next;
        if (call->tx == tx)
            free_call(call);
    }
    tell(recorder, &step);
    recorder->ledger.tx_rollback(recorder->ledger.self, tx);
}

/* Kept here, not in the ledger's table: the engine runs it after the commit, and nobody is to run
 * it again. */
static void tx_invalidate(void *self, struct lvt_tx *tx, struct lvt_bytes pattern,
                          lvt_rows_done *done, void *ctx) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_INVALIDATE_LATER, .of.pattern = pattern};
    struct call *call = new_call(recorder, &step, tx, ctx);
    if (!call)
        return;
    call->done.rows = done; /* answered with the next poll */
}

/* Not into the outbox, from where a worker would publish it. */
static void tx_publish(void *self, struct lvt_tx *tx, const struct lvt_outgoing *outgoing,
                       lvt_rows_done *done, void *ctx) {
    static const struct lvt_outgoing_limits none = {0};
    struct lvt_recorder *recorder = self;
    struct lvt_publish publish;
    struct lvt_arena arena;
    lvt_arena_init(&arena, outgoing->payload.len + 1024);
    struct lvt_step step = {.kind = LVT_STEP_PUBLISH_LATER, .of.publish = &publish};
    struct call *call = NULL;
    if (lvt_outgoing_build(outgoing, &none, 0, &arena, &publish) == LEVERET_OK)
        call = new_call(recorder, &step, tx, ctx);
    lvt_arena_free(&arena);
    if (call)
        call->done.rows = done; /* answered with the next poll */
    else
        recorder->failed = true;
}

static bool number_cell(void *self, size_t row, size_t column, struct lvt_bytes *ret_text) {
    (void)row, (void)column;
    *ret_text = lvt_bytes_of(self);
    return true;
}

/* The oldest of what is done later, which waits for its answer; NULL when there is none. */
static struct call *find_later(const struct lvt_recorder *recorder) {
    struct call *oldest = NULL;
    for (struct call *call = recorder->calls; call; call = call->next)
        if (call->kind == LVT_STEP_INVALIDATE_LATER || call->kind == LVT_STEP_PUBLISH_LATER)
            oldest = call;
    return oldest;
}

static void answer_later(struct lvt_recorder *recorder, struct call *call) {
    char number[24];
    const struct lvt_rows rows = {
        .self = number, .row_count = 1, .column_count = 1, .affected = 1, .cell = number_cell};
    snprintf(number, sizeof number, "%lld", (long long)++recorder->later_number);
    lvt_rows_done *done = call->done.rows;
    void *done_ctx = call->ctx;
    free_call(call);
    done(done_ctx, LVT_ANSWER_OK, &rows, NULL);
}

static void invalidated(void *self, int64_t number) {
    (void)self, (void)number;
}

/* ---- cache, http ---- */

static void reply_answered(void *ctx, enum lvt_answer result, const struct lvt_reply *reply,
                           const char *error) {
    struct call *call = ctx;
    struct lvt_step_answer answer = {
        .result = result, .error = error ? error : "Redis is away", .reply = reply};
    tell_answer(call, &answer);
    lvt_reply_done *done = call->done.reply;
    void *done_ctx = call->ctx;
    free_call(call);
    done(done_ctx, result, reply, error);
}

static void command(void *self, const struct lvt_bytes *argv, size_t argc, lvt_reply_done *done,
                    void *ctx) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_REDIS, .of.redis = {argv, argc}};
    struct call *call = new_call(recorder, &step, NULL, ctx);
    if (!call)
        return;
    call->done.reply = done;
    recorder->cache.command(recorder->cache.self, argv, argc, reply_answered, call);
}

static void removed_answered(void *ctx, enum lvt_answer result, int64_t removed,
                             const char *error) {
    struct call *call = ctx;
    struct lvt_step_answer answer = {
        .result = result, .error = error ? error : "Redis is away", .removed = removed};
    tell_answer(call, &answer);
    lvt_invalidate_done *done = call->done.invalidate;
    void *done_ctx = call->ctx;
    free_call(call);
    done(done_ctx, result, removed, error);
}

static void invalidate(void *self, struct lvt_bytes pattern, lvt_invalidate_done *done, void *ctx) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_INVALIDATE, .of.pattern = pattern};
    struct call *call = new_call(recorder, &step, NULL, ctx);
    if (!call)
        return;
    call->done.invalidate = done;
    recorder->cache.invalidate(recorder->cache.self, pattern, removed_answered, call);
}

static void http_answered(void *ctx, const struct lvt_http_response *response, const char *error) {
    struct call *call = ctx;
    struct lvt_step_answer answer = {.result = response ? LVT_ANSWER_OK : LVT_ANSWER_ERROR,
                                     .error = error,
                                     .response = response};
    tell_answer(call, &answer);
    lvt_http_done *done = call->done.http;
    void *done_ctx = call->ctx;
    free_call(call);
    done(done_ctx, response, error);
}

static void request(void *self, const struct lvt_http_request *asked, lvt_http_done *done,
                    void *ctx) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_HTTP, .of.http = asked};
    struct call *call = new_call(recorder, &step, NULL, ctx);
    if (!call)
        return;
    call->done.http = done;
    recorder->http.request(recorder->http.self, asked, http_answered, call);
}

/* ---- the broker, and the event's end ---- */

static void keep(char *to, size_t max, struct lvt_bytes text) {
    size_t len = text.len < max ? text.len : max;
    if (len > 0)
        memcpy(to, text.data, len);
    to[len] = '\0';
}

static void keep_result(struct lvt_recorder *recorder) {
    const struct lvt_event *event = recorder->run->event;
    struct lvt_exec_result *result = &recorder->result;
    *result = (struct lvt_exec_result){.ran = true,
                                       .verdict = event->verdict.kind,
                                       .dead = event->dead,
                                       .attempt = event->attempt,
                                       .retries_max = lvt_event_retries(event),
                                       .delay_ms = event->delay_ms,
                                       .duration_ms = event->duration_ms};
    memcpy(result->sqlstate, event->verdict.sqlstate, sizeof result->sqlstate);
    keep(result->reason, LVT_REASON_MAX, event->verdict.reason);
    keep(result->trace, LVT_TRACE_MAX, event->verdict.trace);
    recorder->settled = true;
}

static void ack(void *self, const struct lvt_delivery *delivery) {
    struct lvt_recorder *recorder = self;
    (void)delivery;
    if (recorder->run)
        keep_result(recorder);
    recorder->settled = true;
    recorder->run = NULL;
}

/* The engine's own message is the event, going on. One that comes before any run is a dead letter
 * that tells why the event is none. */
static bool is_the_event(struct lvt_recorder *recorder, const struct lvt_publish *publish) {
    if (recorder->run)
        return publish == &recorder->run->event->publish;
    const struct lvt_header *error =
        lvt_headers_find(&publish->properties.headers, LVT_HEADER_ERROR);
    if (error)
        keep(recorder->result.reason, LVT_REASON_MAX, error->value.bytes);
    return true;
}

static void publish_message(void *self, struct lvt_publish *publish) {
    struct lvt_recorder *recorder = self;
    struct lvt_step step = {.kind = LVT_STEP_PUBLISH, .of.publish = publish};
    if (!is_the_event(recorder, publish))
        tell(recorder, &step);
    publish->result = LVT_PUBLISH_CONFIRMED;
    publish->next = NULL;
    *recorder->published_last = publish;
    recorder->published_last = &publish->next;
}

static void flush(void *self) {
    (void)self;
}

static bool live(void *self, const struct lvt_delivery *delivery) {
    (void)self, (void)delivery;
    return true;
}

/* ---- the runtime: who runs, and for how long ---- */

static void start(void *self, struct lvt_run *run) {
    struct lvt_recorder *recorder = self;
    recorder->run = run;
    recorder->runtime->start(recorder->runtime_self, run);
}

static void abort_run(void *self, struct lvt_run *run) {
    struct lvt_recorder *recorder = self;
    recorder->runtime->abort(recorder->runtime_self, run);
}

static const struct lvt_runtime watched_runtime = {.start = start, .abort = abort_run};

/* ---- the log ---- */

/* The engine adds the event's own fields, which are known here. */
static bool is_the_engines(const struct lvt_run *run, const struct lvt_field *field) {
    if (field->kind != LVT_FIELD_TEXT)
        return false;
    const char *data = field->value.text.data;
    return data == run->event->type.data || data == run->event->id.data ||
           data == run->handler->name || data == run->handler->version;
}

static void log_record(void *ctx, enum lvt_level level, const char *text,
                       const struct lvt_field *fields, size_t field_count) {
    struct lvt_recorder *recorder = ctx;
    const struct lvt_run *run = lvt_recorder_run(recorder);
    if (!run)
        return; /* what became of the event, which the result tells */
    while (field_count > 0 && is_the_engines(run, &fields[field_count - 1]))
        field_count--;
    struct lvt_step step = {.kind = LVT_STEP_LOG, .of.log = {level, text, fields, field_count}};
    tell(recorder, &step);
}

/* ---- all of it ---- */

enum leveret_code lvt_recorder_new(const struct lvt_recorder_options *options,
                                   struct lvt_recorder **ret_recorder, struct leveret_error *err) {
    struct lvt_recorder *recorder = calloc(1, sizeof *recorder);
    if (!recorder)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    recorder->options = *options;
    recorder->log = (struct lvt_log){log_record, recorder, options->log_level};
    recorder->published_last = &recorder->published;
    recorder->runtime = options->handler->runtime;
    recorder->runtime_self = options->handler->runtime_self;
    options->handler->runtime = &watched_runtime;
    options->handler->runtime_self = recorder;
    *ret_recorder = recorder;
    return LEVERET_OK;
}

void lvt_recorder_free(struct lvt_recorder *recorder) {
    if (!recorder)
        return;
    recorder->options.handler->runtime = recorder->runtime;
    recorder->options.handler->runtime_self = recorder->runtime_self;
    while (recorder->calls)
        free_call(recorder->calls);
    free(recorder);
}

const struct lvt_log *lvt_recorder_log(const struct lvt_recorder *recorder) {
    return &recorder->log;
}

void lvt_recorder_attach(struct lvt_recorder *recorder, struct lvt_engine *engine,
                         struct lvt_ledger_port ledger, struct lvt_cache_port cache,
                         struct lvt_http_port http) {
    recorder->ledger = ledger;
    recorder->cache = cache;
    recorder->http = http;
    recorder->broker_sink = lvt_engine_broker_sink(engine);
    recorder->ledger_sink = lvt_engine_ledger_sink(engine);
    /* A delivery that is given back, for want of memory, is settled as far as this goes. */
    const struct lvt_broker_port broker = {.self = recorder,
                                           .ack = ack,
                                           .requeue = ack,
                                           .publish = publish_message,
                                           .flush = flush,
                                           .live = live};
    const struct lvt_ledger_port its_ledger = {
        .self = recorder,
        .ready = ready,
        .claim = claim,
        .record = record,
        .release = release,
        .tx_begin = tx_begin,
        .tx_query = tx_query,
        .tx_commit = tx_commit,
        .tx_rollback = tx_rollback,
        .tx_invalidate = tx_invalidate,
        .invalidated = invalidated,
        .tx_publish = tx_publish,
    };
    const struct lvt_cache_port its_cache = {recorder, command, invalidate};
    const struct lvt_http_port its_http = {recorder, request};
    lvt_engine_attach(engine, broker, its_ledger, its_cache, its_http);
}

void lvt_recorder_poll(struct lvt_recorder *recorder) {
    struct lvt_claim *claimed = recorder->claimed, *recorded = recorder->recorded;
    struct lvt_publish *published = recorder->published;
    recorder->claimed = recorder->recorded = NULL;
    recorder->published = NULL;
    recorder->published_last = &recorder->published;
    if (claimed)
        recorder->ledger_sink.claimed(recorder->ledger_sink.ctx, claimed);
    if (recorded)
        recorder->ledger_sink.recorded(recorder->ledger_sink.ctx, recorded);
    if (published)
        recorder->broker_sink.published(recorder->broker_sink.ctx, published);
    struct call *later = find_later(recorder);
    if (later)
        answer_later(recorder, later);
}

bool lvt_recorder_pending(const struct lvt_recorder *recorder) {
    return recorder->claimed || recorder->recorded || recorder->published || find_later(recorder);
}

const struct lvt_run *lvt_recorder_run(const struct lvt_recorder *recorder) {
    return recorder->run && !recorder->run->finished ? recorder->run : NULL;
}

size_t lvt_recorder_outstanding(const struct lvt_recorder *recorder) {
    return recorder->outstanding;
}

void lvt_recorder_slept(struct lvt_recorder *recorder, uint64_t delay_ms) {
    struct lvt_step step = {.kind = LVT_STEP_SLEEP, .of.sleep_ms = delay_ms};
    tell(recorder, &step);
}

bool lvt_recorder_result(struct lvt_recorder *recorder, struct lvt_exec_result *ret_result) {
    const struct lvt_run *run = recorder->run;
    if (!recorder->settled && run && run->finished &&
        run->event->verdict.kind == LVT_VERDICT_OUTAGE)
        keep_result(recorder);
    if (!recorder->settled)
        return false;
    *ret_result = recorder->result;
    return true;
}

bool lvt_recorder_failed(const struct lvt_recorder *recorder) {
    return recorder->failed;
}
