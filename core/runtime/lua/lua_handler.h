/* Handlers that are Lua files. */
#ifndef LEVERET_RUNTIME_LUA_HANDLER_H
#define LEVERET_RUNTIME_LUA_HANDLER_H

#include "base/log.h"
#include "config/config.h"
#include "engine/routes.h"

/* Reads, compiles and checks a handler's file in a Lua state of its own. Its name is the file's
 * without ".lua"; its options are the configuration's defaults with the file's over them. The log
 * outlives it. LEVERET_CONFIG with the file and, where it can be told, the line. */
enum leveret_code lvt_lua_handler_load(const char *path, const struct lvt_config *config,
                                       const struct lvt_log *log, struct lvt_handler **ret_handler,
                                       struct leveret_error *err) LVT_MUST_CHECK;

/* Its client library and version, such as "Lua 5.4.4". Static storage. */
const char *lvt_lua_library(void);

#endif
