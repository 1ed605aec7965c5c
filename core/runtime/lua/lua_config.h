/* The configuration's file. */
#ifndef LEVERET_RUNTIME_LUA_CONFIG_H
#define LEVERET_RUNTIME_LUA_CONFIG_H

#include "config/config.h"

/* Evaluates the file, whose globals are the keys, and sets what it assigns. `env.NAME` or
 * env("NAME", default) is an environment variable. LEVERET_CONFIG with file and line; the
 * configuration may then have been set in part. */
enum leveret_code lvt_lua_config_read(const char *path, struct lvt_config *config,
                                      struct leveret_error *err) LVT_MUST_CHECK;

#endif
