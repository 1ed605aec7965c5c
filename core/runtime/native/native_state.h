/* What the files of core/runtime/native share: a plugin that is loaded, and the events that it has
 * in hand.
 *
 * An event's slot is ordinary memory that is used again and again, and never given back before the
 * plugin is closed. So an event that a plugin has kept for too long can be told from the one that
 * has its slot now: by the slot's generation, which goes up whenever an event ends. */
#ifndef LEVERET_RUNTIME_NATIVE_STATE_H
#define LEVERET_RUNTIME_NATIVE_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/run.h"
#include "runtime/native/native_handler.h"

/* Threads of a blocking plugin. */
#define LVT_NATIVE_THREADS_MAX 64
/* Events that are over and that the plugin has not finished. */
#define LVT_NATIVE_OVER_MAX 1000
/* Calls of one event that have not been answered. */
#define LVT_NATIVE_CALLS_MAX 1000

struct lvt_native;
struct lvt_native_call;

enum lvt_native_stage {
    LVT_SLOT_FREE,
    LVT_SLOT_QUEUED,   /* for a thread */
    LVT_SLOT_HANDLED,  /* the plugin has it */
    LVT_SLOT_FINISHED, /* it has its verdict, which the loop has not seen */
};

struct lvt_native_slot {
    struct lvt_native *native;
    _Atomic uint64_t generation;
    struct lvt_native_slot *next; /* of the one list that it is on: see struct lvt_native */
    enum lvt_native_stage stage;
    struct lvt_run *run; /* NULL once the engine has ended it */
    struct lvt_delivery *delivery;
    struct leveret_event_info info;
    char sqlstate[6]; /* of the last statement, when it failed */

    struct lvt_native_call *calls; /* under way: the loop's */
    size_t call_count;
    struct lvt_native_call *kept; /* a blocking plugin's last answer */
    bool calling;                 /* a thread waits for an answer */
    struct lvt_native_worker *worker;

    int32_t verdict;
    int64_t after_ms;
    char *reason;
};

/* A thread of a blocking plugin. */
struct lvt_native_worker {
    struct lvt_native *native;
    pthread_t thread;
    struct lvt_seat *seat; /* NULL: there is nobody to see it, or none was free */
    bool stuck;            /* with an event that is over */
};

struct lvt_native_block;

struct lvt_native {
    pthread_mutex_t log_lock;
    const struct lvt_log *log; /* NULL once the plugin is left to its stuck threads */
    const char *name;          /* the handler's, as is the version */
    char version[13];
    void *library;
    const struct leveret_plugin *plugin;
    void *self;
    bool opened;
    bool blocking;
    uint32_t threads_max;

    /* the loop's */
    struct lvt_engine *engine;
    struct lvt_letter letter;
    pthread_t loop;
    bool loop_known;
    bool refusing; /* has been logged */

    pthread_mutex_t lock;                         /* over all that follows, and the slots */
    pthread_cond_t work;                          /* for threads: an event, or the end */
    struct lvt_native_block *blocks;              /* the slots' memory */
    struct lvt_native_slot *unused;               /* slots that are free */
    struct lvt_native_slot *queued, *queued_last; /* for a thread */
    struct lvt_native_slot *finished;             /* for the loop */
    struct lvt_native_call *asked, *asked_last;   /* by threads, for the loop */
    uint32_t attached;                            /* events whose run goes on */
    uint32_t over;                                /* events whose run does not, unfinished */
    struct lvt_native_worker workers[LVT_NATIVE_THREADS_MAX];
    uint32_t worker_count; /* threads that were started */
    uint32_t alive, busy, stuck;
    uint32_t queued_count;
    bool stopping;
    bool orphaned; /* destroyed while a thread was stuck: the last one to return closes it */
};

/* native_host.c */
/* A line with the plugin's name and version; `slot`, where it is not NULL, adds its event's. From
 * any thread. */
void lvt_native_log(struct lvt_native *native, const struct lvt_native_slot *slot,
                    enum lvt_level level, const char *text, const struct lvt_field *fields,
                    size_t field_count);

/* native_slot.c */
/* The slot of an event that is not over; NULL. */
struct lvt_native_slot *lvt_native_slot_of(struct leveret_event event);
struct leveret_event lvt_native_event_of(const struct lvt_native_slot *slot);
/* For the run; NULL when out of memory. The rest of this group: with the lock held. */
struct lvt_native_slot *lvt_native_slot_take(struct lvt_native *native, struct lvt_run *run);
/* The event is over for the plugin, too: its memory goes. */
void lvt_native_slot_release(struct lvt_native_slot *slot);
void lvt_native_slots_free(struct lvt_native *native);

/* native_run.c */
void lvt_native_start(void *self, struct lvt_run *run);
void lvt_native_abort(void *self, struct lvt_run *run);
/* What threads asked for and finished. */
void lvt_native_deliver(struct lvt_letter *letter);
int32_t lvt_native_finish(struct leveret_event event, int32_t verdict, const char *reason,
                          int64_t after_ms);

/* native_effects.c: as plugin.h describes them. */
const struct leveret_answer *lvt_native_query(struct leveret_event event, struct leveret_text sql,
                                              const struct leveret_text *params, size_t param_count,
                                              leveret_answered *done, void *ctx);
const struct leveret_answer *lvt_native_redis(struct leveret_event event,
                                              const struct leveret_text *words, size_t word_count,
                                              leveret_answered *done, void *ctx);
const struct leveret_answer *lvt_native_invalidate(struct leveret_event event,
                                                   const struct leveret_text *patterns,
                                                   size_t pattern_count, leveret_answered *done,
                                                   void *ctx);
const struct leveret_answer *lvt_native_http(struct leveret_event event,
                                             const struct leveret_http_request *request,
                                             leveret_answered *done, void *ctx);
const struct leveret_answer *lvt_native_sleep(struct leveret_event event, uint64_t delay_ms,
                                              leveret_answered *done, void *ctx);
const struct leveret_answer *lvt_native_publish(struct leveret_event event,
                                                const struct leveret_publish *publish,
                                                leveret_answered *done, void *ctx);

/* native_pool.c */
/* Queues the slot for a thread. With the lock held. False: the system gives no thread. */
bool lvt_native_pool_add(struct lvt_native *native, struct lvt_native_slot *slot);
/* Takes a slot that no thread has begun with off the queue. With the lock held. */
void lvt_native_pool_remove(struct lvt_native *native, struct lvt_native_slot *slot);
/* Ends the threads. True when all have ended; else those that are stuck go on, and the last of them
 * disposes of the plugin. */
bool lvt_native_pool_stop(struct lvt_native *native);

/* native_handler.c: closes the plugin and unloads it. NULL and half-made ones are fine. */
void lvt_native_dispose(struct lvt_native *native);

#endif
