#include "runtime/lua/lua_config.h"

#include <stdlib.h>

#include "runtime/lua/lua_options.h"

#define MEMORY_MAX_BYTES ((size_t)32 * 1024 * 1024)

/* env.NAME */
static int env_index(lua_State *L) {
    lua_pushstring(L, getenv(luaL_checkstring(L, 2)));
    return 1;
}

/* env(NAME, default) */
static int env_call(lua_State *L) {
    const char *value = getenv(luaL_checkstring(L, 2));
    lua_settop(L, 3);
    if (value)
        lua_pushstring(L, value);
    return 1;
}

/* os.getenv is what people try first. */
static int os_index(lua_State *L) {
    return luaL_error(L, "there is no os in a configuration; env.NAME is an environment variable");
}

/* For lua_pcall: the globals that a configuration may use. */
static int open_config(lua_State *L) {
    lvt_lua_open_sandbox(L);
    lua_settop(L, 0);
    lua_newtable(L);
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, env_index);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, env_call);
    lua_setfield(L, -2, "__call");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_setglobal(L, "env");
    static const char *const removed[] = {"_G", "print", "xpcall"};
    for (size_t i = 0; i < sizeof removed / sizeof *removed; i++) {
        lua_pushnil(L);
        lua_setglobal(L, removed[i]);
    }
    lua_pushcfunction(L, os_index);
    lvt_lua_make_lookup(L);
    lua_setglobal(L, "os");
    return 0;
}

/* For lua_pcall: an empty table that shows those globals; what the file assigns is in it alone. */
static int make_globals(lua_State *L) {
    lua_pushglobaltable(L);
    lvt_lua_make_lookup(L);
    return 1;
}

static enum leveret_code evaluate(struct lvt_lua *lua, const struct lvt_lua_source *source,
                                  struct lvt_config *config, struct leveret_error *err) {
    lua_State *L = lua->state;
    enum leveret_code code = lvt_lua_open(lua, open_config, err);
    if (code != LEVERET_OK)
        return code;
    lua_pushcfunction(L, make_globals);
    if (lua_pcall(L, 0, 1, 0) != LUA_OK)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory reading %s", source->path);
    lua_pushvalue(L, -1);
    code = lvt_lua_source_evaluate(source, lua, true, err);
    if (code != LEVERET_OK)
        return code;
    if (!lua_isnil(L, -1))
        return lvt_lua_source_fail(source, 0, err,
                                   "returns a value, where it should assign to the keys");
    lua_pop(L, 1);
    return lvt_lua_options_read(L, source, NULL, lvt_config_keys, lvt_config_key_count, config,
                                err);
}

enum leveret_code lvt_lua_config_read(const char *path, struct lvt_config *config,
                                      struct leveret_error *err) {
    struct lvt_lua_source source;
    enum leveret_code code = lvt_lua_source_read(path, &source, err);
    if (code != LEVERET_OK)
        return code;
    struct lvt_lua *lua = lvt_lua_new(MEMORY_MAX_BYTES, NULL);
    if (lua)
        code = evaluate(lua, &source, config, err);
    else
        code = leveret_fail(err, LEVERET_NO_MEMORY, "out of memory reading %s", path);
    lvt_lua_free(lua);
    lvt_lua_source_free(&source);
    return code;
}
