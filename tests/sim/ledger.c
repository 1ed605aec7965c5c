/* The ledger port of a worker: claims and records, in rounds of a session that can be lost. It does
 * what core/ledger does, with a server that is late, deaf or dead. */
#include <stdlib.h>

#include "sim.h"

enum phase {
    PHASE_NONE,
    PHASE_WAITING,
    PHASE_ASKING,
    PHASE_HELD,
    PHASE_TO_RECORD,
    PHASE_RECORDING
};

/* ---- lists ---- */

void sim_claims_append(struct sim_claims *claims, struct lvt_claim *claim, unsigned char phase) {
    claim->phase = phase;
    claim->held_next = NULL;
    claim->held_prev = claims->last;
    if (claims->last)
        claims->last->held_next = claim;
    else
        claims->first = claim;
    claims->last = claim;
}

void sim_claims_remove(struct sim_claims *claims, struct lvt_claim *claim) {
    if (claim->held_prev)
        claim->held_prev->held_next = claim->held_next;
    else
        claims->first = claim->held_next;
    if (claim->held_next)
        claim->held_next->held_prev = claim->held_prev;
    else
        claims->last = claim->held_prev;
    claim->phase = PHASE_NONE;
}

/* ---- the engine's side ---- */

static bool port_ready(void *self) {
    const struct sim_worker *worker = self;
    return worker->ledger.ready;
}

static void port_claim(void *self, struct lvt_claim *list) {
    struct sim_worker *worker = self;
    while (list) {
        struct lvt_claim *next = list->next;
        list->held = false;
        sim_claims_append(&worker->ledger.waiting, list, PHASE_WAITING);
        list = next;
    }
    sim_ledger_kick(worker);
}

static void port_record(void *self, struct lvt_claim *list) {
    struct sim_worker *worker = self;
    while (list) {
        struct lvt_claim *next = list->next;
        if (list->phase == PHASE_HELD)
            sim_claims_remove(&worker->ledger.held, list);
        if (list->phase != PHASE_NONE)
            sim_fail(worker->sim, "a record of a claim that is not in hand");
        sim_claims_append(&worker->ledger.to_record, list, PHASE_TO_RECORD);
        list = next;
    }
    sim_ledger_kick(worker);
}

void sim_ledger_unlock(struct sim_worker *worker, struct sim_fact *fact) {
    struct sim_ledger *ledger = &worker->ledger;
    if (!ledger->ready)
        return; /* the locks went with the session */
    if (ledger->unlock_count == sizeof ledger->unlocks / sizeof ledger->unlocks[0])
        abort();
    ledger->unlocks[ledger->unlock_count++] = fact;
    sim_ledger_kick(worker);
}

static void give_up_lock(struct sim_worker *worker, struct lvt_claim *claim) {
    if (claim->held)
        sim_ledger_unlock(worker, sim_fact_of_claim(worker->sim, claim));
    claim->held = false;
}

void sim_ledger_end_claim(struct sim_worker *worker, struct lvt_claim *claim) {
    if (claim->phase != PHASE_HELD)
        return;
    sim_claims_remove(&worker->ledger.held, claim);
    give_up_lock(worker, claim);
}

static void forget_asked(struct sim_asked *asked, size_t count, const struct lvt_claim *claim) {
    for (size_t i = 0; i < count; i++)
        if (asked[i].claim == claim)
            asked[i].claim = NULL;
}

static void port_release(void *self, struct lvt_claim *claim) {
    struct sim_worker *worker = self;
    struct sim_ledger *ledger = &worker->ledger;
    switch ((enum phase)claim->phase) {
    case PHASE_NONE:
        break;
    case PHASE_WAITING:
        sim_claims_remove(&ledger->waiting, claim);
        break;
    case PHASE_ASKING:
        forget_asked(ledger->claims, ledger->claim_count, claim);
        break;
    case PHASE_HELD:
        sim_tx_claim_released(worker, claim);
        sim_ledger_end_claim(worker, claim);
        break;
    case PHASE_TO_RECORD:
        sim_claims_remove(&ledger->to_record, claim);
        give_up_lock(worker, claim);
        break;
    case PHASE_RECORDING: /* the round gives its lock up */
        forget_asked(ledger->records, ledger->record_count, claim);
        break;
    }
    claim->phase = PHASE_NONE;
}

