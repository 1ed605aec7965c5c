/* The event as a handler sees it: a table whose fields are made when they are first read. */
#ifndef LEVERET_RUNTIME_LUA_EVENT_H
#define LEVERET_RUNTIME_LUA_EVENT_H

#include "runtime/lua/lua_run.h"

/* Makes what all events of a state share; once for each state. */
void lvt_lua_event_open(lua_State *L);

/* Pushes the run's event. A handler may keep the table, but once the run is over a field that was
 * not read before is not to be had. */
void lvt_lua_event_push(lua_State *L, struct lvt_lua_run *lrun);

/* Pushes a table whose keys are the fields that an event has. */
void lvt_lua_event_fields_push(lua_State *L);

#endif
