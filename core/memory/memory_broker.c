#include "memory/memory_broker.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/container.h"
#include "memory/memory_queue.h"

/* A tag: a number that is never used again, and its slot. */
#define SLOT_BITS 24
#define SLOT_OF(tag) ((size_t)((tag) & ((1u << SLOT_BITS) - 1)))

struct lvt_memory_broker {
    struct lvt_memory_broker_options options;
    struct lvt_memory_queue **queues; /* as the routes have them */
    size_t queue_count;
    struct lvt_message_list delayed, unacked, dead;
    struct lvt_message **slots; /* of the unacked */
    size_t *free_slots;
    size_t slot_count, free_count;
    size_t settled_count; /* of the unacked: acked or requeued, and not flushed */
    uint64_t sequence;    /* of the last tag */
    uint64_t epoch;
    bool connected;
    struct lvt_publish *answers, **answers_last; /* routed, and to be answered */
    struct lvt_publish *waiting, **waiting_last; /* asked for while disconnected */
    size_t message_count, byte_count;            /* all but dead letters */
    size_t dead_bytes;
    uint64_t dead_total;
    enum lvt_publish_result failure;
    unsigned failures_left;
    uint64_t stale_acks, unknown_acks;
};

enum leveret_code lvt_memory_broker_new(const struct lvt_memory_broker_options *options,
                                        struct lvt_memory_broker **ret_broker,
                                        struct leveret_error *err) {
    struct lvt_memory_broker *broker = calloc(1, sizeof *broker);
    if (!broker)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the embedded broker");
    broker->options = *options;
    broker->answers_last = &broker->answers;
    broker->waiting_last = &broker->waiting;
    broker->epoch = 1;
    broker->connected = true;
    enum leveret_code code = lvt_memory_broker_update(broker, err);
    if (code == LEVERET_OK)
        *ret_broker = broker;
    else
        lvt_memory_broker_free(broker);
    return code;
}

static bool add_queue(struct lvt_memory_broker *broker, struct lvt_queue *route) {
    void **grown = realloc(broker->queues, (broker->queue_count + 1) * sizeof *grown);
    struct lvt_memory_queue *queue = malloc(sizeof *queue);
    if (grown)
        broker->queues = (struct lvt_memory_queue **)grown;
    if (!grown || !queue || !lvt_memory_queue_init(queue, route)) {
        free(queue);
        return false;
    }
    broker->queues[broker->queue_count++] = queue;
    return true;
}

/* A slot for each delivery that may be out, and for those that were before a window shrank. */
static bool make_slots(struct lvt_memory_broker *broker, size_t slot_count) {
    void **slots = realloc(broker->slots, (slot_count + 1) * sizeof *slots);
    if (slots)
        broker->slots = (struct lvt_message **)slots;
    size_t *free_slots = realloc(broker->free_slots, (slot_count + 1) * sizeof *free_slots);
    if (free_slots)
        broker->free_slots = free_slots;
    if (!slots || !free_slots)
        return false;
    for (; broker->slot_count < slot_count; broker->slot_count++) {
        broker->slots[broker->slot_count] = NULL;
        broker->free_slots[broker->free_count++] = broker->slot_count;
    }
    return true;
}

enum leveret_code lvt_memory_broker_update(struct lvt_memory_broker *broker,
                                           struct leveret_error *err) {
    const struct lvt_routes *routes = broker->options.routes;
    size_t slot_count = broker->unacked.count;
    bool made = true;
    while (made && broker->queue_count < routes->queue_count)
        made = add_queue(broker, routes->queues[broker->queue_count]);
    for (size_t i = 0; i < routes->queue_count; i++)
        slot_count += routes->queues[i]->prefetch;
    if (slot_count < broker->slot_count)
        slot_count = broker->slot_count;
    if (!made || !make_slots(broker, slot_count))
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the embedded broker");
    return LEVERET_OK;
}

void lvt_memory_broker_free(struct lvt_memory_broker *broker) {
    if (!broker)
        return;
    for (struct lvt_message *message = broker->delayed.first; message; message = message->next)
        lvt_timer_stop(broker->options.clock.timers, &message->timer);
    lvt_message_list_free(&broker->delayed);
    lvt_message_list_free(&broker->unacked);
    lvt_message_list_free(&broker->dead);
    for (size_t i = 0; i < broker->queue_count; i++) {
        lvt_memory_queue_free(broker->queues[i]);
        free(broker->queues[i]);
    }
    free(broker->queues);
    free(broker->slots);
    free(broker->free_slots);
    free(broker);
}

/* ---- routing ---- */

