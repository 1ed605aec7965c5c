/* JSON to Lua and back, losing nothing: null is a value of its own (ctx.null), arrays are marked,
 * so that an empty one stays one, integers of 64 bits are exact, 1 and 1.0 differ, and a number
 * that neither of Lua's kinds can hold is an object that keeps its spelling. Of duplicate keys the
 * first wins, as in an envelope. */
#ifndef LEVERET_RUNTIME_LUA_JSON_H
#define LEVERET_RUNTIME_LUA_JSON_H

#include "base/bytes.h"
#include "runtime/lua/lua_state.h"

/* Makes the metatables that the rest of this needs; once for each state. */
void lvt_lua_json_open(lua_State *L);

void lvt_lua_push_null(lua_State *L);
bool lvt_lua_is_null(lua_State *L, int index);

/* Marks the table on top of the stack as an array. */
void lvt_lua_mark_array(lua_State *L);

/* Pushes a number as it is spelt, as an integer, a float, or an object that keeps the spelling. */
void lvt_lua_push_number(lua_State *L, struct lvt_bytes spelling);
/* The spelling of such an object; data is NULL when the value is something else. Does not raise. */
struct lvt_bytes lvt_lua_number_spelling(lua_State *L, int index);

/* Pushes the value. The text is valid, with nesting of at most LVT_NESTING_MAX. */
void lvt_lua_json_push(lua_State *L, struct lvt_bytes text);
/* Raises when the text is not valid. */
void lvt_lua_json_decode(lua_State *L, struct lvt_bytes text);

/* Writes the value at `index`. NULL, or what it holds that JSON cannot (static text). Raises only
 * when Lua is out of memory, or the budget spent. */
const char *lvt_lua_json_write(lua_State *L, int index, struct lvt_buffer *out);
/* Pushes the value's JSON as a string; raises when there is none. */
void lvt_lua_json_encode(lua_State *L, int index);

#endif
