/* What handlers ask for on their way: the bookkeeping between a run, which may end at any moment,
 * and the ports, which answer when they can. */
#include "engine/effect.h"

#include <stdlib.h>

#include "base/container.h"
#include "engine/state.h"

static struct lvt_effect **list_of(struct lvt_effect *effect) {
    return effect->run ? &effect->run->effects : &effect->engine->orphans;
}

static void link_effect(struct lvt_effect *effect) {
    struct lvt_effect **list = list_of(effect);
    effect->prev = NULL;
    effect->next = *list;
    if (*list)
        (*list)->prev = effect;
    *list = effect;
}

static void unlink_effect(struct lvt_effect *effect) {
    if (effect->prev)
        effect->prev->next = effect->next;
    else
        *list_of(effect) = effect->next;
    if (effect->next)
        effect->next->prev = effect->prev;
}

void lvt_effect_free(struct lvt_effect *effect) {
    unlink_effect(effect);
    if (effect->kind == LVT_EFFECT_TURN)
        effect->run->handler->interrupted--;
    lvt_timer_stop(effect->engine->clock.timers, &effect->timer);
    free(effect->error);
    lvt_publishing_free(effect->publishing);
    free(effect);
}

void lvt_effect_outage(struct lvt_run *run, enum lvt_service service, const char *why) {
    const struct lvt_verdict verdict = {
        .kind = LVT_VERDICT_OUTAGE, .reason = lvt_bytes_of(why), .service = service};
    lvt_run_stop(run, &verdict);
}

static void out_of_memory_due(struct lvt_timer *timer) {
    struct lvt_run *run = LVT_CONTAINER_OF(timer, struct lvt_run, timeout);
    lvt_effect_outage(run, LVT_SERVICE_NONE, "out of memory");
}

void lvt_effect_starve(struct lvt_run *run) {
    run->timeout.fire = out_of_memory_due;
    (void)lvt_timer_start(run->engine->clock.timers, &run->timeout, 0);
}

struct lvt_effect *lvt_effect_new(struct lvt_run *run, enum lvt_effect_kind kind, void *ctx,
                                  size_t extra) {
    struct lvt_effect *effect = calloc(1, sizeof *effect + extra);
    if (!effect) {
        lvt_effect_starve(run);
        return NULL;
    }
    effect->run = run;
    effect->engine = run->engine;
    effect->kind = kind;
    effect->ctx = ctx;
    link_effect(effect);
    return effect;
}

/* ---- transactions ---- */

static void rows_answered(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                          const struct lvt_sql_error *error) {
    struct lvt_effect *effect = ctx;
    struct lvt_run *run = effect->run;
    lvt_rows_done *done = effect->done.rows;
    void *done_ctx = effect->ctx;
    if (answer == LVT_ANSWER_OUTAGE) {
        lvt_effect_outage(run, LVT_SERVICE_POSTGRES, "PostgreSQL is away");
        return;
    }
    struct lvt_engine *engine = effect->engine;
    lvt_effect_free(effect);
    lvt_run_enter(run);
    done(done_ctx, answer, rows, error);
    lvt_run_leave(engine);
}

static void number_answered(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                            const struct lvt_sql_error *error);

static void send_sql(struct lvt_effect *effect) {
    struct lvt_engine *engine = effect->engine;
    struct lvt_tx *tx = effect->run->tx;
    if (effect->publishing)
        lvt_publishing_send_in_tx(effect);
    else if (effect->patterns)
        engine->ledger.tx_invalidate(engine->ledger.self, tx, effect->patterns[effect->answered],
                                     number_answered, effect);
    else
        engine->ledger.tx_query(engine->ledger.self, tx, &effect->sql, rows_answered, effect);
}

static void number_answered(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                            const struct lvt_sql_error *error) {
    struct lvt_effect *effect = ctx;
    struct lvt_run *run = effect->run;
    if (answer == LVT_ANSWER_OUTAGE) {
        lvt_effect_outage(run, LVT_SERVICE_POSTGRES, "PostgreSQL is away");
        return;
    }
    if (answer == LVT_ANSWER_OK) {
        if (!lvt_invalidation_keep(run, effect->patterns[effect->answered], rows)) {
            lvt_effect_outage(run, LVT_SERVICE_NONE, "out of memory");
            return;
        }
        if (++effect->answered < effect->asked) {
            send_sql(effect);
            return;
        }
    }
    lvt_invalidate_done *done = effect->done.invalidate;
    void *done_ctx = effect->ctx;
    struct lvt_engine *engine = effect->engine;
    lvt_effect_free(effect);
    lvt_run_enter(run);
    if (answer == LVT_ANSWER_ERROR)
        done(done_ctx, LVT_ANSWER_ERROR, 0, error->text);
    else
        done(done_ctx, LVT_ANSWER_OK, -1, NULL);
    lvt_run_leave(engine);
}

