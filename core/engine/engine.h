/* The way of an event: decode, claim, run, settle. It knows ports, and no client library.
 *
 * Everything here belongs to one thread, the loop's. The ports' answers only put events on lists;
 * lvt_engine_pump moves them on, so that whatever gathers between two pumps goes as one batch. */
#ifndef LEVERET_ENGINE_ENGINE_H
#define LEVERET_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/log.h"
#include "blackbox/blackbox.h"
#include "engine/ports.h"
#include "engine/routes.h"
#include "engine/stats.h"

struct lvt_engine;

/* All that is pointed to stays the caller's, and outlives the engine. */
struct lvt_engine_options {
    const char *name; /* processor_name in the ledger */
    struct lvt_clock clock;
    struct lvt_routes *routes;
    const struct lvt_log *log;
    struct lvt_stats *stats;
    uint64_t max_body_bytes;
    const char *exchange;  /* where handlers publish who name none */
    uint64_t max_delay_ms; /* and attempts: what one event may ask for */
    uint32_t max_attempts;
    uint32_t pool; /* transactions that the ledger runs at once */
    /* What a supervisor reads and writes; NULL, both: there is none. */
    struct lvt_blackbox *blackbox;
    const struct lvt_charges *charges;
    uint32_t crash_limit; /* charges that send an event to the dead letters */
    /* Makes the loop pump soon. Called from any thread; NULL: nobody posts from others. */
    void (*wake)(void *ctx);
    void *wake_ctx;
};

enum leveret_code lvt_engine_new(const struct lvt_engine_options *options,
                                 struct lvt_engine **ret_engine,
                                 struct leveret_error *err) LVT_MUST_CHECK;

/* The ports must be closed before: they answer no more. NULL is fine. */
void lvt_engine_free(struct lvt_engine *engine);

/* Ports are made with the engine's sinks, and handed to it before the first pump. */
struct lvt_broker_sink lvt_engine_broker_sink(struct lvt_engine *engine);
struct lvt_ledger_sink lvt_engine_ledger_sink(struct lvt_engine *engine);
void lvt_engine_attach(struct lvt_engine *engine, struct lvt_broker_port broker,
                       struct lvt_ledger_port ledger, struct lvt_cache_port cache,
                       struct lvt_http_port http);

/* Makes the changes in the routes, all or none, and takes the new handlers over. Events that have
 * begun end with the old handlers, which are freed then; those that wait go to the new ones, or,
 * when their queue has no handler any more, back to it. The broker is to be told of the queues
 * afterwards. Not from within a handler. Errors as lvt_routes_change. */
enum leveret_code lvt_engine_change_handlers(struct lvt_engine *engine,
                                             const struct lvt_handler_change *changes, size_t count,
                                             struct leveret_error *err) LVT_MUST_CHECK;

/* Moves everything that can move. True when it stopped half-way to let the loop see to its sockets:
 * pump again without waiting. */
bool lvt_engine_pump(struct lvt_engine *engine);

/* Something that another thread wants done on the loop's. Part of what it is about. */
struct lvt_letter {
    struct lvt_letter *next;
    bool posted;
    void (*deliver)(struct lvt_letter *letter);
};

/* Has the next pump deliver it, once however often it is posted until then. From any thread; the
 * engine lives on until the letter is delivered or taken back. */
void lvt_engine_post(struct lvt_engine *engine, struct lvt_letter *letter);
/* Takes it back, where it was posted. */
void lvt_engine_unpost(struct lvt_engine *engine, struct lvt_letter *letter);

/* Starts no more handlers, and forgets every event that none has begun: the broker, when the
 * connection closes, gives them to others. */
void lvt_engine_drain(struct lvt_engine *engine);
/* Events that are running or being settled. */
size_t lvt_engine_in_flight(const struct lvt_engine *engine);
/* Stops the handlers that still run, rolls back, and forgets their events. */
void lvt_engine_abandon(struct lvt_engine *engine);

#endif
