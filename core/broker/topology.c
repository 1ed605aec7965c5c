#include "broker/topology.h"

#include <stdlib.h>

#include "base/clock.h"
#include "broker/declare.h"
#include "broker/setup.h"

#define DEPTHS_EVERY_MS 2000
/* However often something is found missing. */
#define PASS_INTERVAL_MS 1000

struct lvt_topology {
    struct lvt_broker *broker;
    pthread_mutex_t mutex;
    uint64_t requested, completed; /* under the mutex: tickets */
    bool verified;                 /* under the mutex: once */
    /* the thread's */
    unsigned failures; /* in a row, to verify */
    uint32_t random;
};

enum leveret_code lvt_topology_new(struct lvt_broker *broker, struct lvt_topology **ret,
                                   struct leveret_error *err) {
    struct lvt_topology *topology = calloc(1, sizeof *topology);
    if (!topology) {
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory");
    }
    topology->broker = broker;
    topology->random = 1;
    pthread_mutex_init(&topology->mutex, NULL);
    *ret = topology;
    return LEVERET_OK;
}

void lvt_topology_free(struct lvt_topology *topology) {
    if (topology) {
        pthread_mutex_destroy(&topology->mutex);
        free(topology);
    }
}

uint64_t lvt_topology_request(struct lvt_broker *broker) {
    struct lvt_topology *topology = broker->topology;
    pthread_mutex_lock(&topology->mutex);
    uint64_t ticket = ++topology->requested;
    pthread_mutex_unlock(&topology->mutex);
    lvt_link_wake(&broker->links[LVT_LINK_TOPOLOGY]);
    return ticket;
}

bool lvt_topology_ready(struct lvt_broker *broker, size_t queue, uint64_t ticket) {
    struct lvt_topology *topology = broker->topology;
    pthread_mutex_lock(&topology->mutex);
    bool looked = topology->verified && topology->completed >= ticket;
    pthread_mutex_unlock(&topology->mutex);
    pthread_mutex_lock(&broker->status.mutex);
    bool declared = broker->queues.items[queue]->declared;
    pthread_mutex_unlock(&broker->status.mutex);
    return looked && declared;
}

static enum leveret_code ask_for_depths(struct lvt_link *link, bool *ret_missing,
                                        struct leveret_error *err) {
    struct lvt_broker *broker = link->broker;
    struct lvt_queue_state *state;
    for (size_t i = 0; (state = lvt_queue_at(broker, i)); i++) {
        struct lvt_refusal refusal;
        uint32_t depth = 0, consumers = 0;
        pthread_mutex_lock(&broker->status.mutex);
        bool ask = state->declared && (state->wanted || state->dead_letter);
        pthread_mutex_unlock(&broker->status.mutex);
        if (!ask) {
            continue;
        }
        enum leveret_code code =
            lvt_look_for_queue(&link->connection, state->name, &depth, &consumers, &refusal, err);
        if (code != LEVERET_OK && code != LEVERET_REFUSED) {
            return code;
        }
        *ret_missing |= refusal.code == AMQP_NOT_FOUND;
        pthread_mutex_lock(&broker->status.mutex);
        state->depth = code == LEVERET_OK ? (int64_t)depth : -1;
        state->consumers = code == LEVERET_OK ? (int64_t)consumers : -1;
        pthread_mutex_unlock(&broker->status.mutex);
    }
    return LEVERET_OK;
}

/* ---- the session ---- */

/* Heartbeats, and the broker's goodbye. */
static enum leveret_code read_frames(struct lvt_link *link, struct leveret_error *err) {
    static const struct timeval at_once = {0, 0};
    amqp_connection_state_t amqp = link->connection.amqp;
    for (;;) {
        amqp_frame_t frame;
        lvt_connection_enter(&link->connection);
        int status = amqp_simple_wait_frame_noblock(amqp, &frame, &at_once);
        lvt_connection_leave(&link->connection);
        if (status == AMQP_STATUS_TIMEOUT) {
            amqp_maybe_release_buffers(amqp);
            return LEVERET_OK;
        }
        if (status != AMQP_STATUS_OK) {
            return lvt_connection_lost(status, err);
        }
        if (frame.frame_type == AMQP_FRAME_METHOD &&
            (frame.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD ||
             frame.payload.method.id == AMQP_CHANNEL_CLOSE_METHOD)) {
            struct leveret_error said;
            lvt_connection_closed(&frame.payload.method, &said);
            return leveret_fail(err, LEVERET_UNAVAILABLE, "RabbitMQ closed the connection: %s",
                                said.text);
        }
    }
}

