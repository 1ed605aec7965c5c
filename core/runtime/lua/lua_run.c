#include "runtime/lua/lua_run.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* Coroutines kept for the runs to come. */
#define IDLE_MAX 128

/* ---- making and keeping ---- */

/* For lua_pcall, with the run: makes its coroutine. */
static int make_thread(lua_State *L) {
    struct lvt_lua_run *lrun = lua_touserdata(L, 1);
    lrun->thread = lua_newthread(L);
    lrun->thread_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

struct lvt_lua_run *lvt_lua_run_new(struct lvt_lua *lua, struct lvt_run *run) {
    struct lvt_lua_run *lrun = lua->idle;
    if (lrun) {
        lua->idle = lrun->next;
        lua->idle_count--;
    } else {
        lua_State *L = lua->state;
        lrun = calloc(1, sizeof *lrun);
        if (!lrun)
            return NULL;
        lrun->lua = lua;
        lua_pushcfunction(L, make_thread);
        lua_pushlightuserdata(L, lrun);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
            lua_pop(L, 1);
            free(lrun);
            return NULL;
        }
    }
    lrun->next = NULL;
    lrun->run = run;
    lrun->serial = ++lua->serial;
    lua->run_count++;
    return lrun;
}

void lvt_lua_run_free(struct lvt_lua_run *lrun, bool ended) {
    struct lvt_lua *lua = lrun->lua;
    lua->run_count--;
    free(lrun->verdict);
    lrun->verdict = NULL;
    lrun->run = NULL;
    lrun->event = NULL;
    if (ended && lua->idle_count < IDLE_MAX && !lua->exhausted) {
        lua_settop(lrun->thread, 0);
        lrun->next = lua->idle;
        lua->idle = lrun;
        lua->idle_count++;
        return;
    }
    luaL_unref(lua->state, LUA_REGISTRYINDEX, lrun->thread_ref);
    free(lrun);
}

void lvt_lua_run_free_idle(struct lvt_lua *lua) {
    while (lua->idle) {
        struct lvt_lua_run *next = lua->idle->next;
        free(lua->idle);
        lua->idle = next;
    }
    lua->idle_count = 0;
}

int lvt_lua_run_resume(struct lvt_lua_run *lrun, const struct lvt_lua_answer *answer) {
    struct lvt_lua *lua = lrun->lua;
    struct lvt_lua_run *outer = lua->current;
    int results;
    lua->current = lrun;
    lrun->answer = answer;
    lrun->parked = false;
    lrun->resumed = true;
    int status = lua_resume(lrun->thread, NULL, 0, &results);
    lrun->resumed = false;
    lrun->answer = NULL;
    lua->current = outer;
    return status;
}

/* ---- waiting ---- */

static bool can_park(lua_State *L, const struct lvt_lua_run *lrun) {
    return lua_isyieldable(L) && lrun->unwaiting == 0;
}

/* Gives the processor up for good. From inside a C function that cannot be left so, an error does:
 * whoever catches it finds the verdict. */
static int end_now(lua_State *L, struct lvt_lua_run *lrun) {
    if (can_park(L, lrun)) {
        lrun->parked = true;
        return lua_yield(L, 0);
    }
    return luaL_error(L, "the handler has ended");
}

struct lvt_lua_run *lvt_lua_run_current(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    if (!lrun || !lrun->run)
        luaL_error(L, "ctx is of use only while an event is being handled");
    if (lrun->verdict)
        end_now(L, lrun);
    return lrun;
}

struct lvt_lua_run *lvt_lua_run_waiting(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_run_current(L);
    if (!can_park(L, lrun))
        luaL_error(L,
                   "cannot wait here, inside a function that another one, such as table.sort "
                   "or string.gsub, calls");
    return lrun;
}

int lvt_lua_run_park(lua_State *L, lua_KFunction next) {
    struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    lrun->parked = true;
    return lua_yieldk(L, 0, (lua_KContext)lrun->serial, next);
}

const struct lvt_lua_answer *lvt_lua_run_answer(lua_State *L, lua_KContext serial) {
    struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    if (!lrun || (lua_KContext)lrun->serial != serial || !lrun->answer)
        luaL_error(L, "this coroutine waits for an answer that another event asked for");
    const struct lvt_lua_answer *answer = lrun->answer;
    lrun->answer = NULL;
    return answer;
}

/* ---- verdicts ---- */

int lvt_lua_run_end(lua_State *L, enum lvt_verdict_kind kind, struct lvt_bytes reason,
                    int64_t after_ms) {
    struct lvt_lua_run *lrun = lvt_lua_run_current(L);
    if (reason.len > LVT_REASON_MAX)
        reason.len = lvt_utf8_cut(reason.data, LVT_REASON_MAX);
    struct lvt_lua_verdict *verdict = malloc(sizeof *verdict + reason.len);
    if (!verdict)
        return luaL_error(L, "out of memory");
    *verdict =
        (struct lvt_lua_verdict){.kind = kind, .after_ms = after_ms, .reason_len = reason.len};
    if (reason.len > 0)
        memcpy(verdict->reason, reason.data, reason.len);
    lrun->verdict = verdict;
    return end_now(L, lrun);
}

void lvt_lua_run_check_ended(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    if (lrun && lrun->verdict)
        end_now(L, lrun);
}
