#include "runtime/lua/lua_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/likeness.h"
#include "runtime/lua/lua_ctx.h"
#include "runtime/lua/lua_event.h"
#include "runtime/lua/lua_private.h"
#include "runtime/lua/lua_scan.h"

/* A handler that reads more foreign names is checked up to here. */
#define REFERENCES_MAX 20000
#define NAME_MAX_BYTES 64

struct check {
    struct lvt_lua *lua;   /* the file has been evaluated in it */
    struct lvt_lua *fresh; /* as it was before */
    struct lvt_lua_reference *references;
    size_t count, size;
    bool failed;
    void (*found)(void *ctx, const struct lvt_lua_finding *finding);
    void *found_ctx;
};

/* ---- gathering ---- */

static void keep(void *ctx, const struct lvt_lua_reference *reference) {
    struct check *check = ctx;
    if (check->count == check->size && check->size < REFERENCES_MAX) {
        size_t size = check->size ? 2 * check->size : 64;
        struct lvt_lua_reference *grown = realloc(check->references, size * sizeof *grown);
        check->failed |= !grown;
        if (grown) {
            check->references = grown;
            check->size = size;
        }
    }
    if (check->count < check->size)
        check->references[check->count++] = *reference;
}

/* Whether the file gives the first `depth` fields, or the name itself, a value, or may do so. */
static bool is_assigned(const struct check *check, const struct lvt_lua_reference *reference,
                        size_t depth) {
    for (size_t i = 0; i < check->count; i++) {
        const struct lvt_lua_reference *other = &check->references[i];
        bool may = other->assigned || other->computed;
        if (!may || other->owner != reference->owner ||
            (other->owner == LVT_LUA_GLOBAL && !lvt_bytes_equal(other->name, reference->name)))
            continue;
        size_t common = 0;
        while (common < depth && common < other->field_count &&
               lvt_bytes_equal(other->fields[common], reference->fields[common]))
            common++;
        if (common == depth && other->assigned && other->field_count == depth)
            return true; /* it is set */
        if (common == other->field_count && common < depth)
            return true; /* what holds it is replaced, or set by a computed name */
    }
    return false;
}

/* Whether the file looks at it without using it, as `if ctx.x then` does. */
static bool is_tested(const struct check *check, const struct lvt_lua_reference *reference,
                      size_t depth) {
    for (size_t i = 0; i < check->count; i++) {
        const struct lvt_lua_reference *other = &check->references[i];
        if (other->owner != reference->owner || other->used || other->field_count != depth ||
            (other->owner == LVT_LUA_GLOBAL && !lvt_bytes_equal(other->name, reference->name)))
            continue;
        bool same = true;
        for (size_t j = 0; j < depth; j++)
            same = same && lvt_bytes_equal(other->fields[j], reference->fields[j]);
        if (same)
            return true;
    }
    return false;
}

/* ---- proposals ---- */

static void copy_name(char name[NAME_MAX_BYTES], struct lvt_bytes text) {
    snprintf(name, NAME_MAX_BYTES, "%.*s", (int)text.len, text.data);
}

/* The key that is most like `name` in the table on top of the stack; "" when none is. */
static void propose(lua_State *L, const char *name, char proposal[NAME_MAX_BYTES]) {
    size_t best = lvt_likeness_limit(name) + 1;
    proposal[0] = '\0';
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            continue;
        const char *key = lua_tostring(L, -2);
        size_t far = lvt_likeness_distance(name, key);
        /* of those that are as near, the first in the alphabet: a table's order is by chance */
        if (far < best || (far == best && proposal[0] && strcmp(key, proposal) < 0)) {
            best = far;
            snprintf(proposal, NAME_MAX_BYTES, "%s", key);
        }
    }
}

/* The table in the table on top of the stack that has exactly this name: `log` for `info`. */
static void propose_deeper(lua_State *L, const char *name, char proposal[NAME_MAX_BYTES]) {
    proposal[0] = '\0';
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_istable(L, -1))
            continue;
        lua_pushstring(L, name);
        bool has = lua_rawget(L, -2) != LUA_TNIL;
        lua_pop(L, 1);
        if (has)
            snprintf(proposal, NAME_MAX_BYTES, "%s", lua_tostring(L, -2));
    }
}

/* ---- findings ---- */

/* "ctx.db" for depth 1. */
static void write_path(const struct lvt_lua_reference *reference, size_t depth,
                       struct lvt_buffer *out) {
    lvt_buffer_append(out, reference->name.data, reference->name.len);
    for (size_t i = 0; i < depth; i++) {
        lvt_buffer_char(out, '.');
        lvt_buffer_append(out, reference->fields[i].data, reference->fields[i].len);
    }
}

