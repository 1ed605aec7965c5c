/* Lua's patterns, matched in steps that are counted against the handler's budget: Lua's own matcher
 * takes time that grows without bound with the repetitions in a pattern, and no hook stops it. */
#ifndef LEVERET_RUNTIME_LUA_PATTERN_H
#define LEVERET_RUNTIME_LUA_PATTERN_H

#include <stddef.h>

#include "base/bytes.h"
#include "runtime/lua/lua_state.h"

struct lvt_lua_capture {
    const char *start;
    ptrdiff_t len; /* or LVT_LUA_CAPTURE_OPEN, LVT_LUA_CAPTURE_POSITION */
};

#define LVT_LUA_CAPTURES_MAX 32
#define LVT_LUA_CAPTURE_OPEN (-1)
#define LVT_LUA_CAPTURE_POSITION (-2)

/* One search: set up once, matched at many places. */
struct lvt_lua_match {
    lua_State *L;
    const char *subject, *subject_end;
    const char *pattern, *pattern_end; /* without the anchor at its front */
    unsigned steps;
    unsigned depth;
    unsigned capture_count;
    struct lvt_lua_capture captures[LVT_LUA_CAPTURES_MAX];
};

/* The texts must end with a NUL behind them, as Lua's do, and stay. */
void lvt_lua_match_init(struct lvt_lua_match *match, lua_State *L, struct lvt_bytes subject,
                        struct lvt_bytes pattern);

/* Matches the pattern at one place of the subject: where the match ends, or NULL. Raises when the
 * pattern is malformed or too complex; ends the run when the budget is spent. */
const char *lvt_lua_match_at(struct lvt_lua_match *match, const char *at);

/* Pushes capture `index` (from 0) of the match from `start` to `end`; the whole match is capture 0
 * of a pattern that has none. */
void lvt_lua_match_push(struct lvt_lua_match *match, unsigned index, const char *start,
                        const char *end);
/* Pushes them all; how many. Without a start, a pattern that has none has none to push. */
int lvt_lua_match_push_all(struct lvt_lua_match *match, const char *start, const char *end);

#endif
