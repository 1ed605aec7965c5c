#include "runtime/lua/lua_scan.h"

#include "runtime/lua/lua_lexer.h"

#define SCOPES_MAX 250 /* Lua's own limit is 200 levels */
#define NAMES_MAX 2000

enum scope_kind { SCOPE_BLOCK, SCOPE_BRACE, SCOPE_PAREN, SCOPE_BRACKET };

struct scope {
    enum scope_kind kind;
    bool wants_do; /* a loop's, whose `do` is still to come */
    size_t names;  /* how many there were before it */
};

struct name {
    struct lvt_bytes text;
    enum lvt_lua_owner owner;
};

struct scan {
    struct lvt_lua_lexer lexer;
    struct lvt_lua_token before, token, next; /* the one at hand, and its neighbours */
    struct scope scopes[SCOPES_MAX];
    size_t scope_count;
    struct name names[NAMES_MAX];
    size_t name_count;
    bool lost;
    const struct lvt_lua_function *handle;
    unsigned fitting; /* functions that could be the one that handles */
    bool knows_handle;
    void (*found)(void *ctx, const struct lvt_lua_reference *reference); /* NULL: only count */
    void *ctx;
};

static void advance(struct scan *scan) {
    scan->before = scan->token;
    scan->token = scan->next;
    scan->next = lvt_lua_lexer_next(&scan->lexer);
}

static bool at(const struct scan *scan, const char *text) {
    return lvt_lua_token_is(&scan->token, text);
}

/* ---- scopes ---- */

static void open_scope(struct scan *scan, enum scope_kind kind, bool wants_do) {
    if (scan->scope_count == SCOPES_MAX) {
        scan->lost = true;
        return;
    }
    scan->scopes[scan->scope_count++] = (struct scope){kind, wants_do, scan->name_count};
}

/* A repeat's names are known to the condition behind its end, which nothing ends: they stay until
 * what is around it closes. */
static void close_scope(struct scan *scan, enum scope_kind kind, bool keeps_names) {
    if (scan->scope_count == 0 || scan->scopes[scan->scope_count - 1].kind != kind) {
        scan->lost = true;
        return;
    }
    scan->scope_count--;
    if (!keeps_names)
        scan->name_count = scan->scopes[scan->scope_count].names;
}

static struct scope *top(struct scan *scan) {
    return scan->scope_count > 0 ? &scan->scopes[scan->scope_count - 1] : NULL;
}

static void declare(struct scan *scan, struct lvt_bytes name, enum lvt_lua_owner owner) {
    if (scan->name_count == NAMES_MAX || lvt_bytes_is(name, "_ENV")) {
        scan->lost = true;
        return;
    }
    scan->names[scan->name_count++] = (struct name){name, owner};
}

static enum lvt_lua_owner owner_of(const struct scan *scan, struct lvt_bytes name) {
    for (size_t i = scan->name_count; i > 0; i--)
        if (lvt_bytes_equal(scan->names[i - 1].text, name))
            return scan->names[i - 1].owner;
    return LVT_LUA_GLOBAL;
}

/* ---- references ---- */

/* Behind a name: its fields, and what is done with them. Leaves the last of it at hand. */
static void read_fields(struct scan *scan, struct lvt_lua_reference *reference) {
    while (!reference->method &&
           (lvt_lua_token_is(&scan->next, ".") || lvt_lua_token_is(&scan->next, ":"))) {
        if (reference->field_count == LVT_LUA_FIELDS_MAX) {
            reference->used = true;
            return;
        }
        reference->method = lvt_lua_token_is(&scan->next, ":");
        advance(scan);
        advance(scan);
        reference->fields[reference->field_count++] = scan->token.text;
    }
}

