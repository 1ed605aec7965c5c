/* What becomes of a run whose coroutine has come to an end: the verdict, and who hears of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/effects.h"
#include "runtime/lua/lua_ctx.h"
#include "runtime/lua/lua_handler.h"
#include "runtime/lua/lua_json.h"
#include "runtime/lua/lua_private.h"
#include "runtime/lua/lua_run.h"

/* For an error's own __tostring: the run's budget may be spent already. */
#define DESCRIPTION_MS 50

/* An error that nobody caught, as the verdict tells it. */
struct failure {
    struct lvt_lua_run *lrun;
    size_t reason_len, trace_len;
    char sqlstate[6];
    char reason[LVT_REASON_MAX];
    char trace[LVT_TRACE_MAX];
};

static size_t keep(char *to, size_t max, const char *text, size_t len) {
    if (len > max)
        len = lvt_utf8_cut(text, max);
    memcpy(to, text, len);
    return len;
}

/* Pushes a text for the error at `index`: a table that does not know its own is shown as JSON. */
static void push_error_text(lua_State *L, int index) {
    if (lua_type(L, index) == LUA_TTABLE && luaL_getmetafield(L, index, "__tostring") == LUA_TNIL) {
        struct lvt_buffer *out = lvt_lua_scratch(L);
        if (!lvt_lua_json_write(L, index, out)) {
            lua_pushlstring(L, out->data, out->len);
            return;
        }
    }
    luaL_tolstring(L, index, NULL);
}

/* Puts file and line before the text on top: unlike a text, an error of the database's has none. */
static void add_place(lua_State *L, lua_State *thread) {
    lua_Debug at;
    for (int level = 0; lua_getstack(thread, level, &at); level++) {
        lua_getinfo(thread, "Sl", &at);
        if (at.currentline <= 0)
            continue;
        lua_pushfstring(L, "%s:%d: ", at.short_src, at.currentline);
        lua_insert(L, -2);
        lua_concat(L, 2);
        return;
    }
}

/* For lua_pcall, with the failure: fills it in from the error on the coroutine's stack. */
static int describe(lua_State *L) {
    struct failure *failure = lua_touserdata(L, 1);
    lua_State *thread = failure->lrun->thread;
    size_t len;
    if (!lua_checkstack(thread, 1))
        return luaL_error(L, "out of stack");
    lua_pushvalue(thread, -1);
    lua_xmove(thread, L, 1);
    const char *sqlstate = lvt_lua_sqlstate(L, 2);
    if (sqlstate)
        snprintf(failure->sqlstate, sizeof failure->sqlstate, "%s", sqlstate);
    push_error_text(L, 2);
    if (lvt_lua_is_sql_error(L, 2))
        add_place(L, thread);
    const char *text = lua_tolstring(L, -1, &len);
    failure->reason_len = keep(failure->reason, sizeof failure->reason, text, len);
    luaL_traceback(L, thread, NULL, 0);
    text = lua_tolstring(L, -1, &len);
    failure->trace_len = keep(failure->trace, sizeof failure->trace, text, len);
    return 0;
}

static void describe_failure(struct lvt_lua_run *lrun, int status, struct failure *failure) {
    lua_State *L = lrun->lua->state;
    *failure = (struct failure){.lrun = lrun};
    if (status == LUA_ERRMEM || lvt_lua_is_exhausted(lrun->lua)) {
        failure->reason_len = lvt_lua_run_memory_text(lrun->lua, failure->reason).len;
        return;
    }
    lua_pushcfunction(L, describe);
    lua_pushlightuserdata(L, failure);
    if (lvt_lua_call_bounded(lrun->lua, 1, 0, DESCRIPTION_MS) == LUA_OK)
        return;
    lua_pop(L, 1);
    if (failure->reason_len > 0)
        return; /* what is missing is the trace */
    failure->reason_len = (size_t)snprintf(failure->reason, sizeof failure->reason,
                                           "the handler failed with an error that cannot be shown");
}

/* A failure in a state that another run has broken may be that one's fault: it costs no attempt. */
static void judge(struct lvt_lua_run *lrun, int status, struct failure *failure,
                  struct lvt_verdict *verdict) {
    struct lvt_lua *lua = lrun->lua;
    verdict->kind = lua->broken ? LVT_VERDICT_OUTAGE : LVT_VERDICT_RETRY;
    verdict->reason = LVT_LITERAL("out of memory");
    if (failure) {
        describe_failure(lrun, status, failure);
        verdict->reason = lvt_bytes(failure->reason, failure->reason_len);
        verdict->trace = lvt_bytes(failure->trace, failure->trace_len);
        memcpy(verdict->sqlstate, failure->sqlstate, sizeof verdict->sqlstate);
    }
    if (lvt_lua_is_exhausted(lua))
        lua->broken = true;
    lua->exhausted = false;
    lua->refused_bytes = 0;
}

static void finish(struct lvt_lua_run *lrun, int status) {
    struct lvt_run *run = lrun->run;
    struct lvt_lua_verdict *wanted = lrun->verdict;
    struct failure *failure = NULL;
    struct lvt_verdict verdict = {.kind = LVT_VERDICT_DONE, .after_ms = -1};
    if (wanted) {
        verdict = wanted->verdict;
        lrun->verdict = NULL;
    } else if (status != LUA_OK) {
        failure = malloc(sizeof *failure);
        judge(lrun, status, failure, &verdict);
    }
    struct lvt_lua_handler *owner = lrun->lua->owner;
    run->runtime_data = NULL;
    lvt_lua_run_free(lrun, status == LUA_OK);
    lvt_lua_handler_tidy(owner);
    lvt_run_finish(run, &verdict);
    free(wanted);
    free(failure);
}

static void go_on(void *ctx) {
    lvt_lua_run_answered(ctx, NULL);
}

void lvt_lua_run_answered(void *ctx, const struct lvt_lua_answer *answer) {
    struct lvt_lua_run *lrun = ctx;
    int status = lvt_lua_run_resume(lrun, answer);
    if (!lrun->run) {
        /* Aborted by what it called. */
        struct lvt_lua_handler *owner = lrun->lua->owner;
        lvt_lua_run_free(lrun, false);
        lvt_lua_handler_tidy(owner);
        return;
    }
    if (status != LUA_YIELD || lrun->verdict)
        finish(lrun, status);
    else if (lrun->interrupted)
        lvt_effect_turn(lrun->run, go_on, lrun);
}
