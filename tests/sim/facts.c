/* What the outside publishes, and how to tell what a message is about. */
#include <stdio.h>

#include "event/key.h"
#include "sim.h"

static unsigned handler_of_queue(struct sim *sim, unsigned queue) {
    unsigned handler;
    do
        handler = sim_below(sim, sim->handler_count);
    while (sim->plans[handler].queue != queue);
    return handler;
}

/* Another queue, or another type, may have an event of the same id: that is another event. */
static bool same_event(const struct sim *sim, const struct sim_fact *fact) {
    for (unsigned i = 0; i < fact->index; i++) {
        const struct sim_fact *other = &sim->facts[i];
        if (other->queue == fact->queue && strcmp(other->type, fact->type) == 0 &&
            strcmp(other->id, fact->id) == 0)
            return true;
    }
    return false;
}

static void name_fact(struct sim *sim, struct sim_fact *fact) {
    if (fact->index > 0 && sim_chance(sim, 150))
        snprintf(fact->id, sizeof fact->id, "%s", sim->facts[fact->index - 1].id);
    if (fact->id[0] == '\0' || same_event(sim, fact))
        snprintf(fact->id, sizeof fact->id, "id-%u-%u", fact->index, sim_below(sim, 1000));
}

static void key_fact(struct sim_fact *fact) {
    char queue[8];
    snprintf(queue, sizeof queue, "q%u", fact->queue);
    const struct lvt_bytes name = LVT_LITERAL(SIM_NAME);
    const struct lvt_bytes type = lvt_bytes_of(fact->type), id = lvt_bytes_of(fact->id);
    lvt_event_key(name, lvt_bytes_of(queue), type, id, fact->key);
}

static void make_fact(struct sim *sim, struct sim_fact *fact, unsigned index) {
    unsigned kind = sim_below(sim, 100);
    fact->index = index;
    fact->queue = sim_below(sim, sim->queue_count);
    fact->handler = handler_of_queue(sim, fact->queue);
    fact->nature = kind < 3   ? SIM_FACT_MALFORMED
                   : kind < 6 ? SIM_FACT_NO_HANDLER
                   : kind < 9 ? SIM_FACT_LEGACY
                              : SIM_FACT_GOOD;
    snprintf(fact->type, sizeof fact->type, "%s",
             fact->nature == SIM_FACT_NO_HANDLER ? "stranger" : sim->plans[fact->handler].name);
    if (kind < 90)
        name_fact(sim, fact);
    key_fact(fact);
    fact->uses_db = sim_chance(sim, 400);
    if (sim_chance(sim, 80)) {
        fact->attempts_before = 1 + sim_below(sim, 3);
        fact->own_header = sim_chance(sim, 500);
    }
    snprintf(fact->body, sizeof fact->body, "{\"event\":\"%s\",\"payload\":{\"fact\":%u,\"n\":%u%s",
             fact->type, index, sim_below(sim, 1000000),
             fact->nature == SIM_FACT_MALFORMED ? "" : "}}");
}

void sim_facts_make(struct sim *sim) {
    sim->fact_count = 4 + sim_below(sim, SIM_FACTS_MAX - 4);
    for (unsigned i = 0; i < sim->fact_count; i++) {
        make_fact(sim, &sim->facts[i], i);
        uint64_t when_ms = sim_below(sim, sim_chance(sim, 500) ? 300 : 6000);
        sim_after(sim, when_ms, sim_fact_publish, NULL, i, 0);
        /* A publisher that did not get its confirm publishes once more. */
        if (sim_chance(sim, 80))
            sim_after(sim, when_ms + sim_below(sim, 1000), sim_fact_publish, NULL, i, 0);
    }
}

static size_t add_headers(const struct sim_fact *fact, struct lvt_header *items) {
    size_t count = 0;
    items[count++] = (struct lvt_header){
        .name = LVT_LITERAL("x-fact"), .kind = LVT_HEADER_INT32, .value.integer = fact->index};
    items[count++] = (struct lvt_header){.name = LVT_LITERAL("x-app"),
                                         .kind = LVT_HEADER_STRING,
                                         .value.bytes = LVT_LITERAL("\xff any bytes")};
    if (fact->attempts_before > 0)
        items[count++] = (struct lvt_header){
            .name = lvt_bytes_of(fact->own_header ? "leveret-attempt" : "x-retry-count"),
            .kind = LVT_HEADER_INT32,
            .value.integer = fact->attempts_before};
    return count;
}

void sim_fact_publish(struct sim *sim, struct sim_worker *worker, uint64_t index, uint64_t b) {
    struct sim_fact *fact = &sim->facts[index];
    struct lvt_header items[3];
    struct lvt_properties properties = {.present = LVT_HAS_HEADERS | LVT_HAS_DELIVERY_MODE,
                                        .delivery_mode = 2};
    if (sim->broker_down) {
        sim_after(sim, 100, sim_fact_publish, worker, index, b);
        return;
    }
    properties.headers = (struct lvt_headers){items, add_headers(fact, items)};
    if (fact->id[0]) {
        properties.present |= LVT_HAS_MESSAGE_ID;
        properties.message_id = lvt_bytes_of(fact->id);
    }
    struct sim_message *message = sim_message_new(sim, fact, &properties, lvt_bytes_of(fact->body));
    message->confirmed = true;
    message->state = SIM_MESSAGE_READY;
    if (fact->published++ > 0)
        sim_fact_excuse(sim, fact, "it was published again");
    SIM_SAY(sim, "fact %u (%s, queue q%u, id '%s'%s) is published", fact->index, fact->type,
            fact->queue, fact->id, fact->uses_db ? ", writes a row" : "");
    sim_broker_dispatch_soon(sim);
}

void sim_fact_excuse(struct sim *sim, struct sim_fact *fact, const char *why) {
    fact->excuses++;
    SIM_SAY(sim, "fact %u is excused: %s", fact->index, why);
}

struct sim_fact *sim_fact_of_headers(struct sim *sim, const struct lvt_headers *headers) {
    int64_t index;
    if (!lvt_header_integer(lvt_headers_find(headers, "x-fact"), &index) || index < 0 ||
        index >= (int64_t)sim->fact_count) {
        sim_fail(sim, "a message has lost its header");
        return &sim->facts[0];
    }
    return &sim->facts[index];
}

struct sim_fact *sim_fact_of_claim(struct sim *sim, const struct lvt_claim *claim) {
    for (unsigned i = 0; i < sim->fact_count; i++)
        if (sim->facts[i].id[0] && memcmp(claim->key, sim->facts[i].key, LVT_KEY_BYTES) == 0)
            return &sim->facts[i];
    sim_fail(sim, "a claim of a key that no event has");
    return &sim->facts[0];
}