/* What is used where it is known to be there is no mistake: then only the test is told of. */
static void tell(const struct check *check, const struct lvt_lua_reference *reference, size_t depth,
                 struct lvt_lua_finding *finding) {
    finding->line = reference->line;
    finding->certain = reference->used || depth < reference->field_count;
    if (finding->certain && is_tested(check, reference, depth))
        return;
    check->found(check->found_ctx, finding);
}

/* The field at `depth` is not in the table on top of the stack. */
static void tell_missing(const struct check *check, lua_State *L,
                         const struct lvt_lua_reference *reference, size_t depth) {
    struct lvt_lua_finding finding;
    struct lvt_buffer out;
    char name[NAME_MAX_BYTES], proposal[NAME_MAX_BYTES], deeper[NAME_MAX_BYTES];
    if (is_assigned(check, reference, depth + 1))
        return;
    copy_name(name, reference->fields[depth]);
    propose(L, name, proposal);
    propose_deeper(L, name, deeper);
    lvt_buffer_init_fixed(&out, finding.text, sizeof finding.text);
    write_path(reference, depth, &out);
    lvt_buffer_printf(&out, " has no `%s`", name);
    if (reference->owner == LVT_LUA_GLOBAL)
        lvt_buffer_text(&out, " in a handler");
    if (deeper[0] && reference->owner == LVT_LUA_CTX) {
        lvt_buffer_printf(&out, "; did you mean `%s.%s`?", deeper, name);
    } else if (proposal[0]) {
        lvt_buffer_printf(&out, "; did you mean `%s`?", proposal);
    } else if (reference->owner == LVT_LUA_EVENT) {
        lvt_buffer_text(&out, "; what was published is in its `payload`");
    }
    tell(check, reference, depth + 1, &finding);
}

static void tell_colon(const struct check *check, const struct lvt_lua_reference *reference) {
    struct lvt_lua_finding finding;
    struct lvt_buffer out;
    lvt_buffer_init_fixed(&out, finding.text, sizeof finding.text);
    write_path(reference, reference->field_count, &out);
    lvt_buffer_text(&out,
                    " is called with a colon, which makes itself the first argument: it "
                    "wants a dot");
    tell(check, reference, reference->field_count, &finding);
}

/* ---- looking up ---- */

/* Makes names on the way: redis has every command. */
static bool makes_fields(lua_State *L) {
    bool makes = luaL_getmetafield(L, -1, "__index") != LUA_TNIL;
    if (makes)
        lua_pop(L, 1);
    return makes;
}

/* Goes down the fields of the table on top of the stack. Leaves the stack as it will. */
static void follow(const struct check *check, lua_State *L,
                   const struct lvt_lua_reference *reference) {
    for (size_t depth = 0; depth < reference->field_count; depth++) {
        bool last = depth + 1 == reference->field_count;
        lua_pushlstring(L, reference->fields[depth].data, reference->fields[depth].len);
        bool has = lua_rawget(L, -2) != LUA_TNIL;
        bool is_table = lua_istable(L, -1);
        lua_insert(L, -2); /* what was found, under what it was looked for in */
        if (!has && makes_fields(L))
            has = true;
        if (!has) {
            tell_missing(check, L, reference, depth);
            return;
        }
        if (last && reference->method && reference->owner == LVT_LUA_CTX &&
            !is_assigned(check, reference, depth))
            tell_colon(check, reference);
        if (!is_table)
            return;
        lua_pop(L, 1);
    }
}

static void check_event(const struct check *check, lua_State *L,
                        const struct lvt_lua_reference *reference) {
    lvt_lua_event_fields_push(L);
    lua_pushlstring(L, reference->fields[0].data, reference->fields[0].len);
    bool has = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 1);
    if (!has)
        tell_missing(check, L, reference, 0);
}

static void tell_no_global(const struct check *check, lua_State *L,
                           const struct lvt_lua_reference *reference) {
    struct lvt_lua_finding finding;
    struct lvt_buffer out;
    char name[NAME_MAX_BYTES], proposal[NAME_MAX_BYTES];
    if (is_assigned(check, reference, 0))
        return;
    copy_name(name, reference->name);
    propose(L, name, proposal);
    lvt_buffer_init_fixed(&out, finding.text, sizeof finding.text);
    lvt_buffer_printf(&out, "there is no `%s` in a handler", name);
    if (proposal[0])
        lvt_buffer_printf(&out, "; did you mean `%s`?", proposal);
    tell(check, reference, 0, &finding);
}

/* Globals as the file has left them. */
static void check_global(const struct check *check, lua_State *L,
                         const struct lvt_lua_reference *reference) {
    lua_pushglobaltable(L);
    lua_pushlstring(L, reference->name.data, reference->name.len);
    bool has = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 1);
    if (!has)
        tell_no_global(check, L, reference);
}

