#include "runtime/lua/lua_bounds.h"

#include <lualib.h>
#include <string.h>

#include "runtime/lua/lua_budget.h"

#define DATE_FORMAT_MAX_BYTES 4096

/* Goes on with Lua's own function, the upvalue, and all its arguments. */
static int call_original(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* Lua's own counts out how often nothing is repeated. */
static int rep(lua_State *L) {
    size_t len, separator_len;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Integer count = luaL_checkinteger(L, 2);
    const char *separator = luaL_optlstring(L, 3, "", &separator_len);
    size_t each = len + separator_len;
    if (count <= 0 || each == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if ((lua_Unsigned)count > (lua_Unsigned)LUA_MAXINTEGER / each)
        return luaL_error(L, "resulting string too large");
    luaL_Buffer out;
    size_t total = (size_t)count * each - separator_len;
    char *to = luaL_buffinitsize(L, &out, total);
    for (; count > 0; count--) {
        memcpy(to, text, len);
        to += len;
        if (count > 1 && separator_len > 0) {
            memcpy(to, separator, separator_len);
            to += separator_len;
        }
    }
    luaL_pushresultsize(&out, total);
    return 1;
}

static int date(lua_State *L) {
    size_t len;
    luaL_optlstring(L, 1, "", &len);
    luaL_argcheck(L, len <= DATE_FORMAT_MAX_BYTES, 1, "format is too long");
    return call_original(L);
}

/* ---- tables: a metatable may make one of any length ---- */

static void move_element(lua_State *L, lua_Integer from, int to_table, lua_Integer to) {
    lvt_lua_budget_check(L);
    lua_geti(L, 1, from);
    lua_seti(L, to_table, to);
}

static int insert(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer end = luaL_len(L, 1) + 1, position = end;
    switch (lua_gettop(L)) {
    case 2:
        break;
    case 3:
        position = luaL_checkinteger(L, 2);
        luaL_argcheck(L, (lua_Unsigned)position - 1 < (lua_Unsigned)end, 2,
                      "position out of bounds");
        for (lua_Integer i = end; i > position; i--)
            move_element(L, i - 1, 1, i);
        break;
    default:
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    lua_seti(L, 1, position);
    return 0;
}

static int remove_element(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer end = luaL_len(L, 1), position = luaL_optinteger(L, 2, end);
    luaL_argcheck(L, position == end || (lua_Unsigned)position - 1 <= (lua_Unsigned)end, 2,
                  "position out of bounds");
    lua_geti(L, 1, position);
    for (; position < end; position++)
        move_element(L, position + 1, 1, position);
    lua_pushnil(L);
    lua_seti(L, 1, position);
    return 1;
}

/* (from, first, last, to, other) */
static int move(lua_State *L) {
    lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);
    lua_Integer to = luaL_checkinteger(L, 4);
    int other = lua_isnoneornil(L, 5) ? 1 : 5;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, other, LUA_TTABLE);
    lua_settop(L, 5);
    if (first <= last) {
        luaL_argcheck(L, first > 0 || last < LUA_MAXINTEGER + first, 3,
                      "too many elements to move");
        lua_Integer count = last - first + 1;
        luaL_argcheck(L, to <= LUA_MAXINTEGER - count + 1, 4, "destination wrap around");
        bool overlaps = to > first && to <= last && lua_compare(L, 1, other, LUA_OPEQ);
        for (lua_Integer i = 0; i < count; i++) {
            lua_Integer at = overlaps ? count - 1 - i : i;
            move_element(L, first + at, other, to + at);
        }
    }
    lua_pushvalue(L, other);
    return 1;
}

static void add_element(lua_State *L, luaL_Buffer *out, lua_Integer position) {
    lvt_lua_budget_check(L);
    lua_geti(L, 1, position);
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid value (at index %I) in table for 'concat'", (LUAI_UACINT)position);
    luaL_addvalue(out);
}

/* (from, separator, first, last) */
static int concat(lua_State *L) {
    size_t separator_len;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer end = luaL_len(L, 1);
    const char *separator = luaL_optlstring(L, 2, "", &separator_len);
    lua_Integer position = luaL_optinteger(L, 3, 1), last = luaL_optinteger(L, 4, end);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    for (; position < last; position++) {
        add_element(L, &out, position);
        luaL_addlstring(&out, separator, separator_len);
    }
    if (position == last)
        add_element(L, &out, position);
    luaL_pushresult(&out);
    return 1;
}

static int less(lua_State *L) {
    lvt_lua_budget_check(L);
    lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
    return 1;
}

/* With a comparison of ours where there is none: Lua's own cannot be stopped. */
static int sort(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pushcfunction(L, less);
        lua_replace(L, 2);
    }
    luaL_checktype(L, 2, LUA_TFUNCTION);
    return call_original(L);
}

/* Of the library that is a global. */
static void replace(lua_State *L, const char *library, const luaL_Reg *functions) {
    lua_getglobal(L, library);
    for (; functions->name; functions++) {
        lua_getfield(L, -1, functions->name);
        lua_pushcclosure(L, functions->func, 1);
        lua_setfield(L, -2, functions->name);
    }
    lua_pop(L, 1);
}

void lvt_lua_bounds_open(lua_State *L) {
    static const luaL_Reg strings[] = {{"find", lvt_lua_string_find},
                                       {"match", lvt_lua_string_match},
                                       {"gmatch", lvt_lua_string_gmatch},
                                       {"gsub", lvt_lua_string_gsub},
                                       {"rep", rep},
                                       {NULL, NULL}};
    static const luaL_Reg tables[] = {{"insert", insert}, {"remove", remove_element},
                                      {"move", move},     {"concat", concat},
                                      {"sort", sort},     {NULL, NULL}};
    static const luaL_Reg times[] = {{"date", date}, {NULL, NULL}};
    replace(L, LUA_STRLIBNAME, strings);
    replace(L, LUA_TABLIBNAME, tables);
    replace(L, LUA_OSLIBNAME, times);
}
