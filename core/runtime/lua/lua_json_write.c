#include <inttypes.h>
#include <string.h>

#include "base/utf8.h"
#include "event/envelope.h"
#include "event/json.h"
#include "runtime/lua/lua_budget.h"
#include "runtime/lua/lua_json.h"

/* What a key or string must be for JSON to hold it unchanged. */
static bool is_utf8(const char *text, size_t len) {
    size_t at = 0;
    while (at < len) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        size_t step = lvt_utf8_length(text + at, len - at);
        if (step == 0)
            return false;
        at += step;
    }
    return true;
}

static const char *write_string(lua_State *L, int index, struct lvt_buffer *out) {
    size_t len;
    const char *text = lua_tolstring(L, index, &len);
    if (!is_utf8(text, len))
        return "a string that is not valid UTF-8";
    lvt_json_write_string(out, lvt_bytes(text, len));
    return NULL;
}

static const char *write_number(lua_State *L, int index, struct lvt_buffer *out) {
    if (lua_isinteger(L, index)) {
        lvt_buffer_printf(out, "%" PRId64, (int64_t)lua_tointeger(L, index));
        return NULL;
    }
    if (!lvt_json_write_number(out, lua_tonumber(L, index)))
        return "a number that is infinite or not a number";
    return NULL;
}

static const char *write_value(lua_State *L, int index, struct lvt_buffer *out, unsigned depth);

static const char *write_object(lua_State *L, int table, struct lvt_buffer *out, unsigned depth) {
    bool first = true;
    lvt_buffer_char(out, '{');
    lua_pushnil(L);
    while (lua_next(L, table)) {
        int value = lua_gettop(L);
        if (lua_type(L, value - 1) != LUA_TSTRING)
            return "a table with both texts and others as keys";
        if (!first)
            lvt_buffer_char(out, ',');
        first = false;
        const char *why = write_string(L, value - 1, out);
        if (why)
            return why;
        lvt_buffer_char(out, ':');
        why = write_value(L, value, out, depth);
        if (why)
            return why;
        lua_settop(L, value - 1);
    }
    lvt_buffer_char(out, '}');
    return NULL;
}

/* The table's keys must be 1 to their count. */
static const char *write_array(lua_State *L, int table, struct lvt_buffer *out, unsigned depth) {
    lua_Integer count = 0, highest = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        lua_Integer key = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (key < 1)
            return "an array with keys that are not 1 and up";
        highest = key > highest ? key : highest;
        count++;
    }
    if (highest != count)
        return "an array with holes (ctx.null fills them)";
    lvt_buffer_char(out, '[');
    for (lua_Integer i = 1; i <= count; i++) {
        if (i > 1)
            lvt_buffer_char(out, ',');
        lua_rawgeti(L, table, i);
        const char *why = write_value(L, lua_gettop(L), out, depth);
        if (why)
            return why;
        lua_pop(L, 1);
    }
    lvt_buffer_char(out, ']');
    return NULL;
}

static const char *write_table(lua_State *L, int table, struct lvt_buffer *out, unsigned depth) {
    lvt_lua_budget_check(L); /* tables that hold others twice are far more than their memory */
    if (depth == LVT_NESTING_MAX)
        return "a table that is nested too deep, or contains itself";
    if (lua_getmetatable(L, table)) {
        bool is_array = lua_topointer(L, -1) == lvt_lua_of(L)->array_mark;
        lua_pop(L, 1);
        if (is_array)
            return write_array(L, table, out, depth + 1);
        /* What pairs shows of it is not what is in it: an event, whose fields come when read. */
        if (luaL_getmetafield(L, table, "__pairs") != LUA_TNIL)
            return "a table with __pairs, such as an event (encode its fields)";
    }
    lua_pushnil(L);
    if (!lua_next(L, table)) {
        lvt_buffer_text(out, "{}");
        return NULL;
    }
    bool is_object = lua_type(L, -2) == LUA_TSTRING;
    lua_pop(L, 2);
    return is_object ? write_object(L, table, out, depth + 1)
                     : write_array(L, table, out, depth + 1);
}

static const char *write_value(lua_State *L, int index, struct lvt_buffer *out, unsigned depth) {
    if (!lua_checkstack(L, LUA_MINSTACK))
        return "a table that is nested too deep";
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        lvt_buffer_text(out, "null");
        return NULL;
    case LUA_TBOOLEAN:
        lvt_buffer_text(out, lua_toboolean(L, index) ? "true" : "false");
        return NULL;
    case LUA_TNUMBER:
        return write_number(L, index, out);
    case LUA_TSTRING:
        return write_string(L, index, out);
    case LUA_TTABLE:
        return write_table(L, index, out, depth);
    case LUA_TLIGHTUSERDATA:
        lvt_buffer_text(out, "null"); /* the only one there is */
        return NULL;
    case LUA_TUSERDATA: {
        struct lvt_bytes spelling = lvt_lua_number_spelling(L, index);
        if (spelling.data) {
            lvt_buffer_append(out, spelling.data, spelling.len);
            return NULL;
        }
        return "a userdata";
    }
    case LUA_TFUNCTION:
        return "a function";
    default:
        return "a coroutine";
    }
}

const char *lvt_lua_json_write(lua_State *L, int index, struct lvt_buffer *out) {
    int top = lua_gettop(L);
    const char *why = write_value(L, lua_absindex(L, index), out, 0);
    lua_settop(L, top);
    if (!why && out->failed)
        return "a value that is too big";
    return why;
}

void lvt_lua_json_encode(lua_State *L, int index) {
    struct lvt_buffer *out = lvt_lua_scratch(L);
    const char *why = lvt_lua_json_write(L, index, out);
    if (why)
        luaL_error(L, "JSON cannot hold %s", why);
    lua_pushlstring(L, out->data, out->len);
}
