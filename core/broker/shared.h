/* What the broker's threads share. Who may touch what is said at each part. */
#ifndef LEVERET_BROKER_SHARED_H
#define LEVERET_BROKER_SHARED_H

#include <pthread.h>
#include <stdatomic.h>

#include "broker/broker.h"
#include "broker/inbox.h"
#include "broker/link.h"
#include "broker/queues.h"
#include "broker/url.h"
#include "broker/watchdog.h"

struct lvt_consumer;
struct lvt_publisher;
struct lvt_topology;

/* Under its mutex. */
struct lvt_status {
    pthread_mutex_t mutex;
    unsigned connected; /* a bit for each role */
    bool blocked;
    bool failed;
    struct leveret_error failure;
    uint64_t publish_problems;
    struct leveret_error publish_problem;
    struct leveret_error ladder_problem; /* with publish_only: why it is not there */
    bool succeeded[LVT_LINK_ROLES];      /* once, in what the role is for */
    bool announced, outage_logged;
    uint64_t log_after_ms, log_interval_ms;
    struct leveret_error logged; /* the last LEVERET_CONFIG error */
};

struct lvt_broker {
    /* as they were given; nobody writes them after lvt_broker_new */
    struct lvt_amqp_url url;
    char *ca_file, *exchange, *name;
    uint32_t heartbeat_s;
    uint64_t max_body_bytes;
    bool publish_only;
    const struct lvt_log *log;
    struct lvt_broker_sink sink;

    struct lvt_inbox inbox;
    struct lvt_watchdog watchdog;
    struct lvt_link links[LVT_LINK_ROLES];
    struct lvt_status status;
    struct lvt_queues queues;

    struct lvt_consumer *consumer;
    struct lvt_publisher *publisher;
    struct lvt_topology *topology;

    /* the loop's thread's */
    const struct lvt_routes *routes;
    bool cancelled;
    bool declaring; /* with publish_only: something is delayed */
};

/* ---- status.c ---- */

void lvt_status_init(struct lvt_status *status);
void lvt_status_free(struct lvt_status *status);
void lvt_status_connected(struct lvt_broker *broker, enum lvt_link_role role,
                          struct lvt_bytes server_version);
void lvt_status_disconnected(struct lvt_broker *broker, enum lvt_link_role role);
/* What the role is for has been reached once: from now on no error is fatal. */
void lvt_status_succeeded(struct lvt_broker *broker, enum lvt_link_role role);
/* Logs it, unless it has been logged a moment ago, or is fatal. */
void lvt_status_problem(struct lvt_broker *broker, enum lvt_link_role role,
                        const struct leveret_error *problem, uint64_t retry_ms);
/* With publish_only: why nothing can be delayed; code LEVERET_OK: no reason is known. */
struct leveret_error lvt_status_ladder(struct lvt_broker *broker);
void lvt_status_blocked(struct lvt_broker *broker, bool blocked);

#endif
