#include "runtime/lua/lua_event.h"

#include <inttypes.h>
#include <stdio.h>

#include "event/envelope.h"
#include "runtime/lua/lua_json.h"

/* Key in the registry. */
static const char event_key;

/* ---- headers ---- */

static void push_headers(lua_State *L, const struct lvt_headers *headers, bool array,
                         unsigned depth);

static void push_spelt(lua_State *L, const char *format, uint64_t value) {
    char spelling[32];
    int len = snprintf(spelling, sizeof spelling, format, value);
    lvt_lua_push_number(L, lvt_bytes(spelling, (size_t)len));
}

/* A decimal is an integer and the count of its digits behind the point. */
static void push_decimal(lua_State *L, const struct lvt_header *header) {
    char spelling[32];
    unsigned decimals = header->value.decimal.decimals;
    int len = snprintf(spelling, sizeof spelling, decimals > 0 ? "%" PRIu32 "e-%u" : "%" PRIu32,
                       header->value.decimal.value, decimals);
    lvt_lua_push_number(L, lvt_bytes(spelling, (size_t)len));
}

static void push_header(lua_State *L, const struct lvt_header *header, unsigned depth) {
    switch (header->kind) {
    case LVT_HEADER_BOOLEAN:
        lua_pushboolean(L, header->value.boolean);
        break;
    case LVT_HEADER_INT8:
    case LVT_HEADER_INT16:
    case LVT_HEADER_INT32:
    case LVT_HEADER_INT64:
        lua_pushinteger(L, header->value.integer);
        break;
    case LVT_HEADER_UINT8:
    case LVT_HEADER_UINT16:
    case LVT_HEADER_UINT32:
    case LVT_HEADER_UINT64:
    case LVT_HEADER_TIMESTAMP:
        push_spelt(L, "%" PRIu64, header->value.unsigned_integer);
        break;
    case LVT_HEADER_FLOAT:
    case LVT_HEADER_DOUBLE:
        lua_pushnumber(L, header->value.number);
        break;
    case LVT_HEADER_DECIMAL:
        push_decimal(L, header);
        break;
    case LVT_HEADER_STRING:
    case LVT_HEADER_BYTES:
        lua_pushlstring(L, header->value.bytes.data ? header->value.bytes.data : "",
                        header->value.bytes.len);
        break;
    case LVT_HEADER_ARRAY:
    case LVT_HEADER_TABLE:
        push_headers(L, &header->value.nested, header->kind == LVT_HEADER_ARRAY, depth + 1);
        break;
    default:
        lvt_lua_push_null(L);
        break;
    }
}

/* Of a name that is there twice the first stays, as everywhere. */
static void push_headers(lua_State *L, const struct lvt_headers *headers, bool array,
                         unsigned depth) {
    if (depth > LVT_NESTING_MAX)
        luaL_error(L, "headers are nested too deep");
    luaL_checkstack(L, LUA_MINSTACK, "headers");
    lua_createtable(L, array ? (int)headers->count : 0, array ? 0 : (int)headers->count);
    int table = lua_gettop(L);
    for (size_t i = headers->count; i > 0; i--) {
        const struct lvt_header *header = &headers->items[i - 1];
        if (!array)
            lua_pushlstring(L, header->name.data ? header->name.data : "", header->name.len);
        push_header(L, header, depth);
        if (array)
            lua_rawseti(L, table, (lua_Integer)i);
        else
            lua_rawset(L, table);
    }
    if (array)
        lvt_lua_mark_array(L);
}

/* ---- fields ---- */

static void push_text(lua_State *L, struct lvt_bytes text) {
    if (text.len > 0)
        lua_pushlstring(L, text.data, text.len);
    else
        lua_pushnil(L);
}

static void push_type(lua_State *L, const struct lvt_event *event) {
    push_text(L, event->type);
}

static void push_id(lua_State *L, const struct lvt_event *event) {
    push_text(L, event->id);
}

static void push_payload(lua_State *L, const struct lvt_event *event) {
    lvt_lua_json_push(L, event->payload);
}

static void push_time(lua_State *L, const struct lvt_event *event) {
    push_text(L, event->time);
}

