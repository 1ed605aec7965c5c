/* Ports that tell of all that a handler asks for, and pass it on to others. The event itself stays
 * here: its claim is granted, its record is kept nowhere, and the message that it would go on as is
 * confirmed without being sent. */
#ifndef LEVERET_EXEC_RECORDER_H
#define LEVERET_EXEC_RECORDER_H

#include "engine/engine.h"
#include "engine/run.h"
#include "exec/step.h"

struct lvt_recorder;

struct lvt_recorder_options {
    struct lvt_watcher watcher;
    struct lvt_handler *handler; /* the one that is watched; outlives the recorder */
    enum lvt_level log_level;
    /* Called before the engine is given an answer: brings its clock up to date. */
    void (*tick)(void *ctx);
    void *tick_ctx;
};

/* What became of the event. */
struct lvt_exec_result {
    bool ran; /* false: no handler was given it, and the reason says why */
    enum lvt_verdict_kind verdict;
    bool dead; /* it would go to the dead letters */
    uint32_t attempt, retries_max;
    uint64_t delay_ms; /* until it comes again */
    uint64_t duration_ms;
    char sqlstate[6];
    char reason[LVT_REASON_MAX + 1];
    char trace[LVT_TRACE_MAX + 1];
};

/* Takes the handler's runtime over, until it is freed. LEVERET_NO_MEMORY is the only error. */
enum leveret_code lvt_recorder_new(const struct lvt_recorder_options *options,
                                   struct lvt_recorder **ret_recorder,
                                   struct leveret_error *err) LVT_MUST_CHECK;
/* After the engine, and after the ports that it passed things on to. NULL is fine. */
void lvt_recorder_free(struct lvt_recorder *recorder);

/* The engine's log: what the handler says becomes steps. Valid as long as the recorder. */
const struct lvt_log *lvt_recorder_log(const struct lvt_recorder *recorder);

/* Gives the engine the recorder's ports, which pass on to these. Of the ledger only transactions
 * are asked for. */
void lvt_recorder_attach(struct lvt_recorder *recorder, struct lvt_engine *engine,
                         struct lvt_ledger_port ledger, struct lvt_cache_port cache,
                         struct lvt_http_port http);

/* Hands the engine what is answered here. */
void lvt_recorder_poll(struct lvt_recorder *recorder);
/* Whether poll has something to hand over. */
bool lvt_recorder_pending(const struct lvt_recorder *recorder);

/* The run that is under way; NULL when there is none. */
const struct lvt_run *lvt_recorder_run(const struct lvt_recorder *recorder);
/* Asked for and not answered. */
size_t lvt_recorder_outstanding(const struct lvt_recorder *recorder);
/* For what no port hears of. */
void lvt_recorder_slept(struct lvt_recorder *recorder, uint64_t delay_ms);

/* False while it is not decided. An outage decides it too: there is nobody to wait for the service
 * to come back. */
bool lvt_recorder_result(struct lvt_recorder *recorder, struct lvt_exec_result *ret_result);
/* There was no memory to pass something on with: its answer will not come. */
bool lvt_recorder_failed(const struct lvt_recorder *recorder);

#endif
