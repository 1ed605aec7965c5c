/* What handlers publish: straight to the broker, or in their transaction. Nobody here consumes it:
 * it only must arrive, as often as it should. */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"

#define EXCHANGE "children"
#define TYPE "child"
#define HEADER "x-child"

struct sim_child *sim_child_new(struct sim *sim, struct sim_fact *parent, bool in_tx) {
    struct sim_child *child = sim_alloc(sizeof *child);
    *child = (struct sim_child){.number = sim->child_count++, .parent = parent, .in_tx = in_tx};
    snprintf(child->id, sizeof child->id, "c-%u", child->number);
    snprintf(child->body, sizeof child->body, "{\"event\":\"" TYPE "\",\"payload\":{\"child\":%u}}",
             child->number);
    if (sim_chance(sim, 300))
        snprintf(child->queue, sizeof child->queue, "far");
    if (sim_chance(sim, 600))
        snprintf(child->key, sizeof child->key, "k%u", sim_below(sim, 2));
    *sim->children_last = child;
    sim->children_last = &child->next;
    SIM_SAY(sim, "child %u of fact %u is published%s", child->number, parent->index,
            in_tx ? " in its transaction" : "");
    return child;
}

struct sim_child *sim_child_of_headers(struct sim *sim, const struct lvt_headers *headers) {
    int64_t number;
    struct sim_child *child = sim->children;
    if (!lvt_header_integer(lvt_headers_find(headers, HEADER), &number))
        return NULL;
    while (child && child->number != number)
        child = child->next;
    return child;
}

void sim_child_outgoing(const struct sim_child *child, struct lvt_header *header,
                        struct lvt_outgoing *ret_outgoing) {
    size_t begin = sizeof "{\"event\":\"" TYPE "\",\"payload\":" - 1;
    *header = (struct lvt_header){
        .name = LVT_LITERAL(HEADER), .kind = LVT_HEADER_INT64, .value.integer = child->number};
    *ret_outgoing = (struct lvt_outgoing){
        .event = LVT_LITERAL(TYPE),
        .payload = lvt_bytes(child->body + begin, strlen(child->body) - begin - 1),
        .id = lvt_bytes_of(child->id),
        .priority = LVT_NO_PRIORITY,
        .headers = header,
        .header_count = 1,
    };
    if (child->queue[0])
        ret_outgoing->queue = lvt_bytes_of(child->queue);
    else
        ret_outgoing->exchange = LVT_LITERAL(EXCHANGE);
}

void sim_child_excuse(struct sim *sim, struct sim_child *child, const char *why) {
    child->excuses++;
    SIM_SAY(sim, "child %u is excused: %s", child->number, why);
}

void sim_child_told(struct sim *sim, const struct sim_child *child, enum lvt_answer answer) {
    if (answer == LVT_ANSWER_OUTAGE)
        sim_fail(sim, "a handler is told of an outage of the broker");
    if (child->in_tx)
        return;
    if (answer == LVT_ANSWER_OK && child->copies == 0)
        sim_fail(sim, "fact %u's handler is told that child %u is out, and it is not",
                 child->parent->index, child->number);
    if (answer == LVT_ANSWER_ERROR && child->copies > 0 && child->excuses == 0)
        sim_fail(sim, "fact %u's handler is told that child %u is not out, and it is",
                 child->parent->index, child->number);
}

void sim_check_child_publish(struct sim_worker *worker, const struct lvt_publish *publish,
                             const struct sim_child *child) {
    struct sim *sim = worker->sim;
    const struct lvt_properties *properties = &publish->properties;
    const struct lvt_destination *to = &publish->destination;
    bool straight = child->queue[0] != '\0';
    if (!lvt_bytes_is(publish->body, child->body) ||
        !lvt_bytes_is(properties->message_id, child->id))
        sim_fail(sim, "child %u is published with another body or id", child->number);
    if (!(properties->present & LVT_HAS_DELIVERY_MODE) || properties->delivery_mode != 2)
        sim_fail(sim, "child %u is published, but not persistent", child->number);
    if (to->kind != LVT_TO_EXCHANGE || !lvt_bytes_is(to->name, straight ? "" : EXCHANGE) ||
        !lvt_bytes_is(to->routing_key, straight ? child->queue : TYPE))
        sim_fail(sim, "child %u is sent to where nobody asked for", child->number);
    if (child->in_tx && child->row != SIM_ROW_THERE && child->row != SIM_ROW_DELETED)
        sim_fail(sim, "child %u is published, and its transaction has not committed",
                 child->number);
    if (child->in_tx && sim_relay_overtakes(worker, child))
        sim_fail(sim, "child %u overtakes another of its key", child->number);
}

bool sim_children_settled(const struct sim *sim) {
    for (const struct sim_child *child = sim->children; child; child = child->next)
        if (child->row == SIM_ROW_WRITTEN || child->row == SIM_ROW_THERE)
            return false;
    return true;
}

void sim_check_children(struct sim *sim) {
    for (const struct sim_child *child = sim->children; child; child = child->next) {
        bool committed = child->row == SIM_ROW_DELETED;
        if (committed && child->copies == 0)
            sim_fail(sim, "child %u was committed, and is lost", child->number);
        if (child->in_tx && !committed && child->copies > 0)
            sim_fail(sim, "child %u was rolled back, and is out", child->number);
        if (child->copies > 1 + child->excuses)
            sim_fail(sim, "child %u is out %u times", child->number, child->copies);
    }
}

void sim_children_free(struct sim *sim) {
    while (sim->children) {
        struct sim_child *child = sim->children;
        sim->children = child->next;
        free(child);
    }
}