static struct lvt_memory_queue *find_queue(struct lvt_memory_broker *broker,
                                           struct lvt_bytes name) {
    for (size_t i = 0; i < broker->queue_count; i++)
        if (lvt_bytes_is(name, broker->queues[i]->route->name))
            return broker->queues[i];
    return NULL;
}

static bool is_dead_letter_queue(const struct lvt_memory_broker *broker, struct lvt_bytes name) {
    for (size_t i = 0; i < broker->queue_count; i++)
        if (lvt_bytes_is(name, broker->queues[i]->route->dead_letter))
            return true;
    return false;
}

static void count(struct lvt_memory_broker *broker, const struct lvt_message *message) {
    broker->message_count++;
    broker->byte_count += lvt_message_size(message);
}

static void remove_message(struct lvt_memory_broker *broker, struct lvt_message *message) {
    broker->message_count--;
    broker->byte_count -= lvt_message_size(message);
    lvt_message_free(message);
}

/* To every queue that binds it, or to none when memory runs out half-way. */
static bool route_to_bound(struct lvt_memory_broker *broker, struct lvt_memory_message *like,
                           size_t *ret_queues) {
    struct lvt_message_list copies = {0};
    for (size_t i = 0; i < broker->queue_count; i++) {
        struct lvt_memory_queue *queue = broker->queues[i];
        if (!lvt_memory_queue_binds(queue, like->exchange, like->routing_key))
            continue;
        like->queue = lvt_bytes_of(queue->route->name);
        struct lvt_message *copy = lvt_message_new(like);
        if (!copy) {
            lvt_message_list_free(&copies);
            return false;
        }
        copy->queue = queue;
        lvt_message_append(&copies, copy);
    }
    *ret_queues = copies.count;
    while (copies.first) {
        struct lvt_message *copy = copies.first;
        lvt_message_unlink(&copies, copy);
        count(broker, copy);
        lvt_memory_queue_put(copy->queue, copy, false);
    }
    return true;
}

enum leveret_code lvt_memory_broker_publish(struct lvt_memory_broker *broker,
                                            struct lvt_bytes exchange, struct lvt_bytes routing_key,
                                            const struct lvt_properties *properties,
                                            struct lvt_bytes body, size_t *ret_queues) {
    struct lvt_memory_message like = {
        .exchange = exchange, .routing_key = routing_key, .properties = *properties, .body = body};
    if (broker->message_count >= LVT_MEMORY_MESSAGES_MAX ||
        broker->byte_count >= LVT_MEMORY_BYTES_MAX)
        return LEVERET_TOO_BIG;
    return route_to_bound(broker, &like, ret_queues) ? LEVERET_OK : LEVERET_NO_MEMORY;
}

static void add_dead_letter(struct lvt_memory_broker *broker, struct lvt_message *message) {
    lvt_message_append(&broker->dead, message);
    broker->dead_total++;
    broker->dead_bytes += lvt_message_size(message);
    while (broker->dead.count > LVT_MEMORY_DEAD_MAX ||
           (broker->dead_bytes > LVT_MEMORY_DEAD_BYTES_MAX && broker->dead.count > 1)) {
        struct lvt_message *oldest = broker->dead.first;
        lvt_message_unlink(&broker->dead, oldest);
        broker->dead_bytes -= lvt_message_size(oldest);
        lvt_message_free(oldest);
    }
}

static void delay_over(struct lvt_timer *timer) {
    struct lvt_message *message = LVT_CONTAINER_OF(timer, struct lvt_message, timer);
    lvt_message_unlink(&message->broker->delayed, message);
    lvt_memory_queue_put(message->queue, message, false);
}

static bool delay(struct lvt_memory_broker *broker, struct lvt_message *message,
                  uint64_t delay_ms) {
    struct lvt_clock *clock = &broker->options.clock;
    message->timer.fire = delay_over;
    if (!lvt_timer_start(clock->timers, &message->timer, clock->now_ms(clock->self) + delay_ms))
        return false;
    lvt_message_append(&broker->delayed, message);
    return true;
}

/* ---- the engine's publishes ---- */

static void answer(struct lvt_publish *publish, enum lvt_publish_result result,
                   const char *reason) {
    publish->result = result;
    snprintf(publish->reason, sizeof publish->reason, "%s", reason);
}

static void send_to_exchange(struct lvt_memory_broker *broker, struct lvt_publish *publish,
                             struct lvt_memory_message *like) {
    size_t queues;
    like->exchange = publish->destination.name;
    like->routing_key = publish->destination.routing_key;
    if (!route_to_bound(broker, like, &queues))
        answer(publish, LVT_PUBLISH_REFUSED, "out of memory");
    else if (queues == 0)
        answer(publish, LVT_PUBLISH_RETURNED, "no queue is bound with this routing key");
    else
        answer(publish, LVT_PUBLISH_CONFIRMED, "");
}

