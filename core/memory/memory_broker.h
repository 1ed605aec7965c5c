/* A broker inside the process: for `leveret run --embedded`, unit tests and simulation. It routes,
 * delays, redelivers and counts windows as RabbitMQ does, and keeps nothing beyond the process. */
#ifndef LEVERET_MEMORY_MEMORY_BROKER_H
#define LEVERET_MEMORY_MEMORY_BROKER_H

#include "base/error.h"
#include "engine/ports.h"
#include "engine/routes.h"

/* What may wait in queues and delays before lvt_memory_broker_publish says LEVERET_TOO_BIG. What
 * the engine publishes comes on top: one message for each delivery that it has in hand. */
#define LVT_MEMORY_MESSAGES_MAX 100000
#define LVT_MEMORY_BYTES_MAX (256u << 20)
/* Dead letters that are kept: over either, the oldest goes. */
#define LVT_MEMORY_DEAD_MAX 10000
#define LVT_MEMORY_DEAD_BYTES_MAX (64u << 20)

struct lvt_memory_broker;

struct lvt_memory_broker_options {
    const struct lvt_routes *routes; /* outlive the broker */
    struct lvt_clock clock;          /* its timers run the delays */
    struct lvt_broker_sink sink;
};

/* LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_memory_broker_new(const struct lvt_memory_broker_options *options,
                                        struct lvt_memory_broker **ret_broker,
                                        struct leveret_error *err) LVT_MUST_CHECK;
/* Publishes that are out are never answered. NULL is fine. */
void lvt_memory_broker_free(struct lvt_memory_broker *broker);
/* After a change of the routes: consumes what they now say. LEVERET_NO_MEMORY is the only error; a
 * later call makes up for it. */
enum leveret_code lvt_memory_broker_update(struct lvt_memory_broker *broker,
                                           struct leveret_error *err) LVT_MUST_CHECK;
struct lvt_broker_port lvt_memory_broker_port(struct lvt_memory_broker *broker);

/* Hands deliveries and publishes' answers to the sink. */
void lvt_memory_broker_poll(struct lvt_memory_broker *broker);
/* Whether poll has something to hand over. */
bool lvt_memory_broker_pending(const struct lvt_memory_broker *broker);
/* Nothing is queued, delayed, delivered and not acked, or published and not answered. */
bool lvt_memory_broker_idle(const struct lvt_memory_broker *broker);
/* Messages that are queued, delayed, or delivered and not acked. */
size_t lvt_memory_broker_count(const struct lvt_memory_broker *broker);

/* A copy goes to every queue that binds the exchange with a fitting pattern; with the exchange "",
 * to the queue that routing_key names. ret_queues is how many took it. LEVERET_TOO_BIG: too much
 * waits already; try again after some of it is settled. */
enum leveret_code lvt_memory_broker_publish(struct lvt_memory_broker *broker,
                                            struct lvt_bytes exchange, struct lvt_bytes routing_key,
                                            const struct lvt_properties *properties,
                                            struct lvt_bytes body,
                                            size_t *ret_queues) LVT_MUST_CHECK;

/* A message as it stands in a queue. */
struct lvt_memory_message {
    struct lvt_bytes queue, exchange, routing_key;
    struct lvt_properties properties;
    struct lvt_bytes body;
};

/* All that were dead-lettered, also those that are not kept any more. */
uint64_t lvt_memory_broker_dead_count(const struct lvt_memory_broker *broker);
/* The dead letter after this one, oldest first; the first for NULL; NULL at the end. Valid until
 * the broker is polled or published to. */
const struct lvt_memory_message *
lvt_memory_broker_dead_next(const struct lvt_memory_broker *broker,
                            const struct lvt_memory_message *after);

/* ---- for tests and simulation ---- */

/* What was delivered goes back to its queues, publishes wait. */
void lvt_memory_broker_disconnect(struct lvt_memory_broker *broker);
/* Delivers with a new epoch, and sends again all publishes that were not answered. */
void lvt_memory_broker_reconnect(struct lvt_memory_broker *broker);
/* The next `times` of the engine's publishes are not taken, and answered with `result`. */
void lvt_memory_broker_fail_publishes(struct lvt_memory_broker *broker,
                                      enum lvt_publish_result result, unsigned times);

struct lvt_memory_broker_status {
    size_t ready, delayed, unacked;
    uint64_t stale_acks;   /* for deliveries of an epoch that is over */
    uint64_t unknown_acks; /* for deliveries that were acked before: a mistake of the engine's */
};
void lvt_memory_broker_status(const struct lvt_memory_broker *broker,
                              struct lvt_memory_broker_status *ret_status);

#endif
