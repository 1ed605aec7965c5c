/* The broker port of a worker: two connections, each of whose ends learns of a cut in its own time.
 * What the engine does through it is checked here, where nothing has been lost yet. */
#include <stdio.h>
#include <stdlib.h>

#include "event/delivery.h"
#include "memory/memory_copy.h"
#include "sim.h"

/* ---- acks ---- */

static struct sim_handed *find_handed(struct sim_link *link, uint64_t tag) {
    struct sim_handed *handed = link->handed;
    while (handed && handed->tag != tag)
        handed = handed->next;
    return handed;
}

static bool port_live(void *self, const struct lvt_delivery *delivery) {
    const struct sim_worker *worker = self;
    return !worker->dying && delivery->epoch == worker->link.epoch;
}

static void settle(struct sim_worker *worker, struct sim_handed *handed, bool requeue) {
    struct sim_link *link = &worker->link;
    struct sim_message *message = sim_message_find(worker->sim, handed->message);
    handed->settled = true;
    if (message && !requeue)
        message->acked = message->state == SIM_MESSAGE_UNACKED && message->tag == handed->tag;
    link->settled[link->settled_count++] = (struct sim_settled){handed->tag, requeue};
    if (link->settled_count == sizeof link->settled / sizeof link->settled[0])
        sim_link_flush(worker);
}

/* NULL when the delivery is of a channel that is gone, or nobody's to settle. */
static struct sim_handed *find_live(struct sim_worker *worker,
                                    const struct lvt_delivery *delivery) {
    if (!port_live(worker, delivery))
        return NULL;
    struct sim_handed *handed = find_handed(&worker->link, delivery->tag);
    if (handed && !handed->settled)
        return handed;
    sim_fail(worker->sim, "worker %u settles tag %llu, which is not its to settle", worker->index,
             (unsigned long long)delivery->tag);
    return NULL;
}

static void port_ack(void *self, const struct lvt_delivery *delivery) {
    struct sim_handed *handed = find_live(self, delivery);
    if (!handed)
        return;
    sim_check_ack(self, handed);
    settle(self, handed, false);
}

static void port_requeue(void *self, const struct lvt_delivery *delivery) {
    struct sim_handed *handed = find_live(self, delivery);
    if (handed)
        settle(self, handed, true);
}

/* ---- publishes ---- */

static void port_publish(void *self, struct lvt_publish *publish) {
    struct sim_worker *worker = self;
    struct sim_outgoing *outgoing = sim_alloc(sizeof *outgoing);
    struct sim_outgoing **last = &worker->link.outgoing;
    outgoing->publish = publish;
    outgoing->child = sim_child_of_headers(worker->sim, &publish->properties.headers);
    outgoing->fact = outgoing->child
                         ? outgoing->child->parent
                         : sim_fact_of_headers(worker->sim, &publish->properties.headers);
    while (*last)
        last = &(*last)->next;
    *last = outgoing;
    if (worker->dying)
        return;
    if (outgoing->child)
        sim_check_child_publish(worker, publish, outgoing->child);
    else
        sim_check_publish(worker, publish, outgoing->fact);
}

static void excuse(struct sim_worker *worker, const struct sim_outgoing *outgoing,
                   const char *why) {
    if (outgoing->message == 0)
        return;
    if (outgoing->child)
        sim_child_excuse(worker->sim, outgoing->child, why);
    else
        sim_fact_excuse(worker->sim, outgoing->fact, why);
}

static void send(struct sim_worker *worker, struct sim_outgoing *outgoing) {
    const struct lvt_publish *publish = outgoing->publish;
    struct sim_message *message =
        sim_message_new(worker->sim, outgoing->fact, &publish->properties, publish->body);
    message->child = outgoing->child;
    message->kind = publish->destination.kind;
    message->delay_ms = publish->destination.delay_ms;
    message->worker = worker;
    message->publishing = worker->link.publishing;
    outgoing->message = message->number;
    SIM_SAY(worker->sim, "worker %u publishes fact %u as message %llu", worker->index,
            outgoing->fact->index, (unsigned long long)message->number);
    sim_after(worker->sim, sim_latency(worker->sim), sim_broker_arrived, worker, message->number,
              0);
}

