#include "broker/publisher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/confirms.h"
#include "broker/topology.h"

/* Sent and not yet answered, at most. */
#define IN_FLIGHT_MAX 2048
/* Sent between two looks at what the broker says. */
#define BATCH_MAX 16
#define BATCH_BYTES_MAX 262144
#define IDLE_WAIT_MS 1000

struct lvt_publisher {
    struct lvt_broker *broker;
    struct lvt_publish_list batch; /* the loop's, until it flushes */
    pthread_mutex_t mutex;
    struct lvt_publish_list outbox; /* under the mutex */

    /* the thread's */
    struct lvt_publish_list waiting; /* to be sent, in order */
    struct lvt_publish_list held;    /* for a ladder that is not there yet */
    struct lvt_unconfirmed slots[IN_FLIGHT_MAX];
    struct lvt_confirms confirms;
    /* The broker closed a channel over one of so many at the head of `waiting`: they are sent one
     * at a time, so that it shows which. */
    size_t suspects;
    bool blocked;
    struct lvt_publish_list answered;
    struct lvt_frames frames;
};

static struct lvt_publisher *of(struct lvt_link *link) {
    return link->broker->publisher;
}

/* ---- the loop's side ---- */

void lvt_publisher_publish(struct lvt_broker *broker, struct lvt_publish *publish) {
    lvt_publish_list_add(&broker->publisher->batch, publish);
}

void lvt_publisher_flush(struct lvt_broker *broker) {
    struct lvt_publisher *publisher = broker->publisher;
    if (!publisher->batch.first) {
        return;
    }
    pthread_mutex_lock(&publisher->mutex);
    bool asleep = !publisher->outbox.first; /* else it has been woken for what is there */
    lvt_publish_list_join(&publisher->outbox, &publisher->batch);
    pthread_mutex_unlock(&publisher->mutex);
    if (asleep) {
        lvt_link_wake(&broker->links[LVT_LINK_PUBLISHING]);
    }
}

static struct lvt_publish *take_first(struct lvt_publish_list *list) {
    struct lvt_publish *publish = list->first;
    list->first = publish->next;
    if (!list->first) {
        list->last = NULL;
    }
    return publish;
}

/* ---- answers ---- */

static void answer_held(struct lvt_publisher *publisher, struct lvt_publish *publish,
                        enum lvt_publish_result result, const char *reason) {
    publish->result = result;
    snprintf(publish->reason, sizeof publish->reason, "%.*s", (int)sizeof publish->reason - 1,
             reason);
    lvt_publish_list_add(&publisher->answered, publish);
}

static void answer(struct lvt_publisher *publisher, struct lvt_publish *publish,
                   enum lvt_publish_result result, const char *reason) {
    answer_held(publisher, publish, result, reason);
    if (publisher->suspects > 0) {
        publisher->suspects--;
    }
}

static void on_answer(void *ctx, struct lvt_publish *publish, enum lvt_publish_result result,
                      const char *reason) {
    answer(ctx, publish, result, reason);
}

/* ---- sending ---- */

/* Takes the first of `waiting`. */
static enum leveret_code send_first(struct lvt_publisher *publisher, struct lvt_link *link,
                                    struct leveret_error *err) {
    struct lvt_publish *publish = take_first(&publisher->waiting);
    if (atomic_load(&publish->withdrawn)) {
        answer(publisher, publish, LVT_PUBLISH_DROPPED, "it was withdrawn");
        return LEVERET_OK;
    }
    return lvt_confirms_send(&publisher->confirms, &link->connection, publish, err);
}

static bool may_send(const struct lvt_publisher *publisher) {
    if (!publisher->waiting.first || publisher->blocked) {
        return false;
    }
    return publisher->suspects > 0 ? publisher->confirms.in_flight == 0
                                   : !lvt_confirms_full(&publisher->confirms);
}

static enum leveret_code send_batch(struct lvt_publisher *publisher, struct lvt_link *link,
                                    struct leveret_error *err) {
    enum leveret_code code = LEVERET_OK;
    size_t bytes = 0;
    for (int i = 0; i < BATCH_MAX && bytes < BATCH_BYTES_MAX && code == LEVERET_OK; i++) {
        if (!may_send(publisher)) {
            break;
        }
        bytes += publisher->waiting.first->body.len;
        lvt_connection_enter_to_send(&link->connection, bytes);
        code = send_first(publisher, link, err);
    }
    return code;
}

/* ---- what comes in ---- */

static void set_blocked(struct lvt_publisher *publisher, bool blocked, amqp_bytes_t reason) {
    publisher->blocked = blocked;
    lvt_status_blocked(publisher->broker, blocked);
    if (blocked) {
        lvt_logf(publisher->broker->log, LVT_WARN,
                 "RabbitMQ takes no messages (%.*s): publishes wait; see to its memory and disk",
                 (int)reason.len, (const char *)reason.bytes);
    } else {
        lvt_logf(publisher->broker->log, LVT_INFO, "RabbitMQ takes messages again");
    }
}

