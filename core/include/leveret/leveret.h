/* leveret inside your own program: a worker that takes events off RabbitMQ's queues, makes each
 * take effect once, and hands it to a handler. Handlers are Lua files, plugins, and functions of
 * your program, side by side.
 *
 *     struct leveret_config *config;
 *     struct leveret_worker *worker;
 *     struct leveret_error err;
 *     leveret_config_new(&config, &err);
 *     leveret_config_set(config, "rabbitmq.url", "amqp://localhost/", &err);
 *     leveret_config_set(config, "handlers", "handlers", &err);
 *     leveret_worker_new(config, log_line, NULL, &worker, &err);
 *     leveret_config_free(config);
 *     leveret_worker_run(worker, &err);        // until leveret_worker_stop(worker)
 *     leveret_worker_free(worker);
 *
 * examples/embed is a whole program.
 *
 * Errors. A function that can fail returns LEVERET_OK or a negative code, and fills *err, which may
 * be NULL, with a text for people. What it was to give (ret_...) is left alone then. The library
 * never prints, never exits, and reads no variable of the environment unless it is told to
 * (leveret_config_environment; a configuration file that asks for env.NAME; and what the client
 * libraries look at: libpq's PG* and libcurl's *_proxy).
 *
 * Threads. A configuration belongs to one thread at a time. The functions of a worker may be called
 * from any thread, one at a time, except those that say more. Workers share nothing: a program may
 * have several. The first worker is best made before the program has other threads, for libcurl and
 * OpenSSL set themselves up then.
 *
 * Signals. The library installs one handler, for SIGURG, when the first Lua handler runs: timers of
 * processor time send it to the thread that runs Lua, where it is not blocked from then on. Any
 * other SIGURG goes to the handler that was there before; install yours before, or leave this one.
 * While it works it blocks SIGPIPE in the thread of leveret_worker_run, and consumes one that its
 * connections raise there. Its own threads block every other signal but those of faults (SIGSEGV
 * and its like, SIGABRT, SIGTRAP). A plugin's file is tried in a child process before it is loaded;
 * the library waits for it. So a program with plugins may get a SIGCHLD for a child that it did not
 * start: it must leave that one to the library, and not ignore the signal.
 *
 * Locales. Handlers run in the C locale, whatever the program's is: while it works, the thread of
 * leveret_worker_run has that one, and so does whatever it calls.
 *
 * What needs a supervisor, and is weaker here. `leveret run` keeps handlers in processes that may
 * die alone; a program that embeds a worker is one process with them. So a plugin or function that
 * crashes takes the whole program with it; one that never returns holds up its worker for ever, for
 * nobody kills it; and an event that crashes the program is delivered again when the program is
 * back, at no cost of an attempt, as often as it crashes. All other guarantees of the README hold:
 * whatever dies, an event is recorded, or in the dead letters, or still in its queue.
 *
 * Versions. From 1.0 on a program keeps running with every later library of the same major version;
 * before, with those of the same minor version: the name of the shared library tells (its soname is
 * libleveret.so.0.1). Enums cross as int32_t, and may gain members: be prepared for others. */
#ifndef LEVERET_H
#define LEVERET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leveret/error.h"
#include "leveret/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version: "0.1.0". Static storage. From any thread. */
LEVERET_API const char *leveret_version(void);

/* ---- configuration ---- */

struct leveret_config;

/* Every key at its default, except that `handlers` names no folder. leveret_config_free frees it.
 */
LEVERET_API enum leveret_code leveret_config_new(struct leveret_config **ret_config,
                                                 struct leveret_error *err);
/* NULL is fine. */
LEVERET_API void leveret_config_free(struct leveret_config *config);

/* Sets what the Lua file assigns, as `leveret run -c` does. LEVERET_CONFIG, with file and line,
 * when it cannot be read or something in it is wrong; some of its keys may then be set. */
LEVERET_API enum leveret_code leveret_config_read(struct leveret_config *config, const char *path,
                                                  struct leveret_error *err);

/* Sets one key, by the path and in the spelling of the variables of the environment:
 * ("rabbitmq.prefetch", "500"), ("timeout_ms", "30s"), ("handlers", "a,b"). The keys are those of
 * leveret.lua(5). LEVERET_CONFIG when there is no such key, or the value does not fit it. */
LEVERET_API enum leveret_code leveret_config_set(struct leveret_config *config, const char *key,
                                                 const char *text, struct leveret_error *err);

/* Sets what RABBITMQ_URL, DATABASE_URL, REDIS_URL and LEVERET_* say. LEVERET_CONFIG as above. */
LEVERET_API enum leveret_code leveret_config_environment(struct leveret_config *config,
                                                         struct leveret_error *err);

/* ---- log ---- */

/* A record of the log. It and all that it holds are valid until the sink returns. */
struct leveret_record;

/* Called from every thread of the worker, also from several at once: it must not block for long,
 * and must not call the worker. Records below log.level do not come here. */
typedef void leveret_log_sink(void *ctx, const struct leveret_record *record);