void sim_link_flush(struct sim_worker *worker) {
    struct sim_link *link = &worker->link;
    if (worker->dying)
        return;
    for (size_t i = 0; i < link->settled_count; i++)
        sim_after(worker->sim, sim_latency(worker->sim),
                  link->settled[i].requeue ? sim_broker_requeued : sim_broker_acked, worker,
                  link->settled[i].tag, link->epoch);
    link->settled_count = 0;
    if (link->publishing == 0 || link->blocked_until_ms > worker->sim->now_ms)
        return;
    for (struct sim_outgoing *outgoing = link->outgoing; outgoing; outgoing = outgoing->next)
        if (outgoing->message == 0)
            send(worker, outgoing);
}

static void port_flush(void *self) {
    sim_link_flush(self);
}

struct lvt_broker_port sim_link_port(struct sim_worker *worker) {
    return (struct lvt_broker_port){.self = worker,
                                    .ack = port_ack,
                                    .requeue = port_requeue,
                                    .publish = port_publish,
                                    .flush = port_flush,
                                    .live = port_live};
}

static void answer(struct sim_worker *worker, struct sim_outgoing **at,
                   enum lvt_publish_result result) {
    struct sim_outgoing *outgoing = *at;
    struct lvt_publish *publish = outgoing->publish;
    SIM_SAY(worker->sim, "worker %u: the publish of fact %u is answered (%d)", worker->index,
            outgoing->fact->index, (int)result);
    *at = outgoing->next;
    free(outgoing);
    publish->next = NULL;
    publish->result = result;
    snprintf(publish->reason, sizeof publish->reason, "a fault");
    worker->broker_sink.published(worker->broker_sink.ctx, publish);
    sim_worker_wake(worker);
}

void sim_link_answered(struct sim *sim, struct sim_worker *worker, uint64_t number,
                       uint64_t result) {
    struct sim_outgoing **at = &worker->link.outgoing;
    (void)sim;
    while (*at && (*at)->message != number)
        at = &(*at)->next;
    if (*at) /* else the connection that it was sent on is gone */
        answer(worker, at, (enum lvt_publish_result)result);
}

void sim_link_drop_publishes(struct sim_worker *worker) {
    while (worker->link.outgoing) {
        excuse(worker, worker->link.outgoing, "its worker stopped");
        answer(worker, &worker->link.outgoing, LVT_PUBLISH_DROPPED);
    }
}

/* ---- deliveries ---- */

static void hand_over(struct sim_worker *worker, const struct sim_message *message, uint64_t tag) {
    struct lvt_delivery *delivery = lvt_delivery_new(512);
    struct sim_handed *handed = sim_alloc(sizeof *handed);
    if (!delivery || lvt_memory_copy_properties(&delivery->arena, &message->properties,
                                                &delivery->properties) != LEVERET_OK)
        abort();
    delivery->queue = worker->routes.queues[message->fact->queue];
    delivery->epoch = worker->link.epoch;
    delivery->tag = tag;
    delivery->redelivered = message->redelivered;
    /* as from the ladder, when it has been there */
    const char *exchange = message->publishing ? "" : "events";
    const char *key = message->publishing ? delivery->queue->name : message->fact->type;
    delivery->exchange = lvt_arena_copy(&delivery->arena, lvt_bytes_of(exchange));
    delivery->routing_key = lvt_arena_copy(&delivery->arena, lvt_bytes_of(key));
    delivery->body = lvt_arena_copy(&delivery->arena, message->body);
    *handed = (struct sim_handed){.next = worker->link.handed,
                                  .tag = tag,
                                  .message = message->number,
                                  .fact = message->fact,
                                  .attempts_made = message->attempts_made};
    worker->link.handed = handed;
    SIM_SAY(worker->sim, "worker %u gets message %llu of fact %u (attempts made %u)", worker->index,
            (unsigned long long)message->number, message->fact->index, message->attempts_made);
    worker->broker_sink.delivered(worker->broker_sink.ctx, delivery);
    sim_worker_wake(worker);
}

/* The tag is the message's, for the broker may have taken it back while this was on its way. */
void sim_link_delivered(struct sim *sim, struct sim_worker *worker, uint64_t number,
                        uint64_t epoch) {
    const struct sim_message *message = sim_message_find(sim, number);
    if (message && worker->link.epoch == epoch && message->worker == worker &&
        message->epoch == epoch && !worker->link.cancelled)
        hand_over(worker, message, message->tag);
}

/* ---- connections ---- */

static void forget_handed(struct sim_link *link) {
    while (link->handed) {
        struct sim_handed *handed = link->handed;
        link->handed = handed->next;
        free(handed);
    }
    link->settled_count = 0;
}

