/* Lua's text, token by token: for looking at handlers' files, which Lua itself has compiled. */
#ifndef LEVERET_RUNTIME_LUA_LEXER_H
#define LEVERET_RUNTIME_LUA_LEXER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

enum lvt_lua_token_kind {
    LVT_LUA_END,
    LVT_LUA_NAME,
    LVT_LUA_KEYWORD,
    LVT_LUA_STRING, /* with its quotes or brackets */
    LVT_LUA_NUMBER,
    LVT_LUA_SYMBOL,
};

struct lvt_lua_token {
    enum lvt_lua_token_kind kind;
    struct lvt_bytes text; /* of the source */
    unsigned line;         /* on which it begins */
};

struct lvt_lua_lexer {
    const char *at, *end;
    unsigned line;
};

void lvt_lua_lexer_init(struct lvt_lua_lexer *lexer, struct lvt_bytes text);
/* Passes over comments. What is no Lua is taken for symbols. */
struct lvt_lua_token lvt_lua_lexer_next(struct lvt_lua_lexer *lexer);

/* Whether it is this keyword or symbol. */
bool lvt_lua_token_is(const struct lvt_lua_token *token, const char *text);

#endif
