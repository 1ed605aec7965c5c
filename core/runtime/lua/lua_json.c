#include "runtime/lua/lua_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "event/envelope.h"
#include "event/json.h"

/* ctx.null is the address of this, as a light userdata: pushing it costs nothing. */
static const char null_value;
/* Keys in the registry. */
static const char array_key, number_key;

/* Pairs or items that are gathered on the stack, so that their table is made in its final size. */
#define GATHERED_MAX 32

/* ---- values that JSON has and Lua has not ---- */

static int null_to_string(lua_State *L) {
    lua_pushliteral(L, "null");
    return 1;
}

static int number_to_string(lua_State *L) {
    struct lvt_bytes spelling = lvt_lua_number_spelling(L, 1);
    lua_pushlstring(L, spelling.data ? spelling.data : "", spelling.len);
    return 1;
}

static int number_equal(lua_State *L) {
    struct lvt_bytes a = lvt_lua_number_spelling(L, 1), b = lvt_lua_number_spelling(L, 2);
    lua_pushboolean(L, a.data && b.data && lvt_bytes_equal(a, b));
    return 1;
}

static int number_concat(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    luaL_tolstring(L, 2, NULL);
    lua_concat(L, 2);
    return 1;
}

/* Pushes a new metatable that a handler can neither see nor replace. */
static void push_metatable(lua_State *L, const char *name) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

void lvt_lua_json_open(lua_State *L) {
    struct lvt_lua *lua = lvt_lua_of(L);
    lvt_lua_push_null(L);
    push_metatable(L, "null");
    lua_pushcfunction(L, null_to_string);
    lua_setfield(L, -2, "__tostring");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);

    push_metatable(L, "array");
    lua->array_mark = lua_topointer(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);

    push_metatable(L, "number");
    lua->number_mark = lua_topointer(L, -1);
    lua_pushcfunction(L, number_to_string);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, number_equal);
    lua_setfield(L, -2, "__eq");
    lua_pushcfunction(L, number_concat);
    lua_setfield(L, -2, "__concat");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &number_key);
}

void lvt_lua_push_null(lua_State *L) {
    lua_pushlightuserdata(L, (void *)&null_value);
}

bool lvt_lua_is_null(lua_State *L, int index) {
    return lua_islightuserdata(L, index) && lua_touserdata(L, index) == (void *)&null_value;
}

void lvt_lua_mark_array(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
    lua_setmetatable(L, -2);
}

struct lvt_bytes lvt_lua_number_spelling(lua_State *L, int index) {
    if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index))
        return lvt_bytes(NULL, 0);
    bool is_number = lua_topointer(L, -1) == lvt_lua_of(L)->number_mark;
    lua_pop(L, 1);
    if (!is_number)
        return lvt_bytes(NULL, 0);
    return lvt_bytes(lua_touserdata(L, index), lua_rawlen(L, index));
}

static void push_spelling(lua_State *L, struct lvt_bytes spelling) {
    memcpy(lua_newuserdatauv(L, spelling.len, 0), spelling.data, spelling.len);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &number_key);
    lua_setmetatable(L, -2);
}

/* Whether a number that reads as 0 is one: no digit but 0 before the exponent. */
static bool spells_zero(struct lvt_bytes spelling) {
    for (size_t i = 0; i < spelling.len; i++) {
        if (spelling.data[i] >= '1' && spelling.data[i] <= '9')
            return false;
        if (spelling.data[i] == 'e' || spelling.data[i] == 'E')
            return true;
    }
    return true;
}

void lvt_lua_push_number(lua_State *L, struct lvt_bytes spelling) {
    int64_t integer;
    if (lvt_json_integer(spelling, &integer)) {
        lua_pushinteger(L, integer);
        return;
    }
    bool is_integer = true;
    for (size_t i = 0; i < spelling.len && is_integer; i++)
        is_integer = memchr("-0123456789", spelling.data[i], 11) != NULL;
    if (is_integer && !spells_zero(spelling)) {
        push_spelling(L, spelling); /* of more than 64 bits; "-0" is a float */
        return;
    }
    char copy[128]; /* strtod wants an end, which a slice has not */
    const char *text = copy;
    if (spelling.len < sizeof copy) {
        memcpy(copy, spelling.data, spelling.len);
        copy[spelling.len] = '\0';
    } else {
        text = lua_pushlstring(L, spelling.data, spelling.len);
    }
    double number = strtod(text, NULL);
    if (text != copy)
        lua_pop(L, 1);
    if (!isfinite(number) || (number == 0 && !spells_zero(spelling)))
        push_spelling(L, spelling);
    else
        lua_pushnumber(L, number);
}

