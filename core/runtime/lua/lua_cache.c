/* ctx.redis and ctx.cache. */
#include "engine/effects.h"
#include "runtime/lua/lua_ctx.h"
#include "runtime/lua/lua_json.h"
#include "runtime/lua/lua_run.h"

/* Answers in answers: EXEC of commands whose answers are lists of pairs makes three. */
#define DEPTH_MAX 16
#define ARGUMENTS_MAX 65536

/* ---- redis ---- */

static void push_reply(lua_State *L, const struct lvt_reply *reply, bool in_array, unsigned depth);

static void push_array(lua_State *L, const struct lvt_reply *reply, unsigned depth) {
    if (depth == DEPTH_MAX)
        luaL_error(L, "the answer is nested too deep");
    luaL_checkstack(L, LUA_MINSTACK, "answer");
    lua_createtable(L, (int)reply->count, 0);
    for (size_t i = 0; i < reply->count; i++) {
        push_reply(L, &reply->items[i], true, depth + 1);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lvt_lua_mark_array(L);
}

/* Nothing is nil, or ctx.null inside an array, where nil would be a hole; an error inside an array
 * is a table with a message. */
static void push_reply(lua_State *L, const struct lvt_reply *reply, bool in_array, unsigned depth) {
    switch (reply->kind) {
    case LVT_REPLY_STATUS:
    case LVT_REPLY_STRING:
        lua_pushlstring(L, reply->text.data ? reply->text.data : "", reply->text.len);
        break;
    case LVT_REPLY_INTEGER:
        lua_pushinteger(L, reply->integer);
        break;
    case LVT_REPLY_ARRAY:
        push_array(L, reply, depth);
        break;
    case LVT_REPLY_ERROR:
        lua_createtable(L, 0, 1);
        lua_pushlstring(L, reply->text.data ? reply->text.data : "", reply->text.len);
        lua_setfield(L, -2, "message");
        break;
    default:
        if (in_array)
            lvt_lua_push_null(L);
        else
            lua_pushnil(L);
        break;
    }
}

static int command_done(lua_State *L, int status, lua_KContext serial) {
    const struct lvt_lua_answer *answer = lvt_lua_run_answer(L, serial);
    (void)status;
    if (answer->result != LVT_ANSWER_OK)
        return luaL_error(L, "ctx.redis.%s: %s", lua_tostring(L, lua_upvalueindex(1)),
                          answer->error ? answer->error : "Redis is away");
    push_reply(L, answer->reply, false, 0);
    return 1;
}

static void command_answered(void *ctx, enum lvt_answer result, const struct lvt_reply *reply,
                             const char *error) {
    const struct lvt_lua_answer answer = {.result = result, .reply = reply, .error = error};
    lvt_lua_run_answered(ctx, &answer);
}

/* Makes a text of each argument in its place, and an array of them from `first` on. */
static struct lvt_bytes *read_texts(lua_State *L, const char *function, int first, int count) {
    if (count > ARGUMENTS_MAX)
        luaL_error(L, "%s: more than %d arguments", function, ARGUMENTS_MAX);
    struct lvt_bytes *texts = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *texts, 0);
    for (int i = 0; i < count; i++) {
        if (lua_type(L, first + i) != LUA_TSTRING && lua_type(L, first + i) != LUA_TNUMBER &&
            !lvt_lua_number_spelling(L, first + i).data)
            luaL_error(L, "%s: argument %d is a %s, where a text or number is expected", function,
                       i + 1, luaL_typename(L, first + i));
        luaL_tolstring(L, first + i, NULL);
        lua_replace(L, first + i);
        texts[i].data = lua_tolstring(L, first + i, &texts[i].len);
    }
    return texts;
}

/* (arguments...); the command's name is the upvalue. */
static int command(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_run_waiting(L);
    const char *name = lua_tostring(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    int count = lua_gettop(L);
    const struct lvt_bytes *texts = read_texts(L, name, 1, count);
    lvt_effect_redis(lrun->run, texts, (size_t)count, command_answered, lrun);
    lua_settop(L, 0);
    return lvt_lua_run_park(L, command_done);
}

/* (redis, name): makes the command's function, and keeps it. */
static int redis_index(lua_State *L) {
    luaL_checktype(L, 2, LUA_TSTRING);
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, command, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_rawset(L, 1);
    return 1;
}

void lvt_lua_redis_push(lua_State *L) {
    lua_pushcfunction(L, redis_index);
    lvt_lua_make_lookup(L);
}

/* ---- cache ---- */

static int invalidate_done(lua_State *L, int status, lua_KContext serial) {
    const struct lvt_lua_answer *answer = lvt_lua_run_answer(L, serial);
    (void)status;
    if (answer->result != LVT_ANSWER_OK)
        return luaL_error(L, "ctx.cache.invalidate: %s",
                          answer->error ? answer->error : "Redis is away");
    if (answer->removed < 0)
        lua_pushnil(L); /* it waits for the commit */
    else
        lua_pushinteger(L, answer->removed);
    return 1;
}

static void invalidate_answered(void *ctx, enum lvt_answer result, int64_t removed,
                                const char *error) {
    const struct lvt_lua_answer answer = {.result = result, .removed = removed, .error = error};
    lvt_lua_run_answered(ctx, &answer);
}

/* (patterns...) */
static int invalidate(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_run_waiting(L);
    int count = lua_gettop(L);
    luaL_checkany(L, 1);
    const struct lvt_bytes *patterns = read_texts(L, "ctx.cache.invalidate", 1, count);
    lvt_effect_invalidate(lrun->run, patterns, (size_t)count, invalidate_answered, lrun);
    lua_settop(L, 0);
    return lvt_lua_run_park(L, invalidate_done);
}

void lvt_lua_cache_push(lua_State *L) {
    static const luaL_Reg functions[] = {{"invalidate", invalidate}, {NULL, NULL}};
    luaL_newlib(L, functions);
}
