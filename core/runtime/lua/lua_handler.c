#include "runtime/lua/lua_handler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/run.h"
#include "runtime/file.h"
#include "runtime/lua/lua_coroutine.h"
#include "runtime/lua/lua_ctx.h"
#include "runtime/lua/lua_event.h"
#include "runtime/lua/lua_json.h"
#include "runtime/lua/lua_options.h"
#include "runtime/lua/lua_private.h"
#include "runtime/lua/lua_run.h"
#include "runtime/lua/lua_watch.h"

/* Key in the registry: the function that handles. */
static const char handle_key;

/* ---- a state for the handler ---- */

int lvt_lua_handler_open(lua_State *L) {
    lvt_lua_open_sandbox(L);
    lua_settop(L, 0);
    lvt_lua_coroutine_open(L);
    lvt_lua_json_open(L);
    lvt_lua_event_open(L);
    lvt_lua_ctx_open(L);
    return 0;
}

/* For lua_pcall: keeps the function that the file returned, or that is in its table. */
static int keep_handle(lua_State *L) {
    if (lua_istable(L, 1)) {
        lua_pushliteral(L, "handle");
        lua_rawget(L, 1);
    }
    if (!lua_isfunction(L, -1))
        return luaL_error(L, lua_istable(L, 1) ? "the table that it returns has no function "
                                                 "`handle`"
                                               : "it must return a function, or a table with a "
                                                 "function `handle`");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &handle_key);
    return 0;
}

void lvt_lua_handler_handle_push(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &handle_key);
}

static void free_state(struct lvt_lua *lua) {
    if (lua)
        lvt_lua_run_free_idle(lua);
    lvt_lua_free(lua);
}

enum leveret_code lvt_lua_handler_fill(struct lvt_lua *lua, const struct lvt_lua_source *source,
                                       struct leveret_error *err) {
    lua_State *L = lua->state;
    enum leveret_code code = lvt_lua_open(lua, lvt_lua_handler_open, err);
    if (code == LEVERET_OK)
        code = lvt_lua_source_evaluate(source, lua, false, err);
    if (code != LEVERET_OK)
        return code;
    lua_pushcfunction(L, keep_handle);
    lua_pushvalue(L, -2);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK)
        return lvt_lua_source_fail(source, 0, err, "%s", lua_tostring(L, -1));
    return LEVERET_OK;
}

static enum leveret_code make_state(struct lvt_lua_handler *handler, struct lvt_lua **ret_lua,
                                    struct leveret_error *err) {
    struct lvt_lua *lua = lvt_lua_new(handler->memory_max_bytes, handler->log);
    if (!lua)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the handler %s",
                            handler->source.path);
    lua->owner = handler;
    enum leveret_code code = lvt_lua_handler_fill(lua, &handler->source, err);
    if (code == LEVERET_OK)
        *ret_lua = lua;
    else
        free_state(lua);
    return code;
}

void lvt_lua_handler_tidy(struct lvt_lua_handler *handler) {
    if (handler->retired && handler->retired->run_count == 0) {
        free_state(handler->retired);
        handler->retired = NULL;
    }
    if (!handler->lua || !handler->lua->worn)
        return;
    if (handler->lua->run_count == 0)
        free_state(handler->lua);
    else if (!handler->retired)
        handler->retired = handler->lua;
    else
        return; /* two states at most */
    handler->lua = NULL;
}

static void destroy(void *self) {
    struct lvt_lua_handler *handler = self;
    if (!handler)
        return;
    free_state(handler->lua);
    free_state(handler->retired);
    lvt_lua_source_free(&handler->source);
    free(handler);
}

/* ---- running ---- */

static int handle_event_done(lua_State *L, int status, lua_KContext context) {
    (void)L, (void)status, (void)context;
    return 0;
}

/* The first function of every event's coroutine. */
static int handle_event(lua_State *L) {
    lvt_lua_handler_handle_push(L);
    lvt_lua_event_push(L, lvt_lua_of(L)->current);
    lvt_lua_ctx_push(L);
    lua_callk(L, 2, 0, 0, handle_event_done);
    return 0;
}

/* On the lane's thread, which the one that loaded the handler need not be. */
static void check_watch(struct lvt_lua_handler *handler) {
    handler->watched = true;
    if (!lvt_lua_watch_works())
        LVT_LOG(
            handler->log, LVT_ERROR,
            "budget_ms cannot be kept: no timer is to be had; raise the limit on pending signals "
            "(ulimit -i)",
            LVT_STRING("handler", handler->source.path));
}

