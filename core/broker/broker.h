/* The broker port over RabbitMQ. Three connections, each with one channel and one thread that owns
 * it: one consumes and acks, one publishes, one declares and asks for depths. An alarm stops the
 * broker reading from a connection that publishes, and a refused declaration closes its channel:
 * neither may stop acks. */
#ifndef LEVERET_BROKER_BROKER_H
#define LEVERET_BROKER_BROKER_H

#include "base/error.h"
#include "base/log.h"
#include "engine/ports.h"
#include "engine/routes.h"

struct lvt_broker;

/* Texts are copied; routes must outlive the broker. */
struct lvt_broker_options {
    const char *url;
    const char *ca_file; /* for amqps://; NULL: the system's */
    uint32_t heartbeat_s;
    const char *exchange; /* declared, also when no queue is bound to it; NULL or "": none */
    const char *name;     /* how RabbitMQ lists the connections */
    const struct lvt_routes *routes;
    uint64_t max_body_bytes;
    /* Nothing is consumed; what delays need is declared when the first delayed message is
     * published, which waits for that. The routes are nothing but the queue of delayed messages. */
    bool publish_only;
    const struct lvt_log *log;
    struct lvt_broker_sink sink;
    void (*wake)(void *ctx); /* from any thread: have the loop's thread call lvt_broker_poll */
    void *wake_ctx;
};

/* Connects to nothing yet. LEVERET_CONFIG: the URL is wrong. */
enum leveret_code lvt_broker_new(const struct lvt_broker_options *options, struct lvt_broker **ret,
                                 struct leveret_error *err) LVT_MUST_CHECK;
/* Starts the threads, which connect, for ever if need be. */
enum leveret_code lvt_broker_start(struct lvt_broker *broker,
                                   struct leveret_error *err) LVT_MUST_CHECK;

/* From here on all calls are the loop's thread's. */

struct lvt_broker_port lvt_broker_port(struct lvt_broker *broker);

/* After a change of the routes: declares, consumes and leaves queues as they now say. What is
 * delivered from a queue that is left can still be settled. A queue that RabbitMQ refuses is logged
 * and tried again. LEVERET_NO_MEMORY is the only error; a later call makes up for it. */
enum leveret_code lvt_broker_update(struct lvt_broker *broker,
                                    struct leveret_error *err) LVT_MUST_CHECK;

/* Hands deliveries and publishes' answers to the sink. */
void lvt_broker_poll(struct lvt_broker *broker);

/* Stops consuming. Deliveries that poll has not handed out go back to their queues when the
 * connection closes; those that are out can still be acked. */
void lvt_broker_cancel(struct lvt_broker *broker);

/* Cancels; waits a few seconds for publishes to be confirmed and hands the answers to the sink
 * (LVT_PUBLISH_DROPPED for those that were not); sends the acks that this brought; closes the
 * connections, and joins the threads. */
void lvt_broker_stop(struct lvt_broker *broker);

/* Of a broker that was stopped or never started. Accepts NULL. */
void lvt_broker_free(struct lvt_broker *broker);

struct lvt_broker_status {
    bool consuming_connected, publishing_connected;
    bool blocked; /* by an alarm: publishes wait */
    /* Something that trying again does not cure was in the way before all was in place once: wrong
     * credentials, a queue that exists with other arguments. It has not been logged. */
    bool failed;
    struct leveret_error failure;
    /* How often messages could not be published since there was no connection, or none any more,
     * and why the last time. */
    uint64_t publish_problems;
    struct leveret_error publish_problem;
};

/* wake is called when `failed` or a connection's state changes. */
void lvt_broker_status(struct lvt_broker *broker, struct lvt_broker_status *ret);

struct lvt_broker_queue {
    const char *name;  /* lives as long as the broker */
    int64_t depth;     /* messages ready; -1: not known yet */
    int64_t consumers; /* everybody's; -1: not known yet */
    bool consuming;    /* ours is live */
    bool dead_letter;  /* not a work queue */
};

/* Fills in at most `size`, and returns how many there are. */
size_t lvt_broker_queues(struct lvt_broker *broker, struct lvt_broker_queue *queues, size_t size);

/* Its client library and version, such as "rabbitmq-c 0.11.0". Static storage. */
const char *lvt_broker_library(void);

#endif
