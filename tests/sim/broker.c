/* The broker's side: queues, the ladder, dead letters. What it has confirmed it keeps. */
#include <stdlib.h>

#include "engine/message.h"
#include "memory/memory_copy.h"
#include "sim.h"

/* ---- messages ---- */

struct sim_message *sim_message_new(struct sim *sim, struct sim_fact *fact,
                                    const struct lvt_properties *properties,
                                    struct lvt_bytes body) {
    struct sim_message *message = sim_alloc(sizeof *message);
    int64_t made = 0;
    lvt_arena_init(&message->arena, 1024);
    if (lvt_memory_copy_properties(&message->arena, properties, &message->properties) != LEVERET_OK)
        abort();
    message->body = lvt_arena_copy(&message->arena, body);
    message->number = ++sim->last_number;
    message->fact = fact;
    const struct lvt_headers *headers = &message->properties.headers;
    if (lvt_header_integer(lvt_headers_find(headers, LVT_HEADER_ATTEMPT), &made) ||
        lvt_header_integer(lvt_headers_find(headers, "x-retry-count"), &made))
        message->attempts_made = (uint32_t)made;
    *sim->messages_last = message;
    sim->messages_last = &message->next;
    return message;
}

struct sim_message *sim_message_find(struct sim *sim, uint64_t number) {
    struct sim_message *message = sim->messages;
    while (message && message->number != number)
        message = message->next;
    return message;
}

void sim_message_free(struct sim *sim, struct sim_message *message) {
    struct sim_message **at = &sim->messages;
    while (*at != message)
        at = &(*at)->next;
    *at = message->next;
    if (!*at)
        sim->messages_last = at;
    lvt_arena_free(&message->arena);
    free(message);
}

void sim_messages_free(struct sim *sim) {
    while (sim->messages)
        sim_message_free(sim, sim->messages);
}

bool sim_broker_has_another(const struct sim *sim, const struct sim_fact *fact, uint64_t message,
                            uint32_t attempts_made) {
    for (const struct sim_message *other = sim->messages; other; other = other->next)
        if (other->fact == fact && !other->child && other->number != message && other->confirmed &&
            !other->acked &&
            (other->attempts_made >= attempts_made || other->state == SIM_MESSAGE_DEAD))
            return true;
    return false;
}

/* ---- deliveries ---- */

static unsigned unacked_count(const struct sim *sim, const struct sim_worker *worker,
                              unsigned queue) {
    unsigned count = 0;
    for (const struct sim_message *message = sim->messages; message; message = message->next)
        count += message->state == SIM_MESSAGE_UNACKED && message->worker == worker &&
                 message->epoch == worker->link.broker_epoch && message->fact->queue == queue;
    return count;
}

static struct sim_worker *choose_worker(struct sim *sim, unsigned queue) {
    unsigned first = sim_below(sim, sim->worker_count);
    for (unsigned i = 0; i < sim->worker_count; i++) {
        struct sim_worker *worker = &sim->workers[(first + i) % sim->worker_count];
        if (worker->link.broker_epoch != 0 && !worker->link.cancelled &&
            !worker->link.not_consumed[queue] && unacked_count(sim, worker, queue) < sim->prefetch)
            return worker;
    }
    return NULL;
}

static void dispatch(struct sim *sim, struct sim_worker *ignored, uint64_t a, uint64_t b) {
    (void)ignored, (void)a, (void)b;
    sim->dispatch_due = false;
    for (struct sim_message *message = sim->messages; message; message = message->next) {
        if (message->state != SIM_MESSAGE_READY)
            continue;
        struct sim_worker *worker = choose_worker(sim, message->fact->queue);
        if (!worker)
            continue;
        message->state = SIM_MESSAGE_UNACKED;
        message->worker = worker;
        message->epoch = worker->link.broker_epoch;
        message->tag = ++worker->link.last_tag;
        sim_after_for(worker, sim_latency(sim), sim_link_delivered, message->number,
                      message->epoch);
    }
}

void sim_broker_dispatch_soon(struct sim *sim) {
    if (sim->dispatch_due)
        return;
    sim->dispatch_due = true;
    sim_after(sim, sim_below(sim, 3), dispatch, NULL, 0, 0);
}

/* The message of a settlement that arrives: NULL when it was lost, or the channel was gone already.
 */
static struct sim_message *find_unacked(struct sim *sim, const struct sim_worker *worker,
                                        uint64_t tag, uint64_t epoch) {
    /* the worker lost the connection while this was on its way */
    if (worker->link.epoch != epoch && sim_chance(sim, 500))
        return NULL;
    struct sim_message *message = sim->messages;
    while (message && !(message->state == SIM_MESSAGE_UNACKED && message->worker == worker &&
                        message->epoch == epoch && message->tag == tag))
        message = message->next;
    return message;
}

void sim_broker_acked(struct sim *sim, struct sim_worker *worker, uint64_t tag, uint64_t epoch) {
    struct sim_message *message = find_unacked(sim, worker, tag, epoch);
    if (!message)
        return;
    SIM_SAY(sim, "broker: message %llu of fact %u is acked", (unsigned long long)message->number,
            message->fact->index);
    sim_message_free(sim, message);
    sim_broker_dispatch_soon(sim);
}

static void give_back(struct sim *sim, struct sim_message *message) {
    message->state = SIM_MESSAGE_READY;
    message->redelivered = true;
    message->acked = false;
    SIM_SAY(sim, "broker: message %llu of fact %u goes back to its queue",
            (unsigned long long)message->number, message->fact->index);
}

