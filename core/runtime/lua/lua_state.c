#include "runtime/lua/lua_state.h"

#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "runtime/lua/lua_bounds.h"
#include "runtime/lua/lua_budget.h"
#include "runtime/lua/lua_watch.h"

/* A scratch buffer that has grown beyond this is given back. */
#define SCRATCH_KEPT_BYTES ((size_t)64 * 1024)

/* Lua asks for what it was refused once more, at once, after a full collection. So a refusal is for
 * good when any other request follows it, or the same one is refused again. */
static void note_refusal(struct lvt_lua *lua, size_t size) {
    lua->worn = true;
    if (lua->refused_bytes != 0)
        lua->exhausted = true;
    lua->refused_bytes = size;
}

static void note_growth(struct lvt_lua *lua, size_t size) {
    if (lua->refused_bytes != 0 && lua->refused_bytes != size)
        lua->exhausted = true;
    lua->refused_bytes = 0;
}

bool lvt_lua_is_exhausted(const struct lvt_lua *lua) {
    return lua->exhausted || lua->refused_bytes != 0;
}

/* Shrinking a block never fails, as Lua requires. */
static void *allocate(void *context, void *block, size_t old_size, size_t size) {
    struct lvt_lua *lua = context;
    if (!block)
        old_size = 0; /* it is a type's number then */
    if (size == 0) {
        free(block);
        lua->memory_bytes -= old_size;
        return NULL;
    }
    void *moved = NULL;
    if (size <= old_size || size - old_size <= lua->memory_max_bytes - lua->memory_bytes)
        moved = realloc(block, size);
    if (!moved) {
        if (size <= old_size)
            return block;
        note_refusal(lua, size);
        return NULL;
    }
    if (size > old_size)
        note_growth(lua, size);
    lua->memory_bytes += size - old_size;
    return moved;
}

struct lvt_lua *lvt_lua_new(size_t memory_max_bytes, const struct lvt_log *log) {
    struct lvt_lua *lua = calloc(1, sizeof *lua);
    if (!lua)
        return NULL;
    lua->memory_max_bytes = memory_max_bytes;
    lua->log = log;
    lvt_buffer_init(&lua->scratch, memory_max_bytes);
    lua->state = lua_newstate(allocate, lua);
    if (!lua->state) {
        free(lua);
        return NULL;
    }
    /* Every coroutine starts with a copy of the main one's extra space. */
    memcpy(lua_getextraspace(lua->state), &lua, sizeof lua);
    return lua;
}

void lvt_lua_free(struct lvt_lua *lua) {
    if (!lua)
        return;
    lua_close(lua->state);
    lvt_buffer_free(&lua->scratch);
    free(lua);
}

struct lvt_lua *lvt_lua_of(lua_State *L) {
    struct lvt_lua *lua;
    memcpy(&lua, lua_getextraspace(L), sizeof lua);
    return lua;
}

struct lvt_buffer *lvt_lua_scratch(lua_State *L) {
    struct lvt_buffer *scratch = &lvt_lua_of(L)->scratch;
    if (scratch->size > SCRATCH_KEPT_BYTES) {
        size_t max = scratch->max;
        lvt_buffer_free(scratch);
        lvt_buffer_init(scratch, max);
    }
    lvt_buffer_clear(scratch);
    return scratch;
}

/* A finalizer or a closing function that does not end could not be stopped, and an event that ends
 * while it waits never gets to its closing functions: neither can be had. */
static int set_metatable(lua_State *L) {
    static const char *const refused[] = {"__gc", "__close"};
    luaL_checktype(L, 1, LUA_TTABLE);
    int type = lua_type(L, 2);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    for (size_t i = 0; type == LUA_TTABLE && i < sizeof refused / sizeof *refused; i++) {
        lua_pushstring(L, refused[i]);
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "a metatable with %s is not allowed here", refused[i]);
        lua_pop(L, 1);
    }
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static void remove_fields(lua_State *L, int table, const char *const *names) {
    for (; *names; names++) {
        lua_pushnil(L);
        lua_setfield(L, table, *names);
    }
}

static void open_os(lua_State *L) {
    static const char *const kept[] = {"time", "date", "clock", NULL};
    lua_newtable(L);
    lua_pushcfunction(L, luaopen_os);
    lua_call(L, 0, 1);
    for (const char *const *name = kept; *name; name++) {
        lua_getfield(L, -1, *name);
        lua_setfield(L, -3, *name);
    }
    lua_pop(L, 1);
    lua_setglobal(L, "os");
}

static void open_math(lua_State *L) {
    lua_Integer seed[2] = {0, 0};
    luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 1);
    /* Lua's own seed is made of addresses and the time, which workers forked together share. */
    if (getrandom(seed, sizeof seed, 0) == (ssize_t)sizeof seed) {
        lua_getfield(L, -1, "randomseed");
        lua_pushinteger(L, seed[0]);
        lua_pushinteger(L, seed[1]);
        lua_call(L, 2, 0);
    }
    lua_pop(L, 1);
}

void lvt_lua_make_lookup(lua_State *L) {
    lua_newtable(L);
    lua_createtable(L, 0, 2);
    lua_rotate(L, -3, -1);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

int lvt_lua_open_sandbox(lua_State *L) {
    static const char *const not_base[] = {"load", "loadstring",     "loadfile", "dofile",
                                           "warn", "collectgarbage", "require",  NULL};
    static const char *const not_string[] = {"dump", NULL};

    luaL_requiref(L, LUA_GNAME, luaopen_base, 1);
    remove_fields(L, lua_gettop(L), not_base);
    lua_pushcfunction(L, set_metatable);
    lua_setfield(L, -2, "setmetatable");

    luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 1);
    remove_fields(L, lua_gettop(L), not_string);
    /* A string's methods are these functions, and its metatable is nobody's to change. */
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");

    luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 1);
    luaL_requiref(L, LUA_UTF8LIBNAME, luaopen_utf8, 1);
    open_math(L);
    open_os(L);
    lvt_lua_bounds_open(L);
    return 0;
}

/* Called with an error as Lua's to say, whatever that is. */
static enum leveret_code failed_call(struct lvt_lua *lua, struct leveret_error *err) {
    const char *text = lua_tostring(lua->state, -1);
    enum leveret_code code =
        leveret_fail(err, lvt_lua_is_exhausted(lua) ? LEVERET_NO_MEMORY : LEVERET_STATE,
                     "cannot make a Lua state: %s", text ? text : "an error that is no text");
    lua_settop(lua->state, 0);
    return code;
}

enum leveret_code lvt_lua_open(struct lvt_lua *lua, lua_CFunction open, struct leveret_error *err) {
    lua_pushcfunction(lua->state, open);
    if (lua_pcall(lua->state, 0, 0, 0) != LUA_OK)
        return failed_call(lua, err);
    return LEVERET_OK;
}

int lvt_lua_call_bounded(struct lvt_lua *lua, int arguments, int results, uint64_t budget_ms) {
    lua->stint_ms = budget_ms;
    lvt_lua_stint_begin(&lua->stint);
    lua_State *before = lvt_lua_watch_switch(lua->state);
    int status = lua_pcall(lua->state, arguments, results, 0);
    lvt_lua_watch_switch(before);
    lua_sethook(lua->state, NULL, 0, 0);
    lua->overdue = false;
    return status;
}
