/* `leveret run --embedded`: broker, ledger and cache inside the process, events from a descriptor.
 */
#ifndef LEVERET_LANE_EMBEDDED_H
#define LEVERET_LANE_EMBEDDED_H

#include "base/error.h"
#include "base/log.h"
#include "config/config.h"
#include "engine/routes.h"

struct lvt_embedded_options {
    const struct lvt_config *config;
    struct lvt_routes *routes;
    const struct lvt_log *log;
    int input; /* one event a line; stays the caller's */
};

/* Runs until the input has ended and every event is settled, its retries included. */
enum leveret_code lvt_embedded_run(const struct lvt_embedded_options *options,
                                   struct leveret_error *err) LVT_MUST_CHECK;

#endif
