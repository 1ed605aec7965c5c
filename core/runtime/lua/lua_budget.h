/* The budget of processor time that a handler has between two waits, and a file while it is
 * evaluated. A handler that works for longer than a few milliseconds is interrupted, so that the
 * loop can see to others, and goes on with the loop's next turn; one that has spent its budget is
 * stopped, through pcall and coroutines, with a verdict. */
#ifndef LEVERET_RUNTIME_LUA_BUDGET_H
#define LEVERET_RUNTIME_LUA_BUDGET_H

#include "runtime/lua/lua_state.h"

/* For C functions whose work may be long, now and then: ends the run, or raises, when the budget is
 * spent. Cheap. */
void lvt_lua_budget_check(lua_State *L);

/* Begins the stint of the run, or evaluation, that is to be resumed; a stint goes on until it
 * waits. Do not raise. */
void lvt_lua_stint_begin(struct lvt_lua_stint *stint);
void lvt_lua_stint_go_on(struct lvt_lua_stint *stint);

#endif
