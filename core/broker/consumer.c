#include "broker/consumer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "broker/ack_outbox.h"
#include "broker/ack_window.h"
#include "broker/frames.h"
#include "broker/oversize.h"
#include "broker/topology.h"

/* Deliveries that are handed to the loop at once, at most: more would make it wait for the last. */
#define BATCH_MAX 128
#define IDLE_WAIT_MS 1000
/* How long the broker may take to hear of the last acks. */
#define LAST_ACKS_MS 1500
#define LAST_LOOK_MS 50

enum subscription {
    IDLE,      /* waits for the topology, or for its time */
    STARTING,  /* asked for */
    CONSUMING, /* live */
};

/* What the thread knows of one queue. */
struct consuming {
    const char *name;        /* the queue's state's */
    struct lvt_queue *route; /* the same */
    uint32_t prefetch;       /* as it is wanted; 0: it is not */
    enum subscription state;
    uint32_t window; /* the prefetch that it was asked for with */
    unsigned serial; /* of its consumer's tag */
    uint64_t ticket; /* the topology must have been looked at since */
    uint64_t not_before_ms;
    unsigned cancels; /* by the broker, in a row */
    bool refused;     /* so that it waits, whatever the connection does */
};

struct lvt_consumer {
    struct lvt_broker *broker;
    atomic_uint_fast64_t epoch; /* of the channel that is open; 0: none is */

    struct lvt_ack_outbox acks;
    atomic_bool cancelled;

    /* the thread's */
    uint64_t last_epoch;
    bool acked;            /* anything, in this session */
    unsigned changes_seen; /* of the broker's queues */
    struct consuming *queues;
    size_t queue_count;
    struct lvt_ack_window window;
    struct lvt_frames frames;
    struct lvt_oversize oversize;
    struct lvt_delivery_list received;
};

static struct lvt_consumer *of(struct lvt_link *link) {
    return link->broker->consumer;
}

enum leveret_code lvt_consumer_new(struct lvt_broker *broker, struct lvt_consumer **ret,
                                   struct leveret_error *err) {
    struct lvt_consumer *consumer = calloc(1, sizeof *consumer);
    if (!consumer) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    consumer->broker = broker;
    lvt_ack_outbox_init(&consumer->acks);
    *ret = consumer;
    return LEVERET_OK;
}

void lvt_consumer_free(struct lvt_consumer *consumer) {
    if (!consumer) {
        return;
    }
    free(consumer->queues);
    lvt_ack_outbox_free(&consumer->acks);
    free(consumer);
}

/* ---- the loop's side ---- */

bool lvt_consumer_live(struct lvt_broker *broker, const struct lvt_delivery *delivery) {
    return delivery->epoch == atomic_load(&broker->consumer->epoch);
}

static void settle_later(struct lvt_broker *broker, const struct lvt_delivery *delivery,
                         bool requeue) {
    if (lvt_consumer_live(broker, delivery)) {
        lvt_ack_outbox_add(
            &broker->consumer->acks,
            (struct lvt_ack){.epoch = delivery->epoch, .tag = delivery->tag, .requeue = requeue});
    }
}

void lvt_consumer_ack(struct lvt_broker *broker, const struct lvt_delivery *delivery) {
    settle_later(broker, delivery, false);
}

void lvt_consumer_requeue(struct lvt_broker *broker, const struct lvt_delivery *delivery) {
    settle_later(broker, delivery, true);
}

void lvt_consumer_flush(struct lvt_broker *broker) {
    if (lvt_ack_outbox_flush(&broker->consumer->acks)) {
        lvt_link_wake(&broker->links[LVT_LINK_CONSUMING]);
    }
}

void lvt_consumer_cancel(struct lvt_broker *broker) {
    atomic_store(&broker->consumer->cancelled, true);
    lvt_link_wake(&broker->links[LVT_LINK_CONSUMING]);
}

/* ---- the thread's side: acks ---- */

static int send_ack(void *ctx, uint64_t tag, bool multiple) {
    struct lvt_connection *connection = ctx;
    return amqp_basic_ack(connection->amqp, LVT_CHANNEL, tag, multiple);
}

