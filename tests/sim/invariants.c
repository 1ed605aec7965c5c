/* What must hold, whatever went wrong. */
#include <stdio.h>

#include "engine/message.h"
#include "engine/state.h"
#include "sim.h"

/* ---- while it goes on ---- */

static bool done_for_good(const struct sim_fact *fact) {
    if (fact->id[0])
        return fact->recorded || fact->nature == SIM_FACT_LEGACY;
    return fact->successes > 0;
}

void sim_check_ack(struct sim_worker *worker, const struct sim_handed *handed) {
    struct sim *sim = worker->sim;
    const struct sim_fact *fact = handed->fact;
    if (done_for_good(fact)) {
        worker->signs++;
        return;
    }
    if (!sim_broker_has_another(sim, fact, handed->message, 0))
        sim_fail(sim, "worker %u acks fact %u, which is neither recorded nor confirmed elsewhere",
                 worker->index, fact->index);
    else if (!sim_broker_has_another(sim, fact, handed->message, handed->attempts_made))
        sim_fail(sim, "fact %u had %u attempts, and goes on with fewer", fact->index,
                 handed->attempts_made);
}

static void check_attempt(struct sim *sim, const struct sim_fact *fact, uint32_t attempt) {
    uint32_t max = sim->plans[fact->handler].retry.max;
    if (attempt > 1 + fact->attempts_before + fact->failures_max)
        sim_fail(sim, "attempt %u of fact %u, which failed %u times at most: something cost one",
                 attempt, fact->index, fact->failures_max);
    if (fact->excuses == 0 && attempt < 1 + fact->attempts_before + fact->failures_min)
        sim_fail(sim, "attempt %u of fact %u, which has failed %u times", attempt, fact->index,
                 fact->failures_min);
    if (attempt > max + 1 && attempt > fact->attempts_before + 1)
        sim_fail(sim, "attempt %u of fact %u, whose handler allows %u retries", attempt,
                 fact->index, max);
    if (attempt <= SIM_ATTEMPTS_MAX && attempt > 1 && fact->due_ms[attempt] > sim->now_ms)
        sim_fail(sim, "attempt %u of fact %u begins %llu ms early", attempt, fact->index,
                 (unsigned long long)(fact->due_ms[attempt] - sim->now_ms));
    if (fact->excuses == 0 && fact->snoozed_until_ms > sim->now_ms)
        sim_fail(sim, "fact %u runs before its snooze is over", fact->index);
}

static void check_alone(struct sim *sim, const struct sim_worker *worker,
                        const struct sim_fact *fact) {
    if (!fact->id[0])
        return;
    if (fact->running_on[worker->index] > 0)
        sim_fail(sim, "worker %u runs fact %u twice at a time", worker->index, fact->index);
    else if (fact->running > 0 && !fact->ledger_lost)
        sim_fail(sim, "two workers run fact %u at a time", fact->index);
    if (fact->recorded && !fact->ledger_lost && !fact->commit_unknown)
        sim_fail(sim, "fact %u is recorded, and runs again", fact->index);
    if (fact->dead_letters > 0 && fact->excuses == 0)
        sim_fail(sim, "fact %u is a dead letter, and runs again", fact->index);
}

/* Without an id a delivery that was cut off comes again as another event. */
static void check_outage(struct sim *sim, const struct sim_worker *worker,
                         const struct sim_fact *fact) {
    if (fact->id[0] && fact->excuses == 0 && fact->met_in[worker->index] == worker->life &&
        fact->met_after[worker->index] == worker->signs)
        sim_fail(sim, "worker %u runs fact %u again although Redis has not answered", worker->index,
                 fact->index);
}

static void check_event(struct sim *sim, const struct lvt_event *event,
                        const struct sim_fact *fact) {
    char start[32];
    size_t len = (size_t)snprintf(start, sizeof start, "{\"fact\":%u,", fact->index);
    if (!lvt_bytes_is(event->id, fact->id) || !lvt_bytes_is(event->type, fact->type) ||
        !lvt_bytes_is(event->delivery->body, fact->body) || event->payload.len < len ||
        memcmp(event->payload.data, start, len) != 0)
        sim_fail(sim, "the handler of fact %u sees another event", fact->index);
    if (!lvt_bytes_is(event->exchange, "events") || !lvt_bytes_is(event->routing_key, fact->type))
        sim_fail(sim, "fact %u has forgotten where it was published", fact->index);
}

