/* Time, chance, and the order of things. */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

#define START_MS 1000000
#define SETTLE_LIMIT_MS (10 * 60 * 1000)
#define SETTLE_LOOK_MS 500
#define EVENTS_MAX 2000000

void *sim_alloc(size_t size) {
    void *memory = calloc(1, size);
    if (!memory)
        abort();
    return memory;
}

/* ---- chance ---- */

/* SplitMix64. */
uint64_t sim_random(struct sim *sim) {
    uint64_t z = sim->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned sim_below(struct sim *sim, unsigned limit) {
    return (unsigned)((sim_random(sim) >> 32) * limit >> 32);
}

bool sim_chance(struct sim *sim, unsigned permille) {
    return sim_below(sim, 1000) < permille;
}

bool sim_bad_luck(struct sim *sim, unsigned permille) {
    return sim->faults && sim_chance(sim, permille);
}

uint64_t sim_latency(struct sim *sim) {
    unsigned kind = sim_below(sim, 100);
    if (kind < 80 || !sim->faults)
        return sim_below(sim, 4);
    return sim_below(sim, kind < 96 ? 40 : 600);
}

/* ---- words ---- */

void sim_say(struct sim *sim, const char *format, ...) {
    va_list arguments;
    printf("%8llu ", (unsigned long long)(sim->now_ms - START_MS));
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

void sim_fail(struct sim *sim, const char *format, ...) {
    va_list arguments;
    if (sim->failure[0])
        return;
    va_start(arguments, format);
    vsnprintf(sim->failure, sizeof sim->failure, format, arguments);
    va_end(arguments);
    SIM_SAY(sim, "*** %s", sim->failure);
}

static void log_line(void *ctx, enum lvt_level level, const char *text,
                     const struct lvt_field *fields, size_t count) {
    char line[512];
    size_t len = (size_t)snprintf(line, sizeof line, "      | %s", text);
    (void)level;
    for (size_t i = 0; i < count && len < sizeof line; i++) {
        const struct lvt_field *field = &fields[i];
        if (field->kind == LVT_FIELD_TEXT)
            len += (size_t)snprintf(line + len, sizeof line - len, " %s=%.*s", field->key,
                                    (int)field->value.text.len, field->value.text.data);
        else if (field->kind == LVT_FIELD_INTEGER)
            len += (size_t)snprintf(line + len, sizeof line - len, " %s=%lld", field->key,
                                    (long long)field->value.integer);
    }
    sim_say(ctx, "%s", line);
}

/* ---- tasks ---- */

static void task_due(struct lvt_timer *timer) {
    struct sim_task *task = (struct sim_task *)timer; /* its first member */
    struct sim *sim = task->sim;
    struct sim_worker *worker = task->worker;
    if (task->life != 0) {
        if (!worker->alive || worker->life != task->life) {
            task->next_free = sim->free_tasks;
            sim->free_tasks = task;
            return;
        }
        if (worker->paused_until_ms > sim->now_ms) {
            (void)lvt_timer_start(&sim->timers, timer, worker->paused_until_ms);
            return;
        }
    }
    const struct sim_task copy = *task;
    task->next_free = sim->free_tasks;
    sim->free_tasks = task;
    if (!sim->failure[0])
        copy.step(sim, worker, copy.a, copy.b);
}

static void add_task(struct sim *sim, uint64_t delay_ms, sim_step *step, struct sim_worker *worker,
                     uint64_t life, uint64_t a, uint64_t b) {
    struct sim_task *task = sim->free_tasks;
    if (task) {
        sim->free_tasks = task->next_free;
    } else {
        task = sim_alloc(sizeof *task);
        task->next = sim->tasks;
        sim->tasks = task;
    }
    struct sim_task *next = task->next;
    *task = (struct sim_task){.timer.fire = task_due,
                              .next = next,
                              .sim = sim,
                              .step = step,
                              .worker = worker,
                              .life = life,
                              .a = a,
                              .b = b};
    if (!lvt_timer_start(&sim->timers, &task->timer, sim->now_ms + delay_ms))
        abort();
}

void sim_after(struct sim *sim, uint64_t delay_ms, sim_step *step, struct sim_worker *worker,
               uint64_t a, uint64_t b) {
    add_task(sim, delay_ms, step, worker, 0, a, b);
}

void sim_after_for(struct sim_worker *worker, uint64_t delay_ms, sim_step *step, uint64_t a,
                   uint64_t b) {
    add_task(worker->sim, delay_ms, step, worker, worker->life, a, b);
}

/* ---- the course of a world ---- */

/* The next moment at which something happens; false when nothing ever will. */
static bool next_moment(struct sim *sim, uint64_t *ret_ms) {
    bool any = lvt_timers_next(&sim->timers, ret_ms);
    for (unsigned i = 0; i < sim->worker_count; i++) {
        struct sim_worker *worker = &sim->workers[i];
        uint64_t due_ms;
        if (!worker->alive || !lvt_timers_next(&worker->timers, &due_ms))
            continue;
        if (due_ms < worker->paused_until_ms)
            due_ms = worker->paused_until_ms;
        if (!any || due_ms < *ret_ms)
            *ret_ms = due_ms;
        any = true;
    }
    return any;
}

static void live_until(struct sim *sim, uint64_t end_ms) {
    uint64_t next_ms;
    while (!sim->failure[0] && next_moment(sim, &next_ms) && next_ms <= end_ms) {
        if (next_ms > sim->now_ms)
            sim->now_ms = next_ms;
        lvt_timers_run(&sim->timers, sim->now_ms);
        for (unsigned i = 0; i < sim->worker_count; i++)
            sim_worker_timers(&sim->workers[i]);
        if (++sim->events > EVENTS_MAX)
            sim_fail(sim, "something goes round and round");
    }
    if (!sim->failure[0])
        sim->now_ms = end_ms;
}

static void make_plans(struct sim *sim) {
    sim->queue_count = 1 + sim_below(sim, SIM_QUEUES_MAX);
    sim->handler_count = sim->queue_count + sim_below(sim, 2);
    sim->worker_count = 1 + sim_below(sim, SIM_WORKERS_MAX);
    sim->prefetch = 1 + sim_below(sim, 12);
    sim->pool = 1 + sim_below(sim, 4);
    for (unsigned i = 0; i < sim->handler_count; i++) {
        struct sim_plan *plan = &sim->plans[i];
        plan->queue = i % sim->queue_count;
        snprintf(plan->name, sizeof plan->name, "type.%u", i);
        plan->retry = (struct lvt_retry_policy){.max = sim_below(sim, 4),
                                                .base_ms = sim_chance(sim, 300) ? 0 : 300,
                                                .factor = 2,
                                                .cap_ms = 1000 + sim_below(sim, 2) * 29000,
                                                .jitter = sim_below(sim, 2) * 0.5};
        plan->timeout_ms = 500 + sim_below(sim, 2500);
        plan->concurrency = 1 + sim_below(sim, 6);
        plan->rate = sim_chance(sim, 100) ? 20 : 0;
    }
}

static void course(struct sim *sim) {
    make_plans(sim);
    sim_facts_make(sim);
    for (unsigned i = 0; i < sim->worker_count; i++) {
        sim->workers[i].sim = sim;
        sim->workers[i].index = i;
        sim_after(sim, sim_below(sim, 100), sim_worker_start, &sim->workers[i], 0, 0);
    }
    sim->faults = !sim_chance(sim, 50);
    if (sim->faults)
        sim_faults_start(sim);
    live_until(sim, sim->now_ms + 2000 + sim_below(sim, 8000));
    sim_faults_end(sim);
    SIM_SAY(sim, "---- the faults are over ----");
    uint64_t limit_ms = sim->now_ms + SETTLE_LIMIT_MS;
    while (!sim->failure[0] && !sim_settled(sim) && sim->now_ms < limit_ms)
        live_until(sim, sim->now_ms + SETTLE_LOOK_MS);
    sim_check_end(sim);
}

static void free_world(struct sim *sim) {
    for (unsigned i = 0; i < sim->worker_count; i++)
        if (sim->workers[i].alive)
            sim_worker_kill(&sim->workers[i]);
    sim_messages_free(sim);
    sim_db_free(sim);
    sim_runs_free(sim);
    sim_children_free(sim);
    lvt_timers_free(&sim->timers);
    while (sim->tasks) {
        struct sim_task *task = sim->tasks;
        sim->tasks = task->next;
        free(task);
    }
}

bool sim_run(uint64_t seed, bool tracing, char *ret_failure, size_t size) {
    struct sim *sim = sim_alloc(sizeof *sim);
    sim->seed = sim->random = seed;
    sim->now_ms = START_MS;
    sim->tracing = tracing;
    sim->log = (struct lvt_log){log_line, sim, tracing ? LVT_DEBUG : LVT_ERROR + 1};
    sim->messages_last = &sim->messages;
    sim->children_last = &sim->children;
    course(sim);
    bool good = !sim->failure[0];
    snprintf(ret_failure, size, "%s", sim->failure);
    free_world(sim);
    free(sim);
    return good;
}