/* Those that found no room come again. */
static int call_waiting(struct lvt_consumer *consumer, struct lvt_link *link) {
    struct lvt_oversize *oversize = &consumer->oversize;
    int status = 0;
    for (size_t i = 0; i < oversize->waiting_count && status >= 0; i++) {
        if (lvt_ack_window_drop(&consumer->window, oversize->waiting[i])) {
            status = amqp_basic_nack(link->connection.amqp, LVT_CHANNEL, oversize->waiting[i],
                                     false, true);
        }
    }
    oversize->waiting_count = 0;
    return status;
}

static enum leveret_code settle(struct lvt_consumer *consumer, struct lvt_link *link, bool all,
                                struct leveret_error *err) {
    const struct lvt_ack_list *taken;
    bool lost = !lvt_ack_outbox_take(&consumer->acks, &taken);
    uint64_t now_ms = lvt_now_ms();
    int status = 0;
    bool room = false;
    for (size_t i = 0; i < taken->count && status >= 0; i++) {
        const struct lvt_ack *item = &taken->items[i];
        if (item->epoch != consumer->last_epoch) {
            continue;
        }
        consumer->acked = true;
        room |= lvt_oversize_release(&consumer->oversize, item->tag);
        if (!item->requeue) {
            lvt_ack_window_finish(&consumer->window, item->tag, now_ms);
        } else if (lvt_ack_window_drop(&consumer->window, item->tag)) {
            status = amqp_basic_nack(link->connection.amqp, LVT_CHANNEL, item->tag, false, true);
        }
    }
    if (room && status >= 0) {
        status = call_waiting(consumer, link);
    }
    if (status < 0) {
        return lvt_connection_lost(status, err);
    }
    status = lvt_ack_window_flush(&consumer->window, now_ms, all, send_ack, &link->connection);
    if (status < 0) {
        return lvt_connection_lost(status, err);
    }
    if (lost) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for acks");
    }
    return LEVERET_OK;
}

/* ---- subscriptions ---- */

static void set_consuming(struct lvt_consumer *consumer, size_t queue, bool consuming) {
    pthread_mutex_lock(&consumer->broker->status.mutex);
    consumer->broker->queues.items[queue]->consuming = consuming;
    pthread_mutex_unlock(&consumer->broker->status.mutex);
}

/* Looks at what is wanted now. */
static enum leveret_code refresh(struct lvt_consumer *consumer, struct leveret_error *err) {
    struct lvt_broker *broker = consumer->broker;
    unsigned changes = atomic_load(&broker->queues.changes);
    if (consumer->changes_seen == changes) {
        return LEVERET_OK;
    }
    pthread_mutex_lock(&broker->status.mutex);
    size_t count = broker->queues.count;
    struct consuming *queues = realloc(consumer->queues, (count + 1) * sizeof *queues);
    bool made = queues != NULL;
    consumer->queues = made ? queues : consumer->queues;
    for (size_t i = 0; i < count && made; i++) {
        const struct lvt_queue_state *state = broker->queues.items[i];
        if (i >= consumer->queue_count) {
            queues[i] = (struct consuming){.name = state->name};
            consumer->queue_count++;
        }
        queues[i].route = state->route;
        queues[i].prefetch = state->wanted ? state->wanted->queue.prefetch : 0;
        made = lvt_ack_window_queue(&consumer->window, i,
                                    queues[i].prefetch ? queues[i].prefetch : queues[i].window);
    }
    pthread_mutex_unlock(&broker->status.mutex);
    if (!made) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for queues");
    }
    consumer->changes_seen = changes;
    return LEVERET_OK;
}

/* Starts with the queue's number, which is how deliveries name it. */
static amqp_bytes_t consumer_tag(const struct lvt_consumer *consumer, size_t queue,
                                 char buffer[LVT_SHORT_MAX + 1]) {
    snprintf(buffer, LVT_SHORT_MAX + 1, "%zu.%u.%s", queue, consumer->queues[queue].serial,
             consumer->broker->name);
    return amqp_cstring_bytes(buffer);
}

