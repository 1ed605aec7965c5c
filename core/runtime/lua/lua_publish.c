/* ctx.publish. */
#include <string.h>

#include "engine/effects.h"
#include "runtime/lua/lua_ctx.h"
#include "runtime/lua/lua_json.h"
#include "runtime/lua/lua_run.h"

static struct lvt_bytes read_text(lua_State *L, const char *name) {
    struct lvt_bytes text;
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "ctx.publish: %s must be a text", name);
    text.data = lua_tolstring(L, -1, &text.len);
    return text;
}

/* A whole number from `least` to what 32 bits hold; the engine knows the limits below that. */
static uint64_t read_number(lua_State *L, const char *name, lua_Integer least) {
    int exact;
    lua_Integer number = lua_tointegerx(L, -1, &exact);
    if (!exact || lua_type(L, -1) != LUA_TNUMBER || number < least || number > INT32_MAX)
        luaL_error(L, "ctx.publish: %s must be a whole number from %d", name, (int)least);
    return (uint64_t)number;
}

/* Milliseconds, of which 32 bits hold too few. */
static uint64_t read_time(lua_State *L, const char *name) {
    lua_Number ms = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(ms >= 0 && ms <= 1e15))
        luaL_error(L, "ctx.publish: %s: a number of milliseconds, 0 or more, is expected", name);
    return (uint64_t)ms;
}

/* The name is at -2, the value at -1. */
static void read_header(lua_State *L, struct lvt_header *header) {
    if (lua_type(L, -2) != LUA_TSTRING)
        luaL_error(L, "ctx.publish: headers must be by name");
    header->name.data = lua_tolstring(L, -2, &header->name.len);
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        header->kind = LVT_HEADER_STRING;
        header->value.bytes.data = lua_tolstring(L, -1, &header->value.bytes.len);
        break;
    case LUA_TNUMBER:
        header->kind = lua_isinteger(L, -1) ? LVT_HEADER_INT64 : LVT_HEADER_DOUBLE;
        if (lua_isinteger(L, -1))
            header->value.integer = lua_tointeger(L, -1);
        else
            header->value.number = lua_tonumber(L, -1);
        break;
    case LUA_TBOOLEAN:
        header->kind = LVT_HEADER_BOOLEAN;
        header->value.boolean = lua_toboolean(L, -1) != 0;
        break;
    default:
        luaL_error(L, "ctx.publish: the header %s must be a text, a number or a boolean",
                   header->name.data);
    }
}

/* Reads the table at `table` into an array, which is left on the stack with its texts. */
static void read_headers(lua_State *L, int table, struct lvt_outgoing *outgoing) {
    struct lvt_header *headers =
        lua_newuserdatauv(L, LVT_OUTGOING_HEADERS_MAX * sizeof *headers, 0);
    luaL_checkstack(L, LVT_OUTGOING_HEADERS_MAX + LUA_MINSTACK, "headers");
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (outgoing->header_count == LVT_OUTGOING_HEADERS_MAX)
            luaL_error(L, "ctx.publish: more than %d headers", LVT_OUTGOING_HEADERS_MAX);
        read_header(L, &headers[outgoing->header_count++]);
        lua_insert(L, -2); /* the value stays, under the key that goes on */
    }
    outgoing->headers = headers;
}

/* The option whose name is at -2 and value at -1. */
static void read_option(lua_State *L, struct lvt_outgoing *outgoing, int headers) {
    const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "a key";
    if (strcmp(name, "id") == 0) {
        outgoing->id = read_text(L, name);
    } else if (strcmp(name, "exchange") == 0) {
        outgoing->exchange = read_text(L, name);
    } else if (strcmp(name, "queue") == 0) {
        outgoing->queue = read_text(L, name);
    } else if (strcmp(name, "delay_ms") == 0) {
        outgoing->delay_ms = read_time(L, name);
    } else if (strcmp(name, "ttl_ms") == 0) {
        outgoing->ttl_ms = read_time(L, name);
    } else if (strcmp(name, "priority") == 0) {
        outgoing->priority = (int)read_number(L, name, 0);
    } else if (strcmp(name, "max_attempts") == 0) {
        outgoing->max_attempts = (uint32_t)read_number(L, name, 1);
    } else if (strcmp(name, "headers") == 0) {
        if (!lua_istable(L, -1))
            luaL_error(L, "ctx.publish: headers must be a table");
        lua_pushvalue(L, -1);
        lua_replace(L, headers);
    } else {
        luaL_error(L,
                   "ctx.publish: unknown key %s (id, delay_ms, ttl_ms, priority, max_attempts, "
                   "headers, exchange and queue are known)",
                   name);
    }
}

/* Pushes the JSON of the payload at `index`; nothing at all is an empty object. */
static struct lvt_bytes push_payload(lua_State *L, int index) {
    struct lvt_bytes payload;
    if (lua_isnil(L, index))
        lua_pushliteral(L, "{}");
    else
        lvt_lua_json_encode(L, index);
    payload.data = lua_tolstring(L, -1, &payload.len);
    return payload;
}

static void answered(void *ctx, enum lvt_answer result, struct lvt_bytes id, const char *error) {
    const struct lvt_lua_answer answer = {.result = result, .id = id, .error = error};
    lvt_lua_run_answered(ctx, &answer);
}

/* Returns the event's id. */
static int publish_done(lua_State *L, int status, lua_KContext serial) {
    const struct lvt_lua_answer *answer = lvt_lua_run_answer(L, serial);
    (void)status;
    if (answer->result != LVT_ANSWER_OK)
        return luaL_error(L, "ctx.publish: %s", answer->error);
    lua_pushlstring(L, answer->id.data, answer->id.len);
    return 1;
}

/* (event, payload, {id=, delay_ms=, ttl_ms=, priority=, max_attempts=, headers=, exchange=,
 * queue=})
 */
int lvt_lua_publish(lua_State *L) {
    enum { EVENT = 1, PAYLOAD, OPTIONS, HEADERS };
    struct lvt_lua_run *lrun = lvt_lua_run_waiting(L);
    struct lvt_outgoing outgoing = {.priority = LVT_NO_PRIORITY};
    luaL_checktype(L, EVENT, LUA_TSTRING);
    lua_settop(L, OPTIONS);
    lua_pushnil(L); /* the place for the headers */
    outgoing.event.data = lua_tolstring(L, EVENT, &outgoing.event.len);
    if (!lua_isnil(L, OPTIONS)) {
        luaL_checktype(L, OPTIONS, LUA_TTABLE);
        for (lua_pushnil(L); lua_next(L, OPTIONS); lua_pop(L, 1))
            read_option(L, &outgoing, HEADERS);
    }
    outgoing.payload = push_payload(L, PAYLOAD);
    if (!lua_isnil(L, HEADERS))
        read_headers(L, HEADERS, &outgoing);
    lvt_effect_publish(lrun->run, &outgoing, answered, lrun);
    lua_settop(L, 0);
    return lvt_lua_run_park(L, publish_done);
}
