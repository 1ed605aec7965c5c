/* Which names a handler's file reads that are not its own: its event, its ctx, and globals. It
 * follows scopes, and no values: what it is not sure of it passes over. */
#ifndef LEVERET_RUNTIME_LUA_SCAN_H
#define LEVERET_RUNTIME_LUA_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

#define LVT_LUA_FIELDS_MAX 3

enum lvt_lua_owner {
    LVT_LUA_LOCAL, /* the file's own: not told of */
    LVT_LUA_EVENT,
    LVT_LUA_CTX,
    LVT_LUA_GLOBAL,
};

/* A name with the fields behind it: `ctx.log.info`. */
struct lvt_lua_reference {
    enum lvt_lua_owner owner;
    unsigned line;
    struct lvt_bytes name;
    struct lvt_bytes fields[LVT_LUA_FIELDS_MAX]; /* of more, the first ones */
    size_t field_count;
    bool used;     /* called, or indexed further: a nil would be an error */
    bool method;   /* the last field was behind a colon */
    bool computed; /* indexed by a value */
    bool assigned; /* or may be */
};

/* The function that handles, as Lua tells of it. Its names end with NULL when it has fewer. */
struct lvt_lua_function {
    unsigned line;
    const char *event, *ctx;
};

/* Calls found for every reference, in order. False when it has lost its way, or when the file
 * changes what globals are: what it told is then not to be relied on. A function that could be
 * several in the text has no event and no ctx. */
bool lvt_lua_scan(struct lvt_bytes text, const struct lvt_lua_function *handle,
                  void (*found)(void *ctx, const struct lvt_lua_reference *reference), void *ctx);

#endif
