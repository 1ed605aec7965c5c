/* Which queues are consumed, and which handler an event of a queue goes to. */
#ifndef LEVERET_ENGINE_ROUTES_H
#define LEVERET_ENGINE_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/timers.h"
#include "config/options.h"
#include "engine/verdict.h"

struct lvt_engine;
struct lvt_event;
struct lvt_run;

struct lvt_event_list {
    struct lvt_event *first, *last;
};

/* Once in the routes it stays there, and so does its name: deliveries point to it. Without handlers
 * it is not consumed. */
struct lvt_queue {
    char *name;
    enum lvt_queue_type type;
    char *exchange;
    struct lvt_strings bind;
    char *dead_letter;
    uint32_t prefetch; /* at least twice its handlers' concurrency */
    uint64_t message_ttl_ms;
    uint32_t max_priority;
    enum lvt_envelope_kind envelope;
    struct lvt_handler **handlers;
    size_t handler_count;
    uint32_t held; /* the engine's: events that wait for a service that is away */
};

/* What runs a handler. All calls are on the loop's thread. */
struct lvt_runtime {
    /* Begins the run. It ends with one call of lvt_run_finish, perhaps before start returns. */
    void (*start)(void *self, struct lvt_run *run);
    /* Forgets a run that has not finished: nothing of it is touched afterwards. */
    void (*abort)(void *self, struct lvt_run *run);
    void (*destroy)(void *self);
};

/* What became of the runs that a handler began during an outage. */
struct lvt_handler_outage {
    uint64_t number; /* of the outage */
    uint32_t met;    /* in a row */
    bool spared;     /* one was done without the service */
};

struct lvt_handler {
    char *name;       /* "ticket.created" for handlers/ticket.created.lua */
    char *path;       /* of its file; NULL for a callback */
    char version[13]; /* a short hash of its content */
    char *about;      /* what it says of itself, as a plugin does: "webhook 1.2"; NULL */
    struct lvt_handler_options options;
    struct lvt_queue *queue;
    bool forwards; /* leveret's own: it passes events on, which count where they arrive */
    const struct lvt_runtime *runtime;
    void *runtime_self; /* owned: destroyed with the handler */
    /* the engine's */
    struct lvt_engine *engine;
    struct lvt_event_list ready; /* claimed events that wait for their turn */
    bool startable;              /* on the engine's list of handlers that may start some */
    struct lvt_handler *startable_next;
    uint32_t running; /* also of those that it succeeds */
    uint32_t
        interrupted; /* of the running ones: at work for long, waiting for the loop's next turn */
    uint32_t tx_open;
    struct lvt_handler_outage outages[LVT_SERVICES];
    double tokens; /* of the rate's bucket */
    uint64_t tokens_at_ms;
    struct lvt_timer rate_timer;
    bool retired;                  /* out of the routes; freed when nobody holds it */
    uint32_t holders;              /* events in hand, and retired handlers that it succeeds */
    struct lvt_handler *successor; /* counts what still runs of this one as running */
    struct lvt_handler *retired_next;
};

struct lvt_routes {
    struct lvt_queue **queues;
    size_t queue_count;
    struct lvt_handler **handlers;
    size_t handler_count;
};

/* Its runtime is destroyed with it. NULL is fine. */
void lvt_handler_free(struct lvt_handler *handler);
void lvt_routes_free(struct lvt_routes *routes);

/* Adds a handler and its queue (new, or one that an earlier handler named). Takes the handler over
 * only when it succeeds. LEVERET_CONFIG: the handlers of one queue disagree about it, or two of
 * them claim the same events. */
enum leveret_code lvt_routes_add(struct lvt_routes *routes, struct lvt_handler *handler,
                                 struct leveret_error *err) LVT_MUST_CHECK;

/* One handler in the place of another. */
struct lvt_handler_change {
    struct lvt_handler *old;  /* of the routes; NULL: one more */
    struct lvt_handler *next; /* NULL: one less */
};

/* Makes all of the changes, or none: the new handlers are taken over, and the old ones given back,
 * only when it succeeds. Queues without handlers stay. Errors as lvt_routes_add. */
enum leveret_code lvt_routes_change(struct lvt_routes *routes,
                                    const struct lvt_handler_change *changes, size_t count,
                                    struct leveret_error *err) LVT_MUST_CHECK;

/* How many handlers there are beside leveret's own. */
size_t lvt_routes_given(const struct lvt_routes *routes);

/* The queue's handler with the most specific pattern for this type; NULL when there is none. */
struct lvt_handler *lvt_routes_match(const struct lvt_queue *queue, struct lvt_bytes type);

/* Whether an AMQP topic pattern (words between dots, * for one word, # for any) fits the type. */
bool lvt_pattern_matches(const char *pattern, struct lvt_bytes type);

#endif
