/* The string library's functions that take patterns. */
#include <ctype.h>
#include <string.h>

#include "runtime/lua/lua_bounds.h"
#include "runtime/lua/lua_budget.h"
#include "runtime/lua/lua_pattern.h"

static struct lvt_bytes text_at(lua_State *L, int index) {
    struct lvt_bytes text;
    text.data = luaL_checklstring(L, index, &text.len);
    return text;
}

/* The place that the optional argument names, from 0; a negative one counts from the end. */
static size_t start_at(lua_State *L, int index, size_t len) {
    lua_Integer position = luaL_optinteger(L, index, 1);
    if (position > 0)
        return (size_t)position - 1;
    if (position == 0 || position < -(lua_Integer)len)
        return 0;
    return len - (size_t)-position;
}

/* ---- find and match ---- */

static bool is_plain(struct lvt_bytes pattern) {
    for (size_t i = 0; i < pattern.len; i++)
        if (pattern.data[i] != '\0' && strchr("^$*+?.([%-", pattern.data[i]))
            return false;
    return true;
}

/* memmem takes a time that grows with the lengths' sum, not with their product. */
static int find_plain(lua_State *L, struct lvt_bytes subject, struct lvt_bytes wanted,
                      size_t start) {
    const char *found = subject.data + start;
    if (wanted.len > 0)
        found = memmem(found, subject.len - start, wanted.data, wanted.len);
    if (!found) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, found - subject.data + 1);
    lua_pushinteger(L, found - subject.data + (lua_Integer)wanted.len);
    return 2;
}

static bool strip_anchor(struct lvt_bytes *pattern) {
    if (pattern->len == 0 || pattern->data[0] != '^')
        return false;
    *pattern = lvt_bytes(pattern->data + 1, pattern->len - 1);
    return true;
}

static int search(lua_State *L, bool find) {
    struct lvt_bytes subject = text_at(L, 1), pattern = text_at(L, 2);
    size_t start = start_at(L, 3, subject.len);
    if (start > subject.len) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || is_plain(pattern)))
        return find_plain(L, subject, pattern, start);
    bool anchored = strip_anchor(&pattern);
    struct lvt_lua_match match;
    lvt_lua_match_init(&match, L, subject, pattern);
    const char *at = subject.data + start;
    do {
        const char *end = lvt_lua_match_at(&match, at);
        if (end && find) {
            lua_pushinteger(L, at - subject.data + 1);
            lua_pushinteger(L, end - subject.data);
            return lvt_lua_match_push_all(&match, NULL, NULL) + 2;
        }
        if (end)
            return lvt_lua_match_push_all(&match, at, end);
    } while (at++ < match.subject_end && !anchored);
    luaL_pushfail(L);
    return 1;
}

int lvt_lua_string_find(lua_State *L) {
    return search(L, true);
}

int lvt_lua_string_match(lua_State *L) {
    return search(L, false);
}

/* ---- gmatch ---- */

struct walk {
    struct lvt_lua_match match;
    const char *at;
    const char *last_end; /* an empty match does not follow another where that ended */
};

/* The upvalues are the subject, the pattern and the walk. */
static int next_match(lua_State *L) {
    struct walk *walk = lua_touserdata(L, lua_upvalueindex(3));
    walk->match.L = L;
    for (; walk->at <= walk->match.subject_end; walk->at++) {
        const char *start = walk->at, *end = lvt_lua_match_at(&walk->match, start);
        if (end && end != walk->last_end) {
            walk->at = walk->last_end = end;
            return lvt_lua_match_push_all(&walk->match, start, end);
        }
    }
    return 0;
}

int lvt_lua_string_gmatch(lua_State *L) {
    struct lvt_bytes subject = text_at(L, 1), pattern = text_at(L, 2);
    size_t start = start_at(L, 3, subject.len);
    lua_settop(L, 2);
    struct walk *walk = lua_newuserdatauv(L, sizeof *walk, 0);
    lvt_lua_match_init(&walk->match, L, subject, pattern);
    walk->at = subject.data + (start > subject.len ? subject.len + 1 : start);
    walk->last_end = NULL;
    lua_pushcclosure(L, next_match, 3);
    return 1;
}

/* ---- gsub ---- */

/* Appends the replacement's text, with the captures that it names. */
static void add_text(struct lvt_lua_match *match, luaL_Buffer *out, const char *start,
                     const char *end) {
    lua_State *L = match->L;
    size_t len;
    const char *text = lua_tolstring(L, 3, &len), *text_end = text + len, *escape;
    while ((escape = memchr(text, '%', (size_t)(text_end - text)))) {
        luaL_addlstring(out, text, (size_t)(escape - text));
        text = escape + 2;
        if (escape[1] == '%')
            luaL_addchar(out, '%');
        else if (escape[1] == '0')
            luaL_addlstring(out, start, (size_t)(end - start));
        else if (isdigit((unsigned char)escape[1])) {
            lvt_lua_match_push(match, (unsigned)(escape[1] - '1'), start, end);
            luaL_tolstring(L, -1, NULL); /* a position is a number */
            lua_remove(L, -2);
            luaL_addvalue(out);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
    }
    luaL_addlstring(out, text, (size_t)(text_end - text));
}

/* Appends what takes the match's place. False when that is the match itself. */
static bool add_replacement(struct lvt_lua_match *match, luaL_Buffer *out, int kind,
                            const char *start, const char *end) {
    lua_State *L = match->L;
    if (kind == LUA_TTABLE) {
        lvt_lua_match_push(match, 0, start, end);
        lua_gettable(L, 3);
    } else if (kind == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, lvt_lua_match_push_all(match, start, end), 1);
    } else {
        add_text(match, out, start, end);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, start, (size_t)(end - start));
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(out);
    return true;
}

int lvt_lua_string_gsub(lua_State *L) {
    struct lvt_bytes subject = text_at(L, 1), pattern = text_at(L, 2);
    int kind = lua_type(L, 3);
    lua_Integer max = luaL_optinteger(L, 4, (lua_Integer)subject.len + 1), count = 0;
    luaL_argexpected(L,
                     kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION ||
                         kind == LUA_TTABLE,
                     3, "string/function/table");
    bool anchored = strip_anchor(&pattern), changed = false;
    struct lvt_lua_match match;
    lvt_lua_match_init(&match, L, subject, pattern);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    const char *at = subject.data, *last_end = NULL;
    while (count < max) {
        const char *end = lvt_lua_match_at(&match, at);
        if (end && end != last_end) {
            count++;
            changed |= add_replacement(&match, &out, kind, at, end);
            at = last_end = end;
        } else if (at < match.subject_end) {
            luaL_addchar(&out, *at++);
        } else {
            break;
        }
        if (anchored)
            break;
    }
    if (changed) {
        luaL_addlstring(&out, at, (size_t)(match.subject_end - at));
        luaL_pushresult(&out);
    } else {
        lua_pushvalue(L, 1);
    }
    lua_pushinteger(L, count);
    return 2;
}