/* ---- from JSON ---- */

static void push_string(lua_State *L, const struct lvt_json_reader *reader) {
    if (!reader->escaped) {
        lua_pushlstring(L, reader->raw.data, reader->raw.len);
        return;
    }
    luaL_Buffer buffer;
    char *out = luaL_buffinitsize(L, &buffer, reader->raw.len);
    luaL_pushresultsize(&buffer, lvt_json_unescape(reader->raw, out));
}

static void push_value(lua_State *L, struct lvt_json_reader *reader, enum lvt_json_token token);

/* Sets the gathered pairs above the table's place into a new table there, the last one first, so
 * that of duplicate keys the first is what stays. */
static void set_pairs(lua_State *L, int table, int count) {
    lua_createtable(L, 0, count);
    lua_replace(L, table);
    for (; count > 0; count--)
        lua_rawset(L, table);
}

static void push_object(lua_State *L, struct lvt_json_reader *reader) {
    lua_pushnil(L);
    int table = lua_gettop(L), gathered = 0;
    bool made = false;
    while (lvt_json_next(reader) == LVT_JSON_KEY) {
        push_string(L, reader);
        push_value(L, reader, lvt_json_next(reader));
        if (!made) {
            if (++gathered == GATHERED_MAX) {
                set_pairs(L, table, gathered);
                made = true;
            }
            continue;
        }
        lua_pushvalue(L, -2);
        bool known = lua_rawget(L, table) != LUA_TNIL;
        lua_pop(L, 1);
        if (known)
            lua_pop(L, 2);
        else
            lua_rawset(L, table);
    }
    if (!made)
        set_pairs(L, table, gathered);
}

static void set_items(lua_State *L, int table, int count) {
    lua_createtable(L, count, 0);
    lvt_lua_mark_array(L);
    lua_replace(L, table);
    for (; count > 0; count--)
        lua_rawseti(L, table, count);
}

static void push_array(lua_State *L, struct lvt_json_reader *reader) {
    lua_pushnil(L);
    int table = lua_gettop(L);
    lua_Integer count = 0;
    enum lvt_json_token token;
    while ((token = lvt_json_next(reader)) != LVT_JSON_ARRAY_END) {
        push_value(L, reader, token);
        count++;
        if (count > GATHERED_MAX)
            lua_rawseti(L, table, count);
        else if (count == GATHERED_MAX)
            set_items(L, table, GATHERED_MAX);
    }
    if (count < GATHERED_MAX)
        set_items(L, table, (int)count);
}

/* Recursion ends at LVT_NESTING_MAX, which the text has been checked for. */
static void push_value(lua_State *L, struct lvt_json_reader *reader, enum lvt_json_token token) {
    luaL_checkstack(L, 2 * GATHERED_MAX + LUA_MINSTACK, "JSON");
    switch (token) {
    case LVT_JSON_TRUE:
    case LVT_JSON_FALSE:
        lua_pushboolean(L, token == LVT_JSON_TRUE);
        break;
    case LVT_JSON_NUMBER:
        lvt_lua_push_number(L, reader->raw);
        break;
    case LVT_JSON_STRING:
        push_string(L, reader);
        break;
    case LVT_JSON_OBJECT:
        push_object(L, reader);
        break;
    case LVT_JSON_ARRAY:
        push_array(L, reader);
        break;
    default:
        lvt_lua_push_null(L);
        break;
    }
}

void lvt_lua_json_push(lua_State *L, struct lvt_bytes text) {
    struct lvt_json_reader reader;
    lvt_json_reader_init(&reader, text);
    push_value(L, &reader, lvt_json_next(&reader));
}

void lvt_lua_json_decode(lua_State *L, struct lvt_bytes text) {
    struct leveret_error err;
    if (lvt_json_validate(text, LVT_NESTING_MAX, &err) != LEVERET_OK)
        luaL_error(L, "not valid JSON: %s", err.text);
    lvt_lua_json_push(L, text);
}
