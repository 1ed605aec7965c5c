#include "runtime/lua/lua_pattern.h"

#include <ctype.h>
#include <string.h>

#include "runtime/lua/lua_budget.h"

/* Alternatives within alternatives, each of which takes from C's stack. */
#define DEPTH_MAX 200
/* Between two looks at the budget. */
#define STEPS_PER_CHECK 4096

static const char *match_here(struct lvt_lua_match *match, const char *at, const char *pattern);

static void count_step(struct lvt_lua_match *match) {
    if (++match->steps % STEPS_PER_CHECK == 0)
        lvt_lua_budget_check(match->L);
}

/* ---- classes of characters ---- */

static bool in_class(int c, int class) {
    bool is;
    switch (tolower(class)) {
    case 'a':
        is = isalpha(c);
        break;
    case 'c':
        is = iscntrl(c);
        break;
    case 'd':
        is = isdigit(c);
        break;
    case 'g':
        is = isgraph(c);
        break;
    case 'l':
        is = islower(c);
        break;
    case 'p':
        is = ispunct(c);
        break;
    case 's':
        is = isspace(c);
        break;
    case 'u':
        is = isupper(c);
        break;
    case 'w':
        is = isalnum(c);
        break;
    case 'x':
        is = isxdigit(c);
        break;
    case 'z': /* of Lua 5.1, and still known */
        is = c == '\0';
        break;
    default:
        return c == class;
    }
    return is != (isupper(class) != 0);
}

/* A set from its '[' to its ']', which is at `close`. */
static bool in_set(int c, const char *set, const char *close) {
    const unsigned char *at = (const unsigned char *)set + 1;
    const unsigned char *end = (const unsigned char *)close;
    bool negated = at < end && *at == '^';
    at += negated;
    while (at < end) {
        if (*at == '%' && at + 1 <= end) {
            if (in_class(c, at[1]))
                return !negated;
            at += 2;
        } else if (at[1] == '-' && at + 2 < end) {
            if (at[0] <= c && c <= at[2])
                return !negated;
            at += 3;
        } else if (*at++ == c) {
            return !negated;
        }
    }
    return negated;
}

/* The end of the single character's pattern that starts at `item`. */
static const char *item_end(struct lvt_lua_match *match, const char *item) {
    const char *at = item + 1;
    if (*item == '%') {
        if (at == match->pattern_end)
            luaL_error(match->L, "malformed pattern (ends with '%%')");
        return at + 1;
    }
    if (*item != '[')
        return at;
    if (*at == '^')
        at++;
    do { /* a ']' that comes first is one of the set */
        if (at == match->pattern_end)
            luaL_error(match->L, "malformed pattern (missing ']')");
        if (*at++ == '%' && at < match->pattern_end)
            at++;
    } while (*at != ']');
    return at + 1;
}

/* Whether the character at `at`, if there is one, is of the item. */
static bool fits(const struct lvt_lua_match *match, const char *at, const char *item,
                 const char *end) {
    if (at >= match->subject_end)
        return false;
    int c = (unsigned char)*at;
    switch (*item) {
    case '.':
        return true;
    case '%':
        return in_class(c, (unsigned char)item[1]);
    case '[':
        return in_set(c, item, end - 1);
    default:
        return (unsigned char)*item == c;
    }
}

/* ---- repetitions ---- */

static const char *match_most(struct lvt_lua_match *match, const char *at, const char *item,
                              const char *end) {
    const char *last = at;
    while (fits(match, last, item, end)) {
        last++;
        count_step(match);
    }
    for (; last >= at; last--) {
        const char *matched = match_here(match, last, end + 1);
        if (matched)
            return matched;
    }
    return NULL;
}

static const char *match_least(struct lvt_lua_match *match, const char *at, const char *item,
                               const char *end) {
    for (;; at++) {
        const char *matched = match_here(match, at, end + 1);
        if (matched)
            return matched;
        if (!fits(match, at, item, end))
            return NULL;
    }
}

/* ---- what begins with a '%' or a parenthesis ---- */

static const char *open_capture(struct lvt_lua_match *match, const char *at, const char *pattern,
                                ptrdiff_t len) {
    if (match->capture_count >= LVT_LUA_CAPTURES_MAX)
        luaL_error(match->L, "too many captures");
    match->captures[match->capture_count++] = (struct lvt_lua_capture){at, len};
    const char *matched = match_here(match, at, pattern);
    if (!matched)
        match->capture_count--;
    return matched;
}

static const char *close_capture(struct lvt_lua_match *match, const char *at, const char *pattern) {
    unsigned open = match->capture_count;
    while (open > 0 && match->captures[open - 1].len != LVT_LUA_CAPTURE_OPEN)
        open--;
    if (open == 0)
        luaL_error(match->L, "invalid pattern capture");
    struct lvt_lua_capture *capture = &match->captures[open - 1];
    capture->len = at - capture->start;
    const char *matched = match_here(match, at, pattern);
    if (!matched)
        capture->len = LVT_LUA_CAPTURE_OPEN;
    return matched;
}

/* %bxy: from an x to the y that balances it. */
static const char *match_balanced(struct lvt_lua_match *match, const char *at, const char *pair) {
    size_t depth = 0;
    if (pair + 1 >= match->pattern_end)
        luaL_error(match->L, "malformed pattern (missing arguments to '%%b')");
    if (at >= match->subject_end || *at != pair[0])
        return NULL;
    for (at++; at < match->subject_end; at++) {
        count_step(match);
        if (*at == pair[1]) {
            if (depth-- == 0)
                return at + 1;
        } else if (*at == pair[0]) {
            depth++;
        }
    }
    return NULL;
}

/* %f[set]: between a character that is not in the set and one that is; both ends of the subject
 * count as NUL. Where the pattern goes on, or NULL. */