/* The queue whose consumer has this tag now; queue_count when none has. */
static size_t find_consumer(const struct lvt_consumer *consumer, amqp_bytes_t tag) {
    char buffer[LVT_SHORT_MAX + 1];
    size_t queue = lvt_frames_consumer(tag);
    if (queue < consumer->queue_count &&
        lvt_bytes_equal(lvt_from_amqp(consumer_tag(consumer, queue, buffer)), lvt_from_amqp(tag))) {
        return queue;
    }
    return consumer->queue_count;
}

/* The answers come as any other frame, so nothing waits for them here. */
static int send_consume(struct lvt_consumer *consumer, struct lvt_link *link, size_t queue) {
    char tag[LVT_SHORT_MAX + 1];
    uint32_t window = consumer->queues[queue].window;
    amqp_basic_qos_t qos = {.prefetch_count = window < UINT16_MAX ? (uint16_t)window : UINT16_MAX};
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(consumer->queues[queue].name),
                                    .consumer_tag = consumer_tag(consumer, queue, tag)};
    amqp_connection_state_t amqp = link->connection.amqp;
    int status = amqp_send_method(amqp, LVT_CHANNEL, AMQP_BASIC_QOS_METHOD, &qos);
    return status < 0 ? status
                      : amqp_send_method(amqp, LVT_CHANNEL, AMQP_BASIC_CONSUME_METHOD, &consume);
}

static int send_cancel(struct lvt_consumer *consumer, struct lvt_link *link, size_t queue) {
    char tag[LVT_SHORT_MAX + 1];
    amqp_basic_cancel_t cancel = {.consumer_tag = consumer_tag(consumer, queue, tag), .nowait = 1};
    return amqp_send_method(link->connection.amqp, LVT_CHANNEL, AMQP_BASIC_CANCEL_METHOD, &cancel);
}

/* Another prefetch needs another consumer: what the old one has in hand stays on the channel. */
static enum leveret_code subscribe(struct lvt_consumer *consumer, struct lvt_link *link,
                                   struct leveret_error *err) {
    enum leveret_code code = refresh(consumer, err);
    bool cancelled = atomic_load(&consumer->cancelled);
    uint64_t now_ms = lvt_now_ms();
    int status = 0;
    for (size_t i = 0; i < consumer->queue_count && code == LEVERET_OK && status >= 0; i++) {
        struct consuming *queue = &consumer->queues[i];
        uint32_t wanted = cancelled ? 0 : queue->prefetch;
        if (queue->state != IDLE && wanted != queue->window) {
            status = send_cancel(consumer, link, i);
            queue->state = IDLE;
            queue->serial++;
            set_consuming(consumer, i, false);
        }
        if (status >= 0 && wanted > 0 && queue->state == IDLE && now_ms >= queue->not_before_ms &&
            lvt_topology_ready(consumer->broker, i, queue->ticket)) {
            queue->window = wanted;
            status = send_consume(consumer, link, i);
            queue->state = STARTING;
        }
    }
    return status < 0 ? lvt_connection_lost(status, err) : code;
}

/* ---- what comes in ---- */

static bool can_reject(struct lvt_consumer *consumer, unsigned queue) {
    struct lvt_broker *broker = consumer->broker;
    pthread_mutex_lock(&broker->status.mutex);
    bool can = broker->queues.items[queue]->can_reject;
    pthread_mutex_unlock(&broker->status.mutex);
    return can;
}

/* What cannot be rejected is kept whole, where there is room: the engine dead-letters it. */
static uint64_t body_limit(void *ctx, unsigned queue) {
    struct lvt_consumer *consumer = ctx;
    struct lvt_broker *broker = consumer->broker;
    if (queue >= consumer->queue_count) {
        return 0;
    }
    uint64_t room = can_reject(consumer, queue) ? 0 : lvt_oversize_room(&consumer->oversize);
    return room > broker->max_body_bytes ? room : broker->max_body_bytes;
}