void sim_check_start(struct sim_worker *worker, const struct lvt_run *run, struct sim_fact *fact) {
    struct sim *sim = worker->sim;
    if (!worker->ledger.ready)
        sim_fail(sim, "worker %u starts fact %u while its session is lost", worker->index,
                 fact->index);
    if (fact->id[0] && fact->claimed_in[worker->index] != worker->ledger.session)
        sim_fail(sim, "worker %u starts fact %u on a claim of a session that is lost",
                 worker->index, fact->index);
    if (worker->stopping)
        sim_fail(sim, "worker %u starts fact %u while it stops", worker->index, fact->index);
    if (fact->nature != SIM_FACT_GOOD)
        sim_fail(sim, "fact %u is not for a handler", fact->index);
    if (worker->running[fact->handler] >= sim->plans[fact->handler].concurrency &&
        !worker->unlimited[fact->handler])
        sim_fail(sim, "worker %u runs more than its concurrency allows", worker->index);
    check_event(sim, run->event, fact);
    check_attempt(sim, fact, run->event->attempt);
    check_alone(sim, worker, fact);
    check_outage(sim, worker, fact);
}

static void check_message(struct sim *sim, const struct lvt_publish *publish,
                          const struct sim_fact *fact) {
    const struct lvt_properties *properties = &publish->properties;
    const struct lvt_header *app = lvt_headers_find(&properties->headers, "x-app");
    if (!lvt_bytes_is(publish->body, fact->body) || !app ||
        !lvt_bytes_is(app->value.bytes, "\xff any bytes") ||
        !lvt_bytes_is(properties->message_id, fact->id))
        sim_fail(sim, "fact %u is published with another body, header or id", fact->index);
    if (!(properties->present & LVT_HAS_DELIVERY_MODE) || properties->delivery_mode != 2)
        sim_fail(sim, "fact %u is published, but not persistent", fact->index);
}

/* Dead letters without a cause, and retries without end. */
static void check_destination(struct sim *sim, const struct lvt_publish *publish,
                              const struct sim_fact *fact, uint32_t attempts_made) {
    const struct lvt_destination *to = &publish->destination;
    uint32_t max = sim->plans[fact->handler].retry.max;
    char queue[8];
    snprintf(queue, sizeof queue, "q%u", fact->queue);
    if (to->kind == LVT_TO_DELAY) {
        if (!lvt_bytes_is(to->name, queue))
            sim_fail(sim, "fact %u is sent to another queue than its own", fact->index);
        return;
    }
    if (to->kind != LVT_TO_QUEUE || !lvt_bytes_is(to->name, SIM_DEAD_LETTERS))
        sim_fail(sim, "fact %u is sent to where nobody asked for", fact->index);
    if (fact->nature == SIM_FACT_GOOD && fact->rejections == 0 && attempts_made < max + 1)
        sim_fail(sim, "fact %u is dead-lettered after %u attempts of %u", fact->index,
                 attempts_made, max + 1);
}

void sim_check_publish(struct sim_worker *worker, const struct lvt_publish *publish,
                       struct sim_fact *fact) {
    struct sim *sim = worker->sim;
    int64_t made = -1;
    bool live = false;
    (void)lvt_header_integer(lvt_headers_find(&publish->properties.headers, LVT_HEADER_ATTEMPT),
                             &made);
    for (const struct sim_handed *handed = worker->link.handed; handed; handed = handed->next)
        live = live || (handed->fact == fact && !handed->settled);
    if (!live)
        sim_fail(sim, "worker %u publishes fact %u without a delivery to settle", worker->index,
                 fact->index);
    if (made < 0 || made > (int64_t)fact->attempts_before + fact->failures_max)
        sim_fail(sim, "fact %u goes on with %lld attempts made: it failed %u times at most",
                 fact->index, (long long)made, fact->failures_max);
    check_message(sim, publish, fact);
    check_destination(sim, publish, fact, (uint32_t)made);
}

/* ---- the end ---- */

static bool worker_settled(const struct sim_worker *worker) {
    const struct sim_ledger *ledger = &worker->ledger;
    return worker->alive && !worker->stopping && ledger->ready && worker->link.epoch != 0 &&
           lvt_engine_in_flight(worker->engine) == 0 && !ledger->waiting.first &&
           !ledger->held.first && !ledger->to_record.first && ledger->round == 0 &&
           ledger->unlock_count == 0 && !ledger->txs && ledger->relay.out == 0 &&
           !worker->questions && !worker->link.outgoing && worker->link.settled_count == 0;
}

/* A session that its worker has lost keeps its locks until the server has seen it, too. */
static bool locked_by_a_ghost(const struct sim *sim, unsigned fact) {
    uint64_t holder = sim->db.lock_holder[fact];
    for (unsigned i = 0; i < sim->worker_count; i++)
        if (sim->workers[i].ledger.session == holder)
            return false;
    return holder != 0;
}

