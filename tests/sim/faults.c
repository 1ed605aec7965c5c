/* What goes wrong, and when. */
#include "sim.h"

static void fault(struct sim *sim, struct sim_worker *ignored, uint64_t a, uint64_t b);

static void next_fault(struct sim *sim) {
    sim_after(sim, 20 + sim_below(sim, sim_chance(sim, 500) ? 300 : 1500), fault, NULL, 0, 0);
}

/* ---- the broker ---- */

static void cut_consuming(struct sim_worker *worker) {
    struct sim *sim = worker->sim;
    uint64_t later_ms = sim_below(sim, 1500), back_ms = sim_below(sim, 1000);
    if (sim_chance(sim, 500))
        sim_link_cut_consuming(worker, 0, later_ms, back_ms);
    else
        sim_link_cut_consuming(worker, later_ms, 0, back_ms);
}

static void cut_publishing(struct sim_worker *worker) {
    struct sim *sim = worker->sim;
    uint64_t later_ms = sim_chance(sim, 500) ? 0 : sim_below(sim, 1500);
    sim_link_cut_publishing(worker, later_ms, sim_below(sim, 1000));
}

static void broker_up(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    (void)worker, (void)a, (void)b;
    sim->broker_down = false;
    sim_broker_dispatch_soon(sim);
}

static void restart_broker(struct sim *sim) {
    SIM_SAY(sim, "fault: the broker restarts");
    for (unsigned i = 0; i < sim->worker_count; i++) {
        struct sim_worker *worker = &sim->workers[i];
        worker->link.lost_publishing = worker->link.last_publishing;
        if (!worker->alive)
            continue;
        sim_link_cut_consuming(worker, sim_below(sim, 300), 0, sim_below(sim, 500));
        sim_link_cut_publishing(worker, 1 + sim_below(sim, 300), sim_below(sim, 500));
    }
    sim_broker_forget_unconfirmed(sim);
    sim->broker_down = true;
    sim_after(sim, sim_below(sim, 2500), broker_up, NULL, 0, 0);
}

static void unblock(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    (void)sim, (void)a, (void)b;
    sim_link_flush(worker);
}

static void block(struct sim_worker *worker) {
    uint64_t delay_ms = sim_below(worker->sim, 2000);
    SIM_SAY(worker->sim, "fault: the broker takes no messages from worker %u", worker->index);
    worker->link.blocked_until_ms = worker->sim->now_ms + delay_ms;
    sim_after_for(worker, delay_ms, unblock, 0, 0);
}

static void take_messages(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    (void)worker, (void)a, (void)b;
    sim->refuse_permille = sim->return_permille = 0;
}

static void refuse_messages(struct sim *sim) {
    SIM_SAY(sim, "fault: the broker refuses and returns messages");
    sim->refuse_permille = sim_below(sim, 600);
    sim->return_permille = sim_below(sim, 600);
    sim_after(sim, sim_below(sim, 2500), take_messages, NULL, 0, 0);
}

/* ---- the database and the cache ---- */

static void cut_session(struct sim_worker *worker) {
    struct sim *sim = worker->sim;
    uint64_t later_ms = sim_below(sim, 2000), back_ms = sim_below(sim, 800);
    if (sim_chance(sim, 500))
        sim_ledger_cut(worker, 0, later_ms, back_ms);
    else
        sim_ledger_cut(worker, later_ms, 0, back_ms);
}

static void cut_transactions(struct sim_worker *worker, unsigned permille) {
    for (struct lvt_tx *tx = worker->ledger.txs; tx; tx = tx->next)
        if (sim_chance(worker->sim, permille))
            sim_tx_cut(tx);
}

static void database_up(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    (void)worker, (void)a, (void)b;
    sim->db.down = false;
}

static void restart_database(struct sim *sim) {
    SIM_SAY(sim, "fault: the database restarts");
    for (unsigned i = 0; i < sim->worker_count; i++) {
        struct sim_worker *worker = &sim->workers[i];
        if (!worker->alive)
            continue;
        sim_ledger_cut(worker, sim_below(sim, 300), 0, sim_below(sim, 500));
        cut_transactions(worker, 1000);
    }
    for (uint64_t session = 1; session <= sim->db.last_session; session++)
        sim_db_session_end(sim, NULL, session, 0);
    while (sim->db.txs)
        sim_db_tx_end(sim, NULL, sim->db.txs->number, false);
    sim->db.down = true;
    sim_after(sim, sim_below(sim, 2500), database_up, NULL, 0, 0);
}

static void cache_up(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    (void)worker, (void)a, (void)b;
    sim->cache_down = false;
}

static void lose_cache(struct sim *sim) {
    SIM_SAY(sim, "fault: the cache is away");
    sim->cache_down = true;
    sim_after(sim, sim_below(sim, sim_chance(sim, 500) ? 3000 : 15000), cache_up, NULL, 0, 0);
}

/* ---- workers ---- */

static void kill(struct sim_worker *worker) {
    sim_worker_kill(worker);
    sim_after(worker->sim, sim_below(worker->sim, 2000), sim_worker_start, worker, 0, 0);
}

static void pause(struct sim_worker *worker) {
    SIM_SAY(worker->sim, "fault: worker %u stands still", worker->index);
    worker->paused_until_ms = worker->sim->now_ms + sim_below(worker->sim, 3000);
}

static void wrong_one(struct sim *sim, struct sim_worker *worker) {
    switch (sim_below(sim, 16)) {
    case 0:
    case 1:
        cut_consuming(worker);
        break;
    case 2:
    case 3:
        cut_publishing(worker);
        break;
    case 4:
        block(worker);
        break;
    case 5:
    case 6:
        cut_session(worker);
        break;
    case 7:
    case 8:
        cut_transactions(worker, 500);
        break;
    case 9:
    case 10:
        kill(worker);
        break;
    case 11:
        sim_worker_stop(worker);
        break;
    case 12:
    case 13:
        sim_reload_one(worker);
        break;
    case 14:
        sim_reload_remove(worker);
        break;
    default:
        pause(worker);
        break;
    }
}

static void wrong_for_all(struct sim *sim) {
    switch (sim_below(sim, 5)) {
    case 0:
        if (!sim->broker_down)
            restart_broker(sim);
        break;
    case 1:
    case 4:
        refuse_messages(sim);
        break;
    case 2:
        if (!sim->db.down)
            restart_database(sim);
        break;
    default:
        lose_cache(sim);
        break;
    }
}

static void fault(struct sim *sim, struct sim_worker *ignored, uint64_t a, uint64_t b) {
    struct sim_worker *worker = &sim->workers[sim_below(sim, sim->worker_count)];
    (void)ignored, (void)a, (void)b;
    if (!sim->faults)
        return;
    if (sim_chance(sim, 200))
        wrong_for_all(sim);
    else if (worker->alive)
        wrong_one(sim, worker);
    next_fault(sim);
}

void sim_faults_start(struct sim *sim) {
    next_fault(sim);
}

void sim_faults_end(struct sim *sim) {
    sim->faults = false;
    sim->refuse_permille = sim->return_permille = 0;
    sim->cache_down = false;
    for (unsigned i = 0; i < sim->worker_count; i++)
        for (unsigned queue = 0; queue < sim->queue_count; queue++)
            if (sim->workers[i].alive)
                sim_reload_restore(sim, &sim->workers[i], queue, 0);
    database_up(sim, NULL, 0, 0);
    broker_up(sim, NULL, 0, 0);
}
