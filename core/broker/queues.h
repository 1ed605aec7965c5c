/* The queues that the broker's threads see to, and how each is wanted. The loop's thread changes
 * them; the others look at what holds at one moment. */
#ifndef LEVERET_BROKER_QUEUES_H
#define LEVERET_BROKER_QUEUES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "engine/routes.h"

struct lvt_broker;

/* A work queue as it is wanted. Nobody writes it once it is made. */
struct lvt_wanted {
    atomic_uint holders;
    struct lvt_queue queue; /* a copy, without handlers */
};

/* A queue that is declared and counted. Once made it stays as long as the broker: its number is
 * in its consumers' tags. Everything but the name is under the status mutex. */
struct lvt_queue_state {
    char *name;
    struct lvt_queue *route;   /* what its deliveries carry; NULL: it was never a work queue */
    struct lvt_wanted *wanted; /* NULL: it is not consumed */
    bool dead_letter;          /* a work queue's dead letters go to it */
    int64_t depth, consumers;
    bool consuming;
    bool declared;   /* it is there, as it should be */
    bool can_reject; /* has somewhere to put a rejected message */
};

struct lvt_queues {
    struct lvt_queue_state **items; /* under the status mutex */
    size_t count;                   /* likewise; never falls */
    atomic_uint changes;            /* counts those of `wanted` */
};

/* Wants what the routes say, or as much of it as there is memory for: a later call makes up for the
 * rest. *ret_declare: something has to be declared. The loop's thread's. */
enum leveret_code lvt_queues_update(struct lvt_broker *broker, const struct lvt_routes *routes,
                                    bool *ret_declare, struct leveret_error *err) LVT_MUST_CHECK;
void lvt_queues_free(struct lvt_queues *queues);

/* From any thread; NULL past the last one. */
struct lvt_queue_state *lvt_queue_at(struct lvt_broker *broker, size_t number);

/* All that is wanted at one moment. */
struct lvt_work {
    struct lvt_queue_state *state;
    struct lvt_wanted *wanted; /* held */
};

struct lvt_plan {
    struct lvt_work *work;
    size_t work_count;
    struct lvt_queue_state **dead_letters; /* that are not work queues, too */
    size_t dead_letter_count;
};

enum leveret_code lvt_plan_take(struct lvt_broker *broker, struct lvt_plan *ret_plan,
                                struct leveret_error *err) LVT_MUST_CHECK;
void lvt_plan_free(struct lvt_plan *plan);

#endif