static void stop_waiting(struct lvt_effect *effect) {
    struct lvt_engine *engine = effect->engine;
    struct lvt_effect *before = NULL;
    for (struct lvt_effect *at = engine->tx_waiting; at != effect; at = at->waiting_next)
        before = at;
    if (before)
        before->waiting_next = effect->waiting_next;
    else
        engine->tx_waiting = effect->waiting_next;
    if (engine->tx_waiting_last == effect)
        engine->tx_waiting_last = before;
    effect->waiting = false;
}

/* In the order of asking: the list has the newest first. What the transaction was opened for is on
 * it. */
static void send_asked(struct lvt_run *run) {
    struct lvt_effect *effect = run->effects;
    while (effect->next)
        effect = effect->next;
    for (; effect; effect = effect->prev) {
        if (effect->kind != LVT_EFFECT_SQL)
            continue;
        if (effect->waiting)
            stop_waiting(effect);
        send_sql(effect);
    }
}

static void begun(void *ctx, enum lvt_tx_result result, const struct lvt_sql_error *error) {
    struct lvt_run *run = ctx;
    if (result == LVT_TX_OK) {
        run->tx_open = true;
        send_asked(run);
        return;
    }
    struct lvt_verdict verdict = {.kind = LVT_VERDICT_OUTAGE,
                                  .reason = LVT_LITERAL("PostgreSQL is away"),
                                  .service = LVT_SERVICE_POSTGRES};
    if (result == LVT_TX_DUPLICATE)
        verdict.kind = LVT_VERDICT_DUPLICATE;
    if (result == LVT_TX_ERROR) {
        verdict.kind = LVT_VERDICT_RETRY;
        verdict.reason = lvt_bytes_of(error->text);
        verdict.after_ms = -1;
        memcpy(verdict.sqlstate, error->sqlstate, sizeof verdict.sqlstate);
    }
    lvt_run_stop(run, &verdict);
}

/* One handler may hold half of the pool while others, who hold less, want it. */
static bool may_open(const struct lvt_engine *engine, const struct lvt_run *run) {
    uint32_t pool = engine->options.pool;
    uint32_t share = pool > 1 ? pool / 2 : 1;
    if (engine->tx_open >= pool)
        return false;
    if (run->handler->tx_open < share)
        return true;
    for (const struct lvt_effect *other = engine->tx_waiting; other; other = other->waiting_next)
        if (other->run->handler->tx_open < share)
            return false;
    return true;
}

static void open_tx(struct lvt_run *run) {
    struct lvt_engine *engine = run->engine;
    struct lvt_claim *claim = run->event->id.len > 0 ? &run->event->claim : NULL;
    run->tx = engine->ledger.tx_begin(engine->ledger.self, claim, begun, run);
    if (run->tx) {
        engine->tx_open++;
        run->handler->tx_open++;
        return;
    }
    lvt_effect_starve(run);
}

void lvt_effect_need_tx(struct lvt_effect *effect) {
    struct lvt_engine *engine = effect->engine;
    struct lvt_run *run = effect->run;
    if (run->tx_open) {
        send_sql(effect);
        return;
    }
    if (run->tx)
        return; /* sent when its begin is answered */
    if (may_open(engine, run)) {
        open_tx(run);
        return;
    }
    effect->waiting = true;
    effect->waiting_next = NULL;
    if (engine->tx_waiting_last)
        engine->tx_waiting_last->waiting_next = effect;
    else
        engine->tx_waiting = effect;
    engine->tx_waiting_last = effect;
}

void lvt_effects_tx_ended(struct lvt_engine *engine, struct lvt_run *run) {
    run->tx = NULL;
    run->tx_open = false;
    engine->tx_open--;
    run->handler->tx_open--;
    struct lvt_effect *effect = engine->tx_waiting;
    while (effect && (effect->run->tx || !may_open(engine, effect->run)))
        effect = effect->waiting_next;
    if (!effect)
        return;
    stop_waiting(effect);
    open_tx(effect->run);
}

