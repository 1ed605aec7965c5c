/* A Lua table into a struct, by the table of its keys. */
#ifndef LEVERET_RUNTIME_LUA_OPTIONS_H
#define LEVERET_RUNTIME_LUA_OPTIONS_H

#include "config/config.h"
#include "runtime/lua/lua_source.h"

/* Sets every key of the table on top of the stack, except `skipped` (or NULL), in the struct that
 * `keys` describes. LEVERET_CONFIG with file, line and key. Does not raise. */
enum leveret_code lvt_lua_options_read(lua_State *L, const struct lvt_lua_source *source,
                                       const char *skipped, const struct lvt_key *keys,
                                       size_t key_count, void *target,
                                       struct leveret_error *err) LVT_MUST_CHECK;

#endif