static void push_attempt(lua_State *L, const struct lvt_event *event) {
    lua_pushinteger(L, event->attempt);
}

static void push_event_headers(lua_State *L, const struct lvt_event *event) {
    push_headers(L, &event->delivery->properties.headers, false, 0);
}

/* The default exchange's name is the empty text, which is a value here. */
static void push_exchange(lua_State *L, const struct lvt_event *event) {
    lua_pushlstring(L, event->exchange.data ? event->exchange.data : "", event->exchange.len);
}

static void push_routing_key(lua_State *L, const struct lvt_event *event) {
    lua_pushlstring(L, event->routing_key.data ? event->routing_key.data : "",
                    event->routing_key.len);
}

static void push_queue(lua_State *L, const struct lvt_event *event) {
    if (event->delivery->queue)
        lua_pushstring(L, event->delivery->queue->name);
    else
        lua_pushnil(L);
}

static void push_priority(lua_State *L, const struct lvt_event *event) {
    if (event->priority >= 0)
        lua_pushinteger(L, (lua_Integer)event->priority);
    else
        lua_pushnil(L);
}

static void push_raw(lua_State *L, const struct lvt_event *event) {
    lua_pushlstring(L, event->delivery->body.data ? event->delivery->body.data : "",
                    event->delivery->body.len);
}

static const struct {
    const char *name;
    void (*push)(lua_State *L, const struct lvt_event *event);
} fields[] = {
    {"type", push_type},         {"id", push_id},
    {"payload", push_payload},   {"time", push_time},
    {"attempt", push_attempt},   {"headers", push_event_headers},
    {"exchange", push_exchange}, {"routing_key", push_routing_key},
    {"queue", push_queue},       {"priority", push_priority},
    {"raw", push_raw},
};

#define FIELD_COUNT (sizeof fields / sizeof *fields)

/* ---- the table ---- */

/* A table can only be met with the address of the current event's when it is that: both are
 * alive. */
static const struct lvt_event *event_of(lua_State *L, int index) {
    const struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    if (!lrun || !lrun->run || lua_topointer(L, index) != lrun->event)
        luaL_error(L, "this event is over: keep what you need of it, not the event itself");
    return lrun->run->event;
}

/* (event, key); the first upvalue is a table of the fields' numbers. */
static int event_index(lua_State *L) {
    const struct lvt_event *event = event_of(L, 1);
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) == LUA_TNIL)
        return 1;
    lua_Integer field = lua_tointeger(L, -1);
    fields[field - 1].push(L, event);
    if (!lua_isnil(L, -1)) {
        lua_pushvalue(L, 2);
        lua_pushvalue(L, -2);
        lua_rawset(L, 1);
    }
    return 1;
}

/* Makes all the fields that have not been read yet. */
static int event_pairs(lua_State *L) {
    const struct lvt_event *event = event_of(L, 1);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        lua_pushstring(L, fields[i].name);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, 1) == LUA_TNIL) {
            lua_pop(L, 1);
            fields[i].push(L, event);
            lua_rawset(L, 1);
        }
        lua_settop(L, 1);
    }
    lua_pushvalue(L, lua_upvalueindex(1)); /* next */
    lua_pushvalue(L, 1);
    return 2;
}

void lvt_lua_event_open(lua_State *L) {
    lua_createtable(L, 0, 4);
    lua_createtable(L, 0, (int)FIELD_COUNT);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        lua_pushinteger(L, (lua_Integer)i + 1);
        lua_setfield(L, -2, fields[i].name);
    }
    lua_pushcclosure(L, event_index, 1);
    lua_setfield(L, -2, "__index");
    lua_getglobal(L, "next");
    lua_pushcclosure(L, event_pairs, 1);
    lua_setfield(L, -2, "__pairs");
    lua_pushliteral(L, "event");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &event_key);
}

void lvt_lua_event_fields_push(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &event_key);
    lua_getfield(L, -1, "__index");
    lua_getupvalue(L, -1, 1);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

void lvt_lua_event_push(lua_State *L, struct lvt_lua_run *lrun) {
    lua_createtable(L, 0, 4);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &event_key);
    lua_setmetatable(L, -2);
    lrun->event = lua_topointer(L, -1);
}