/* They would all end the same way, each with a new connection. */
static void refuse_same_exchange(struct lvt_publisher *publisher, struct lvt_bytes exchange,
                                 const char *text) {
    struct lvt_publish_list waiting = publisher->waiting;
    publisher->waiting = (struct lvt_publish_list){0};
    while (waiting.first) {
        struct lvt_publish *publish = take_first(&waiting);
        struct lvt_route route;
        lvt_route_of(publish, &route);
        if (lvt_bytes_equal(route.exchange, exchange)) {
            answer(publisher, publish, LVT_PUBLISH_REFUSED, text);
        } else {
            lvt_publish_list_add(&publisher->waiting, publish);
        }
    }
}

/* Whether it is the exchange that is missing, or closed to this user, and not one message. */
static bool blames_exchange(int code, const char *text) {
    return code == AMQP_NOT_FOUND ||
           (code == AMQP_ACCESS_REFUSED && strstr(text, "access to exchange '"));
}

/* The broker closed the channel, or the connection, over something that was published. */
static enum leveret_code take_close(struct lvt_publisher *publisher, const amqp_method_t *method,
                                    struct leveret_error *err) {
    struct leveret_error said;
    int code = lvt_connection_closed(method, &said);
    if (code == AMQP_CONNECTION_FORCED || publisher->confirms.in_flight == 0) {
        return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ closed the connection: %s",
                            said.text);
    }
    lvt_topology_request(publisher->broker);
    if (publisher->confirms.in_flight > 1) {
        publisher->suspects = publisher->confirms.in_flight;
        return leveret_fail(err, LEVERET_STATE, "%s", said.text);
    }
    struct lvt_publish *publish = lvt_confirms_take_back(&publisher->confirms);
    answer(publisher, publish, LVT_PUBLISH_REFUSED, said.text);
    if (blames_exchange(code, said.text)) {
        struct lvt_route route;
        lvt_route_of(publish, &route);
        refuse_same_exchange(publisher, route.exchange, said.text);
    }
    return leveret_fail(err, LEVERET_STATE, "%s", said.text);
}

static enum leveret_code take_method(struct lvt_publisher *publisher, const amqp_method_t *method,
                                     struct leveret_error *err) {
    switch (method->id) {
    case AMQP_BASIC_ACK_METHOD:
        lvt_confirms_ack(&publisher->confirms, method->decoded);
        return LEVERET_OK;
    case AMQP_BASIC_NACK_METHOD:
        lvt_confirms_nack(&publisher->confirms, method->decoded);
        return LEVERET_OK;
    case AMQP_CONNECTION_BLOCKED_METHOD: {
        const amqp_connection_blocked_t *blocked = method->decoded;
        set_blocked(publisher, true, blocked->reason);
        return LEVERET_OK;
    }
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        set_blocked(publisher, false, amqp_empty_bytes);
        return LEVERET_OK;
    case AMQP_CHANNEL_CLOSE_METHOD:
    case AMQP_CONNECTION_CLOSE_METHOD:
        return take_close(publisher, method, err);
    default:
        return LEVERET_OK;
    }
}

static enum leveret_code receive(struct lvt_publisher *publisher, struct leveret_error *err) {
    for (;;) {
        struct lvt_incoming *incoming;
        enum leveret_code code = lvt_frames_read(&publisher->frames, &incoming, err);
        if (code != LEVERET_OK || !incoming) {
            return code;
        }
        if (incoming->kind == LVT_INCOMING_RETURN) {
            lvt_confirms_return(&publisher->confirms, incoming);
            lvt_topology_request(publisher->broker);
        } else if (incoming->kind == LVT_INCOMING_METHOD) {
            code = take_method(publisher, &incoming->method, err);
        }
        if (code != LEVERET_OK) {
            return code;
        }
    }
}

/* ---- the session ---- */

/* A worker has declared the ladder before it delays anything. */
static bool has_ladder(const struct lvt_publisher *publisher) {
    return !publisher->broker->publish_only || lvt_topology_ready(publisher->broker, 0, 0);
}

static void take_outbox(struct lvt_publisher *publisher) {
    struct lvt_publish_list taken = {0};
    pthread_mutex_lock(&publisher->mutex);
    lvt_publish_list_join(&taken, &publisher->outbox);
    pthread_mutex_unlock(&publisher->mutex);
    if (has_ladder(publisher)) {
        lvt_publish_list_join(&publisher->waiting, &publisher->held);
        lvt_publish_list_join(&publisher->waiting, &taken);
        return;
    }
    while (taken.first) {
        struct lvt_publish *publish = take_first(&taken);
        bool delayed = publish->destination.kind == LVT_TO_DELAY;
        lvt_publish_list_add(delayed ? &publisher->held : &publisher->waiting, publish);
    }
}

