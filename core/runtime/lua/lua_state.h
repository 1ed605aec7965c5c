/* One Lua state: its memory cap, its sandbox, and who is running in it. Functions that take a
 * lua_State may raise Lua errors, which are long jumps, unless their comment says that they do not:
 * nothing that only C knows of may be held across them. */
#ifndef LEVERET_RUNTIME_LUA_STATE_H
#define LEVERET_RUNTIME_LUA_STATE_H

#include <lauxlib.h>
#include <lua.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"

/* What Lua, and its string buffers, say when memory is refused. */
#define LVT_LUA_NO_MEMORY "not enough memory"

struct lvt_lua_handler;
struct lvt_lua_run;

/* Work without a wait, as lua_budget.c counts it. */
struct lvt_lua_stint {
    uint64_t noticed_us; /* the thread's processor time when it was last looked at; 0: not yet */
    uint64_t spent_us;
};

struct lvt_lua {
    lua_State *state;
    size_t memory_bytes, memory_max_bytes;
    size_t refused_bytes; /* of the request that was just refused, or 0 */
    bool exhausted;       /* ask lvt_lua_is_exhausted */
    bool worn;            /* to be replaced when its runs are over */
    bool broken;          /* by a run that went over a limit: what others share may be half done */
    bool overdue;         /* a file's evaluation has spent its budget */
    struct lvt_lua_stint stint; /* of an evaluation */
    uint64_t stint_ms;          /* its budget */
    const struct lvt_log *log;  /* NULL for a configuration's */
    struct lvt_buffer scratch;  /* for a text on its way into Lua; nobody's across calls */
    const void *array_mark;     /* addresses of metatables, to know them by */
    const void *number_mark;

    struct lvt_lua_handler *owner; /* whose state it is; NULL for a configuration's */
    struct lvt_lua_run *current;   /* the run that is being resumed */
    struct lvt_lua_run *idle;      /* runs that are over, with coroutines to use again */
    size_t idle_count;
    size_t run_count;
    uint64_t serial; /* of the newest run */
};

/* An empty state. NULL when out of memory. The log (or NULL) outlives the state. */
struct lvt_lua *lvt_lua_new(size_t memory_max_bytes, const struct lvt_log *log);
void lvt_lua_free(struct lvt_lua *lua);

/* The state that L is a coroutine of. Does not raise. */
struct lvt_lua *lvt_lua_of(lua_State *L);

/* A C function for lua_pcall: opens the safe parts of the standard libraries as globals. */
int lvt_lua_open_sandbox(lua_State *L);
/* Puts an empty table in the place of what is on top, a function or a table, which looks names up
 * there; its metatable is out of reach. */
void lvt_lua_make_lookup(lua_State *L);

/* Whether a request for memory was refused for good, and no run has had to answer for it yet. Does
 * not raise. */
bool lvt_lua_is_exhausted(const struct lvt_lua *lua);

/* Calls `open` in protected mode. */
enum leveret_code lvt_lua_open(struct lvt_lua *lua, lua_CFunction open,
                               struct leveret_error *err) LVT_MUST_CHECK;

/* The scratch buffer, empty. Does not raise. */
struct lvt_buffer *lvt_lua_scratch(lua_State *L);

/* For evaluating a file. */
#define LVT_LUA_EVALUATION_MS 500

/* Calls the function and arguments on the stack in protected mode, with a budget of processor time:
 * a loop without an end is an error. Returns Lua's status; does not raise. */
int lvt_lua_call_bounded(struct lvt_lua *lua, int arguments, int results, uint64_t budget_ms);

#endif