void sim_broker_requeued(struct sim *sim, struct sim_worker *worker, uint64_t tag, uint64_t epoch) {
    struct sim_message *message = find_unacked(sim, worker, tag, epoch);
    if (message)
        give_back(sim, message);
    sim_broker_dispatch_soon(sim);
}

void sim_broker_notices(struct sim *sim, struct sim_worker *worker, uint64_t epoch, uint64_t b) {
    (void)b;
    if (worker->link.broker_epoch == epoch)
        worker->link.broker_epoch = 0;
    for (struct sim_message *message = sim->messages; message; message = message->next) {
        if (message->state != SIM_MESSAGE_UNACKED || message->worker != worker ||
            message->epoch != epoch)
            continue;
        give_back(sim, message);
    }
    sim_broker_dispatch_soon(sim);
}

/* ---- publishes ---- */

static void delay_over(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t b) {
    struct sim_message *message = sim_message_find(sim, number);
    (void)worker, (void)b;
    if (!message || message->state != SIM_MESSAGE_DELAYED)
        return;
    if (sim->broker_down) {
        sim_after(sim, 50, delay_over, NULL, number, 0);
        return;
    }
    message->state = SIM_MESSAGE_READY;
    if (sim_bad_luck(sim, 10)) {
        struct sim_message *copy =
            sim_message_new(sim, message->fact, &message->properties, message->body);
        copy->state = SIM_MESSAGE_READY;
        copy->confirmed = message->confirmed;
        copy->publishing = message->publishing;
        sim_fact_excuse(sim, message->fact, "the ladder delivered it twice");
    }
    sim_broker_dispatch_soon(sim);
}

static void check_dead_letter(struct sim *sim, const struct sim_message *message) {
    const struct lvt_headers *headers = &message->properties.headers;
    const struct lvt_header *reason = lvt_headers_find(headers, LVT_HEADER_ERROR);
    if (!lvt_bytes_is(message->body, message->fact->body))
        sim_fail(sim, "the body of fact %u changed on its way to the dead letters",
                 message->fact->index);
    if (!reason || reason->value.bytes.len == 0)
        sim_fail(sim, "fact %u is dead-lettered without a reason", message->fact->index);
}

void sim_broker_put(struct sim *sim, struct sim_message *message) {
    if (message->child) {
        message->state = SIM_MESSAGE_ELSEWHERE;
        return;
    }
    if (message->kind == LVT_TO_DELAY) {
        message->state = SIM_MESSAGE_DELAYED;
        sim_after(sim, message->delay_ms + sim_below(sim, 30), delay_over, NULL, message->number,
                  0);
    } else {
        message->state = SIM_MESSAGE_DEAD;
        message->fact->dead_letters++;
        check_dead_letter(sim, message);
    }
    SIM_SAY(sim, "broker: message %llu of fact %u is %s", (unsigned long long)message->number,
            message->fact->index,
            message->state == SIM_MESSAGE_DEAD ? "a dead letter" : "on the ladder");
}

/* The confirm is sent: from here on the message is durable. */
static void confirm(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t on) {
    struct sim_message *message = sim_message_find(sim, number);
    if (message)
        message->confirmed = true;
    if (message && message->child)
        message->child->copies++;
    if (on > worker->link.lost_publishing)
        sim_after_for(worker, sim_latency(sim), sim_link_answered, number, LVT_PUBLISH_CONFIRMED);
}

/* A publish reaches the broker. */
void sim_broker_arrived(struct sim *sim, struct sim_worker *worker, uint64_t number, uint64_t b) {
    struct sim_message *message = sim_message_find(sim, number);
    (void)b;
    bool cut = worker->link.publishing != message->publishing;
    if (sim->broker_down || message->publishing <= worker->link.lost_publishing ||
        (cut && sim_chance(sim, 500))) {
        sim_message_free(sim, message);
        return;
    }
    enum lvt_publish_result result = sim_chance(sim, sim->return_permille) ? LVT_PUBLISH_RETURNED
                                     : sim_chance(sim, sim->refuse_permille)
                                         ? LVT_PUBLISH_REFUSED
                                         : LVT_PUBLISH_CONFIRMED;
    if (result != LVT_PUBLISH_CONFIRMED) {
        sim_message_free(sim, message);
        sim_after_for(worker, sim_latency(sim), sim_link_answered, number, result);
        return;
    }
    sim_broker_put(sim, message);
    uint64_t delay_ms = sim_bad_luck(sim, 150) ? sim_below(sim, 2500) : sim_below(sim, 5);
    sim_after(sim, delay_ms, confirm, worker, number, message->publishing);
}

void sim_broker_forget_unconfirmed(struct sim *sim) {
    struct sim_message *next;
    for (struct sim_message *message = sim->messages; message; message = next) {
        next = message->next;
        if (message->confirmed || message->redelivered || message->state == SIM_MESSAGE_SENT ||
            message->state == SIM_MESSAGE_UNACKED || sim_chance(sim, 500))
            continue;
        if (message->state == SIM_MESSAGE_DEAD)
            message->fact->dead_letters--;
        SIM_SAY(sim, "broker: message %llu of fact %u, not confirmed yet, is lost",
                (unsigned long long)message->number, message->fact->index);
        sim_message_free(sim, message);
    }
}