bool sim_settled(const struct sim *sim) {
    for (unsigned i = 0; i < sim->fact_count; i++)
        if (sim->facts[i].published == 0 || locked_by_a_ghost(sim, i))
            return false;
    for (unsigned i = 0; i < sim->worker_count; i++)
        if (!worker_settled(&sim->workers[i]))
            return false;
    for (const struct sim_message *message = sim->messages; message; message = message->next)
        if (message->state != SIM_MESSAGE_DEAD && message->state != SIM_MESSAGE_ELSEWHERE)
            return false;
    for (size_t i = 0; i < sim->db.pending_count; i++)
        if (sim->db.pending[i].there)
            return false;
    return !sim->db.txs && sim_children_settled(sim);
}

void sim_check_idle(struct sim_worker *worker) {
    struct lvt_engine *engine = worker->engine;
    lvt_handlers_sweep(engine);
    if (engine->all || engine->in_hand_count > 0 || engine->tx_open > 0 || engine->tx_waiting ||
        engine->claimed || engine->recorded || engine->in_flight > 0 || engine->startable)
        sim_fail(worker->sim, "worker %u has stopped with events in hand", worker->index);
    if (engine->retired)
        sim_fail(worker->sim, "worker %u has stopped with handlers that were replaced",
                 worker->index);
    if (worker->timers.count > 0)
        sim_fail(worker->sim, "worker %u has stopped with timers armed", worker->index);
    if (worker->ledger.txs || worker->ledger.held.first || worker->ledger.waiting.first ||
        worker->ledger.to_record.first)
        sim_fail(worker->sim, "worker %u has stopped with claims in hand", worker->index);
}

static void check_fate(struct sim *sim, const struct sim_fact *fact) {
    const bool done = done_for_good(fact);
    if (!done && fact->dead_letters == 0)
        sim_fail(sim, "fact %u is lost", fact->index);
    if (fact->nature != SIM_FACT_GOOD && (fact->recorded || fact->rows > 0))
        sim_fail(sim, "fact %u was handled, by whom?", fact->index);
    if (fact->excuses == 0 && fact->dead_letters + done > 1)
        sim_fail(sim, "fact %u is %s, and %u times a dead letter", fact->index,
                 done ? "done" : "not done", fact->dead_letters);
    if (fact->dead_letters > 1 + fact->excuses)
        sim_fail(sim, "fact %u is %u times a dead letter", fact->index, fact->dead_letters);
    if (sim->wanted_ms[fact->index] > sim->invalidated_ms[fact->index])
        sim_fail(sim, "an invalidation that fact %u committed was forgotten", fact->index);
}

static void check_effect(struct sim *sim, const struct sim_fact *fact) {
    unsigned wanted = fact->uses_db && fact->nature == SIM_FACT_GOOD;
    if (fact->id[0]) {
        if (fact->rows != (fact->recorded ? wanted : 0))
            sim_fail(sim, "fact %u is %srecorded, and its effect is there %u times", fact->index,
                     fact->recorded ? "" : "not ", fact->rows);
    } else if (fact->successes > 0 && fact->rows < wanted) {
        sim_fail(sim, "fact %u, without an id, is done without its effect", fact->index);
    } else if (fact->rows > wanted && fact->excuses == 0 && !fact->commit_unknown) {
        sim_fail(sim, "fact %u, without an id, has its effect %u times", fact->index, fact->rows);
    }
}

static void tell_what_remains(struct sim *sim) {
    for (const struct sim_message *message = sim->messages; message; message = message->next)
        if (message->state != SIM_MESSAGE_DEAD && message->state != SIM_MESSAGE_ELSEWHERE)
            sim_fail(sim, "message %llu of fact %u never comes to an end (state %d)",
                     (unsigned long long)message->number, message->fact->index,
                     (int)message->state);
    for (unsigned i = 0; i < sim->worker_count; i++)
        if (!worker_settled(&sim->workers[i]))
            sim_fail(sim, "worker %u never comes to rest", i);
    sim_fail(sim, "the world never comes to rest");
}

void sim_check_end(struct sim *sim) {
    if (!sim_settled(sim))
        tell_what_remains(sim);
    for (unsigned i = 0; i < sim->fact_count && !sim->failure[0]; i++) {
        check_fate(sim, &sim->facts[i]);
        check_effect(sim, &sim->facts[i]);
        if (sim->db.lock_holder[i] != 0)
            sim_fail(sim, "fact %u is still locked", i);
    }
    if (!sim->failure[0])
        sim_check_children(sim);
    for (unsigned i = 0; i < sim->worker_count && !sim->failure[0]; i++) {
        lvt_engine_drain(sim->workers[i].engine);
        sim_check_idle(&sim->workers[i]);
    }
}
