/* Invalidations that a transaction left in the database: struck off once they are done, and handed
 * out again when nobody did them. */
#include "sim.h"

#define SWEEP_MS 30000

static void strike(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t b) {
    (void)worker, (void)b;
    if (sim->db.down || sim_bad_luck(sim, 50))
        return; /* found again by a sweep */
    for (size_t i = 0; i < sim->db.pending_count; i++)
        if (sim->db.pending[i].number == (int64_t)number)
            sim->db.pending[i].there = false;
}

void sim_chores_invalidated(void *self, int64_t number) {
    struct sim_worker *worker = self;
    sim_after_for(worker, sim_latency(worker->sim), strike, (uint64_t)number, 0);
}

static void found(struct sim *sim, struct sim_worker *worker, uint64_t place, uint64_t b) {
    const struct sim_pending *pending = &sim->db.pending[place];
    (void)b;
    worker->ledger_sink.invalidation_due(worker->ledger_sink.ctx, pending->number,
                                         lvt_bytes_of(pending->pattern));
    sim_worker_wake(worker);
}

void sim_chores_sweep(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    (void)a, (void)b;
    for (size_t i = 0; i < sim->db.pending_count && !sim->db.down && !worker->stopping; i++) {
        struct sim_pending *pending = &sim->db.pending[i];
        if (!pending->there || sim->now_ms - pending->since_ms < SWEEP_MS)
            continue;
        pending->since_ms = sim->now_ms;
        sim_after_for(worker, sim_latency(sim), found, i, 0);
    }
    sim_after_for(worker, SWEEP_MS, sim_chores_sweep, 0, 0);
}
