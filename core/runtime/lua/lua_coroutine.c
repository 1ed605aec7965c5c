#include "runtime/lua/lua_coroutine.h"

#include <lualib.h>

#include "runtime/lua/lua_run.h"
#include "runtime/lua/lua_watch.h"

/* ---- pcall ---- */

static int pcall_done(lua_State *L, int status, lua_KContext skipped) {
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - (int)skipped;
    lvt_lua_run_check_ended(L);
    lua_pushboolean(L, 0);
    lua_pushvalue(L, -2);
    return 2;
}

static int protected_call(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1); /* the first result, if all goes well */
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, pcall_done);
    return pcall_done(L, status, 0);
}

/* xpcall's handler of messages, which is the upvalue. What a hook raises is handled while hooks are
 * off, where nothing could stop the handler: it does not hear of the end of its run. */
static int handle_message(lua_State *L) {
    if (lvt_lua_run_is_over(L))
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int protected_call_with(lua_State *L) {
    int count = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, handle_message, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); /* function, handler, true, function, arguments */
    int status = lua_pcallk(L, count - 2, LUA_MULTRET, 2, 2, pcall_done);
    return pcall_done(L, status, 2);
}

/* ---- resume and wrap ---- */

/* Closes the coroutine's variables, whose closing functions run in it. Returns Lua's status. */
static int reset(lua_State *inner) {
    lua_State *outer = lvt_lua_watch_switch(inner);
    int status = lua_resetthread(inner);
    lvt_lua_watch_switch(outer);
    return status;
}

/* What a step of a coroutine came to, when it is not a count of results. */
enum { STEP_ERROR = -1, STEP_PARKED = -2 };

/* Goes on with a coroutine, and moves its results, or its error, here. When it waits, so does the
 * one that resumed it: with the answer each goes on in turn, from the outermost to the one that
 * asked. */
static int step(lua_State *L, lua_State *inner, int arguments) {
    struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    if (!lua_checkstack(inner, arguments)) {
        lua_pushliteral(L, "too many arguments to resume");
        return STEP_ERROR;
    }
    lua_xmove(L, inner, arguments);
    bool unwaiting = lrun && !lua_isyieldable(L);
    if (lrun)
        lrun->unwaiting += unwaiting;
    int results;
    lua_State *outer = lvt_lua_watch_switch(inner);
    int status = lua_resume(inner, L, arguments, &results);
    lvt_lua_watch_switch(outer);
    if (lrun)
        lrun->unwaiting -= unwaiting;
    if (status == LUA_YIELD && lrun && lrun->parked)
        return STEP_PARKED;
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(inner, L, 1);
        return STEP_ERROR;
    }
    if (!lua_checkstack(L, results + 1)) {
        lua_pop(inner, results);
        lua_pushliteral(L, "too many results to resume");
        return STEP_ERROR;
    }
    lua_xmove(inner, L, results);
    return results;
}

static lua_State *checked_thread(lua_State *L, int index) {
    lua_State *inner = lua_tothread(L, index);
    luaL_argexpected(L, inner, index, "coroutine");
    return inner;
}

static void check_serial(lua_State *L, lua_KContext serial) {
    struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    if (!lrun || (lua_KContext)lrun->serial != serial)
        luaL_error(L, "this coroutine waits for an answer that another event asked for");
}

static int resume_again(lua_State *L, int status, lua_KContext serial);

static int resume_done(lua_State *L, int results) {
    if (results == STEP_PARKED)
        return lvt_lua_run_park(L, resume_again);
    if (results == STEP_ERROR)
        lvt_lua_run_check_ended(L);
    lua_pushboolean(L, results != STEP_ERROR);
    int returned = results == STEP_ERROR ? 1 : results;
    lua_insert(L, -(returned + 1));
    return returned + 1;
}

static int resume_again(lua_State *L, int status, lua_KContext serial) {
    (void)status;
    check_serial(L, serial);
    return resume_done(L, step(L, lua_tothread(L, 1), 0));
}

static int resume(lua_State *L) {
    lua_State *inner = checked_thread(L, 1);
    return resume_done(L, step(L, inner, lua_gettop(L) - 1));
}

static int wrapped_again(lua_State *L, int status, lua_KContext serial);

static int wrapped_done(lua_State *L, lua_State *inner, int results) {
    if (results == STEP_PARKED)
        return lvt_lua_run_park(L, wrapped_again);
    if (results != STEP_ERROR)
        return results;
    lvt_lua_run_check_ended(L);
    int status = lua_status(inner);
    if (status != LUA_OK && status != LUA_YIELD)
        reset(inner);
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1); /* as in Lua's own: where the wrapped function was called */
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrapped_again(lua_State *L, int status, lua_KContext serial) {
    lua_State *inner = lua_tothread(L, lua_upvalueindex(1));
    (void)status;
    check_serial(L, serial);
    return wrapped_done(L, inner, step(L, inner, 0));
}

static int wrapped(lua_State *L) {
    lua_State *inner = lua_tothread(L, lua_upvalueindex(1));
    return wrapped_done(L, inner, step(L, inner, lua_gettop(L)));
}

static int create(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *inner = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, inner, 1);
    return 1;
}

static int close(lua_State *L) {
    lua_State *inner = checked_thread(L, 1);
    lua_Debug frame;
    if (inner == L)
        return luaL_error(L, "cannot close a running coroutine");
    if (lua_status(inner) == LUA_OK && lua_getstack(inner, 0, &frame))
        return luaL_error(L, "cannot close a normal coroutine");
    int status = reset(inner);
    lvt_lua_run_check_ended(L);
    lua_pushboolean(L, status == LUA_OK);
    if (status == LUA_OK)
        return 1;
    lua_xmove(inner, L, 1);
    return 2;
}

static int wrap(lua_State *L) {
    create(L);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

/* ---- yield ---- */

/* The event's own coroutine is not one to the handler: nobody would resume it. */
static bool is_event(lua_State *L) {
    const struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    return lrun && lrun->thread == L;
}

static int yield(lua_State *L) {
    if (is_event(L))
        return luaL_error(L, "attempt to yield from outside a coroutine");
    return lua_yield(L, lua_gettop(L));
}

static int is_yieldable(lua_State *L) {
    lua_State *thread = lua_isnone(L, 1) ? L : checked_thread(L, 1);
    lua_pushboolean(L, lua_isyieldable(thread) && !is_event(thread));
    return 1;
}

void lvt_lua_coroutine_open(lua_State *L) {
    static const luaL_Reg replaced[] = {{"resume", resume},
                                        {"wrap", wrap},
                                        {"close", close},
                                        {"yield", yield},
                                        {"isyieldable", is_yieldable},
                                        {NULL, NULL}};
    luaL_requiref(L, LUA_COLIBNAME, luaopen_coroutine, 1);
    luaL_setfuncs(L, replaced, 0);
    lua_pop(L, 1);
    lua_pushcfunction(L, protected_call);
    lua_setglobal(L, "pcall");
    lua_pushcfunction(L, protected_call_with);
    lua_setglobal(L, "xpcall");
}
