/* `leveret exec`: one handler, one event, no broker. */
#ifndef LEVERET_LANE_EXEC_H
#define LEVERET_LANE_EXEC_H

#include "config/config.h"
#include "engine/routes.h"
#include "exec/recorder.h"

struct lvt_exec_options {
    const struct lvt_config *config;
    struct lvt_routes *routes; /* one handler on one queue */
    const struct lvt_log *log; /* of the services; what the handler logs is a step */
    struct lvt_watcher watcher;
    struct lvt_bytes body; /* the event, in any known envelope */
    uint32_t attempt;      /* which one this is to be, from 1 */
    /* Ask PostgreSQL, Redis and HTTP, and commit. Else stand-ins answer, and time that the handler
     * sleeps does not pass. */
    bool live;
};

/* Runs the engine until what becomes of the event is decided. Nothing is claimed or recorded, and
 * no message is sent. */
enum leveret_code lvt_exec_run(const struct lvt_exec_options *options,
                               struct lvt_exec_result *ret_result,
                               struct leveret_error *err) LVT_MUST_CHECK;

#endif
