#include "runtime/lua/lua_budget.h"

#include <stdio.h>

#include "runtime/lua/lua_private.h"
#include "runtime/lua/lua_run.h"
#include "runtime/lua/lua_watch.h"

void lvt_lua_stint_begin(struct lvt_lua_stint *stint) {
    stint->noticed_us = stint->spent_us = 0;
}

void lvt_lua_stint_go_on(struct lvt_lua_stint *stint) {
    stint->noticed_us = lvt_lua_watch_used_us();
    lvt_lua_watch_slice();
}

/* ---- spending ---- */

static struct lvt_lua_stint *stint_of(struct lvt_lua *lua) {
    return lua->current ? &lua->current->stint : &lua->stint;
}

static uint64_t budget_ms(const struct lvt_lua *lua) {
    return lua->current ? lua->owner->budget_ms : lua->stint_ms;
}

/* Counts what has been used since the last look. A stint's beginning is not measured: that would be
 * a system call for every event. Its clock starts when the first tick finds it at work. */
static bool is_spent(struct lvt_lua *lua, bool *ret_long) {
    struct lvt_lua_stint *stint = stint_of(lua);
    uint64_t now_us = lvt_lua_watch_used_us();
    *ret_long = stint->noticed_us != 0;
    if (*ret_long)
        stint->spent_us += now_us - stint->noticed_us;
    stint->noticed_us = now_us;
    return stint->spent_us >= budget_ms(lua) * 1000;
}

static int stop_evaluation(lua_State *L) {
    lvt_lua_of(L)->overdue = true;
    lua_sethook(L, lvt_lua_watch_hook, LUA_MASKCOUNT, 1);
    luaL_where(L, 0);
    if (*lua_tostring(L, -1) == '\0')
        luaL_where(L, 1); /* in a C function: where it was called */
    lua_pushliteral(L, "evaluating the file does not come to an end");
    lua_concat(L, 2);
    return lua_error(L);
}

static int stop_run(lua_State *L, struct lvt_lua_run *lrun) {
    char text[200];
    struct lvt_bytes trace;
    int len = snprintf(text, sizeof text,
                       "the handler used more than budget_ms = %llu of processor time between two "
                       "waits",
                       (unsigned long long)budget_ms(lrun->lua));
    luaL_traceback(L, L, NULL, 0);
    trace.data = lua_tolstring(L, -1, &trace.len);
    return lvt_lua_run_breach(L, lvt_bytes(text, (size_t)len), trace);
}

void lvt_lua_budget_check(lua_State *L) {
    struct lvt_lua *lua = lvt_lua_of(L);
    bool is_long;
    if (!lvt_lua_watch_ticked() || !is_spent(lua, &is_long))
        return;
    if (lua->current)
        stop_run(L, lua->current);
    else
        stop_evaluation(L);
}

/* Only once the run has been found at work before: most that a tick meets have just begun. */
void lvt_lua_watch_hook(lua_State *L, lua_Debug *at) {
    struct lvt_lua *lua = lvt_lua_of(L);
    bool is_long;
    (void)at;
    lua_sethook(L, NULL, 0, 0);
    if (!lua->current && lua->overdue) {
        stop_evaluation(L);
        return;
    }
    if (lua->current && lua->current->verdict) {
        lvt_lua_run_check_ended(L);
        return;
    }
    if (!lvt_lua_watch_ticked())
        return; /* inherited from the coroutine that made this one */
    bool spent = is_spent(lua, &is_long);
    if (lua->current && spent)
        stop_run(L, lua->current);
    else if (lua->current && is_long)
        lvt_lua_run_interrupt(L);
    else if (spent)
        stop_evaluation(L);
}