void lvt_effect_query(struct lvt_run *run, const struct lvt_sql *sql, lvt_rows_done *done,
                      void *ctx) {
    size_t size = sql->text.len + sql->param_count * sizeof *sql->params;
    for (size_t i = 0; i < sql->param_count; i++)
        size += sql->params[i].len;
    struct lvt_effect *effect = lvt_effect_new(run, LVT_EFFECT_SQL, ctx, size);
    if (!effect)
        return;
    struct lvt_bytes *params = (struct lvt_bytes *)(effect + 1);
    char *text = (char *)(params + sql->param_count);
    effect->done.rows = done;
    effect->sql = (struct lvt_sql){{text, sql->text.len}, params, sql->param_count};
    memcpy(text, sql->text.data, sql->text.len);
    text += sql->text.len;
    for (size_t i = 0; i < sql->param_count; i++) {
        struct lvt_bytes param = sql->params[i];
        params[i] = param;
        if (!param.data)
            continue;
        params[i].data = text;
        memcpy(text, param.data, param.len);
        text += param.len;
    }
    lvt_effect_need_tx(effect);
}

/* ---- cache ---- */

static void reply_answered(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                           const char *error) {
    struct lvt_effect *effect = ctx;
    struct lvt_run *run = effect->run;
    lvt_reply_done *done = effect->done.reply;
    void *done_ctx = effect->ctx;
    struct lvt_engine *engine = effect->engine;
    lvt_effect_free(effect);
    if (!run)
        return;
    if (answer == LVT_ANSWER_OUTAGE) {
        lvt_effect_outage(run, LVT_SERVICE_REDIS, "Redis is away");
        return;
    }
    lvt_run_enter(run);
    done(done_ctx, answer, reply, error);
    lvt_run_leave(engine);
}

void lvt_effect_redis(struct lvt_run *run, const struct lvt_bytes *argv, size_t argc,
                      lvt_reply_done *done, void *ctx) {
    struct lvt_effect *effect = lvt_effect_new(run, LVT_EFFECT_REDIS, ctx, 0);
    if (!effect)
        return;
    effect->done.reply = done;
    run->engine->cache.command(run->engine->cache.self, argv, argc, reply_answered, effect);
}

static void removed_answered(void *ctx, enum lvt_answer answer, int64_t removed,
                             const char *error) {
    struct lvt_effect *effect = ctx;
    struct lvt_run *run = effect->run;
    effect->answered++;
    effect->removed += removed;
    if (answer == LVT_ANSWER_ERROR && !effect->error)
        effect->error = strdup(error);
    if (answer == LVT_ANSWER_OUTAGE && run) {
        /* the run's end makes an orphan of this effect, which its other answers still need */
        lvt_effect_outage(run, LVT_SERVICE_REDIS, "Redis is away");
        run = NULL;
    }
    if (effect->answered < effect->asked)
        return;
    lvt_invalidate_done *done = effect->done.invalidate;
    void *done_ctx = effect->ctx;
    int64_t total = effect->removed;
    char *first_error = effect->error;
    struct lvt_engine *engine = effect->engine;
    effect->error = NULL;
    lvt_effect_free(effect);
    if (run) {
        lvt_run_enter(run);
        if (first_error)
            done(done_ctx, LVT_ANSWER_ERROR, 0, first_error);
        else
            done(done_ctx, LVT_ANSWER_OK, total, NULL);
        lvt_run_leave(engine);
    }
    free(first_error);
}

static void invalidate_in_tx(struct lvt_run *run, const struct lvt_bytes *patterns, size_t count,
                             lvt_invalidate_done *done, void *ctx) {
    size_t size = count * sizeof *patterns;
    for (size_t i = 0; i < count; i++)
        size += patterns[i].len;
    struct lvt_effect *effect = lvt_effect_new(run, LVT_EFFECT_SQL, ctx, size);
    if (!effect)
        return;
    struct lvt_bytes *copies = (struct lvt_bytes *)(effect + 1);
    char *text = (char *)(copies + count);
    effect->done.invalidate = done;
    effect->patterns = copies;
    effect->asked = count;
    for (size_t i = 0; i < count; i++) {
        copies[i] = lvt_bytes(text, patterns[i].len);
        memcpy(text, patterns[i].data, patterns[i].len);
        text += patterns[i].len;
    }
    lvt_effect_need_tx(effect);
}

void lvt_effect_invalidate(struct lvt_run *run, const struct lvt_bytes *patterns, size_t count,
                           lvt_invalidate_done *done, void *ctx) {
    struct lvt_engine *engine = run->engine;
    if (run->tx) {
        invalidate_in_tx(run, patterns, count, done, ctx);
        return;
    }
    struct lvt_effect *effect = lvt_effect_new(run, LVT_EFFECT_INVALIDATE, ctx, 0);
    if (!effect)
        return;
    effect->done.invalidate = done;
    effect->asked = count;
    for (size_t i = 0; i < count; i++)
        engine->cache.invalidate(engine->cache.self, patterns[i], removed_answered, effect);
}

