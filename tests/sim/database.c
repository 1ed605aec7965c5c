/* The database's side: sessions and their advisory locks, records, transactions, and what a
 * transaction leaves to be invalidated. */
#include <stdlib.h>

#include "sim.h"

/* ---- sessions and locks ---- */

uint64_t sim_db_session_new(struct sim *sim) {
    struct sim_database *db = &sim->db;
    if (++db->last_session >= sizeof db->sessions / sizeof db->sessions[0])
        abort();
    db->sessions[db->last_session] = true;
    return db->last_session;
}

void sim_db_session_end(struct sim *sim, struct sim_worker *worker, uint64_t session, uint64_t b) {
    (void)worker, (void)b;
    if (!sim->db.sessions[session])
        return;
    SIM_SAY(sim, "database: session %llu ends", (unsigned long long)session);
    sim->db.sessions[session] = false;
    for (unsigned i = 0; i < sim->fact_count; i++)
        if (sim->db.lock_holder[i] == session)
            sim->db.lock_holder[i] = sim->db.lock_count[i] = 0;
}

bool sim_db_lock(struct sim *sim, uint64_t session, const struct sim_fact *fact) {
    uint64_t *holder = &sim->db.lock_holder[fact->index];
    if (*holder != 0 && *holder != session)
        return false;
    *holder = session;
    sim->db.lock_count[fact->index]++;
    return true;
}

void sim_db_unlock(struct sim *sim, uint64_t session, const struct sim_fact *fact) {
    if (sim->db.lock_holder[fact->index] != session)
        return;
    if (--sim->db.lock_count[fact->index] == 0)
        sim->db.lock_holder[fact->index] = 0;
}

/* ---- records and transactions ---- */

void sim_db_record(struct sim *sim, struct sim_fact *fact) {
    if (!fact->recorded)
        SIM_SAY(sim, "database: fact %u is recorded", fact->index);
    fact->recorded = true;
}

bool sim_db_record_held(const struct sim *sim, const struct sim_fact *fact, uint64_t but_tx) {
    for (const struct sim_server_tx *tx = sim->db.txs; tx; tx = tx->next)
        if (tx->fact == fact && tx->inserted && tx->number != but_tx)
            return true;
    return false;
}

struct sim_server_tx *sim_db_tx(struct sim *sim, uint64_t number) {
    struct sim_server_tx *tx = sim->db.txs;
    while (tx && tx->number != number)
        tx = tx->next;
    return tx;
}

static void keep_pending(struct sim *sim, const struct sim_server_tx *tx) {
    for (unsigned i = 0; i < tx->pending_count; i++)
        for (size_t j = 0; j < sim->db.pending_count; j++) {
            struct sim_pending *pending = &sim->db.pending[j];
            if (pending->number == tx->pending[i]) {
                pending->there = true;
                pending->since_ms = sim->now_ms;
                sim->wanted_ms[tx->fact->index] = sim->now_ms;
            }
        }
}

/* Commits, or rolls back, and is gone. */
void sim_db_tx_end(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t commit) {
    struct sim_server_tx **at = &sim->db.txs;
    (void)worker;
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    struct sim_server_tx *tx = *at;
    if (!tx)
        return;
    *at = tx->next;
    struct sim_fact *fact = tx->fact;
    for (unsigned i = 0; i < tx->child_count; i++)
        tx->children[i]->row = commit && !tx->aborted ? SIM_ROW_THERE : SIM_ROW_GONE;
    if (commit && !tx->aborted) {
        SIM_SAY(sim, "database: the transaction of fact %u commits", fact->index);
        if (tx->inserted)
            sim_db_record(sim, fact);
        else
            fact->successes++;
        fact->rows += tx->rows;
        keep_pending(sim, tx);
        if (fact->id[0] && fact->rows > 1)
            sim_fail(sim, "the effect of fact %u is there %u times", fact->index, fact->rows);
    }
    free(tx);
}

void sim_db_free(struct sim *sim) {
    while (sim->db.txs)
        sim_db_tx_end(sim, NULL, sim->db.txs->number, false);
}
