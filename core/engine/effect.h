/* A call of a running handler that has not been answered: the bookkeeping between a run, which may
 * end at any moment, and the ports, which answer when they can. For core/engine only. */
#ifndef LEVERET_ENGINE_EFFECT_H
#define LEVERET_ENGINE_EFFECT_H

#include "base/arena.h"
#include "engine/effects.h"
#include "engine/run.h"

enum lvt_effect_kind {
    LVT_EFFECT_SQL,
    LVT_EFFECT_REDIS,
    LVT_EFFECT_INVALIDATE,
    LVT_EFFECT_HTTP,
    LVT_EFFECT_SLEEP,
    LVT_EFFECT_TURN,
    LVT_EFFECT_PUBLISH,
};

/* On its run's list, or among the engine's orphans once the run has ended. */
struct lvt_effect {
    struct lvt_effect *prev, *next;
    struct lvt_effect *waiting_next; /* SQL: for a free connection */
    struct lvt_run *run;             /* NULL for an orphan */
    struct lvt_engine *engine;
    enum lvt_effect_kind kind;
    bool waiting;
    union {
        lvt_rows_done *rows;
        lvt_reply_done *reply;
        lvt_invalidate_done *invalidate;
        lvt_http_done *http;
        lvt_published_done *published;
        void (*sleep)(void *ctx);
    } done;
    void *ctx;
    struct lvt_timer timer; /* SLEEP and TURN, and a PUBLISH that cannot be */
    struct lvt_sql sql;     /* SQL: its texts follow this struct */
    /* patterns to invalidate; within a transaction the effect is SQL, and they follow this struct
     */
    const struct lvt_bytes *patterns;
    size_t asked, answered;
    int64_t removed;
    char *error;
    struct lvt_publishing *publishing; /* owned; within a transaction the effect is SQL */
};

/* There is no memory to ask with: the run ends as in an outage, but not before the caller has
 * returned. */
void lvt_effect_starve(struct lvt_run *run);
/* NULL when out of memory, which has starved the run. `extra` bytes follow the struct. */
struct lvt_effect *lvt_effect_new(struct lvt_run *run, enum lvt_effect_kind kind, void *ctx,
                                  size_t extra);
void lvt_effect_free(struct lvt_effect *effect);
/* Sends it in the run's transaction, which is opened for it if need be. */
void lvt_effect_need_tx(struct lvt_effect *effect);
void lvt_effect_outage(struct lvt_run *run, enum lvt_service service, const char *why);

/* publish.c */
void lvt_publishing_send_in_tx(struct lvt_effect *effect);
void lvt_publishing_free(struct lvt_publishing *publishing);

#endif