/* Answers the requests made so far. *ret_again_ms: when to try again, 0 when all is well. */
static enum leveret_code make_pass(struct lvt_link *link, uint64_t *ret_again_ms,
                                   struct leveret_error *err) {
    struct lvt_broker *broker = link->broker;
    struct lvt_topology *topology = broker->topology;
    struct leveret_error problem;
    pthread_mutex_lock(&topology->mutex);
    uint64_t ticket = topology->requested;
    pthread_mutex_unlock(&topology->mutex);
    enum leveret_code code = lvt_setup(broker, &link->connection, &problem, err);
    if (code != LEVERET_OK) {
        return code;
    }
    *ret_again_ms = 0;
    if (problem.code != LEVERET_OK) {
        uint64_t delay_ms = lvt_backoff_ms(++topology->failures, &topology->random);
        lvt_status_problem(broker, link->role, &problem, delay_ms);
        *ret_again_ms = lvt_now_ms() + delay_ms;
    } else {
        topology->failures = 0;
        lvt_status_succeeded(broker, link->role);
    }
    pthread_mutex_lock(&topology->mutex);
    topology->completed = ticket;
    topology->verified |= problem.code == LEVERET_OK;
    pthread_mutex_unlock(&topology->mutex);
    lvt_link_wake(&broker->links[LVT_LINK_CONSUMING]);
    lvt_link_wake(&broker->links[LVT_LINK_PUBLISHING]);
    return LEVERET_OK;
}

static bool is_asked(struct lvt_topology *topology) {
    pthread_mutex_lock(&topology->mutex);
    bool asked = topology->requested > topology->completed;
    pthread_mutex_unlock(&topology->mutex);
    return asked;
}

/* When things are to be done next. */
struct plan {
    uint64_t pass_ms; /* 0: no pass is wanted */
    uint64_t depths_ms;
    uint64_t last_pass_ms;
};

static void want_pass(struct plan *plan) {
    uint64_t earliest_ms = plan->last_pass_ms + PASS_INTERVAL_MS;
    if (plan->pass_ms == 0 || plan->pass_ms > earliest_ms) {
        plan->pass_ms = earliest_ms;
    }
}

static enum leveret_code do_what_is_due(struct lvt_link *link, struct plan *plan,
                                        struct leveret_error *err) {
    enum leveret_code code = LEVERET_OK;
    bool missing = false;
    if (lvt_now_ms() >= plan->depths_ms) {
        code = ask_for_depths(link, &missing, err);
        plan->depths_ms = lvt_now_ms() + DEPTHS_EVERY_MS;
    }
    if (missing || is_asked(link->broker->topology)) {
        want_pass(plan);
    }
    if (code == LEVERET_OK && plan->pass_ms != 0 && lvt_now_ms() >= plan->pass_ms) {
        code = make_pass(link, &plan->pass_ms, err);
        plan->last_pass_ms = lvt_now_ms();
    }
    return code == LEVERET_OK ? read_frames(link, err) : code;
}

static enum leveret_code session(struct lvt_link *link, struct leveret_error *err) {
    uint64_t now_ms = lvt_now_ms();
    struct plan plan = {.pass_ms = now_ms, .depths_ms = now_ms + 1};
    for (;;) {
        enum leveret_code code = do_what_is_due(link, &plan, err);
        if (code != LEVERET_OK || lvt_link_must_end(link)) {
            return code;
        }
        now_ms = lvt_now_ms();
        uint64_t due_ms =
            plan.pass_ms != 0 && plan.pass_ms < plan.depths_ms ? plan.pass_ms : plan.depths_ms;
        if (now_ms < due_ms) {
            lvt_link_wait(link, (int)(due_ms - now_ms));
        }
    }
}

const struct lvt_link_work lvt_topology_work = {.session = session};