/* enum leveret_log_level */
LEVERET_API int32_t leveret_record_level(const struct leveret_record *record);
/* What happened, without the fields. */
LEVERET_API const char *leveret_record_text(const struct leveret_record *record);
/* The whole record as one line, in the format that log.format names, without a line break. */
LEVERET_API const char *leveret_record_line(const struct leveret_record *record);

LEVERET_API size_t leveret_record_field_count(const struct leveret_record *record);
/* Fills in *ret_field; a list or table of a handler's is a TEXT, which is JSON. False when there is
 * no field of this index. */
LEVERET_API bool leveret_record_field(const struct leveret_record *record, size_t index,
                                      struct leveret_field *ret_field);

/* ---- worker ---- */

struct leveret_worker;

/* Checks the configuration, which is copied, and loads the handlers of the folders that it names.
 * Connects to nothing. The sink may be NULL: then nothing is logged. LEVERET_CONFIG when a key or a
 * handler's file is wrong. leveret_worker_free frees the worker. */
LEVERET_API enum leveret_code leveret_worker_new(const struct leveret_config *config,
                                                 leveret_log_sink *sink, void *sink_ctx,
                                                 struct leveret_worker **ret_worker,
                                                 struct leveret_error *err);

/* Adds a handler that is part of the program: it is what a plugin is (see plugin.h), compiled in
 * instead of loaded. The descriptor's name is the handler's, its open is called here, and its close
 * when the worker is freed; the descriptor outlives the worker. Before the run. LEVERET_CONFIG when
 * the descriptor or its options are wrong, its open refuses, or another handler of its queue has
 * one of its events. */
LEVERET_API enum leveret_code leveret_worker_add(struct leveret_worker *worker,
                                                 const struct leveret_plugin *plugin,
                                                 struct leveret_error *err);

/* The functions that such a handler calls. Static storage. From any thread. */
LEVERET_API const struct leveret_host *leveret_host(void);

/* Runs in the calling thread until leveret_worker_stop: connects, waits out outages, handles
 * events. A worker runs once. LEVERET_CONFIG when an address cannot be read or listened on, when
 * there is no handler, or when a service was reached and refuses what the configuration asks of it;
 * LEVERET_STATE when the worker runs or has run. */
LEVERET_API enum leveret_code leveret_worker_run(struct leveret_worker *worker,
                                                 struct leveret_error *err);

/* The same in a thread of the worker's own. What cannot be read in the configuration is an error at
 * once; what shows later is leveret_worker_join's. */
LEVERET_API enum leveret_code leveret_worker_start(struct leveret_worker *worker,
                                                   struct leveret_error *err);
/* Waits for the end of a worker that was started, and returns how it ended, as leveret_worker_run
 * does. LEVERET_STATE when it was not started, or has been joined. */
LEVERET_API enum leveret_code leveret_worker_join(struct leveret_worker *worker,
                                                  struct leveret_error *err);

/* Ends the run: takes no more events, finishes those in hand within shutdown_timeout_ms, gives the
 * rest back to their queues. Does not wait for it. At any time before leveret_worker_free, from any
 * thread, also while other functions of the worker are called, and from a signal handler; a run
 * that has not begun then ends as soon as it does. */
LEVERET_API void leveret_worker_stop(struct leveret_worker *worker);

/* Compares the handlers with their files at once; the worker also does so by itself when a file
 * changes. Does not wait for it, and does nothing while the worker does not run. From where
 * leveret_worker_stop may be called. */
LEVERET_API void leveret_worker_reload(struct leveret_worker *worker);

/* Whether it runs, reaches every service, and consumes from every queue. From any thread, at any
 * time. */
LEVERET_API bool leveret_worker_ready(const struct leveret_worker *worker);
/* Whether its run is over; its thread, if it has one, wants to be joined. From any thread, at any
 * time. */
LEVERET_API bool leveret_worker_ended(const struct leveret_worker *worker);

enum leveret_counter {
    LEVERET_COUNT_PROCESSED,
    LEVERET_COUNT_FAILED,     /* to the dead letters */
    LEVERET_COUNT_RETRIED,    /* attempts that failed, of events that come back */
    LEVERET_COUNT_DUPLICATE,  /* handled before, and skipped */
    LEVERET_COUNT_DROPPED,    /* by their handler */
    LEVERET_COUNT_WITHOUT_ID, /* run without deduplication */
    LEVERET_COUNT_IN_FLIGHT,  /* begun and not settled; goes down, too */
};

/* Since the worker's start; it is up to date with each turn of the worker's loop. 0 for a counter
 * that this version does not know. From any thread, at any time. */
LEVERET_API uint64_t leveret_worker_count(const struct leveret_worker *worker, int32_t counter);

/* Stops the worker first, and waits for its thread, when it was started and not joined. Not while
 * leveret_worker_run is under way, nor while another thread may call the worker. NULL is fine. */
LEVERET_API void leveret_worker_free(struct leveret_worker *worker);