static enum leveret_code unknown_consumer(struct leveret_error *err) {
    return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ delivered to an unknown consumer");
}

static enum leveret_code take_delivery(struct lvt_consumer *consumer, struct lvt_incoming *incoming,
                                       struct leveret_error *err) {
    struct lvt_delivery *delivery = incoming->delivery;
    if (incoming->consumer >= consumer->queue_count) {
        lvt_delivery_free(delivery);
        return unknown_consumer(err);
    }
    if (!lvt_ack_window_add(&consumer->window, incoming->tag, incoming->consumer)) {
        lvt_delivery_free(delivery);
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a delivery");
    }
    if (delivery->body.len > consumer->broker->max_body_bytes) {
        lvt_oversize_keep(&consumer->oversize, incoming->tag, delivery->body.len);
    }
    delivery->queue = consumer->queues[incoming->consumer].route;
    delivery->epoch = consumer->last_epoch;
    lvt_delivery_list_add(&consumer->received, delivery);
    return LEVERET_OK;
}

/* Rejected, it would be gone. Unacked, it goes back when there is room, or with the connection. */
static enum leveret_code leave_unacked(struct lvt_consumer *consumer,
                                       const struct lvt_incoming *incoming,
                                       struct leveret_error *err) {
    bool for_now = incoming->body_size <= LVT_OVERSIZE_BYTES_MAX &&
                   lvt_oversize_wait(&consumer->oversize, incoming->tag);
    struct lvt_field fields[] = {LVT_STRING("queue", consumer->queues[incoming->consumer].name),
                                 LVT_INTEGER("bytes", (int64_t)incoming->body_size),
                                 LVT_STRING("message_id", incoming->message_id.data)};
    lvt_log(consumer->broker->log, for_now ? LVT_DEBUG : LVT_ERROR,
            for_now ? "a message over max_body_bytes waits until others like it are dead-lettered"
                    : "a message is too big to be kept and its queue has no dead-letter queue: it "
                      "stays unacked; take it out of the queue, or give the queue a dead-letter "
                      "exchange",
            fields, sizeof fields / sizeof *fields);
    return lvt_ack_window_add(&consumer->window, incoming->tag, incoming->consumer)
               ? LEVERET_OK
               : leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for a delivery");
}

static enum leveret_code reject(struct lvt_consumer *consumer, struct lvt_link *link,
                                const struct lvt_incoming *incoming, struct leveret_error *err) {
    struct lvt_broker *broker = consumer->broker;
    if (incoming->consumer >= consumer->queue_count) {
        return unknown_consumer(err);
    }
    if (!can_reject(consumer, incoming->consumer)) {
        return leave_unacked(consumer, incoming, err);
    }
    struct lvt_field fields[] = {LVT_STRING("queue", consumer->queues[incoming->consumer].name),
                                 LVT_INTEGER("bytes", (int64_t)incoming->body_size),
                                 LVT_INTEGER("max_body_bytes", (int64_t)broker->max_body_bytes),
                                 LVT_STRING("message_id", incoming->message_id.data)};
    lvt_log(broker->log, LVT_WARN,
            "a message's body is over max_body_bytes: rejected to the dead-letter queue", fields,
            sizeof fields / sizeof *fields);
    int status = amqp_basic_reject(link->connection.amqp, LVT_CHANNEL, incoming->tag, 0);
    return status < 0 ? lvt_connection_lost(status, err) : LEVERET_OK;
}

static void started(struct lvt_consumer *consumer, const amqp_basic_consume_ok_t *ok) {
    size_t queue = find_consumer(consumer, ok->consumer_tag);
    if (queue < consumer->queue_count && consumer->queues[queue].state == STARTING) {
        consumer->queues[queue].state = CONSUMING;
        consumer->queues[queue].cancels = 0;
        consumer->queues[queue].refused = false;
        set_consuming(consumer, queue, true);
    }
}

