/* Handlers: what they ask for and how they end is chance, except that an event which writes a row
 * does so in every run that succeeds. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/effects.h"
#include "engine/retry.h"
#include "sim.h"

#define HANGS 100 /* no verdict at all */

struct sim_run {
    struct sim_run *next;
    struct sim_worker *worker;
    struct lvt_run *run;
    struct sim_fact *fact;
    unsigned handler;
    bool ended;
    unsigned steps;
    bool will_insert;
    unsigned statements; /* not answered */
    bool asks_redis;     /* and has no answer */
    int verdict;
    int64_t after_ms;
    char sqlstate[6];
    char patterns[2][24];
    struct sim_child *child; /* the last one */
};

struct script {
    struct sim_worker *worker;
    unsigned handler;
};

static void go_on(struct sim_run *run);

/* ---- the end ---- */

static void leave(struct sim_run *run) {
    run->ended = true;
    run->fact->running--;
    run->fact->running_on[run->worker->index]--;
    if (--run->worker->running[run->handler] == 0)
        run->worker->unlimited[run->handler] = false;
}

/* A run of the next attempt may not begin before this failure's delay is over. */
static void note_delay(struct sim_run *run, int64_t after_ms) {
    struct sim *sim = run->worker->sim;
    struct sim_fact *fact = run->fact;
    uint32_t attempt = run->run->event->attempt;
    const struct lvt_retry_policy *policy = &sim->plans[run->handler].retry;
    uint64_t delay_ms =
        after_ms >= 0 ? (uint64_t)after_ms : lvt_retry_delay(policy, attempt - 1, UINT32_MAX);
    if (attempt >= SIM_ATTEMPTS_MAX)
        return;
    uint64_t *due_ms = &fact->due_ms[attempt + 1];
    if (*due_ms == 0 || *due_ms > sim->now_ms + delay_ms)
        *due_ms = sim->now_ms + delay_ms;
}

static void note_failure(struct sim_run *run, int64_t after_ms) {
    run->fact->failures_min++;
    run->fact->failures_max++;
    note_delay(run, after_ms);
}

static void note_end(struct sim_run *run) {
    struct sim_fact *fact = run->fact;
    switch (run->verdict) {
    case LVT_VERDICT_DONE:
    case LVT_VERDICT_DROP:
        if (run->statements > 0) /* which keep it from committing */
            note_failure(run, -1);
        else if (!fact->id[0] && !run->run->tx)
            fact->successes++;
        else
            note_delay(run, -1); /* its commit may fail */
        break;
    case LVT_VERDICT_RETRY:
        if (strncmp(run->sqlstate, "22", 2) == 0)
            fact->rejections++;
        if (strncmp(run->sqlstate, "40", 2) != 0) {
            note_failure(run, run->after_ms);
            break;
        }
        fact->failures_max++; /* the first few of them cost nothing */
        note_delay(run, run->after_ms);
        break;
    case LVT_VERDICT_REJECT:
        fact->rejections++;
        fact->failures_max++;
        break;
    case LVT_VERDICT_SNOOZE:
        fact->snoozed_until_ms = run->worker->sim->now_ms + (uint64_t)run->after_ms;
        break;
    default:
        break;
    }
}

static void end(struct sim_run *run) {
    struct lvt_verdict verdict = {.kind = (enum lvt_verdict_kind)run->verdict,
                                  .reason = LVT_LITERAL("a reason"),
                                  .after_ms = run->after_ms};
    if (run->verdict == HANGS)
        return;
    memcpy(verdict.sqlstate, run->sqlstate, sizeof verdict.sqlstate);
    SIM_SAY(run->worker->sim, "worker %u: the handler of fact %u ends (%d)", run->worker->index,
            run->fact->index, run->verdict);
    note_end(run);
    leave(run);
    lvt_run_finish(run->run, &verdict);
}

/* ---- effects ---- */

static struct sim_run *answered(void *ctx) {
    struct sim_run *run = ctx;
    if (run->ended)
        sim_fail(run->worker->sim, "an answer for a run of fact %u that has ended",
                 run->fact->index);
    return run;
}

