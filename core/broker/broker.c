#include "broker/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/consumer.h"
#include "broker/publisher.h"
#include "broker/shared.h"
#include "broker/tls.h"
#include "broker/topology.h"

/* How long a stop waits for confirms, and for the connections to close. */
#define CONFIRMS_MS 3000
#define CLOSE_MS 500

/* ---- making ---- */

static enum leveret_code copy_text(const char *text, char **ret, struct leveret_error *err) {
    *ret = strdup(text ? text : "");
    return *ret ? LEVERET_OK : leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
}

static enum leveret_code copy_options(struct lvt_broker *broker,
                                      const struct lvt_broker_options *options,
                                      struct leveret_error *err) {
    broker->heartbeat_s = options->heartbeat_s;
    broker->max_body_bytes = options->max_body_bytes;
    broker->publish_only = options->publish_only;
    broker->routes = options->routes;
    broker->log = options->log;
    broker->sink = options->sink;
    enum leveret_code code = lvt_amqp_url_parse(options->url, &broker->url, err);
    if (code == LEVERET_OK) {
        code = copy_text(options->exchange, &broker->exchange, err);
    }
    if (code == LEVERET_OK) {
        code = copy_text(options->name, &broker->name, err);
    }
    if (code == LEVERET_OK && options->ca_file) {
        code = copy_text(options->ca_file, &broker->ca_file, err);
    }
    return code;
}

static enum leveret_code make_parts(struct lvt_broker *broker, struct leveret_error *err) {
    static const struct lvt_link_work *const works[LVT_LINK_ROLES] = {
        [LVT_LINK_CONSUMING] = &lvt_consumer_work,
        [LVT_LINK_PUBLISHING] = &lvt_publisher_work,
        [LVT_LINK_TOPOLOGY] = &lvt_topology_work,
    };
    enum leveret_code code = LEVERET_OK;
    for (int role = 0; role < LVT_LINK_ROLES && code == LEVERET_OK; role++) {
        code = lvt_link_init(&broker->links[role], broker, role, works[role], err);
    }
    if (code == LEVERET_OK) {
        code = lvt_consumer_new(broker, &broker->consumer, err);
    }
    if (code == LEVERET_OK) {
        code = lvt_publisher_new(broker, &broker->publisher, err);
    }
    return code == LEVERET_OK ? lvt_topology_new(broker, &broker->topology, err) : code;
}

enum leveret_code lvt_broker_new(const struct lvt_broker_options *options, struct lvt_broker **ret,
                                 struct leveret_error *err) {
    struct lvt_broker *broker = calloc(1, sizeof *broker);
    if (!broker) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    enum leveret_code code = lvt_watchdog_init(&broker->watchdog, err);
    if (code != LEVERET_OK) {
        free(broker);
        return code;
    }
    lvt_tls_begin();
    lvt_status_init(&broker->status);
    lvt_inbox_init(&broker->inbox, options->wake, options->wake_ctx);
    code = copy_options(broker, options, err);
    if (code == LEVERET_OK) {
        code = make_parts(broker, err);
    }
    if (code == LEVERET_OK) {
        code = lvt_broker_update(broker, err);
    }
    if (code != LEVERET_OK) {
        lvt_broker_free(broker);
        return code;
    }
    *ret = broker;
    return LEVERET_OK;
}

void lvt_broker_free(struct lvt_broker *broker) {
    if (!broker) {
        return;
    }
    lvt_consumer_free(broker->consumer);
    lvt_publisher_free(broker->publisher);
    lvt_topology_free(broker->topology);
    for (int role = 0; role < LVT_LINK_ROLES; role++) {
        lvt_link_free(&broker->links[role]);
    }
    lvt_queues_free(&broker->queues);
    lvt_inbox_free(&broker->inbox);
    lvt_status_free(&broker->status);
    lvt_watchdog_free(&broker->watchdog);
    lvt_amqp_url_free(&broker->url);
    free(broker->ca_file);
    free(broker->exchange);
    free(broker->name);
    free(broker);
}

enum leveret_code lvt_broker_start(struct lvt_broker *broker, struct leveret_error *err) {
    enum leveret_code code = lvt_watchdog_start(&broker->watchdog, err);
    for (int role = 0; role < LVT_LINK_ROLES && code == LEVERET_OK; role++) {
        if (role == LVT_LINK_PUBLISHING || !broker->publish_only) {
            code = lvt_link_start(&broker->links[role], err);
        }
    }
    if (code != LEVERET_OK) {
        lvt_broker_stop(broker);
    }
    return code;
}

/* ---- the port ---- */

static void port_ack(void *self, const struct lvt_delivery *delivery) {
    lvt_consumer_ack(self, delivery);
}

static void port_requeue(void *self, const struct lvt_delivery *delivery) {
    lvt_consumer_requeue(self, delivery);
}

/* A program that only publishes declares the ladder no sooner than it needs it: it may not be
 * allowed to. */
