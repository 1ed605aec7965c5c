/* One attempt at one event. */
#ifndef LEVERET_ENGINE_RUN_H
#define LEVERET_ENGINE_RUN_H

#include "base/log.h"
#include "blackbox/blackbox.h"
#include "engine/event.h"
#include "engine/ports.h"
#include "engine/routes.h"
#include "engine/verdict.h"

struct lvt_run {
    struct lvt_event *event;
    struct lvt_handler *handler;
    void *runtime_data; /* the runtime's own */
    /* the engine's */
    struct lvt_engine *engine;
    struct lvt_tx *tx;
    bool tx_open; /* its begin has been answered */
    bool finished;
    struct lvt_effect *effects;             /* asked for and not answered */
    struct lvt_invalidation *invalidations; /* to do after the commit */
    struct lvt_timer timeout;
    uint64_t started_ms;
    struct lvt_running *row; /* of the lane's blackbox; NULL: none */
};

/* Ends the run. The first verdict stands; later ones are forgotten. Afterwards the runtime must not
 * touch the run. Called by the runtime; when the engine ends a run it calls the runtime's abort. */
void lvt_run_finish(struct lvt_run *run, const struct lvt_verdict *verdict);

/* A handler's own log line, with the event's fields added. */
void lvt_run_log(struct lvt_run *run, enum lvt_level level, const char *text,
                 const struct lvt_field *fields, size_t field_count);

/* Around every piece of a handler's code: whoever has control when the process dies is to blame for
 * it. Calls nest. By the loop's thread; a runtime's own threads have seats of their own. */
void lvt_run_enter(struct lvt_run *run);
void lvt_run_leave(struct lvt_engine *engine);

/* For the seat of a runtime's thread. */
void lvt_run_subject(const struct lvt_run *run, struct lvt_subject *ret_subject);
/* NULL: nobody would read it. */
struct lvt_blackbox *lvt_engine_blackbox(const struct lvt_engine *engine);

#endif