static void on_rows(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                    const struct lvt_sql_error *error) {
    struct sim_run *run = answered(ctx);
    struct sim *sim = run->worker->sim;
    (void)rows;
    run->statements--;
    if (answer == LVT_ANSWER_OUTAGE)
        sim_fail(sim, "a handler is told of an outage of the database");
    if (answer == LVT_ANSWER_ERROR && sim_chance(sim, 700)) {
        memcpy(run->sqlstate, error->sqlstate, sizeof run->sqlstate);
        run->verdict = LVT_VERDICT_RETRY;
        run->after_ms = -1;
        end(run);
        return;
    }
    go_on(run);
}

static void on_reply(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                     const char *error) {
    struct sim_run *run = answered(ctx);
    (void)answer, (void)reply, (void)error;
    run->asks_redis = false;
    go_on(run);
}

static void on_invalidated(void *ctx, enum lvt_answer answer, int64_t removed, const char *error) {
    struct sim_run *run = answered(ctx);
    (void)answer, (void)removed, (void)error;
    run->asks_redis = false;
    go_on(run);
}

static void on_response(void *ctx, const struct lvt_http_response *response, const char *error) {
    (void)response, (void)error;
    go_on(answered(ctx));
}

static void on_slept(void *ctx) {
    go_on(answered(ctx));
}

static void on_published(void *ctx, enum lvt_answer answer, struct lvt_bytes id,
                         const char *error) {
    struct sim_run *run = answered(ctx);
    (void)error;
    run->statements -= run->child->in_tx;
    sim_child_told(run->worker->sim, run->child, answer);
    if (!lvt_bytes_is(id, run->child->id))
        sim_fail(run->worker->sim, "child %u is told to have another id", run->child->number);
    go_on(run);
}

static void publish(struct sim_run *run) {
    struct lvt_header header;
    struct lvt_outgoing outgoing;
    run->child = sim_child_new(run->worker->sim, run->fact, run->run->tx != NULL);
    run->statements += run->child->in_tx;
    sim_child_outgoing(run->child, &header, &outgoing);
    lvt_effect_publish(run->run, &outgoing, on_published, run);
}

static void query(struct sim_run *run, const char *text) {
    const struct lvt_sql sql = {.text = lvt_bytes_of(text)};
    run->statements++;
    lvt_effect_query(run->run, &sql, on_rows, run);
    if (sim_bad_luck(run->worker->sim, 20))
        end(run); /* without waiting for the answer */
}

static void invalidate(struct sim_run *run) {
    struct lvt_bytes patterns[2];
    size_t count = 1 + sim_below(run->worker->sim, 2);
    for (size_t i = 0; i < count; i++) {
        snprintf(run->patterns[i], sizeof run->patterns[i], "k:%u:%zu", run->fact->index, i);
        patterns[i] = lvt_bytes_of(run->patterns[i]);
    }
    run->asks_redis = run->run->tx == NULL;
    lvt_effect_invalidate(run->run, patterns, count, on_invalidated, run);
}

static void redis(struct sim_run *run) {
    const struct lvt_bytes argv[] = {LVT_LITERAL("INCR"), LVT_LITERAL("n")};
    run->asks_redis = true;
    lvt_effect_redis(run->run, argv, 2, on_reply, run);
}

static void http(struct sim_run *run) {
    const struct lvt_http_request request = {
        .method = LVT_LITERAL("GET"), .url = LVT_LITERAL("http://there/"), .timeout_ms = 1000};
    lvt_effect_http(run->run, &request, on_response, run);
}

static void go_on(struct sim_run *run) {
    struct sim *sim = run->worker->sim;
    if (run->ended || sim->failure[0])
        return;
    if (run->will_insert && (run->steps == 0 || sim_chance(sim, 400))) {
        run->will_insert = false;
        query(run, "insert");
        return;
    }
    if (run->steps == 0) {
        end(run);
        return;
    }
    run->steps--;
    switch (sim_below(sim, 8)) {
    case 0:
        query(run, "select");
        break;
    case 1:
        invalidate(run);
        break;
    case 2:
        redis(run);
        break;
    case 3:
        http(run);
        break;
    case 4:
    case 5:
        publish(run);
        break;
    default:
        lvt_effect_sleep(run->run, sim_below(sim, 400), on_slept, run);
        break;
    }
}

/* ---- the runtime ---- */