/* The broker ended the subscription: the queue was deleted, or lost its leader. */
static void cancelled(struct lvt_consumer *consumer, struct lvt_link *link,
                      const amqp_basic_cancel_t *cancel) {
    size_t number = find_consumer(consumer, cancel->consumer_tag);
    if (number >= consumer->queue_count || consumer->queues[number].state == IDLE) {
        return;
    }
    struct consuming *queue = &consumer->queues[number];
    uint64_t delay_ms = lvt_backoff_ms(++queue->cancels, &link->random);
    LVT_LOG(
        consumer->broker->log, LVT_WARN,
        "RabbitMQ ended the consumer (was the queue deleted?): declaring it and consuming again",
        LVT_STRING("queue", queue->name), LVT_INTEGER("after_ms", (int64_t)delay_ms));
    queue->state = IDLE;
    queue->not_before_ms = lvt_now_ms() + delay_ms;
    queue->ticket = lvt_topology_request(consumer->broker);
    set_consuming(consumer, number, false);
}

/* The queue that the broker speaks of, of those that were asked for; where it cuts a long name, the
 * first. NULL when none was. */
static struct consuming *find_refused(struct lvt_consumer *consumer, const char *text) {
    struct consuming *first = NULL;
    for (size_t i = 0; i < consumer->queue_count; i++) {
        char words[LVT_SHORT_MAX + 16];
        struct consuming *queue = &consumer->queues[i];
        if (queue->state != STARTING) {
            continue;
        }
        snprintf(words, sizeof words, "queue '%s' ", queue->name);
        if (strstr(text, words)) {
            return queue;
        }
        first = first ? first : queue;
    }
    return first;
}

/* The channel, which is everybody's, is gone for it: the others come back at once, and this one
 * later. */
static enum leveret_code refused(struct lvt_consumer *consumer, struct lvt_link *link,
                                 struct consuming *queue, const struct leveret_error *said,
                                 struct leveret_error *err) {
    uint64_t delay_ms = lvt_backoff_ms(++queue->cancels, &link->random);
    LVT_LOG(consumer->broker->log, LVT_ERROR,
            "RabbitMQ refuses a consumer; grant the user the read permission",
            LVT_STRING("queue", queue->name), LVT_INTEGER("after_ms", (int64_t)delay_ms),
            LVT_STRING("reason", said->text));
    queue->refused = true;
    queue->not_before_ms = lvt_now_ms() + delay_ms;
    return leveret_fail(err, LEVERET_STATE, "%s", said->text);
}

static enum leveret_code closed(struct lvt_consumer *consumer, struct lvt_link *link,
                                const amqp_method_t *method, struct leveret_error *err) {
    struct leveret_error said;
    int code = lvt_connection_closed(method, &said);
    struct consuming *queue =
        code == AMQP_ACCESS_REFUSED ? find_refused(consumer, said.text) : NULL;
    if (queue) {
        return refused(consumer, link, queue, &said, err);
    }
    if (code == AMQP_NOT_FOUND) {
        uint64_t ticket = lvt_topology_request(consumer->broker);
        for (size_t i = 0; i < consumer->queue_count; i++) {
            consumer->queues[i].ticket = ticket;
        }
    }
    if (code == AMQP_PRECONDITION_FAILED && strstr(said.text, "timeout")) {
        return leveret_fail(err, LEVERET_UNAVAILABLE,
                            "RabbitMQ closed the channel, since a delivery was not acked in time: "
                            "%s; its consumer_timeout must be more than twice the handlers' "
                            "timeout_ms",
                            said.text);
    }
    return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ closed the channel: %s", said.text);
}

static enum leveret_code take_method(struct lvt_consumer *consumer, struct lvt_link *link,
                                     const amqp_method_t *method, struct leveret_error *err) {
    switch (method->id) {
    case AMQP_BASIC_CONSUME_OK_METHOD:
        started(consumer, method->decoded);
        return LEVERET_OK;
    case AMQP_BASIC_CANCEL_METHOD:
        cancelled(consumer, link, method->decoded);
        return LEVERET_OK;
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD:
        return closed(consumer, link, method, err);
    default: /* basic.qos-ok, and what a later broker may add */
        return LEVERET_OK;
    }
}