static void start(void *self, struct lvt_run *run) {
    struct lvt_lua_handler *handler = self;
    struct leveret_error err = {.text = "out of memory"};
    struct lvt_lua_run *lrun = NULL;
    if (!handler->watched)
        check_watch(handler);
    if (handler->lua || make_state(handler, &handler->lua, &err) == LEVERET_OK)
        lrun = lvt_lua_run_new(handler->lua, run);
    if (!lrun) {
        const struct lvt_verdict failed = {.kind = LVT_VERDICT_OUTAGE,
                                           .reason = lvt_bytes_of(err.text)};
        lvt_run_finish(run, &failed);
        return;
    }
    run->runtime_data = lrun;
    lua_pushcfunction(lrun->thread, handle_event);
    lvt_lua_run_answered(lrun, NULL);
}

static void abort_run(void *self, struct lvt_run *run) {
    struct lvt_lua_run *lrun = run->runtime_data;
    run->runtime_data = NULL;
    if (!lrun)
        return;
    lrun->run = NULL;
    if (lrun->resumed)
        return; /* by a call of its own: freed when that has returned */
    lvt_lua_run_free(lrun, false);
    lvt_lua_handler_tidy(self);
}

static const struct lvt_runtime runtime = {start, abort_run, destroy};

/* ---- loading ---- */

/* Options come after the state, which reads them: it has the configuration's cap until then. */
static enum leveret_code load(struct lvt_handler *handler, struct lvt_lua_handler *self,
                              struct leveret_error *err) {
    self->memory_max_bytes = (size_t)handler->options.memory_kb * 1024;
    enum leveret_code code = make_state(self, &self->lua, err);
    if (code != LEVERET_OK)
        return code;
    lua_State *L = self->lua->state;
    if (lua_istable(L, -1))
        code = lvt_lua_options_read(L, &self->source, "handle", lvt_handler_keys,
                                    lvt_handler_key_count, &handler->options, err);
    lua_settop(L, 0);
    if (code != LEVERET_OK)
        return code;
    self->budget_ms = handler->options.budget_ms;
    self->memory_max_bytes = (size_t)handler->options.memory_kb * 1024;
    if (self->lua->memory_bytes > self->memory_max_bytes)
        return lvt_lua_source_fail(&self->source, lvt_lua_source_line(&self->source, "memory_kb"),
                                   err, "memory_kb is %zu, but %zu are in use before any event",
                                   self->memory_max_bytes / 1024, self->lua->memory_bytes / 1024);
    self->lua->memory_max_bytes = self->memory_max_bytes;
    return LEVERET_OK;
}

/* NULL when out of memory. */
static struct lvt_handler *new_handler(const char *path, const struct lvt_log *log) {
    struct lvt_handler *handler = calloc(1, sizeof *handler);
    struct lvt_lua_handler *self = calloc(1, sizeof *self);
    if (!handler || !self) {
        free(handler);
        free(self);
        return NULL;
    }
    self->log = log;
    handler->runtime = &runtime;
    handler->runtime_self = self;
    handler->name = lvt_file_handler_name(path, ".lua");
    handler->path = strdup(path);
    if (!handler->name || !handler->path) {
        lvt_handler_free(handler);
        return NULL;
    }
    return handler;
}

enum leveret_code lvt_lua_handler_load(const char *path, const struct lvt_config *config,
                                       const struct lvt_log *log, struct lvt_handler **ret_handler,
                                       struct leveret_error *err) {
    struct lvt_handler *handler = new_handler(path, log);
    if (!handler)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for the handler %s", path);
    struct lvt_lua_handler *self = handler->runtime_self;
    enum leveret_code code = lvt_lua_source_read(path, &self->source, err);
    if (code == LEVERET_OK)
        code = lvt_handler_options_init(&handler->options, config, err);
    if (code == LEVERET_OK)
        code = load(handler, self, err);
    if (code != LEVERET_OK) {
        lvt_handler_free(handler);
        return code;
    }
    lvt_file_version(self->source.text, self->source.len, handler->version);
    *ret_handler = handler;
    return LEVERET_OK;
}

const char *lvt_lua_library(void) {
    return LUA_RELEASE;
}
