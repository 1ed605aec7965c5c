/* The ledger port's outbox: one session relays what was committed, and deletes what was sent. */
#include <stdlib.h>

#include "sim.h"

#define LOOK_MS 100
#define LATER_MS 500

static struct sim_relayed *find(struct sim_worker *worker, const struct lvt_outbox_row *row) {
    struct sim_relayed *relayed = worker->ledger.relay.rows;
    while (&relayed->row != row)
        relayed++;
    return relayed;
}

bool sim_relay_overtakes(const struct sim_worker *worker, const struct sim_child *child) {
    const struct sim_relay *relay = &worker->ledger.relay;
    for (size_t i = 0; i < relay->count && relay->rows[i].child != child; i++)
        if (child->key[0] && strcmp(relay->rows[i].child->key, child->key) == 0 &&
            (!relay->rows[i].back || relay->rows[i].row.result != LVT_OUTBOX_SENT))
            return true;
    return false;
}

static void look_later(struct sim_worker *worker, uint64_t delay_ms) {
    sim_after_for(worker, delay_ms, sim_relay_look, 0, 0);
}

/* The rows are read, and reach the worker. */
static void hand_over(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    struct sim_relay *relay = &worker->ledger.relay;
    (void)a, (void)b;
    if (relay->session != worker->ledger.session || worker->stopping) {
        relay->count = 0;
        look_later(worker, LOOK_MS);
        return;
    }
    relay->out = relay->count;
    for (size_t i = 0; i < relay->count; i++) {
        struct sim_relayed *relayed = &relay->rows[i];
        if (relayed->child->unsure)
            sim_child_excuse(sim, relayed->child, "it is relayed once more");
        relayed->child->unsure = true;
        struct lvt_header header;
        struct lvt_outgoing outgoing;
        lvt_arena_init(&relayed->arena, 512);
        relayed->row = (struct lvt_outbox_row){.number = relayed->child->number,
                                               .key = lvt_bytes_of(relayed->child->key),
                                               .arena = &relayed->arena};
        sim_child_outgoing(relayed->child, &header, &outgoing);
        if (lvt_outgoing_copy(&outgoing, &relayed->arena, &relayed->row.outgoing) != LEVERET_OK)
            abort();
        if (i > 0)
            relay->rows[i - 1].row.next = &relayed->row;
    }
    worker->ledger_sink.outbox_due(worker->ledger_sink.ctx, &relay->rows[0].row);
    sim_worker_wake(worker);
}

void sim_relay_look(struct sim *sim, struct sim_worker *worker, uint64_t a, uint64_t b) {
    struct sim_ledger *ledger = &worker->ledger;
    struct sim_relay *relay = &ledger->relay;
    (void)a, (void)b;
    relay->count = 0;
    if (ledger->ready && !sim->db.down && !sim->db.sessions[sim->db.relay])
        sim->db.relay = ledger->session;
    if (ledger->ready && !sim->db.down && sim->db.relay == ledger->session)
        for (struct sim_child *child = sim->children; child; child = child->next)
            if (child->row == SIM_ROW_THERE && relay->count < SIM_RELAYED_MAX)
                relay->rows[relay->count++] = (struct sim_relayed){.child = child};
    relay->session = ledger->session;
    if (relay->count > 0)
        sim_after_for(worker, sim_latency(sim), hand_over, 0, 0);
    else
        look_later(worker, LOOK_MS);
}

/* A statement that reaches the server, unless its session is over. */
static void delete_row(struct sim *sim, struct sim_worker *worker, uint64_t number,
                       uint64_t session) {
    (void)worker;
    if (sim->db.down || !sim->db.sessions[session])
        return;
    for (struct sim_child *child = sim->children; child; child = child->next)
        if (child->number == number && child->row == SIM_ROW_THERE)
            child->row = SIM_ROW_DELETED;
}

void sim_relay_done(void *self, struct lvt_outbox_row *row) {
    struct sim_worker *worker = self;
    struct sim *sim = worker->sim;
    struct sim_relay *relay = &worker->ledger.relay;
    struct sim_relayed *relayed = find(worker, row);
    SIM_SAY(sim, "worker %u gives the row of child %u back (%d)", worker->index,
            relayed->child->number, (int)row->result);
    if (relayed->back)
        sim_fail(sim, "the row of child %u is given back twice", relayed->child->number);
    relayed->back = true;
    if (row->result == LVT_OUTBOX_WRONG)
        sim_fail(sim, "the row of child %u cannot be published", relayed->child->number);
    else if (row->result != LVT_OUTBOX_SENT)
        relayed->child->unsure = false;
    else if (relayed->child->copies == 0)
        sim_fail(sim, "the row of child %u is called sent, and is not", relayed->child->number);
    if (row->result == LVT_OUTBOX_SENT && !worker->dying)
        sim_after(sim, sim_latency(sim), delete_row, worker, relayed->child->number,
                  relay->session);
    lvt_arena_free(&relayed->arena);
    if (--relay->out == 0)
        look_later(worker, row->result == LVT_OUTBOX_LATER ? LATER_MS : LOOK_MS);
}

void sim_relay_clear(struct sim_worker *worker) {
    struct sim_relay *relay = &worker->ledger.relay;
    for (size_t i = 0; relay->out > 0 && i < relay->count; i++)
        if (!relay->rows[i].back)
            lvt_arena_free(&relay->rows[i].arena);
}