/* Reads what is there, up to a batch; *ret_more when there may be more. */
static enum leveret_code receive(struct lvt_consumer *consumer, struct lvt_link *link,
                                 bool *ret_more, struct leveret_error *err) {
    for (unsigned i = 0; i < BATCH_MAX; i++) {
        struct lvt_incoming *incoming;
        enum leveret_code code = lvt_frames_read(&consumer->frames, &incoming, err);
        if (code != LEVERET_OK || !incoming) {
            *ret_more = false;
            return code;
        }
        switch (incoming->kind) {
        case LVT_INCOMING_DELIVERY:
            code = take_delivery(consumer, incoming, err);
            break;
        case LVT_INCOMING_DISCARDED:
            code = reject(consumer, link, incoming, err);
            break;
        case LVT_INCOMING_METHOD:
            code = take_method(consumer, link, &incoming->method, err);
            break;
        case LVT_INCOMING_RETURN: /* this channel publishes nothing */
            break;
        }
        if (code != LEVERET_OK) {
            return code;
        }
    }
    *ret_more = true;
    return LEVERET_OK;
}

/* ---- the last acks ---- */

/* A channel holds back acks for a quorum queue that is busy, and forgets them when it is closed. A
 * consumer's beginning waits behind those that it has passed on; once it is answered the channel
 * has heard that they are done, and passes on the rest, behind which the consumer's end waits.
 * Those that consume cannot serve: they were cancelled before the last acks. */

static amqp_bytes_t flush_tag(size_t queue, char buffer[LVT_SHORT_MAX + 1]) {
    snprintf(buffer, LVT_SHORT_MAX + 1, "%zu.last", queue);
    return amqp_cstring_bytes(buffer);
}

static int begin_last(struct lvt_consumer *consumer, amqp_connection_state_t amqp, size_t queue) {
    char tag[LVT_SHORT_MAX + 1];
    amqp_basic_consume_t consume = {.queue = amqp_cstring_bytes(consumer->queues[queue].name),
                                    .consumer_tag = flush_tag(queue, tag)};
    return amqp_send_method(amqp, LVT_CHANNEL, AMQP_BASIC_CONSUME_METHOD, &consume);
}

static int end_last(struct lvt_consumer *consumer, amqp_connection_state_t amqp, size_t queue) {
    char tag[LVT_SHORT_MAX + 1];
    amqp_basic_cancel_t cancel = {.consumer_tag = flush_tag(queue, tag)};
    (void)consumer;
    return amqp_send_method(amqp, LVT_CHANNEL, AMQP_BASIC_CANCEL_METHOD, &cancel);
}

/* Until so many methods of this kind have come. What else comes goes back when the channel closes.
 */
static bool await_answers(struct lvt_consumer *consumer, struct lvt_link *link,
                          amqp_method_number_t method, size_t count, uint64_t due_ms) {
    while (count > 0 && lvt_now_ms() < due_ms) {
        struct lvt_incoming *incoming;
        lvt_connection_enter(&link->connection);
        bool good = lvt_frames_read(&consumer->frames, &incoming, NULL) == LEVERET_OK;
        lvt_connection_leave(&link->connection);
        if (!good) {
            return false;
        }
        if (!incoming) {
            lvt_link_wait(link, LAST_LOOK_MS);
        } else if (incoming->kind == LVT_INCOMING_DELIVERY) {
            lvt_delivery_free(incoming->delivery);
        } else if (incoming->kind == LVT_INCOMING_METHOD) {
            amqp_method_number_t id = incoming->method.id;
            if (id == AMQP_CHANNEL_CLOSE_METHOD || id == AMQP_CONNECTION_CLOSE_METHOD) {
                return false;
            }
            count -= id == method;
        }
    }
    return count == 0;
}