/* ---- publisher ---- */

/* Publishes events: persistent, mandatory, and confirmed, many in flight at a time. It has
 * connections and threads of its own, and is of use with a worker and without one. From any thread,
 * and several at a time, except leveret_publisher_free. */
struct leveret_publisher;

/* An event on its way out. Begin with leveret_outgoing. */
struct leveret_outgoing {
    size_t size;                     /* of this struct, in bytes */
    struct leveret_text event;       /* its type, and the routing key */
    struct leveret_text payload;     /* a JSON object */
    struct leveret_text id;          /* empty: a UUID of version 7 */
    struct leveret_text exchange;    /* data NULL: the one of the key rabbitmq.exchange */
    struct leveret_text queue;       /* not empty: straight to this queue */
    uint64_t delay_ms;               /* handled no sooner than that; limits.max_delay at most */
                                     /* (waits in queues that a worker declares, or the user may) */
    uint64_t ttl_ms;                 /* how long it may wait in its queue; 0: for ever */
    int32_t priority;                /* 0 to 255; -1: none */
    uint32_t max_attempts;           /* 0: as its handler says; limits.max_attempts at most */
    struct leveret_text traceparent; /* W3C's; empty: none */
    const struct leveret_header *headers; /* BOOLEAN, INTEGER, NUMBER and TEXT */
    size_t header_count;
    bool whole; /* the payload is the whole body, an envelope that names the type */
};

static inline struct leveret_outgoing leveret_outgoing(struct leveret_text event,
                                                       struct leveret_text payload) {
    struct leveret_outgoing outgoing = {sizeof outgoing, event, payload, {NULL, 0}, {NULL, 0},
                                        {NULL, 0},       0,     0,       -1,        0,
                                        {NULL, 0},       NULL,  0,       false};
    return outgoing;
}

/* What became of an event: LEVERET_OK, RabbitMQ has it; LEVERET_REFUSED, no queue takes it, or
 * RabbitMQ refuses it; LEVERET_UNAVAILABLE, RabbitMQ is away, or took or confirmed nothing in time:
 * then it is not known whether it arrived. Published again under the same id it takes effect once.
 * `code` is an enum leveret_code. Called once for each event, on the publisher's thread, one at a
 * time; the texts are good until it returns. */
typedef void leveret_published(void *ctx, int32_t code, struct leveret_text id, const char *why);

/* A wait without an end. */
#define LEVERET_FOREVER UINT64_MAX
/* Room for every id, with its NUL. */
#define LEVERET_ID_SIZE 256

/* Begins to connect in the background. The configuration is copied; of it the keys of rabbitmq,
 * limits and log count, name and max_body_bytes. The sink may be NULL. LEVERET_CONFIG: a key is
 * wrong. leveret_publisher_free frees the publisher. */
LEVERET_API enum leveret_code leveret_publisher_new(const struct leveret_config *config,
                                                    leveret_log_sink *sink, void *sink_ctx,
                                                    struct leveret_publisher **ret_publisher,
                                                    struct leveret_error *err);

/* Copies the event, and returns. `done`, which may be NULL, is called when RabbitMQ has answered,
 * or when wait_ms are over; with wait_ms 0, as soon as it is known that RabbitMQ cannot be reached
 * or takes no messages. When 10,000 events are out it waits for room, as long as wait_ms, except
 * inside `done`, where it returns LEVERET_TOO_BIG. When it fails `done` is not called:
 * LEVERET_INVALID, LEVERET_MALFORMED or LEVERET_TOO_BIG when the event cannot be published,
 * LEVERET_UNAVAILABLE when there was no room in time. */
LEVERET_API enum leveret_code leveret_publisher_publish(struct leveret_publisher *publisher,
                                                        const struct leveret_outgoing *outgoing,
                                                        uint64_t wait_ms, leveret_published *done,
                                                        void *ctx, struct leveret_error *err);

/* The same, and waits for the answer, which it returns. ret_id, which may be NULL, gets the event's
 * id, NUL-terminated. Not inside a leveret_published. */
LEVERET_API enum leveret_code
leveret_publisher_publish_wait(struct leveret_publisher *publisher,
                               const struct leveret_outgoing *outgoing, uint64_t wait_ms,
                               char ret_id[LEVERET_ID_SIZE], struct leveret_error *err);

/* Waits until every event so far has been answered. False when the time was over before. Not inside
 * a leveret_published. */
LEVERET_API bool leveret_publisher_drain(struct leveret_publisher *publisher, uint64_t wait_ms);

/* Whether it reaches RabbitMQ, and that takes messages. */
LEVERET_API bool leveret_publisher_ready(struct leveret_publisher *publisher);

/* Answers what is out, within a few seconds, with LEVERET_UNAVAILABLE where RabbitMQ does not; and
 * closes. Not inside a leveret_published, nor while another thread may call the publisher. NULL is
 * fine. */
LEVERET_API void leveret_publisher_free(struct leveret_publisher *publisher);

#ifdef __cplusplus
}
#endif

#endif
