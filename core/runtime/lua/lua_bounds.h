/* Functions of Lua's libraries that could be made to work without end inside C, where no hook stops
 * them, replaced by ones that do the same and keep to the budget. */
#ifndef LEVERET_RUNTIME_LUA_BOUNDS_H
#define LEVERET_RUNTIME_LUA_BOUNDS_H

#include "runtime/lua/lua_state.h"

/* In the libraries that are open as globals. */
void lvt_lua_bounds_open(lua_State *L);

/* lua_strings.c: those that take patterns. */
int lvt_lua_string_find(lua_State *L);
int lvt_lua_string_match(lua_State *L);
int lvt_lua_string_gmatch(lua_State *L);
int lvt_lua_string_gsub(lua_State *L);

#endif