/* When there will be no ladder until somebody changes something. */
static void answer_hopeless(struct lvt_publisher *publisher) {
    struct lvt_publish_list held = publisher->held;
    if (!held.first) {
        return;
    }
    const struct leveret_error problem = lvt_status_ladder(publisher->broker);
    publisher->held = (struct lvt_publish_list){0};
    while (held.first) {
        struct lvt_publish *publish = take_first(&held);
        if (atomic_load(&publish->withdrawn)) {
            answer_held(publisher, publish, LVT_PUBLISH_DROPPED, "it was withdrawn");
        } else if (problem.code == LEVERET_CONFIG) {
            answer_held(publisher, publish, LVT_PUBLISH_REFUSED, problem.text);
        } else {
            lvt_publish_list_add(&publisher->held, publish);
        }
    }
}

/* What was in flight goes to the head of what waits, in its order. */
static void take_back(struct lvt_publisher *publisher) {
    struct lvt_publish_list list = {0};
    struct lvt_publish *publish;
    while ((publish = lvt_confirms_take_back(&publisher->confirms))) {
        lvt_publish_list_add(&list, publish);
    }
    lvt_publish_list_join(&list, &publisher->waiting);
    publisher->waiting = list;
}

static uint64_t no_deliveries(void *ctx, unsigned consumer) {
    (void)ctx;
    (void)consumer;
    return 0;
}

static bool all_withdrawn(const struct lvt_publish_list *list) {
    for (struct lvt_publish *publish = list->first; publish; publish = publish->next) {
        if (!atomic_load(&publish->withdrawn)) {
            return false;
        }
    }
    return true;
}

/* Whether a stop has nothing to wait for: what was withdrawn is nobody's concern. */
static bool idle(struct lvt_link *link) {
    struct lvt_publisher *publisher = of(link);
    take_outbox(publisher);
    return all_withdrawn(&publisher->waiting) && all_withdrawn(&publisher->held) &&
           !lvt_confirms_wanted(&publisher->confirms);
}

static enum leveret_code work(struct lvt_publisher *publisher, struct lvt_link *link,
                              struct leveret_error *err) {
    while (!lvt_link_must_end(link)) {
        take_outbox(publisher);
        answer_hopeless(publisher);
        lvt_connection_enter(&link->connection);
        /* Reading first: a send after a long silence would wait for ever. */
        enum leveret_code code = receive(publisher, err);
        if (code == LEVERET_OK) {
            code = send_batch(publisher, link, err);
        }
        lvt_connection_leave(&link->connection);
        lvt_inbox_answer(&publisher->broker->inbox, &publisher->answered);
        if (code != LEVERET_OK) {
            return code;
        }
        if (!may_send(publisher) && !lvt_link_must_end(link)) {
            bool stopping = atomic_load(&link->stop);
            lvt_link_wait(link, stopping ? IDLE_WAIT_MS / 20 : IDLE_WAIT_MS);
        }
    }
    return LEVERET_OK;
}

static enum leveret_code session(struct lvt_link *link, struct leveret_error *err) {
    struct lvt_publisher *publisher = of(link);
    lvt_connection_enter(&link->connection);
    amqp_confirm_select(link->connection.amqp, LVT_CHANNEL);
    lvt_connection_leave(&link->connection);
    enum leveret_code code = lvt_connection_check(
        &link->connection, amqp_get_rpc_reply(link->connection.amqp), NULL, err);
    if (code != LEVERET_OK) {
        return code;
    }
    lvt_frames_init(&publisher->frames, &link->connection, no_deliveries, NULL);
    publisher->blocked = false;
    lvt_confirms_reset(&publisher->confirms);
    code = work(publisher, link, err);
    lvt_frames_free(&publisher->frames);
    take_back(publisher);
    return code;
}

static void finished(struct lvt_link *link) {
    struct lvt_publisher *publisher = of(link);
    take_outbox(publisher);
    lvt_publish_list_join(&publisher->waiting, &publisher->held);
    while (publisher->waiting.first) {
        answer(publisher, take_first(&publisher->waiting), LVT_PUBLISH_DROPPED,
               "leveret is stopping");
    }
    lvt_inbox_answer(&publisher->broker->inbox, &publisher->answered);
}

/* ---- life ---- */

enum leveret_code lvt_publisher_new(struct lvt_broker *broker, struct lvt_publisher **ret,
                                    struct leveret_error *err) {
    struct lvt_publisher *publisher = calloc(1, sizeof *publisher);
    if (!publisher) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    publisher->broker = broker;
    publisher->confirms = (struct lvt_confirms){
        .slots = publisher->slots, .size = IN_FLIGHT_MAX, .answer = on_answer, .ctx = publisher};
    pthread_mutex_init(&publisher->mutex, NULL);
    *ret = publisher;
    return LEVERET_OK;
}

void lvt_publisher_free(struct lvt_publisher *publisher) {
    if (publisher) {
        pthread_mutex_destroy(&publisher->mutex);
        free(publisher);
    }
}

const struct lvt_link_work lvt_publisher_work = {
    .session = session, .idle = idle, .finished = finished};