/* ---- http, sleep ---- */

static void http_answered(void *ctx, const struct lvt_http_response *response, const char *error) {
    struct lvt_effect *effect = ctx;
    struct lvt_run *run = effect->run;
    lvt_http_done *done = effect->done.http;
    void *done_ctx = effect->ctx;
    struct lvt_engine *engine = effect->engine;
    lvt_effect_free(effect);
    if (!run)
        return;
    lvt_run_enter(run);
    done(done_ctx, response, error);
    lvt_run_leave(engine);
}

void lvt_effect_http(struct lvt_run *run, const struct lvt_http_request *request,
                     lvt_http_done *done, void *ctx) {
    struct lvt_effect *effect = lvt_effect_new(run, LVT_EFFECT_HTTP, ctx, 0);
    if (!effect)
        return;
    effect->done.http = done;
    run->engine->http.request(run->engine->http.self, request, http_answered, effect);
}

static void slept(struct lvt_timer *timer) {
    struct lvt_effect *effect = LVT_CONTAINER_OF(timer, struct lvt_effect, timer);
    struct lvt_run *run = effect->run;
    struct lvt_handler *handler = run->handler;
    struct lvt_engine *engine = effect->engine;
    bool turn = effect->kind == LVT_EFFECT_TURN;
    void (*done)(void *ctx) = effect->done.sleep;
    void *done_ctx = effect->ctx;
    lvt_effect_free(effect);
    lvt_run_enter(run);
    done(done_ctx);
    lvt_run_leave(engine);
    if (turn && handler->interrupted == 0)
        lvt_handler_wake(engine, handler);
}

static void start_timer(struct lvt_effect *effect, uint64_t delay_ms, void (*done)(void *ctx)) {
    struct lvt_clock *clock = &effect->engine->clock;
    effect->done.sleep = done;
    effect->timer.fire = slept;
    uint64_t due_ms = clock->now_ms(clock->self) + delay_ms;
    if (lvt_timer_start(clock->timers, &effect->timer, due_ms))
        return;
    lvt_effect_starve(effect->run);
}

void lvt_effect_sleep(struct lvt_run *run, uint64_t delay_ms, void (*done)(void *ctx), void *ctx) {
    struct lvt_effect *effect = lvt_effect_new(run, LVT_EFFECT_SLEEP, ctx, 0);
    if (effect)
        start_timer(effect, delay_ms, done);
}

void lvt_effect_turn(struct lvt_run *run, void (*done)(void *ctx), void *ctx) {
    struct lvt_effect *effect = lvt_effect_new(run, LVT_EFFECT_TURN, ctx, 0);
    if (!effect)
        return;
    run->handler->interrupted++;
    start_timer(effect, 0, done);
}

/* ---- the end of a run ---- */

static bool is_pending(const struct lvt_run *run, enum lvt_effect_kind kind) {
    for (const struct lvt_effect *effect = run->effects; effect; effect = effect->next)
        if (effect->kind == kind)
            return true;
    return false;
}

bool lvt_effect_sleeps(const struct lvt_run *run) {
    return is_pending(run, LVT_EFFECT_SLEEP);
}

bool lvt_effects_sql_pending(const struct lvt_run *run) {
    return is_pending(run, LVT_EFFECT_SQL);
}

bool lvt_effects_publish_pending(const struct lvt_run *run) {
    return is_pending(run, LVT_EFFECT_PUBLISH);
}

void lvt_effects_rollback(struct lvt_run *run) {
    struct lvt_engine *engine = run->engine;
    if (run->tx) {
        engine->ledger.tx_rollback(engine->ledger.self, run->tx);
        lvt_effects_tx_ended(engine, run);
    }
    lvt_invalidations_free(&run->invalidations);
}

void lvt_effects_end(struct lvt_run *run) {
    struct lvt_effect *next;
    for (struct lvt_effect *effect = run->effects; effect; effect = next) {
        next = effect->next;
        if (effect->waiting)
            stop_waiting(effect);
        if (effect->kind == LVT_EFFECT_SQL || effect->timer.fire) {
            lvt_effect_free(effect);
            continue;
        }
        unlink_effect(effect);
        effect->run = NULL;
        link_effect(effect);
    }
}

void lvt_effects_free(struct lvt_engine *engine) {
    while (engine->orphans)
        lvt_effect_free(engine->orphans);
}