/* Of a library the fields are known. */
static void check_library(const struct check *check, lua_State *L,
                          const struct lvt_lua_reference *reference) {
    lua_pushglobaltable(L);
    lua_pushlstring(L, reference->name.data, reference->name.len);
    if (lua_rawget(L, -2) == LUA_TTABLE)
        follow(check, L, reference);
}

static void look_up(const struct check *check, lua_State *L,
                    const struct lvt_lua_reference *reference) {
    if (L == check->fresh->state) {
        if (reference->owner == LVT_LUA_GLOBAL)
            check_library(check, L, reference);
    } else if (reference->owner == LVT_LUA_GLOBAL) {
        check_global(check, L, reference);
    } else if (reference->field_count > 0 && reference->owner == LVT_LUA_EVENT) {
        check_event(check, L, reference);
    } else if (reference->owner == LVT_LUA_CTX) {
        lvt_lua_ctx_push(L);
        follow(check, L, reference);
    }
}

struct look_up {
    const struct check *check;
    const struct lvt_lua_reference *reference;
};

/* For lua_pcall, with the look_up. */
static int look_up_one(lua_State *L) {
    const struct look_up *task = lua_touserdata(L, 1);
    luaL_checkstack(L, 2 * LUA_MINSTACK, "check");
    look_up(task->check, L, task->reference);
    return 0;
}

/* ---- the function that handles ---- */

/* For lua_pcall, with the function to fill in. The names belong to the function's code. */
static int describe_handle(lua_State *L) {
    struct lvt_lua_function *handle = lua_touserdata(L, 1);
    lua_Debug info;
    lvt_lua_handler_handle_push(L);
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &info);
    handle->line = info.linedefined > 0 ? (unsigned)info.linedefined : 0;
    handle->event = lua_getlocal(L, NULL, 1);
    handle->ctx = lua_getlocal(L, NULL, 2);
    return 0;
}

/* ---- all of it ---- */

static enum leveret_code in_lua(lua_State *L, lua_CFunction function, void *argument,
                                const struct lvt_lua_source *source, struct leveret_error *err) {
    lua_settop(L, 0);
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, argument);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK)
        return LEVERET_OK;
    return leveret_fail(err, LEVERET_NO_MEMORY, "%s: cannot be checked: %s", source->path,
                        lua_tostring(L, -1));
}

static enum leveret_code check_source(struct check *check, const struct lvt_lua_source *source,
                                      struct leveret_error *err) {
    struct lvt_lua_function handle;
    enum leveret_code code = lvt_lua_open(check->fresh, lvt_lua_handler_open, err);
    if (code == LEVERET_OK)
        code = lvt_lua_handler_fill(check->lua, source, err);
    if (code == LEVERET_OK)
        code = in_lua(check->lua->state, describe_handle, &handle, source, err);
    if (code != LEVERET_OK)
        return code;
    if (!lvt_lua_scan(lvt_bytes(source->text, source->len), &handle, keep, check))
        return LEVERET_OK;
    if (check->failed)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory to check %s", source->path);
    for (size_t i = 0; i < check->count && code == LEVERET_OK; i++) {
        struct look_up task = {check, &check->references[i]};
        if (task.reference->assigned)
            continue;
        code = in_lua(check->lua->state, look_up_one, &task, source, err);
        if (code == LEVERET_OK)
            code = in_lua(check->fresh->state, look_up_one, &task, source, err);
    }
    return code;
}

static void no_sink(void *ctx, enum lvt_level level, const char *text,
                    const struct lvt_field *fields, size_t field_count) {
    (void)ctx, (void)level, (void)text, (void)fields, (void)field_count;
}

enum leveret_code lvt_lua_check(const char *path, const struct lvt_config *config,
                                void (*found)(void *ctx, const struct lvt_lua_finding *finding),
                                void *ctx, struct leveret_error *err) {
    static const struct lvt_log silent = {.sink = no_sink, .level = LVT_ERROR};
    size_t memory_max_bytes = (size_t)config->memory_kb * 1024;
    struct lvt_lua_source source;
    enum leveret_code code = lvt_lua_source_read(path, &source, err);
    if (code != LEVERET_OK)
        return code;
    struct check check = {.lua = lvt_lua_new(memory_max_bytes, &silent),
                          .fresh = lvt_lua_new(memory_max_bytes, &silent),
                          .found = found,
                          .found_ctx = ctx};
    if (check.lua && check.fresh)
        code = check_source(&check, &source, err);
    else
        code = leveret_fail(err, LEVERET_NO_MEMORY, "out of memory to check %s", path);
    lvt_lua_free(check.lua);
    lvt_lua_free(check.fresh);
    free(check.references);
    lvt_lua_source_free(&source);
    return code;
}