static void read_use(struct scan *scan, struct lvt_lua_reference *reference) {
    const struct lvt_lua_token *next = &scan->next;
    const struct scope *scope = top(scan);
    bool statement = !scope || scope->kind == SCOPE_BLOCK;
    reference->computed = lvt_lua_token_is(next, "[");
    if (reference->computed || reference->method || lvt_lua_token_is(next, "(") ||
        lvt_lua_token_is(next, "{") || next->kind == LVT_LUA_STRING)
        reference->used = true;
    /* a, b = b, a: where the list ends is not known before its end */
    reference->assigned = lvt_lua_token_is(next, "=") || (statement && lvt_lua_token_is(next, ","));
}

static void read_name(struct scan *scan) {
    const struct scope *scope = top(scan);
    if (lvt_lua_token_is(&scan->before, ".") || lvt_lua_token_is(&scan->before, ":") ||
        lvt_lua_token_is(&scan->before, "goto") || lvt_lua_token_is(&scan->before, "::"))
        return;
    bool begins_item = lvt_lua_token_is(&scan->before, "{") ||
                       lvt_lua_token_is(&scan->before, ",") || lvt_lua_token_is(&scan->before, ";");
    if (scope && scope->kind == SCOPE_BRACE && begins_item && lvt_lua_token_is(&scan->next, "="))
        return; /* a field of a table that is being made */
    struct lvt_lua_reference reference = {.owner = owner_of(scan, scan->token.text),
                                          .line = scan->token.line,
                                          .name = scan->token.text};
    if (lvt_bytes_is(reference.name, "_ENV") || lvt_bytes_is(reference.name, "_G"))
        scan->lost = true;
    if (reference.owner == LVT_LUA_LOCAL)
        return;
    read_fields(scan, &reference);
    read_use(scan, &reference);
    if (scan->found)
        scan->found(scan->ctx, &reference);
}

/* ---- declarations ---- */

/* (event, ctx) of the function that handles: what Lua tells of it has to fit. */
static bool fits_handle(const struct scan *scan, unsigned line, const struct lvt_bytes params[2]) {
    const char *names[2] = {scan->handle->event, scan->handle->ctx};
    if (line != scan->handle->line)
        return false;
    for (size_t i = 0; i < 2; i++)
        if (names[i] ? !lvt_bytes_is(params[i], names[i]) : params[i].len > 0)
            return false;
    return true;
}

/* From its opening parenthesis on. */
static void read_parameters(struct scan *scan, bool method) {
    unsigned line = scan->token.line;
    struct lvt_bytes first[2] = {{0}};
    size_t count = 0, names = scan->name_count;
    if (method)
        declare(scan, LVT_LITERAL("self"), LVT_LUA_LOCAL);
    for (; !at(scan, ")") && scan->token.kind != LVT_LUA_END; advance(scan)) {
        if (scan->token.kind != LVT_LUA_NAME)
            continue;
        if (count < 2)
            first[count] = scan->token.text;
        count++;
        declare(scan, scan->token.text, LVT_LUA_LOCAL);
    }
    if (method || scan->lost || !fits_handle(scan, line, first))
        return;
    scan->fitting++;
    for (size_t i = 0; scan->knows_handle && i < count && i < 2; i++)
        scan->names[names + i].owner = i == 0 ? LVT_LUA_EVENT : LVT_LUA_CTX;
}

/* At `function`; leaves its closing parenthesis at hand. */
static void read_function(struct scan *scan) {
    bool method = false;
    advance(scan);
    if (scan->token.kind == LVT_LUA_NAME) {
        struct lvt_lua_reference reference = {.owner = owner_of(scan, scan->token.text),
                                              .line = scan->token.line,
                                              .name = scan->token.text,
                                              .assigned = true};
        read_fields(scan, &reference);
        method = reference.method;
        while (!lvt_lua_token_is(&scan->next, "(") && scan->next.kind != LVT_LUA_END) {
            advance(scan);
            method = method || at(scan, ":");
        }
        advance(scan);
        if (scan->found && reference.owner != LVT_LUA_LOCAL)
            scan->found(scan->ctx, &reference);
    }
    open_scope(scan, SCOPE_BLOCK, false);
    read_parameters(scan, method);
}

