#include "runtime/lua/lua_ctx.h"

#include "engine/effects.h"
#include "runtime/lua/lua_json.h"
#include "runtime/lua/lua_run.h"

/* Key in the registry. */
static const char ctx_key;

/* ---- verdicts ---- */

/* The reason, if there is one: a text, or what tostring makes of it. */
static struct lvt_bytes reason_at(lua_State *L, int index) {
    struct lvt_bytes reason = {NULL, 0};
    if (!lua_isnoneornil(L, index))
        reason.data = luaL_tolstring(L, index, &reason.len);
    return reason;
}

static int64_t delay_at(lua_State *L, int index, const char *name) {
    lua_Number delay_ms = lua_tonumber(L, index);
    if (!lua_isnumber(L, index) || !(delay_ms >= 0 && delay_ms <= 1e15))
        luaL_error(L, "%s: a number of milliseconds, 0 or more, is expected", name);
    return (int64_t)delay_ms;
}

static int end(lua_State *L, enum lvt_verdict_kind kind, struct lvt_bytes reason,
               int64_t after_ms) {
    const struct lvt_verdict verdict = {.kind = kind, .reason = reason, .after_ms = after_ms};
    return lvt_lua_run_end(L, &verdict);
}

/* ctx.retry(reason, {after_ms=}) */
static int retry(lua_State *L) {
    int64_t after_ms = -1;
    lvt_lua_run_current(L);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING ||
                !lvt_bytes_is(lvt_bytes_of(lua_tostring(L, -2)), "after_ms"))
                return luaL_error(L, "ctx.retry: %s is no option (after_ms is)",
                                  luaL_tolstring(L, -2, NULL));
            after_ms = delay_at(L, -1, "ctx.retry: after_ms");
        }
    }
    return end(L, LVT_VERDICT_RETRY, reason_at(L, 1), after_ms);
}

static int reject(lua_State *L) {
    lvt_lua_run_current(L);
    return end(L, LVT_VERDICT_REJECT, reason_at(L, 1), -1);
}

static int drop(lua_State *L) {
    lvt_lua_run_current(L);
    return end(L, LVT_VERDICT_DROP, reason_at(L, 1), -1);
}

static int snooze(lua_State *L) {
    lvt_lua_run_current(L);
    int64_t delay_ms = delay_at(L, 1, "ctx.snooze");
    return end(L, LVT_VERDICT_SNOOZE, lvt_bytes(NULL, 0), delay_ms);
}

/* ---- sleep ---- */

static void slept(void *ctx);

static int sleep_over(lua_State *L, int status, lua_KContext serial) {
    (void)status;
    lvt_lua_run_answer(L, serial);
    return 0;
}

static int ctx_sleep(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_run_waiting(L);
    uint64_t delay_ms = (uint64_t)delay_at(L, 1, "ctx.sleep");
    lvt_effect_sleep(lrun->run, delay_ms, slept, lrun);
    return lvt_lua_run_park(L, sleep_over);
}

static void slept(void *ctx) {
    const struct lvt_lua_answer answer = {.result = LVT_ANSWER_OK};
    lvt_lua_run_answered(ctx, &answer);
}

/* ---- json ---- */

static int json_encode(lua_State *L) {
    luaL_checkany(L, 1);
    lvt_lua_json_encode(L, 1);
    return 1;
}

static int json_decode(lua_State *L) {
    struct lvt_bytes text;
    text.data = luaL_checklstring(L, 1, &text.len);
    lvt_lua_json_decode(L, text);
    return 1;
}

static int json_array(lua_State *L) {
    if (lua_isnone(L, 1))
        lua_newtable(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1)) {
        if (lua_topointer(L, -1) != lvt_lua_of(L)->array_mark)
            return luaL_error(L, "ctx.json.array: the table has a metatable already");
        lua_settop(L, 1);
        return 1;
    }
    lvt_lua_mark_array(L);
    return 1;
}

/* ---- the table ---- */

void lvt_lua_ctx_open(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"retry", retry},     {"reject", reject},           {"drop", drop}, {"snooze", snooze},
        {"sleep", ctx_sleep}, {"publish", lvt_lua_publish}, {NULL, NULL}};
    static const luaL_Reg json[] = {
        {"encode", json_encode}, {"decode", json_decode}, {"array", json_array}, {NULL, NULL}};
    static const struct {
        const char *name;
        void (*push)(lua_State *L);
    } parts[] = {{"log", lvt_lua_log_push},     {"db", lvt_lua_db_push},
                 {"redis", lvt_lua_redis_push}, {"cache", lvt_lua_cache_push},
                 {"http", lvt_lua_http_push},   {"null", lvt_lua_push_null}};

    luaL_newlib(L, functions);
    luaL_newlib(L, json);
    lua_setfield(L, -2, "json");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        parts[i].push(L);
        lua_setfield(L, -2, parts[i].name);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &ctx_key);
    lua_pushcfunction(L, lvt_lua_print);
    lua_setglobal(L, "print");
}

void lvt_lua_ctx_push(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &ctx_key);
}
