/* Compares the handlers' files with the handlers that run, and makes the worker what the files say.
 * On the loop's thread. */
#ifndef LEVERET_RUNTIME_RELOAD_H
#define LEVERET_RUNTIME_RELOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "engine/engine.h"

/* How long a file has to be away before its handler is removed. */
#define LVT_REMOVAL_MS 1000

struct lvt_reload;

/* All that is pointed to stays the caller's, and outlives the reload. */
struct lvt_reload_options {
    const struct lvt_config *config;
    struct lvt_engine *engine;
    const struct lvt_routes *routes; /* the engine's */
    struct lvt_stats *stats;
    const struct lvt_log *log;
};

/* NULL when out of memory. */
struct lvt_reload *lvt_reload_new(const struct lvt_reload_options *options);
void lvt_reload_free(struct lvt_reload *reload);

/* One comparison, by content. A file that cannot be used leaves what runs as it is, and is logged
 * once for each content. A folder that cannot be read keeps its handlers. `at_once`: a file that is
 * missing is removed now. Returns when to compare again, whether or not a file
 * changes; or 0. */
uint64_t lvt_reload_scan(struct lvt_reload *reload, uint64_t now_ms, bool at_once);

#endif