static void send_to_queue(struct lvt_memory_broker *broker, struct lvt_publish *publish,
                          struct lvt_memory_message *like) {
    const struct lvt_destination *destination = &publish->destination;
    struct lvt_memory_queue *queue = find_queue(broker, destination->name);
    if (!queue &&
        (destination->kind == LVT_TO_DELAY || !is_dead_letter_queue(broker, destination->name))) {
        answer(publish, LVT_PUBLISH_RETURNED, "there is no such queue");
        return;
    }
    like->queue = like->routing_key = destination->name;
    like->exchange = lvt_bytes("", 0);
    struct lvt_message *message = lvt_message_new(like);
    if (!message) {
        answer(publish, LVT_PUBLISH_REFUSED, "out of memory");
        return;
    }
    answer(publish, LVT_PUBLISH_CONFIRMED, "");
    message->broker = broker;
    message->queue = queue;
    if (!queue) {
        add_dead_letter(broker, message);
    } else if (destination->kind == LVT_TO_QUEUE) {
        count(broker, message);
        lvt_memory_queue_put(queue, message, false);
    } else if (delay(broker, message, destination->delay_ms)) {
        count(broker, message);
    } else {
        lvt_message_free(message);
        answer(publish, LVT_PUBLISH_REFUSED, "out of memory");
    }
}

/* Through the connection, whose answer comes with the next poll. */
static void send(struct lvt_memory_broker *broker, struct lvt_publish *publish) {
    struct lvt_memory_message like = {.properties = publish->properties, .body = publish->body};
    if (broker->failures_left > 0) {
        broker->failures_left--;
        answer(publish, broker->failure, "a failure that was asked for");
    } else if (publish->destination.kind == LVT_TO_EXCHANGE) {
        send_to_exchange(broker, publish, &like);
    } else {
        send_to_queue(broker, publish, &like);
    }
    publish->next = NULL;
    *broker->answers_last = publish;
    broker->answers_last = &publish->next;
}

static void port_publish(void *self, struct lvt_publish *publish) {
    struct lvt_memory_broker *broker = self;
    if (broker->connected) {
        send(broker, publish);
        return;
    }
    publish->next = NULL;
    *broker->waiting_last = publish;
    broker->waiting_last = &publish->next;
}

/* ---- deliveries ---- */

static bool port_live(void *self, const struct lvt_delivery *delivery) {
    struct lvt_memory_broker *broker = self;
    return broker->connected && delivery->epoch == broker->epoch;
}

/* The message that is to be settled; NULL, and counted, when it cannot be. */
static struct lvt_message *to_settle(struct lvt_memory_broker *broker,
                                     const struct lvt_delivery *delivery) {
    if (!port_live(broker, delivery)) {
        broker->stale_acks++;
        return NULL;
    }
    struct lvt_message *message = broker->slots[SLOT_OF(delivery->tag)];
    if (!message || message->tag != delivery->tag || message->acked || message->requeued) {
        broker->unknown_acks++;
        return NULL;
    }
    broker->settled_count++;
    return message;
}

static void port_ack(void *self, const struct lvt_delivery *delivery) {
    struct lvt_message *message = to_settle(self, delivery);
    if (message)
        message->acked = true;
}

static void port_requeue(void *self, const struct lvt_delivery *delivery) {
    struct lvt_message *message = to_settle(self, delivery);
    if (message)
        message->requeued = true;
}

static void take_back(struct lvt_memory_broker *broker, struct lvt_message *message) {
    size_t slot = SLOT_OF(message->tag);
    lvt_message_unlink(&broker->unacked, message);
    message->queue->unacked--;
    broker->slots[slot] = NULL;
    broker->free_slots[broker->free_count++] = slot;
}

static void give_back(struct lvt_memory_broker *broker, struct lvt_message *message) {
    take_back(broker, message);
    message->redelivered = true;
    lvt_memory_queue_put(message->queue, message, true);
}

/* Backwards: what is given back comes to stand in its queue as it was. */
static void port_flush(void *self) {
    struct lvt_memory_broker *broker = self;
    struct lvt_message *prev;
    for (struct lvt_message *message = broker->unacked.last; message && broker->settled_count > 0;
         message = prev) {
        prev = message->prev;
        if (!message->acked && !message->requeued)
            continue;
        broker->settled_count--;
        if (message->requeued) {
            give_back(broker, message);
            continue;
        }
        take_back(broker, message);
        remove_message(broker, message);
    }
}

struct lvt_broker_port lvt_memory_broker_port(struct lvt_memory_broker *broker) {
    return (struct lvt_broker_port){.self = broker,
                                    .ack = port_ack,
                                    .requeue = port_requeue,
                                    .publish = port_publish,
                                    .flush = port_flush,
                                    .live = port_live};
}