static void declare_ladder(struct lvt_broker *broker) {
    struct leveret_error err;
    if (lvt_link_start(&broker->links[LVT_LINK_TOPOLOGY], &err) == LEVERET_OK) {
        broker->declaring = true;
    } else {
        lvt_status_problem(broker, LVT_LINK_TOPOLOGY, &err, 0);
    }
}

static void port_publish(void *self, struct lvt_publish *publish) {
    struct lvt_broker *broker = self;
    if (broker->publish_only && !broker->declaring && publish->destination.kind == LVT_TO_DELAY) {
        declare_ladder(broker);
    }
    lvt_publisher_publish(broker, publish);
}

static void port_flush(void *self) {
    lvt_consumer_flush(self);
    lvt_publisher_flush(self);
}

static bool port_live(void *self, const struct lvt_delivery *delivery) {
    return lvt_consumer_live(self, delivery);
}

struct lvt_broker_port lvt_broker_port(struct lvt_broker *broker) {
    return (struct lvt_broker_port){.self = broker,
                                    .ack = port_ack,
                                    .requeue = port_requeue,
                                    .publish = port_publish,
                                    .flush = port_flush,
                                    .live = port_live};
}

/* ---- running ---- */

enum leveret_code lvt_broker_update(struct lvt_broker *broker, struct leveret_error *err) {
    bool declare = false;
    enum leveret_code code = lvt_queues_update(broker, broker->routes, &declare, err);
    if (declare) {
        (void)lvt_topology_request(broker);
    }
    lvt_link_wake(&broker->links[LVT_LINK_CONSUMING]);
    return code;
}

void lvt_broker_poll(struct lvt_broker *broker) {
    struct lvt_delivery_list received, usable = {0}, stale = {0};
    struct lvt_publish_list answers;
    lvt_inbox_take(&broker->inbox, &received, &answers);
    while (received.first) {
        struct lvt_delivery *delivery = received.first;
        received.first = delivery->next;
        /* One of a channel that is gone comes again. */
        bool use = !broker->cancelled && lvt_consumer_live(broker, delivery);
        lvt_delivery_list_add(use ? &usable : &stale, delivery);
    }
    lvt_delivery_list_free(&stale);
    if (answers.first) {
        broker->sink.published(broker->sink.ctx, answers.first);
    }
    if (usable.first) {
        broker->sink.delivered(broker->sink.ctx, usable.first);
    }
}

void lvt_broker_cancel(struct lvt_broker *broker) {
    broker->cancelled = true;
    lvt_consumer_cancel(broker);
}

void lvt_broker_stop(struct lvt_broker *broker) {
    lvt_broker_cancel(broker);
    port_flush(broker);
    lvt_link_stop(&broker->links[LVT_LINK_TOPOLOGY], CLOSE_MS);
    lvt_link_stop(&broker->links[LVT_LINK_PUBLISHING], CONFIRMS_MS);
    lvt_link_join(&broker->links[LVT_LINK_PUBLISHING]);
    lvt_broker_poll(broker);
    lvt_consumer_flush(broker);
    lvt_link_stop(&broker->links[LVT_LINK_CONSUMING], CLOSE_MS);
    lvt_link_join(&broker->links[LVT_LINK_CONSUMING]);
    lvt_link_join(&broker->links[LVT_LINK_TOPOLOGY]);
    lvt_watchdog_stop(&broker->watchdog);
}

void lvt_broker_status(struct lvt_broker *broker, struct lvt_broker_status *ret) {
    struct lvt_status *status = &broker->status;
    pthread_mutex_lock(&status->mutex);
    *ret = (struct lvt_broker_status){
        .consuming_connected = status->connected >> LVT_LINK_CONSUMING & 1,
        .publishing_connected = status->connected >> LVT_LINK_PUBLISHING & 1,
        .blocked = status->blocked,
        .failed = status->failed,
        .failure = status->failure,
        .publish_problems = status->publish_problems,
        .publish_problem = status->publish_problem};
    pthread_mutex_unlock(&status->mutex);
}

size_t lvt_broker_queues(struct lvt_broker *broker, struct lvt_broker_queue *queues, size_t size) {
    size_t count = 0;
    pthread_mutex_lock(&broker->status.mutex);
    for (size_t i = 0; i < broker->queues.count; i++) {
        const struct lvt_queue_state *state = broker->queues.items[i];
        if (!state->wanted && !state->dead_letter) {
            continue;
        }
        if (count < size) {
            queues[count] = (struct lvt_broker_queue){.name = state->name,
                                                      .depth = state->depth,
                                                      .consumers = state->consumers,
                                                      .consuming = state->consuming,
                                                      .dead_letter = !state->wanted};
        }
        count++;
    }
    pthread_mutex_unlock(&broker->status.mutex);
    return count;
}

const char *lvt_broker_library(void) {
    static char text[64];
    snprintf(text, sizeof text, "rabbitmq-c %s", amqp_version());
    return text;
}
