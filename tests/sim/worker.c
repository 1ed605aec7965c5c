/* A worker's life: the real engine, on the ports of this world, from its start to its end. */
#include <stdlib.h>

#include "sim.h"

#define MAX_BODY_BYTES 4096

/* ---- clock ---- */

static uint64_t now_ms(void *self) {
    return ((struct sim_worker *)self)->sim->now_ms;
}

static int64_t wall_ms(void *self) {
    return 1790000000000 + (int64_t)now_ms(self);
}

static uint32_t chance(void *self) {
    return (uint32_t)sim_random(((struct sim_worker *)self)->sim);
}

/* ---- the loop ---- */

static void close_worker(struct sim_worker *worker);

static void pump(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    (void)sim, (void)a, (void)b;
    worker->pump_due = false;
    bool more = lvt_engine_pump(worker->engine);
    if (worker->stopping && lvt_engine_in_flight(worker->engine) == 0)
        close_worker(worker);
    else if (more)
        sim_worker_wake(worker);
}

void sim_worker_wake(struct sim_worker *worker) {
    if (worker->pump_due || !worker->alive)
        return;
    worker->pump_due = true;
    sim_after_for(worker, sim_chance(worker->sim, 700) ? 0 : sim_below(worker->sim, 4), pump, 0, 0);
}

void sim_worker_timers(struct sim_worker *worker) {
    struct sim *sim = worker->sim;
    uint64_t due_ms;
    if (!worker->alive || worker->paused_until_ms > sim->now_ms ||
        !lvt_timers_next(&worker->timers, &due_ms) || due_ms > sim->now_ms)
        return;
    worker->in_timers = true;
    lvt_timers_run(&worker->timers, sim->now_ms);
    worker->in_timers = false;
    sim_worker_wake(worker);
}

/* ---- the start ---- */

static void attach(struct sim_worker *worker) {
    worker->broker_sink = lvt_engine_broker_sink(worker->engine);
    worker->ledger_sink = lvt_engine_ledger_sink(worker->engine);
    lvt_engine_attach(worker->engine, sim_link_port(worker), sim_ledger_port(worker),
                      sim_cache_port(worker), sim_http_port(worker));
}

void sim_worker_start(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    struct leveret_error err;
    (void)a, (void)b;
    worker->life++;
    worker->alive = true;
    worker->dying = worker->stopping = worker->pump_due = false;
    worker->paused_until_ms = 0;
    memset(worker->unlimited, 0, sizeof worker->unlimited);
    worker->stats = lvt_stats_new(sim->now_ms);
    if (!worker->stats || !sim_handlers_add(worker))
        abort();
    const struct lvt_engine_options options = {
        .name = SIM_NAME,
        .clock = {worker, now_ms, wall_ms, chance, &worker->timers},
        .routes = &worker->routes,
        .log = &sim->log,
        .stats = worker->stats,
        .max_body_bytes = MAX_BODY_BYTES,
        .pool = sim->pool,
    };
    if (lvt_engine_new(&options, &worker->engine, &err) != LEVERET_OK)
        abort();
    attach(worker);
    SIM_SAY(sim, "worker %u starts", worker->index);
    sim_after_for(worker, sim_latency(sim), sim_ledger_connect, 0, 0);
    sim_after_for(worker, sim_latency(sim), sim_link_connect, true, true);
    sim_after_for(worker, 200, sim_chores_sweep, 0, 0);
    sim_after_for(worker, 200, sim_relay_look, 0, 0);
}

/* ---- the end ---- */

static void free_worker(struct sim_worker *worker) {
    sim_link_clear(worker);
    sim_ledger_clear(worker);
    sim_questions_clear(worker);
    lvt_engine_free(worker->engine);
    lvt_timers_free(&worker->timers);
    lvt_routes_free(&worker->routes);
    lvt_stats_free(worker->stats);
    worker->engine = NULL;
    worker->alive = false;
}

void sim_worker_kill(struct sim_worker *worker) {
    SIM_SAY(worker->sim, "fault: worker %u is killed", worker->index);
    worker->dying = true;
    sim_ledger_excuse(worker);
    lvt_engine_abandon(worker->engine);
    free_worker(worker);
}

static void close_worker(struct sim_worker *worker) {
    sim_link_flush(worker);
    sim_link_drop_publishes(worker);
    sim_check_idle(worker);
    SIM_SAY(worker->sim, "worker %u has stopped", worker->index);
    free_worker(worker);
    sim_after(worker->sim, sim_below(worker->sim, 2000), sim_worker_start, worker, 0, 0);
}

static void time_is_over(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    (void)a, (void)b;
    SIM_SAY(sim, "worker %u abandons what it has", worker->index);
    lvt_engine_abandon(worker->engine);
    close_worker(worker);
}

void sim_worker_stop(struct sim_worker *worker) {
    if (worker->stopping)
        return;
    SIM_SAY(worker->sim, "worker %u is told to stop", worker->index);
    worker->stopping = true;
    worker->link.cancelled = true;
    lvt_engine_drain(worker->engine);
    sim_after_for(worker, 200 + sim_below(worker->sim, 3000), time_is_over, 0, 0);
    sim_worker_wake(worker);
}