static int choose_verdict(struct sim *sim) {
    unsigned luck = sim_below(sim, 100);
    if (luck < (sim->faults ? 55 : 80))
        return LVT_VERDICT_DONE;
    if (luck < 60)
        return LVT_VERDICT_DROP;
    if (luck < 82)
        return LVT_VERDICT_RETRY;
    if (luck < 86 || !sim->faults)
        return LVT_VERDICT_REJECT;
    return luck < 93 ? LVT_VERDICT_SNOOZE : HANGS;
}

static void start(void *self, struct lvt_run *lvt_run) {
    const struct script *script = self;
    struct sim *sim = script->worker->sim;
    struct sim_run *run = sim_alloc(sizeof *run);
    run->next = sim->runs;
    sim->runs = run;
    run->worker = script->worker;
    run->handler = script->handler;
    run->run = lvt_run;
    run->fact = sim_fact_of_headers(sim, &lvt_run->event->delivery->properties.headers);
    lvt_run->runtime_data = run;
    sim_check_start(run->worker, lvt_run, run->fact);
    run->fact->running++;
    run->fact->running_on[run->worker->index]++;
    run->worker->running[run->handler]++;
    run->verdict = choose_verdict(sim);
    bool succeeds = run->verdict == LVT_VERDICT_DONE || run->verdict == LVT_VERDICT_DROP;
    run->will_insert = run->fact->uses_db && (succeeds || sim_chance(sim, 500));
    run->steps = sim_chance(sim, 400) ? 0 : sim_below(sim, 4);
    run->after_ms = -1;
    if (run->verdict == LVT_VERDICT_SNOOZE || sim_chance(sim, 200))
        run->after_ms = sim_below(sim, 1500);
    SIM_SAY(sim, "worker %u: the handler of fact %u starts, attempt %u", run->worker->index,
            run->fact->index, lvt_run->event->attempt);
    go_on(run);
}

/* The engine ends it: over a timeout, or because what it asked for came to an outage. */
static void stop(void *self, struct lvt_run *lvt_run) {
    struct sim_run *run = lvt_run->runtime_data;
    struct sim_worker *worker = run->worker;
    (void)self;
    SIM_SAY(worker->sim, "worker %u: the handler of fact %u is stopped", worker->index,
            run->fact->index);
    bool waits_for_pool = run->statements > 0 && !lvt_run->tx_open;
    if (worker->in_timers && !waits_for_pool)
        note_failure(run, -1);
    if (!worker->in_timers && run->asks_redis) {
        run->fact->met_in[worker->index] = worker->life;
        run->fact->met_after[worker->index] = worker->signs;
    }
    leave(run);
}

static void destroy(void *self) {
    free(self);
}

static const struct lvt_runtime runtime = {start, stop, destroy};

void sim_runs_free(struct sim *sim) {
    while (sim->runs) {
        struct sim_run *run = sim->runs;
        sim->runs = run->next;
        free(run);
    }
}

/* ---- routes ---- */

struct lvt_handler *sim_handler_new(struct sim_worker *worker, unsigned index) {
    const struct sim_plan *plan = &worker->sim->plans[index];
    struct lvt_handler *handler = sim_alloc(sizeof *handler);
    struct script *script = sim_alloc(sizeof *script);
    char queue[8];
    *script = (struct script){worker, index};
    snprintf(queue, sizeof queue, "q%u", plan->queue);
    handler->name = strdup(plan->name);
    handler->runtime = &runtime;
    handler->runtime_self = script;
    handler->options.queue = strdup(queue);
    handler->options.exchange = strdup("events");
    handler->options.dead_letter = strdup(SIM_DEAD_LETTERS);
    handler->options.prefetch = worker->sim->prefetch;
    handler->options.retry = plan->retry;
    handler->options.timeout_ms = plan->timeout_ms;
    handler->options.concurrency = plan->concurrency;
    handler->options.rate = plan->rate;
    return handler;
}

bool sim_handlers_add(struct sim_worker *worker) {
    struct leveret_error err;
    for (unsigned i = 0; i < worker->sim->handler_count; i++) {
        struct lvt_handler *handler = sim_handler_new(worker, i);
        if (lvt_routes_add(&worker->routes, handler, &err) != LEVERET_OK) {
            lvt_handler_free(handler);
            return false;
        }
    }
    return true;
}