static bool ask_each(struct lvt_consumer *consumer, struct lvt_link *link,
                     int (*ask)(struct lvt_consumer *, amqp_connection_state_t, size_t),
                     amqp_method_number_t answer, uint64_t due_ms) {
    amqp_basic_qos_t qos = {.prefetch_count = 1};
    amqp_connection_state_t amqp = link->connection.amqp;
    size_t asked = 0;
    lvt_connection_enter(&link->connection);
    int status = amqp_send_method(amqp, LVT_CHANNEL, AMQP_BASIC_QOS_METHOD, &qos);
    for (size_t i = 0; i < consumer->queue_count && status >= 0; i++) {
        const struct consuming *queue = &consumer->queues[i];
        if (queue->window > 0 && queue->route && queue->route->type == LVT_QUORUM) {
            status = ask(consumer, amqp, i);
            asked++;
        }
    }
    lvt_connection_leave(&link->connection);
    return status >= 0 && await_answers(consumer, link, answer, asked, due_ms);
}

static void flush_acks(struct lvt_consumer *consumer, struct lvt_link *link) {
    uint64_t due_ms = lvt_now_ms() + LAST_ACKS_MS;
    if (ask_each(consumer, link, begin_last, AMQP_BASIC_CONSUME_OK_METHOD, due_ms)) {
        (void)ask_each(consumer, link, end_last, AMQP_BASIC_CANCEL_OK_METHOD, due_ms);
    }
}

/* ---- the session ---- */

static int wait_ms(struct lvt_consumer *consumer) {
    uint64_t now_ms = lvt_now_ms();
    int wait_ms = IDLE_WAIT_MS;
    int acks_ms = lvt_ack_window_wait_ms(&consumer->window, now_ms);
    if (acks_ms >= 0 && acks_ms < wait_ms) {
        wait_ms = acks_ms;
    }
    for (size_t i = 0; i < consumer->queue_count; i++) {
        uint64_t due_ms = consumer->queues[i].not_before_ms;
        if (consumer->queues[i].state == IDLE && due_ms > now_ms &&
            due_ms - now_ms < (uint64_t)wait_ms) {
            wait_ms = (int)(due_ms - now_ms);
        }
    }
    return wait_ms;
}

static enum leveret_code work(struct lvt_consumer *consumer, struct lvt_link *link,
                              struct leveret_error *err) {
    for (;;) {
        bool more = false;
        bool end = lvt_link_must_end(link);
        lvt_connection_enter(&link->connection);
        enum leveret_code code = receive(consumer, link, &more, err);
        if (code == LEVERET_OK) {
            code = subscribe(consumer, link, err); /* before what is given back */
        }
        if (code == LEVERET_OK) {
            code = settle(consumer, link, end, err);
        }
        lvt_connection_leave(&link->connection);
        lvt_inbox_deliver(&consumer->broker->inbox, &consumer->received);
        if (code != LEVERET_OK || end) {
            if (code == LEVERET_OK && consumer->acked) {
                flush_acks(consumer, link);
            }
            return code;
        }
        if (!more) {
            lvt_link_wait(link, wait_ms(consumer));
        }
    }
}

static enum leveret_code session(struct lvt_link *link, struct leveret_error *err) {
    struct lvt_consumer *consumer = of(link);
    consumer->changes_seen = 0; /* so that the new window hears of all queues */
    lvt_frames_init(&consumer->frames, &link->connection, body_limit, consumer);
    for (size_t i = 0; i < consumer->queue_count; i++) {
        consumer->queues[i].state = IDLE;
        if (!consumer->queues[i].refused) {
            consumer->queues[i].not_before_ms = 0;
        }
    }
    consumer->last_epoch++;
    consumer->acked = false;
    consumer->oversize.bytes = 0;
    consumer->oversize.count = consumer->oversize.waiting_count = 0;
    atomic_store(&consumer->epoch, consumer->last_epoch);
    enum leveret_code code = work(consumer, link, err);
    atomic_store(&consumer->epoch, 0);
    for (size_t i = 0; i < consumer->queue_count; i++) {
        set_consuming(consumer, i, false);
    }
    lvt_delivery_list_free(&consumer->received);
    lvt_frames_free(&consumer->frames);
    lvt_ack_window_free(&consumer->window);
    return code;
}

const struct lvt_link_work lvt_consumer_work = {.session = session};
