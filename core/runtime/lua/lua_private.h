/* The handler behind its runtime: its text, and the state that it runs in. */
#ifndef LEVERET_RUNTIME_LUA_PRIVATE_H
#define LEVERET_RUNTIME_LUA_PRIVATE_H

#include "runtime/lua/lua_source.h"

struct lvt_lua_handler {
    struct lvt_lua_source source;
    const struct lvt_log *log;
    size_t memory_max_bytes;
    uint64_t budget_ms;
    bool watched;            /* it has been seen to that its budget can be kept */
    struct lvt_lua *lua;     /* NULL: to be made again */
    struct lvt_lua *retired; /* worn, with runs still in it */
};

/* After a run: a worn state is replaced, and freed once its last run is over. It is worn when a run
 * went over a limit, or when memory was short, even for a moment: a full collection in the midst of
 * a request is where Lua 5.4.4 has its known faults. */
void lvt_lua_handler_tidy(struct lvt_lua_handler *handler);

/* A C function for lua_pcall: makes all that a handler's file finds in its state. */
int lvt_lua_handler_open(lua_State *L);
/* The same, and then evaluates the file. Leaves what it returned on the stack. Does not raise. */
enum leveret_code lvt_lua_handler_fill(struct lvt_lua *lua, const struct lvt_lua_source *source,
                                       struct leveret_error *err) LVT_MUST_CHECK;
/* Pushes the function that handles. */
void lvt_lua_handler_handle_push(lua_State *L);

#endif