void sim_link_connect(struct sim *sim, struct sim_worker *worker, uint64_t consuming,
                      uint64_t publishing) {
    struct sim_link *link = &worker->link;
    if (sim->broker_down) {
        sim_after_for(worker, 100 + sim_below(sim, 200), sim_link_connect, consuming, publishing);
        return;
    }
    if (consuming && link->epoch == 0) {
        link->epoch = link->broker_epoch = ++link->last_epoch;
        link->last_tag = 0;
        SIM_SAY(sim, "worker %u consumes, epoch %llu", worker->index,
                (unsigned long long)link->epoch);
        sim_broker_dispatch_soon(sim);
    }
    if (publishing && link->publishing == 0) {
        link->publishing = ++link->last_publishing;
        SIM_SAY(sim, "worker %u can publish", worker->index);
        sim_link_flush(worker);
    }
}

static void excuse_unacked(struct sim_worker *worker, uint64_t epoch) {
    struct sim *sim = worker->sim;
    for (const struct sim_message *message = sim->messages; message; message = message->next)
        if (message->state == SIM_MESSAGE_UNACKED && message->worker == worker &&
            message->epoch == epoch)
            sim_fact_excuse(sim, message->fact, "its channel is lost");
}

static void worker_notices(struct sim *sim, struct sim_worker *worker, uint64_t epoch,
                           uint64_t back_ms) {
    if (worker->link.epoch != epoch)
        return;
    SIM_SAY(sim, "worker %u sees that epoch %llu is over", worker->index,
            (unsigned long long)epoch);
    worker->link.epoch = 0;
    forget_handed(&worker->link);
    sim_after_for(worker, back_ms, sim_link_connect, true, false);
}

void sim_link_cut_consuming(struct sim_worker *worker, uint64_t worker_ms, uint64_t broker_ms,
                            uint64_t back_ms) {
    uint64_t epoch = worker->link.epoch;
    if (epoch == 0)
        return;
    SIM_SAY(worker->sim, "fault: worker %u's channel is cut", worker->index);
    excuse_unacked(worker, epoch);
    if (broker_ms == 0)
        sim_broker_notices(worker->sim, worker, epoch, 0);
    else
        sim_after(worker->sim, broker_ms, sim_broker_notices, worker, epoch, 0);
    if (worker_ms == 0)
        worker_notices(worker->sim, worker, epoch, back_ms);
    else
        sim_after_for(worker, worker_ms, worker_notices, epoch, back_ms);
}

static void publishing_lost(struct sim *sim, struct sim_worker *worker, uint64_t publishing,
                            uint64_t back_ms) {
    if (worker->link.publishing != publishing)
        return;
    SIM_SAY(sim, "worker %u cannot publish any more", worker->index);
    worker->link.publishing = 0;
    for (struct sim_outgoing *outgoing = worker->link.outgoing; outgoing;
         outgoing = outgoing->next) {
        excuse(worker, outgoing, "it is published once more");
        outgoing->message = 0;
    }
    sim_after_for(worker, back_ms, sim_link_connect, false, true);
}

void sim_link_cut_publishing(struct sim_worker *worker, uint64_t worker_ms, uint64_t back_ms) {
    uint64_t publishing = worker->link.publishing;
    if (publishing == 0)
        return;
    SIM_SAY(worker->sim, "fault: worker %u's publishing connection is cut", worker->index);
    if (worker_ms == 0) {
        publishing_lost(worker->sim, worker, publishing, back_ms);
        return;
    }
    worker->link.lost_publishing = publishing; /* the broker's end went first */
    sim_after_for(worker, worker_ms, publishing_lost, publishing, back_ms);
}

void sim_link_clear(struct sim_worker *worker) {
    struct sim_link *link = &worker->link;
    if (link->epoch != 0) {
        excuse_unacked(worker, link->epoch);
        sim_after(worker->sim, sim_latency(worker->sim), sim_broker_notices, worker, link->epoch,
                  0);
    }
    while (link->outgoing) {
        struct sim_outgoing *outgoing = link->outgoing;
        link->outgoing = outgoing->next;
        excuse(worker, outgoing, "its worker has gone");
        free(outgoing);
    }
    forget_handed(link);
    link->epoch = link->publishing = 0;
    link->blocked_until_ms = 0;
    link->cancelled = false;
    memset(link->not_consumed, 0, sizeof link->not_consumed);
}
