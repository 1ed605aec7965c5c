/* ctx.log, and print. */
#include <stdlib.h>
#include <string.h>

#include "runtime/lua/lua_ctx.h"
#include "runtime/lua/lua_json.h"
#include "runtime/lua/lua_run.h"

/* Fields of one record; more are left out, for a log must not fail an event. */
#define FIELDS_MAX 32

static int by_key(const void *a, const void *b) {
    return strcmp(((const struct lvt_field *)a)->key, ((const struct lvt_field *)b)->key);
}

/* A table as JSON, when it can be and does not know its own text. The text takes its place. */
static void read_object(lua_State *L, int index, struct lvt_field *field) {
    int top = lua_gettop(L);
    bool knows_text =
        lua_type(L, index) != LUA_TTABLE || luaL_getmetafield(L, index, "__tostring") != LUA_TNIL;
    struct lvt_buffer *out = lvt_lua_scratch(L);
    lua_settop(L, top);
    if (!knows_text && !lvt_lua_json_write(L, index, out)) {
        field->kind = LVT_FIELD_JSON;
        lua_pushlstring(L, out->data, out->len);
    } else {
        field->kind = LVT_FIELD_TEXT;
        luaL_tolstring(L, index, NULL);
    }
    field->value.text.data = lua_tolstring(L, -1, &field->value.text.len);
    lua_replace(L, index);
}

static void read_field(lua_State *L, int index, struct lvt_field *field) {
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        field->kind = LVT_FIELD_BOOLEAN;
        field->value.boolean = lua_toboolean(L, index);
        break;
    case LUA_TSTRING:
        field->kind = LVT_FIELD_TEXT;
        field->value.text.data = lua_tolstring(L, index, &field->value.text.len);
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            field->kind = LVT_FIELD_INTEGER;
            field->value.integer = lua_tointeger(L, index);
        } else {
            field->kind = LVT_FIELD_NUMBER;
            field->value.number = lua_tonumber(L, index);
        }
        break;
    case LUA_TLIGHTUSERDATA:
        field->kind = LVT_FIELD_JSON;
        field->value.text = LVT_LITERAL("null");
        break;
    default:
        read_object(L, index, field);
        break;
    }
}

/* Reads the table at `table`, sorted by key; what the fields point to is left on the stack. */
static size_t read_fields(lua_State *L, int table, struct lvt_field *fields) {
    size_t count = 0;
    luaL_checkstack(L, 2 * FIELDS_MAX + LUA_MINSTACK, "fields");
    lua_pushnil(L);
    while (count < FIELDS_MAX && lua_next(L, table)) {
        int value = lua_gettop(L), key = value - 1;
        luaL_tolstring(L, key, NULL); /* a copy: converting the key itself would end the walk */
        lua_insert(L, key);
        fields[count].key = lua_tostring(L, key);
        lua_insert(L, key + 1); /* name, value, key */
        read_field(L, key + 1, &fields[count]);
        count++;
    }
    qsort(fields, count, sizeof *fields, by_key);
    return count;
}

/* (text, fields); the level is the upvalue. */
static int ctx_log(lua_State *L) {
    enum lvt_level level = (enum lvt_level)lua_tointeger(L, lua_upvalueindex(1));
    struct lvt_lua_run *lrun = lvt_lua_run_current(L);
    struct lvt_field fields[FIELDS_MAX];
    size_t count = 0;
    if (level < lvt_lua_of(L)->log->level)
        return 0;
    lua_settop(L, 2);
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        count = read_fields(L, 2, fields);
    }
    const char *text = luaL_tolstring(L, 1, NULL);
    lvt_run_log(lrun->run, level, text, fields, count);
    return 0;
}

void lvt_lua_log_push(lua_State *L) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    lua_createtable(L, 0, 4);
    for (int level = LVT_DEBUG; level <= LVT_ERROR; level++) {
        lua_pushinteger(L, level);
        lua_pushcclosure(L, ctx_log, 1);
        lua_setfield(L, -2, names[level]);
    }
}

int lvt_lua_print(lua_State *L) {
    struct lvt_lua *lua = lvt_lua_of(L);
    int count = lua_gettop(L);
    luaL_Buffer line;
    luaL_buffinit(L, &line);
    for (int i = 1; i <= count; i++) {
        if (i > 1)
            luaL_addchar(&line, '\t');
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&line);
    }
    luaL_pushresult(&line);
    if (lua->current)
        lvt_run_log(lvt_lua_run_current(L)->run, LVT_INFO, lua_tostring(L, -1), NULL, 0);
    else
        lvt_log(lua->log, LVT_INFO, lua_tostring(L, -1), NULL, 0);
    return 0;
}