struct lvt_ledger_port sim_ledger_port(struct sim_worker *worker) {
    return (struct lvt_ledger_port){.self = worker,
                                    .ready = port_ready,
                                    .claim = port_claim,
                                    .record = port_record,
                                    .release = port_release,
                                    .tx_begin = sim_tx_begin,
                                    .tx_query = sim_tx_query,
                                    .tx_commit = sim_tx_commit,
                                    .tx_rollback = sim_tx_rollback,
                                    .tx_invalidate = sim_tx_invalidate,
                                    .invalidated = sim_chores_invalidated,
                                    .tx_publish = sim_tx_publish,
                                    .outbox_done = sim_relay_done};
}

/* ---- rounds: unlock and lock, look up, insert, each a statement of its own ---- */

static bool round_lives(struct sim *sim, const struct sim_worker *worker, uint64_t round,
                        uint64_t session) {
    return worker->ledger.round == round && sim->db.sessions[session];
}

static void claims_answered(struct sim *sim, struct sim_worker *worker, uint64_t round,
                            uint64_t session) {
    struct sim_ledger *ledger = &worker->ledger;
    struct lvt_claim *answered = NULL, **last = &answered;
    if (ledger->round != round || ledger->session != session)
        return;
    for (size_t i = 0; i < ledger->claim_count; i++) {
        struct sim_asked *asked = &ledger->claims[i];
        struct lvt_claim *claim = asked->claim;
        bool got = asked->locked && !asked->found && claim;
        if (asked->locked && !got)
            sim_ledger_unlock(worker, asked->fact);
        if (!claim)
            continue;
        claim->phase = PHASE_NONE;
        claim->held = got;
        claim->result = got ? LVT_CLAIM_GOT : asked->found ? LVT_CLAIM_DUPLICATE : LVT_CLAIM_BUSY;
        if (got) {
            sim_claims_append(&ledger->held, claim, PHASE_HELD);
            asked->fact->claimed_in[worker->index] = session;
        }
        SIM_SAY(sim, "worker %u: the claim of fact %u is answered (%d)", worker->index,
                asked->fact->index, (int)claim->result);
        *last = claim;
        last = &claim->next;
    }
    *last = NULL;
    ledger->claim_count = 0;
    if (answered)
        worker->ledger_sink.claimed(worker->ledger_sink.ctx, answered);
    sim_worker_wake(worker);
}

static void round_answered(struct sim *sim, struct sim_worker *worker, uint64_t round,
                           uint64_t session) {
    struct sim_ledger *ledger = &worker->ledger;
    struct lvt_claim *answered = NULL, **last = &answered;
    if (ledger->round != round || ledger->session != session)
        return;
    if (ledger->claim_count > 0) /* the two answers come in this order */
        claims_answered(sim, worker, round, session);
    for (size_t i = 0; i < ledger->record_count; i++) {
        struct sim_asked *asked = &ledger->records[i];
        struct lvt_claim *claim = asked->claim;
        if (claim ? claim->held : asked->locked)
            sim_ledger_unlock(worker, asked->fact);
        if (!claim)
            continue;
        claim->phase = PHASE_NONE;
        claim->held = false;
        worker->signs++;
        SIM_SAY(sim, "worker %u: the record of fact %u is answered", worker->index,
                asked->fact->index);
        *last = claim;
        last = &claim->next;
    }
    *last = NULL;
    ledger->record_count = 0;
    ledger->round = 0;
    if (answered)
        worker->ledger_sink.recorded(worker->ledger_sink.ctx, answered);
    sim_ledger_kick(worker);
    sim_worker_wake(worker);
}

static void insert(struct sim *sim, struct sim_worker *worker, uint64_t round, uint64_t session) {
    struct sim_ledger *ledger = &worker->ledger;
    if (!round_lives(sim, worker, round, session))
        return;
    for (size_t i = 0; i < ledger->record_count; i++)
        if (sim_db_record_held(sim, ledger->records[i].fact, 0)) {
            /* it waits for another's uncommitted row */
            sim_after(sim, 10, insert, worker, round, session);
            return;
        }
    for (size_t i = 0; i < ledger->record_count; i++)
        sim_db_record(sim, ledger->records[i].fact);
    sim_after_for(worker, sim_latency(sim), round_answered, round, session);
}