/* NULL when out of memory or slots: the message stays where it is. */
static struct lvt_delivery *hand_out(struct lvt_memory_broker *broker,
                                     struct lvt_memory_queue *queue, struct lvt_message *message) {
    struct lvt_delivery *delivery = broker->free_count > 0 ? lvt_message_deliver(message) : NULL;
    if (!delivery)
        return NULL;
    size_t slot = broker->free_slots[--broker->free_count];
    message->tag = ++broker->sequence << SLOT_BITS | slot;
    message->acked = message->requeued = false;
    delivery->epoch = broker->epoch;
    delivery->tag = message->tag;
    lvt_memory_queue_take(queue, message);
    lvt_message_append(&broker->unacked, message);
    broker->slots[slot] = message;
    queue->unacked++;
    return delivery;
}

static struct lvt_delivery *hand_out_all(struct lvt_memory_broker *broker) {
    struct lvt_delivery *first = NULL, **last = &first;
    for (size_t i = 0; i < broker->queue_count; i++) {
        struct lvt_message *message;
        while ((message = lvt_memory_queue_next(broker->queues[i]))) {
            struct lvt_delivery *delivery = hand_out(broker, broker->queues[i], message);
            if (!delivery)
                return first;
            *last = delivery;
            last = &delivery->next;
        }
    }
    return first;
}

void lvt_memory_broker_poll(struct lvt_memory_broker *broker) {
    const struct lvt_broker_sink *sink = &broker->options.sink;
    if (!broker->connected)
        return;
    struct lvt_publish *answers = broker->answers;
    broker->answers = NULL;
    broker->answers_last = &broker->answers;
    if (answers)
        sink->published(sink->ctx, answers);
    struct lvt_delivery *deliveries = hand_out_all(broker);
    if (deliveries)
        sink->delivered(sink->ctx, deliveries);
}

bool lvt_memory_broker_pending(const struct lvt_memory_broker *broker) {
    if (!broker->connected)
        return false;
    bool pending = broker->answers != NULL;
    for (size_t i = 0; i < broker->queue_count && !pending; i++)
        pending = lvt_memory_queue_next(broker->queues[i]) != NULL;
    return pending;
}

bool lvt_memory_broker_idle(const struct lvt_memory_broker *broker) {
    return broker->message_count == 0 && !broker->answers && !broker->waiting;
}

size_t lvt_memory_broker_count(const struct lvt_memory_broker *broker) {
    return broker->message_count;
}

/* ---- dead letters ---- */

uint64_t lvt_memory_broker_dead_count(const struct lvt_memory_broker *broker) {
    return broker->dead_total;
}

const struct lvt_memory_message *
lvt_memory_broker_dead_next(const struct lvt_memory_broker *broker,
                            const struct lvt_memory_message *after) {
    const struct lvt_message *next = broker->dead.first;
    if (after)
        next = LVT_CONTAINER_OF(after, struct lvt_message, view)->next;
    return next ? &next->view : NULL;
}

/* ---- faults ---- */

void lvt_memory_broker_disconnect(struct lvt_memory_broker *broker) {
    if (!broker->connected)
        return;
    broker->connected = false;
    broker->settled_count = 0; /* what was not flushed is lost with the connection */
    while (broker->unacked.last)
        give_back(broker, broker->unacked.last);
    /* Their answers are lost, not what they did: sent again, they arrive twice. */
    broker->waiting = broker->answers;
    broker->waiting_last = broker->answers ? broker->answers_last : &broker->waiting;
    broker->answers = NULL;
    broker->answers_last = &broker->answers;
}

void lvt_memory_broker_reconnect(struct lvt_memory_broker *broker) {
    if (broker->connected)
        return;
    struct lvt_publish *publish = broker->waiting;
    broker->waiting = NULL;
    broker->waiting_last = &broker->waiting;
    broker->connected = true;
    broker->epoch++;
    while (publish) {
        struct lvt_publish *next = publish->next;
        send(broker, publish);
        publish = next;
    }
}

void lvt_memory_broker_fail_publishes(struct lvt_memory_broker *broker,
                                      enum lvt_publish_result result, unsigned times) {
    broker->failure = result;
    broker->failures_left = times;
}

void lvt_memory_broker_status(const struct lvt_memory_broker *broker,
                              struct lvt_memory_broker_status *ret_status) {
    *ret_status = (struct lvt_memory_broker_status){
        .delayed = broker->delayed.count,
        .unacked = broker->unacked.count,
        .stale_acks = broker->stale_acks,
        .unknown_acks = broker->unknown_acks,
    };
    for (size_t i = 0; i < broker->queue_count; i++)
        ret_status->ready += broker->queues[i]->ready_count;
}
