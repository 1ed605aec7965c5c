/* A file of Lua text: reading it, evaluating it, and telling people where in it something is. */
#ifndef LEVERET_RUNTIME_LUA_SOURCE_H
#define LEVERET_RUNTIME_LUA_SOURCE_H

#include "runtime/lua/lua_state.h"

struct lvt_lua_source {
    char *path;
    char *text;
    size_t len;
};

/* LEVERET_CONFIG with the path and the reason when it cannot be read. */
enum leveret_code lvt_lua_source_read(const char *path, struct lvt_lua_source *ret_source,
                                      struct leveret_error *err) LVT_MUST_CHECK;
void lvt_lua_source_free(struct lvt_lua_source *source);

/* Compiles the text and evaluates it, with the table on top of the stack, which it takes, as its
 * globals when `has_globals`. Leaves one result on the stack. LEVERET_CONFIG with file and line.
 * Does not raise. */
enum leveret_code lvt_lua_source_evaluate(const struct lvt_lua_source *source, struct lvt_lua *lua,
                                          bool has_globals,
                                          struct leveret_error *err) LVT_MUST_CHECK;

/* The line on which the key at a path such as "retry.max" seems to be assigned; 0 when none does.
 * It looks at the text only, so a key that is computed is not found. */
unsigned lvt_lua_source_line(const struct lvt_lua_source *source, const char *key_path);

/* Like leveret_fail, with "file:line: " (or "file: " for line 0) before the text. */
enum leveret_code lvt_lua_source_fail(const struct lvt_lua_source *source, unsigned line,
                                      struct leveret_error *err, const char *format, ...)
    LVT_PRINTF(4, 5);

#endif