static void look_up(struct sim *sim, struct sim_worker *worker, uint64_t round, uint64_t session) {
    struct sim_ledger *ledger = &worker->ledger;
    if (!round_lives(sim, worker, round, session))
        return;
    for (size_t i = 0; i < ledger->claim_count; i++) {
        const struct sim_fact *fact = ledger->claims[i].fact;
        ledger->claims[i].found = fact->recorded || fact->nature == SIM_FACT_LEGACY;
    }
    if (ledger->claim_count > 0)
        sim_after_for(worker, sim_latency(sim), claims_answered, round, session);
    sim_after(sim, sim_below(sim, 3), insert, worker, round, session);
}

static void lock(struct sim *sim, struct sim_worker *worker, uint64_t round, uint64_t session) {
    struct sim_ledger *ledger = &worker->ledger;
    if (!round_lives(sim, worker, round, session))
        return;
    for (size_t i = 0; i < ledger->claim_count; i++)
        ledger->claims[i].locked = sim_db_lock(sim, session, ledger->claims[i].fact);
    sim_after(sim, sim_below(sim, 3), look_up, worker, round, session);
}

/* Unlocks are sent with a round and need no answer; the session may end before they arrive. */
static void unlock(struct sim *sim, struct sim_worker *worker, uint64_t fact, uint64_t session) {
    (void)worker;
    if (sim->db.sessions[session])
        sim_db_unlock(sim, session, &sim->facts[fact]);
}

static struct sim_asked take(struct sim_worker *worker, struct sim_claims *from, enum phase phase) {
    struct lvt_claim *claim = from->first;
    const struct sim_asked asked = {claim, sim_fact_of_claim(worker->sim, claim), claim->held,
                                    false};
    sim_claims_remove(from, claim);
    claim->phase = (unsigned char)phase;
    return asked;
}

void sim_ledger_kick(struct sim_worker *worker) {
    struct sim_ledger *ledger = &worker->ledger;
    struct sim *sim = worker->sim;
    if (worker->dying || !ledger->ready || ledger->round != 0)
        return;
    if (!ledger->waiting.first && !ledger->to_record.first && ledger->unlock_count == 0)
        return;
    ledger->round = ++ledger->last_round;
    uint64_t delay_ms = sim_latency(sim);
    for (size_t i = 0; i < ledger->unlock_count; i++)
        sim_after(sim, delay_ms, unlock, worker, ledger->unlocks[i]->index, ledger->session);
    ledger->unlock_count = 0;
    while (ledger->waiting.first && ledger->claim_count < SIM_FACTS_MAX)
        ledger->claims[ledger->claim_count++] = take(worker, &ledger->waiting, PHASE_ASKING);
    while (ledger->to_record.first && ledger->record_count < SIM_FACTS_MAX)
        ledger->records[ledger->record_count++] = take(worker, &ledger->to_record, PHASE_RECORDING);
    sim_after(sim, delay_ms, lock, worker, ledger->round, ledger->session);
}

/* ---- the session ---- */

static void ask_again(struct sim_ledger *ledger) {
    for (size_t i = 0; i < ledger->claim_count; i++)
        if (ledger->claims[i].claim)
            sim_claims_append(&ledger->waiting, ledger->claims[i].claim, PHASE_WAITING);
    for (size_t i = 0; i < ledger->record_count; i++)
        if (ledger->records[i].claim)
            sim_claims_append(&ledger->to_record, ledger->records[i].claim, PHASE_TO_RECORD);
    ledger->claim_count = ledger->record_count = 0;
    ledger->round = 0;
}

