#include "runtime/lua/lua_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "runtime/lua/lua_budget.h"
#include "runtime/lua/lua_watch.h"

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
            lua->broken = true;
            lua->exhausted = false;
            lua->refused_bytes = 0;
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
    if (ended && lua->idle_count < IDLE_MAX && !lua->worn) {
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
    if (lrun->interrupted)
        lvt_lua_stint_go_on(&lrun->stint);
    else
        lvt_lua_stint_begin(&lrun->stint);
    lrun->interrupted = false;
    lua_State *before = lvt_lua_watch_switch(lrun->thread);
    int status = lua_resume(lrun->thread, NULL, 0, &results);
    lvt_lua_watch_switch(before);
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

static struct lvt_bytes keep_text(char *to, struct lvt_bytes text, size_t max) {
    if (text.len > max)
        text.len = lvt_utf8_cut(text.data, max);
    if (text.len > 0)
        memcpy(to, text.data, text.len);
    return lvt_bytes(to, text.len);
}

int lvt_lua_run_end(lua_State *L, const struct lvt_verdict *verdict) {
    struct lvt_lua_run *lrun = lvt_lua_run_current(L);
    size_t room = verdict->reason.len < LVT_REASON_MAX ? verdict->reason.len : LVT_REASON_MAX;
    size_t trace_room = verdict->trace.len < LVT_TRACE_MAX ? verdict->trace.len : LVT_TRACE_MAX;
    struct lvt_lua_verdict *kept = malloc(sizeof *kept + room + trace_room);
    if (!kept)
        return luaL_error(L, "out of memory");
    kept->verdict = *verdict;
    kept->verdict.reason = keep_text(kept->text, verdict->reason, room);
    kept->verdict.trace = keep_text(kept->text + room, verdict->trace, trace_room);
    lrun->verdict = kept;
    return end_now(L, lrun);
}

int lvt_lua_run_breach(lua_State *L, struct lvt_bytes reason, struct lvt_bytes trace) {
    struct lvt_lua *lua = lvt_lua_of(L);
    const struct lvt_verdict verdict = {
        .kind = lua->broken ? LVT_VERDICT_OUTAGE : LVT_VERDICT_RETRY,
        .reason = reason,
        .trace = trace,
        .after_ms = -1,
    };
    lua->broken = lua->worn = true;
    lua->exhausted = false;
    lua->refused_bytes = 0;
    return lvt_lua_run_end(L, &verdict);
}

struct lvt_bytes lvt_lua_run_memory_text(const struct lvt_lua *lua,
                                         char text[LVT_LUA_MEMORY_TEXT_MAX]) {
    int len =
        snprintf(text, LVT_LUA_MEMORY_TEXT_MAX, "out of memory: the handler's memory_kb is %zu",
                 lua->memory_max_bytes / 1024);
    return lvt_bytes(text, (size_t)len);
}

void lvt_lua_run_check_ended(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    char text[LVT_LUA_MEMORY_TEXT_MAX];
    if (lrun && lrun->verdict)
        end_now(L, lrun);
    else if (lrun && lvt_lua_is_exhausted(lrun->lua))
        lvt_lua_run_breach(L, lvt_lua_run_memory_text(lrun->lua, text), lvt_bytes(NULL, 0));
}

bool lvt_lua_run_is_over(lua_State *L) {
    const struct lvt_lua *lua = lvt_lua_of(L);
    return lua->overdue || lvt_lua_is_exhausted(lua) || (lua->current && lua->current->verdict);
}

/* ---- interruption ---- */

void lvt_lua_run_interrupt(lua_State *L) {
    struct lvt_lua_run *lrun = lvt_lua_of(L)->current;
    if (!can_park(L, lrun))
        return;
    lrun->parked = lrun->interrupted = true;
    lua_yield(L, 0);
}
