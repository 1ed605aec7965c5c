/* ctx.db: SQL in the transaction that holds the event's record. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/effects.h"
#include "event/json.h"
#include "runtime/lua/lua_ctx.h"
#include "runtime/lua/lua_json.h"
#include "runtime/lua/lua_run.h"

/* As many as the protocol can count. */
#define PARAMS_MAX 65535

/* Key in the registry: the metatable of errors. */
static const char error_key;

/* ---- errors ---- */

static int error_to_string(lua_State *L) {
    lua_pushliteral(L, "message");
    lua_rawget(L, 1);
    const char *message = lua_tostring(L, -1);
    lua_pushliteral(L, "sqlstate");
    lua_rawget(L, 1);
    const char *sqlstate = lua_tostring(L, -1);
    lua_pushfstring(L, sqlstate && *sqlstate ? "%s (SQLSTATE %s)" : "%s",
                    message ? message : "a database error", sqlstate);
    return 1;
}

static int raise_error(lua_State *L, const struct lvt_sql_error *error) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, error ? error->text : "PostgreSQL is away");
    lua_setfield(L, -2, "message");
    if (error && error->sqlstate[0]) {
        lua_pushstring(L, error->sqlstate);
        lua_setfield(L, -2, "sqlstate");
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &error_key);
    lua_setmetatable(L, -2);
    return lua_error(L);
}

bool lvt_lua_is_sql_error(lua_State *L, int index) {
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &error_key);
    bool is_error = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is_error;
}

const char *lvt_lua_sqlstate(lua_State *L, int index) {
    if (!lvt_lua_is_sql_error(L, index))
        return NULL;
    lua_pushvalue(L, index);
    lua_pushliteral(L, "sqlstate");
    lua_rawget(L, -2);
    const char *sqlstate = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    lua_pop(L, 2); /* the error holds it */
    return sqlstate;
}

/* ---- parameters ---- */

/* The shortest spelling that reads back as the same double, as PostgreSQL has it. */
static void push_float(lua_State *L, lua_Number number) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    lua_pushstring(L, text);
}

/* Replaces the argument by its text, which stays there; data is NULL for SQL's NULL. */
static struct lvt_bytes read_param(lua_State *L, int index) {
    struct lvt_bytes text = {NULL, 0};
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return text;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            lua_pushfstring(L, "%I", (LUAI_UACINT)lua_tointeger(L, index));
        else
            push_float(L, lua_tonumber(L, index));
        break;
    case LUA_TSTRING:
        lua_pushvalue(L, index);
        break;
    case LUA_TTABLE:
        lvt_lua_json_encode(L, index);
        break;
    default:
        if (lvt_lua_is_null(L, index))
            return text;
        text = lvt_lua_number_spelling(L, index);
        if (!text.data)
            luaL_error(L, "parameter %d: PostgreSQL cannot be given a %s", index - 1,
                       luaL_typename(L, index));
        return text;
    }
    lua_replace(L, index);
    text.data = lua_tolstring(L, index, &text.len);
    return text;
}

static void rows_done(void *ctx, enum lvt_answer result, const struct lvt_rows *rows,
                      const struct lvt_sql_error *error) {
    const struct lvt_lua_answer answer = {.result = result, .rows = rows, .sql_error = error};
    lvt_lua_run_answered(ctx, &answer);
}

/* (sql, parameters...) */
static int ask(lua_State *L, lua_KFunction next) {
    struct lvt_lua_run *lrun = lvt_lua_run_waiting(L);
    struct lvt_sql sql = {.param_count = (size_t)(lua_gettop(L) - 1)};
    sql.text.data = luaL_checklstring(L, 1, &sql.text.len);
    if (sql.param_count > PARAMS_MAX)
        return luaL_error(L, "more than %d parameters", PARAMS_MAX);
    struct lvt_bytes *params = NULL;
    if (sql.param_count > 0) {
        luaL_checkstack(L, LUA_MINSTACK, "parameters");
        params = lua_newuserdatauv(L, sql.param_count * sizeof *params, 0);
    }
    for (size_t i = 0; i < sql.param_count; i++)
        params[i] = read_param(L, (int)i + 2);
    sql.params = params;
    lvt_effect_query(lrun->run, &sql, rows_done, lrun);
    lua_settop(L, 0); /* copied: what waits is small */
    return lvt_lua_run_park(L, next);
}

/* ---- answers ---- */

static void push_number_cell(lua_State *L, struct lvt_bytes text) {
    char copy[64], *end;
    if (text.len < sizeof copy) {
        memcpy(copy, text.data, text.len);
        copy[text.len] = '\0';
        double number = strtod(copy, &end);
        if (end == copy + text.len && text.len > 0) {
            lua_pushnumber(L, number);
            return;
        }
    }
    lua_pushlstring(L, text.data, text.len);
}

static void push_cell(lua_State *L, enum lvt_column_kind kind, struct lvt_bytes text) {
    int64_t integer;
    switch (kind) {
    case LVT_COLUMN_INTEGER:
        if (lvt_json_integer(text, &integer))
            lua_pushinteger(L, integer);
        else
            lua_pushlstring(L, text.data, text.len);
        break;
    case LVT_COLUMN_NUMBER:
        push_number_cell(L, text);
        break;
    case LVT_COLUMN_BOOLEAN:
        lua_pushboolean(L, text.len > 0 && text.data[0] == 't');
        break;
    case LVT_COLUMN_JSON:
        lvt_lua_json_decode(L, text);
        break;
    default:
        lua_pushlstring(L, text.data, text.len);
        break;
    }
}

static const struct lvt_rows *rows_of(lua_State *L, lua_KContext serial) {
    const struct lvt_lua_answer *answer = lvt_lua_run_answer(L, serial);
    if (answer->result != LVT_ANSWER_OK)
        raise_error(L, answer->sql_error);
    return answer->rows;
}

static int query_done(lua_State *L, int status, lua_KContext serial) {
    const struct lvt_rows *rows = rows_of(L, serial);
    size_t columns = rows->column_count;
    (void)status;
    luaL_checkstack(L, (int)columns + LUA_MINSTACK, "columns");
    lua_settop(L, 0);
    for (size_t column = 0; column < columns; column++)
        lua_pushstring(L, rows->name(rows->self, column));
    lua_createtable(L, (int)rows->row_count, 0);
    for (size_t row = 0; row < rows->row_count; row++) {
        lua_createtable(L, 0, (int)columns);
        for (size_t column = 0; column < columns; column++) {
            struct lvt_bytes text;
            if (!rows->cell(rows->self, row, column, &text))
                continue; /* NULL is nil: no field */
            lua_pushvalue(L, (int)column + 1);
            push_cell(L, rows->kind(rows->self, column), text);
            lua_rawset(L, -3);
        }
        lua_rawseti(L, -2, (lua_Integer)row + 1);
    }
    lvt_lua_mark_array(L);
    return 1;
}

static int exec_done(lua_State *L, int status, lua_KContext serial) {
    (void)status;
    lua_pushinteger(L, rows_of(L, serial)->affected);
    return 1;
}

static int query(lua_State *L) {
    return ask(L, query_done);
}

static int exec(lua_State *L) {
    return ask(L, exec_done);
}

void lvt_lua_db_push(lua_State *L) {
    static const luaL_Reg functions[] = {{"query", query}, {"exec", exec}, {NULL, NULL}};
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, error_to_string);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "database error");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &error_key);
    luaL_newlib(L, functions);
}
