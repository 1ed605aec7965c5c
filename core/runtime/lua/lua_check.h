/* Mistakes in a handler's file that would show only when an event meets them. */
#ifndef LEVERET_RUNTIME_LUA_CHECK_H
#define LEVERET_RUNTIME_LUA_CHECK_H

#include <stdbool.h>

#include "config/config.h"

struct lvt_lua_finding {
    unsigned line;
    bool certain; /* it fails when that line runs; else it may be meant */
    char text[300];
};

/* Reads and evaluates the file, and calls found for each mistake. What ctx, the event and the
 * sandbox have is taken from a state as handlers run in. LEVERET_CONFIG when the file cannot be
 * loaded. */
enum leveret_code lvt_lua_check(const char *path, const struct lvt_config *config,
                                void (*found)(void *ctx, const struct lvt_lua_finding *finding),
                                void *ctx, struct leveret_error *err) LVT_MUST_CHECK;

#endif
