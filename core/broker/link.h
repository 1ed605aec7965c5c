/* A thread with a connection of its own: connects, does its work, and begins anew when the
 * connection breaks, with a backoff from 1 s to 30 s (3 s while it cannot be reached), until it is
 * told to stop. */
#ifndef LEVERET_BROKER_LINK_H
#define LEVERET_BROKER_LINK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "broker/connection.h"

struct lvt_broker;
struct lvt_link;

enum lvt_link_role {
    LVT_LINK_CONSUMING,
    LVT_LINK_PUBLISHING,
    LVT_LINK_TOPOLOGY,
    LVT_LINK_ROLES,
};

const char *lvt_link_role_name(enum lvt_link_role role);

/* What a role does on its thread. */
struct lvt_link_work {
    /* Works on an open connection until it breaks or the link is to stop. LEVERET_OK: it may be
     * closed politely; LEVERET_STATE: it is of no more use, but a new one will be at once;
     * others: connect again after a while. */
    enum leveret_code (*session)(struct lvt_link *link, struct leveret_error *err);
    /* Whether nothing is left that a stop has to wait for; NULL: never is. */
    bool (*idle)(struct lvt_link *link);
    /* The last that the thread does; may be NULL. */
    void (*finished)(struct lvt_link *link);
};

struct lvt_link {
    struct lvt_broker *broker;
    enum lvt_link_role role;
    const struct lvt_link_work *work;
    struct lvt_connection connection; /* the thread's */
    int wake_fd;
    pthread_t thread;
    bool started;
    atomic_bool stop;
    atomic_uint_fast64_t stop_at_ms; /* what is not finished by then is given up */
    atomic_bool server_is_back;      /* another link has reached it */
    unsigned failures;               /* in a row */
    uint32_t random;
};

enum leveret_code lvt_link_init(struct lvt_link *link, struct lvt_broker *broker,
                                enum lvt_link_role role, const struct lvt_link_work *work,
                                struct leveret_error *err) LVT_MUST_CHECK;
void lvt_link_free(struct lvt_link *link);
enum leveret_code lvt_link_start(struct lvt_link *link, struct leveret_error *err) LVT_MUST_CHECK;

void lvt_link_wake(struct lvt_link *link);
/* Asks the thread to finish within that time, and returns at once. */
void lvt_link_stop(struct lvt_link *link, uint64_t within_ms);
void lvt_link_join(struct lvt_link *link);

/* The thread's own: sleeps until it is woken, something comes in, or the time (ms) is over. */
void lvt_link_wait(struct lvt_link *link, int timeout_ms);
/* Whether the session should end: a stop was asked for, and nothing is left or time is over. */
bool lvt_link_must_end(struct lvt_link *link);

/* 1 s, 2 s, 4 s ... 20 s for the n-th failure in a row (from 1), plus up to half, by chance. */
uint64_t lvt_backoff_ms(unsigned failures, uint32_t *random);

#endif
