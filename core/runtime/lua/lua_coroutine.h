/* pcall, xpcall and the coroutine library as handlers know them, with two differences that they do
 * not see: a call that waits inside a coroutine of theirs makes the whole handler wait, and a
 * verdict ends the handler through all of them. */
#ifndef LEVERET_RUNTIME_LUA_COROUTINE_H
#define LEVERET_RUNTIME_LUA_COROUTINE_H

#include "runtime/lua/lua_state.h"

/* Opens the coroutine library, and replaces pcall and xpcall. */
void lvt_lua_coroutine_open(lua_State *L);

#endif
