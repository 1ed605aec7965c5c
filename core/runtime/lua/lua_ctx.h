/* What a handler is given beside its event. One table for each state, whose functions act on the
 * run that calls them, so that a ctx kept beyond its event never acts on that one. */
#ifndef LEVERET_RUNTIME_LUA_CTX_H
#define LEVERET_RUNTIME_LUA_CTX_H

#include "runtime/lua/lua_state.h"

/* Makes ctx and the global `print`; once for each state. */
void lvt_lua_ctx_open(lua_State *L);
void lvt_lua_ctx_push(lua_State *L);

/* Its parts: each pushes what ctx has under that name. */
void lvt_lua_log_push(lua_State *L);
void lvt_lua_db_push(lua_State *L);
void lvt_lua_redis_push(lua_State *L);
void lvt_lua_cache_push(lua_State *L);
void lvt_lua_http_push(lua_State *L);
int lvt_lua_print(lua_State *L);
int lvt_lua_publish(lua_State *L);

/* Whether the value at `index` is an error of the database's. */
bool lvt_lua_is_sql_error(lua_State *L, int index);
/* The SQLSTATE of the database's error at `index`, anchored there; NULL when it is something
 * else. */
const char *lvt_lua_sqlstate(lua_State *L, int index);

#endif
