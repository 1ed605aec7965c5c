#include "runtime/lua/lua_source.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/file.h"

#define SOURCE_MAX_BYTES ((size_t)1024 * 1024)

static enum leveret_code read_open(FILE *file, const char *path, struct lvt_lua_source *source,
                                   struct leveret_error *err) {
    struct stat status;
    if (fstat(fileno(file), &status) != 0)
        return leveret_fail(err, LEVERET_CONFIG, "cannot read %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return leveret_fail(err, LEVERET_CONFIG, "cannot read %s: not a file", path);
    source->text = malloc(SOURCE_MAX_BYTES + 1);
    if (!source->text)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory reading %s", path);
    source->len = fread(source->text, 1, SOURCE_MAX_BYTES + 1, file);
    if (ferror(file))
        return leveret_fail(err, LEVERET_CONFIG, "cannot read %s: %s", path, strerror(errno));
    if (source->len > SOURCE_MAX_BYTES)
        return leveret_fail(err, LEVERET_CONFIG, "%s is over %zu KiB", path,
                            SOURCE_MAX_BYTES / 1024);
    source->text[source->len] = '\0';
    char *fitting = realloc(source->text, source->len + 1);
    if (fitting)
        source->text = fitting;
    return LEVERET_OK;
}

enum leveret_code lvt_lua_source_read(const char *path, struct lvt_lua_source *ret_source,
                                      struct leveret_error *err) {
    FILE *file = lvt_file_open(path);
    if (!file)
        return leveret_fail(err, LEVERET_CONFIG, "cannot read %s: %s", path, strerror(errno));
    struct lvt_lua_source source = {.path = strdup(path)};
    enum leveret_code code = LEVERET_OK;
    if (!source.path)
        code = leveret_fail(err, LEVERET_NO_MEMORY, "out of memory reading %s", path);
    else
        code = read_open(file, path, &source, err);
    fclose(file);
    if (code == LEVERET_OK)
        *ret_source = source;
    else
        lvt_lua_source_free(&source);
    return code;
}

void lvt_lua_source_free(struct lvt_lua_source *source) {
    free(source->path);
    free(source->text);
    *source = (struct lvt_lua_source){0};
}

/* For lua_pcall: the source, and perhaps a table of globals; returns the function. */
static int compile(lua_State *L) {
    const struct lvt_lua_source *source = lua_touserdata(L, 1);
    const char *name = lua_pushfstring(L, "@%s", source->path);
    if (luaL_loadbufferx(L, source->text, source->len, name, "t") != LUA_OK)
        return lua_error(L);
    if (lua_istable(L, 2)) {
        lua_pushvalue(L, 2);
        lua_setupvalue(L, -2, 1); /* _ENV, a file's only upvalue */
    }
    return 1;
}

/* For lua_pcall: makes a text of whatever was raised. */
static int error_text(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

static enum leveret_code evaluate_failed(const struct lvt_lua_source *source, struct lvt_lua *lua,
                                         struct leveret_error *err) {
    lua_State *L = lua->state;
    lua_pushcfunction(L, error_text);
    lua_insert(L, -2);
    const char *text = lvt_lua_call_bounded(lua, 1, 1, LVT_LUA_EVALUATION_MS) == LUA_OK
                           ? lua_tostring(L, -1)
                           : NULL;
    enum leveret_code code;
    if (lvt_lua_is_exhausted(lua) && (!text || strcmp(text, LVT_LUA_NO_MEMORY) == 0))
        code = leveret_fail(err, LEVERET_CONFIG, "%s: evaluating the file takes over %zu KiB",
                            source->path, lua->memory_max_bytes / 1024);
    else if (text && strncmp(text, source->path, strlen(source->path)) == 0)
        code = leveret_fail(err, LEVERET_CONFIG, "%s", text);
    else
        code = leveret_fail(err, LEVERET_CONFIG, "%s: %s", source->path,
                            text ? text : "an error that is no text");
    lua_pop(L, 1);
    return code;
}

enum leveret_code lvt_lua_source_evaluate(const struct lvt_lua_source *source, struct lvt_lua *lua,
                                          bool has_globals, struct leveret_error *err) {
    lua_State *L = lua->state;
    int arguments = has_globals ? 2 : 1;
    lua_pushcfunction(L, compile);
    lua_insert(L, -arguments);
    /* compile(source, globals): the source goes before the globals that were on top */
    lua_pushlightuserdata(L, (void *)source);
    lua_insert(L, -arguments);
    if (lua_pcall(L, arguments, 1, 0) != LUA_OK ||
        lvt_lua_call_bounded(lua, 0, 1, LVT_LUA_EVALUATION_MS) != LUA_OK)
        return evaluate_failed(source, lua, err);
    return LEVERET_OK;
}

/* Whether `name` is assigned at `at`: a word of its own, and "=" behind it. */
static bool is_assigned(const struct lvt_lua_source *source, const char *at, const char *name,
                        size_t len) {
    const char *end = source->text + source->len;
    if ((size_t)(end - at) < len || memcmp(at, name, len) != 0)
        return false;
    if (at > source->text && (isalnum((unsigned char)at[-1]) || at[-1] == '_'))
        return false;
    at += len;
    if (at + 1 < end && at[0] == '"' && at[1] == ']')
        at += 2; /* ["name"] = */
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at < end && at[0] == '=' && at[1] != '=';
}

static const char *find_assignment(const struct lvt_lua_source *source, const char *from,
                                   const char *name, size_t len) {
    const char *end = source->text + source->len;
    bool comment = false;
    for (const char *at = from; at < end; at++) {
        if (*at == '\n')
            comment = false;
        else if (at[0] == '-' && at[1] == '-')
            comment = true;
        else if (!comment && is_assigned(source, at, name, len))
            return at;
    }
    return NULL;
}

unsigned lvt_lua_source_line(const struct lvt_lua_source *source, const char *key_path) {
    const char *at = source->text;
    while (*key_path) {
        size_t len = strcspn(key_path, ".");
        at = find_assignment(source, at, key_path, len);
        if (!at)
            return 0;
        key_path += len + (key_path[len] == '.');
    }
    unsigned line = 1;
    for (const char *before = source->text; before < at; before++)
        line += *before == '\n';
    return line;
}

enum leveret_code lvt_lua_source_fail(const struct lvt_lua_source *source, unsigned line,
                                      struct leveret_error *err, const char *format, ...) {
    struct leveret_error reason;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason.text, sizeof reason.text, format, arguments);
    va_end(arguments);
    if (line > 0)
        return leveret_fail(err, LEVERET_CONFIG, "%s:%u: %s", source->path, line, reason.text);
    return leveret_fail(err, LEVERET_CONFIG, "%s: %s", source->path, reason.text);
}
