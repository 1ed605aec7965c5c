/* One lane: a loop with the engine on it, and the ports over RabbitMQ, PostgreSQL, Redis and HTTP.
 */
#ifndef LEVERET_LANE_LANE_H
#define LEVERET_LANE_LANE_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/log.h"
#include "blackbox/blackbox.h"
#include "config/config.h"
#include "engine/routes.h"
#include "engine/stats.h"

struct lvt_lane;

/* All that is pointed to stays the caller's, and outlives the lane. */
struct lvt_lane_options {
    const struct lvt_config *config;
    struct lvt_routes *routes;
    const struct lvt_log *log;
    const struct lvt_post *post; /* NULL: nobody supervises it, and it serves the pages itself */
};

/* What other threads may see of a lane, as of the last turn of its loop. */
struct lvt_lane_shown {
    _Atomic uint64_t outcomes[LVT_OUTCOME_COUNT];
    _Atomic uint64_t events_without_id, in_flight;
    atomic_bool ready; /* every service is there, and every queue is consumed */
};

/* Connects to nothing yet. LEVERET_CONFIG: something in the configuration cannot be used. */
enum leveret_code lvt_lane_new(const struct lvt_lane_options *options, struct lvt_lane **ret_lane,
                               struct leveret_error *err) LVT_MUST_CHECK;

/* Works until it is stopped: connects, and goes on connecting, for ever. LEVERET_CONFIG when a
 * service was reached and refuses what the configuration asks of it. */
enum leveret_code lvt_lane_run(struct lvt_lane *lane, struct leveret_error *err) LVT_MUST_CHECK;

/* From any thread. Belongs to the lane. */
const struct lvt_lane_shown *lvt_lane_shown(const struct lvt_lane *lane);

/* Ends lvt_lane_run gracefully: what is in flight is finished within shutdown_timeout_ms, the rest
 * goes back to its queues. From any thread, and from a signal handler; before the run, which then
 * ends as soon as it has begun, and after it, too. */
void lvt_lane_stop(struct lvt_lane *lane);

/* Compares the handlers with their files at once, as it also does by itself when a file changes.
 * From any thread, and from a signal handler. */
void lvt_lane_reload(struct lvt_lane *lane);

/* Not while it runs. NULL is fine. */
void lvt_lane_free(struct lvt_lane *lane);

#endif
