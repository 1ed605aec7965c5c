/* One run of a Lua handler: a coroutine that is resumed with each answer it waits for. */
#ifndef LEVERET_RUNTIME_LUA_RUN_H
#define LEVERET_RUNTIME_LUA_RUN_H

#include "engine/run.h"
#include "runtime/lua/lua_state.h"

/* What a call that waited has come to. Each points to what belongs to the callback that got it. */
struct lvt_lua_answer {
    enum lvt_answer result;
    const struct lvt_rows *rows;
    const struct lvt_sql_error *sql_error;
    const struct lvt_reply *reply;
    const struct lvt_http_response *response;
    int64_t removed;
    struct lvt_bytes id;
    const char *error;
};

/* ctx.retry and its like: what the handler wants to become of its event. */
struct lvt_lua_verdict {
    struct lvt_verdict verdict;
    char text[]; /* that it points to */
};

struct lvt_lua_run {
    struct lvt_lua_run *next; /* of the idle ones */
    struct lvt_lua *lua;
    struct lvt_run *run; /* NULL once it is over */
    lua_State *thread;
    int thread_ref;
    uint64_t serial;    /* no other run of this state has it */
    const void *event;  /* the address of its event's table */
    unsigned unwaiting; /* resumes of nested coroutines under way that cannot wait */
    bool resumed;       /* is on the C stack */
    bool parked;        /* gave the processor up: to wait, or for good with a verdict */
    bool interrupted;   /* it did not ask to wait */
    struct lvt_lua_stint stint;
    struct lvt_lua_verdict *verdict;
    const struct lvt_lua_answer *answer; /* while it is being resumed with one */
};

/* A run, with a coroutine to run in. NULL when out of memory. Does not raise. */
struct lvt_lua_run *lvt_lua_run_new(struct lvt_lua *lua, struct lvt_run *run);
/* Gives it back. Its coroutine is used again only when it has ended by itself. Does not raise. */
void lvt_lua_run_free(struct lvt_lua_run *lrun, bool ended);
/* Frees the idle ones, before their state. */
void lvt_lua_run_free_idle(struct lvt_lua *lua);

/* The only place where an event's coroutine goes on: with the function on its stack the first time,
 * later with an answer. Returns Lua's status. Does not raise. */
int lvt_lua_run_resume(struct lvt_lua_run *lrun, const struct lvt_lua_answer *answer);

/* Resumes the run, and when that has ended it, says so to the engine: `ctx` is not to be touched
 * afterwards. For the callbacks of effects, which are given the run. Does not raise. */
void lvt_lua_run_answered(void *ctx, const struct lvt_lua_answer *answer);

/* ---- for C functions that handlers call ---- */

/* The run that calls. Raises outside of one; ends the run when a verdict stands. */
struct lvt_lua_run *lvt_lua_run_current(lua_State *L);
/* The same for a call that waits: raises when it could not. */
struct lvt_lua_run *lvt_lua_run_waiting(lua_State *L);
/* Ends the C function: the run waits for an answer, with which `next` goes on. */
int lvt_lua_run_park(lua_State *L, lua_KFunction next);
/* In `next`: the answer. Raises when it is not this coroutine that waits for it. */
const struct lvt_lua_answer *lvt_lua_run_answer(lua_State *L, lua_KContext serial);

/* Keeps a copy of the verdict, when it is the first one, and ends the run. */
int lvt_lua_run_end(lua_State *L, const struct lvt_verdict *verdict);
/* Ends the run, as it went over a limit: a failed attempt. Not so in a state that another run has
 * broken: there it may be the other's fault, and it runs again at no cost. */
int lvt_lua_run_breach(lua_State *L, struct lvt_bytes reason, struct lvt_bytes trace);
/* For whoever has caught an error: ends the run again when a verdict stands, or when memory was
 * refused. */
void lvt_lua_run_check_ended(lua_State *L);

/* Whether the run, or the evaluation of a file, is at its end, and only unwinds. Does not raise. */
bool lvt_lua_run_is_over(lua_State *L);

/* For a hook: interrupts the run, where that can be done. */
void lvt_lua_run_interrupt(lua_State *L);

/* What a run that was refused memory has to say. */
#define LVT_LUA_MEMORY_TEXT_MAX 80
struct lvt_bytes lvt_lua_run_memory_text(const struct lvt_lua *lua,
                                         char text[LVT_LUA_MEMORY_TEXT_MAX]);

#endif