/* At `local`; leaves the last name, or its attribute, at hand. A name counts from here on, and not
 * only behind the values: then one more is taken for the file's own. */
static void read_local(struct scan *scan) {
    advance(scan);
    if (at(scan, "function")) {
        declare(scan, scan->next.text, LVT_LUA_LOCAL);
        read_function(scan);
        return;
    }
    for (;;) {
        declare(scan, scan->token.text, LVT_LUA_LOCAL);
        if (lvt_lua_token_is(&scan->next, "<"))
            for (size_t i = 0; i < 3; i++)
                advance(scan);
        if (!lvt_lua_token_is(&scan->next, ","))
            return;
        advance(scan);
        advance(scan);
    }
}

static void read_for(struct scan *scan) {
    open_scope(scan, SCOPE_BLOCK, true);
    while (!at(scan, "=") && !at(scan, "in") && scan->token.kind != LVT_LUA_END) {
        if (scan->token.kind == LVT_LUA_NAME)
            declare(scan, scan->token.text, LVT_LUA_LOCAL);
        advance(scan);
    }
}

/* ---- all of it ---- */

static void read_do(struct scan *scan) {
    struct scope *scope = top(scan);
    if (scope && scope->wants_do)
        scope->wants_do = false;
    else
        open_scope(scan, SCOPE_BLOCK, false);
}

static void read_keyword(struct scan *scan) {
    if (at(scan, "function")) {
        read_function(scan);
    } else if (at(scan, "local")) {
        read_local(scan);
    } else if (at(scan, "for")) {
        read_for(scan);
    } else if (at(scan, "while")) {
        open_scope(scan, SCOPE_BLOCK, true);
    } else if (at(scan, "do")) {
        read_do(scan);
    } else if (at(scan, "if") || at(scan, "repeat")) {
        open_scope(scan, SCOPE_BLOCK, false);
    } else if (at(scan, "elseif") || at(scan, "else")) {
        close_scope(scan, SCOPE_BLOCK, false);
        open_scope(scan, SCOPE_BLOCK, false);
    } else if (at(scan, "until")) {
        close_scope(scan, SCOPE_BLOCK, true);
    } else if (at(scan, "end")) {
        close_scope(scan, SCOPE_BLOCK, false);
    }
}

static void read_symbol(struct scan *scan) {
    static const struct {
        const char *open, *close;
        enum scope_kind kind;
    } pairs[] = {{"(", ")", SCOPE_PAREN}, {"{", "}", SCOPE_BRACE}, {"[", "]", SCOPE_BRACKET}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (at(scan, pairs[i].open))
            open_scope(scan, pairs[i].kind, false);
        else if (at(scan, pairs[i].close))
            close_scope(scan, pairs[i].kind, false);
    }
}

static bool run(struct scan *scan, struct lvt_bytes text) {
    lvt_lua_lexer_init(&scan->lexer, text);
    scan->next = lvt_lua_lexer_next(&scan->lexer);
    for (advance(scan); scan->token.kind != LVT_LUA_END && !scan->lost; advance(scan)) {
        if (scan->token.kind == LVT_LUA_NAME)
            read_name(scan);
        else if (scan->token.kind == LVT_LUA_KEYWORD)
            read_keyword(scan);
        else if (scan->token.kind == LVT_LUA_SYMBOL)
            read_symbol(scan);
    }
    return !scan->lost && scan->scope_count == 0;
}

bool lvt_lua_scan(struct lvt_bytes text, const struct lvt_lua_function *handle,
                  void (*found)(void *ctx, const struct lvt_lua_reference *reference), void *ctx) {
    struct scan counting = {.handle = handle};
    if (!run(&counting, text))
        return false;
    struct scan telling = {
        .handle = handle, .knows_handle = counting.fitting == 1, .found = found, .ctx = ctx};
    return run(&telling, text);
}