void sim_ledger_excuse(struct sim_worker *worker) {
    const struct sim_ledger *ledger = &worker->ledger;
    const struct sim_claims *lists[] = {&ledger->held, &ledger->to_record};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (struct lvt_claim *claim = lists[i]->first; claim; claim = claim->held_next)
            sim_fact_of_claim(worker->sim, claim)->ledger_lost = true;
    for (size_t i = 0; i < ledger->claim_count; i++)
        ledger->claims[i].fact->ledger_lost = true;
    for (size_t i = 0; i < ledger->record_count; i++)
        ledger->records[i].fact->ledger_lost = true;
}

/* Everything in hand is locked again before anything else is asked. */
static void lock_again(struct sim *sim, struct sim_worker *worker, uint64_t session, uint64_t b) {
    struct sim_ledger *ledger = &worker->ledger;
    struct sim_claims *lists[] = {&ledger->held, &ledger->to_record};
    (void)b;
    if (ledger->session != session || !sim->db.sessions[session])
        return;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (struct lvt_claim *claim = lists[i]->first; claim; claim = claim->held_next) {
            struct sim_fact *fact = sim_fact_of_claim(sim, claim);
            claim->held = sim_db_lock(sim, session, fact);
            if (!claim->held)
                SIM_SAY(sim, "worker %u has lost its claim of fact %u", worker->index, fact->index);
        }
    SIM_SAY(sim, "worker %u: the ledger is ready, session %llu", worker->index,
            (unsigned long long)session);
    ledger->ready = true;
    sim_ledger_kick(worker);
    worker->ledger_sink.ready_changed(worker->ledger_sink.ctx, true);
    sim_worker_wake(worker);
}

void sim_ledger_connect(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    struct sim_ledger *ledger = &worker->ledger;
    (void)a, (void)b;
    if (sim->db.down) {
        sim_after_for(worker, 100 + sim_below(sim, 200), sim_ledger_connect, 0, 0);
        return;
    }
    ledger->session = sim_db_session_new(sim);
    /* behind a pooler it cannot be ended, and lives on for a while */
    if (ledger->ghost != 0)
        sim_after(sim, sim_bad_luck(sim, 100) ? sim_below(sim, 4000) : 0, sim_db_session_end,
                  worker, ledger->ghost, 0);
    ledger->ghost = ledger->session;
    sim_after_for(worker, 1 + sim_latency(sim), lock_again, ledger->session, 0);
}

static void worker_notices(struct sim *sim, struct sim_worker *worker, uint64_t session,
                           uint64_t back_ms) {
    struct sim_ledger *ledger = &worker->ledger;
    if (ledger->session != session)
        return;
    bool was_ready = ledger->ready;
    SIM_SAY(sim, "worker %u sees that session %llu is lost", worker->index,
            (unsigned long long)session);
    sim_ledger_excuse(worker);
    ledger->session = 0;
    ledger->ready = false;
    ledger->unlock_count = 0;
    ask_again(ledger);
    if (was_ready)
        worker->ledger_sink.ready_changed(worker->ledger_sink.ctx, false);
    sim_after_for(worker, back_ms, sim_ledger_connect, 0, 0);
    sim_worker_wake(worker);
}

void sim_ledger_cut(struct sim_worker *worker, uint64_t worker_ms, uint64_t server_ms,
                    uint64_t back_ms) {
    uint64_t session = worker->ledger.session;
    if (session == 0)
        return;
    SIM_SAY(worker->sim, "fault: worker %u's session %llu is cut", worker->index,
            (unsigned long long)session);
    sim_ledger_excuse(worker);
    if (server_ms == 0)
        sim_db_session_end(worker->sim, worker, session, 0);
    else
        sim_after(worker->sim, server_ms, sim_db_session_end, worker, session, 0);
    if (worker_ms == 0)
        worker_notices(worker->sim, worker, session, back_ms);
    else
        sim_after_for(worker, worker_ms, worker_notices, session, back_ms);
}

void sim_ledger_clear(struct sim_worker *worker) {
    struct sim_ledger *ledger = &worker->ledger;
    if (ledger->ghost != 0)
        sim_after(worker->sim, sim_latency(worker->sim), sim_db_session_end, worker, ledger->ghost,
                  0);
    sim_txs_clear(worker);
    sim_relay_clear(worker);
    uint64_t last_round = ledger->last_round;
    *ledger = (struct sim_ledger){.last_round = last_round};
}