static const char *pass_frontier(struct lvt_lua_match *match, const char *at, const char *set) {
    if (*set != '[')
        luaL_error(match->L, "missing '[' after '%%f' in pattern");
    const char *end = item_end(match, set);
    int last = at == match->subject ? '\0' : (unsigned char)at[-1];
    int next = at == match->subject_end ? '\0' : (unsigned char)*at;
    return !in_set(last, set, end - 1) && in_set(next, set, end - 1) ? end : NULL;
}

/* %1: the same text as that capture's. */
static const char *match_again(struct lvt_lua_match *match, const char *at, int digit) {
    int index = digit - '1';
    if (index < 0 || (unsigned)index >= match->capture_count ||
        match->captures[index].len == LVT_LUA_CAPTURE_OPEN)
        luaL_error(match->L, "invalid capture index %%%d in pattern", index + 1);
    const struct lvt_lua_capture *capture = &match->captures[index];
    if (capture->len < 0 || match->subject_end - at < capture->len ||
        memcmp(capture->start, at, (size_t)capture->len) != 0)
        return NULL;
    return at + capture->len;
}

/* ---- the whole ---- */

/* What a '%' begins that is no single character: true, with where subject and pattern go on, or
 * NULL for the subject when it does not match. */
static bool match_special(struct lvt_lua_match *match, const char **at, const char **pattern) {
    const char *item = *pattern;
    char kind = item + 1 < match->pattern_end ? item[1] : '\0';
    if (kind == 'b') {
        *at = match_balanced(match, *at, item + 2);
        *pattern = item + 4;
    } else if (kind == 'f') {
        *pattern = pass_frontier(match, *at, item + 2);
        if (!*pattern)
            *at = NULL;
    } else if (isdigit((unsigned char)kind)) {
        *at = match_again(match, *at, kind);
        *pattern = item + 2;
    } else {
        return false;
    }
    return true;
}

/* The item at `pattern` and its suffix, with all that follows where there are alternatives. True
 * when the match goes on from *at and *pattern, false when *at is what it came to. */
static bool match_item(struct lvt_lua_match *match, const char **at, const char **pattern) {
    const char *item = *pattern, *end = item_end(match, item), *matched;
    switch (*end) {
    case '?':
        if (fits(match, *at, item, end) && (matched = match_here(match, *at + 1, end + 1))) {
            *at = matched;
            return false;
        }
        *pattern = end + 1;
        return true;
    case '*':
        *at = match_most(match, *at, item, end);
        return false;
    case '+':
        *at = fits(match, *at, item, end) ? match_most(match, *at + 1, item, end) : NULL;
        return false;
    case '-':
        *at = match_least(match, *at, item, end);
        return false;
    default:
        *at = fits(match, *at, item, end) ? *at + 1 : NULL;
        *pattern = end;
        return *at != NULL;
    }
}

static const char *match_rest(struct lvt_lua_match *match, const char *at, const char *pattern) {
    const char *pattern_end = match->pattern_end;
    while (pattern != pattern_end) {
        count_step(match);
        if (*pattern == '(')
            return pattern[1] == ')'
                       ? open_capture(match, at, pattern + 2, LVT_LUA_CAPTURE_POSITION)
                       : open_capture(match, at, pattern + 1, LVT_LUA_CAPTURE_OPEN);
        if (*pattern == ')')
            return close_capture(match, at, pattern + 1);
        if (*pattern == '$' && pattern + 1 == pattern_end)
            return at == match->subject_end ? at : NULL;
        if (*pattern == '%' && match_special(match, &at, &pattern)) {
            if (!at)
                return NULL;
            continue;
        }
        if (!match_item(match, &at, &pattern))
            return at;
    }
    return at;
}

static const char *match_here(struct lvt_lua_match *match, const char *at, const char *pattern) {
    if (match->depth == DEPTH_MAX)
        luaL_error(match->L, "pattern too complex");
    match->depth++;
    const char *matched = match_rest(match, at, pattern);
    match->depth--;
    return matched;
}

void lvt_lua_match_init(struct lvt_lua_match *match, lua_State *L, struct lvt_bytes subject,
                        struct lvt_bytes pattern) {
    match->L = L;
    match->subject = subject.data;
    match->subject_end = subject.data + subject.len;
    match->pattern = pattern.data;
    match->pattern_end = pattern.data + pattern.len;
    match->steps = 0;
}

const char *lvt_lua_match_at(struct lvt_lua_match *match, const char *at) {
    match->depth = 0;
    match->capture_count = 0;
    return match_here(match, at, match->pattern);
}

/* ---- captures ---- */

void lvt_lua_match_push(struct lvt_lua_match *match, unsigned index, const char *start,
                        const char *end) {
    lua_State *L = match->L;
    if (index == 0 && match->capture_count == 0) {
        lua_pushlstring(L, start, (size_t)(end - start));
        return;
    }
    if (index >= match->capture_count)
        luaL_error(L, "invalid capture index %%%d", (int)index + 1);
    const struct lvt_lua_capture *capture = &match->captures[index];
    if (capture->len == LVT_LUA_CAPTURE_OPEN)
        luaL_error(L, "unfinished capture");
    if (capture->len == LVT_LUA_CAPTURE_POSITION)
        lua_pushinteger(L, capture->start - match->subject + 1);
    else
        lua_pushlstring(L, capture->start, (size_t)capture->len);
}

int lvt_lua_match_push_all(struct lvt_lua_match *match, const char *start, const char *end) {
    unsigned count = match->capture_count == 0 && start ? 1 : match->capture_count;
    luaL_checkstack(match->L, (int)count, "too many captures");
    for (unsigned i = 0; i < count; i++)
        lvt_lua_match_push(match, i, start, end);
    return (int)count;
}
