#include "runtime/lua/lua_lexer.h"

#include <ctype.h>

static const char *const keywords[] = {
    "and",      "break",  "do",   "else", "elseif", "end",   "false", "for",
    "function", "goto",   "if",   "in",   "local",  "nil",   "not",   "or",
    "repeat",   "return", "then", "true", "until",  "while",
};

/* Those of more than one character; a longer one goes before its beginning. */
static const char *const symbols[] = {
    "...", "..", "==", "~=", "<=", ">=", "//", "::", "<<", ">>",
};

void lvt_lua_lexer_init(struct lvt_lua_lexer *lexer, struct lvt_bytes text) {
    *lexer = (struct lvt_lua_lexer){text.data, text.data + text.len, 1};
}

static bool is_word(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

static bool begins_with(const struct lvt_lua_lexer *lexer, const char *text) {
    size_t len = strlen(text);
    return (size_t)(lexer->end - lexer->at) >= len && memcmp(lexer->at, text, len) == 0;
}

static void step(struct lvt_lua_lexer *lexer) {
    lexer->line += *lexer->at == '\n';
    lexer->at++;
}

/* The number of equals signs of a long bracket that opens here; -1 when none does. */
static int long_bracket(const struct lvt_lua_lexer *lexer) {
    const char *at = lexer->at;
    if (at == lexer->end || *at != '[')
        return -1;
    for (at++; at < lexer->end && *at == '=';)
        at++;
    return at < lexer->end && *at == '[' ? (int)(at - lexer->at) - 1 : -1;
}

static bool closes(const struct lvt_lua_lexer *lexer, int level) {
    const char *at = lexer->at;
    if (lexer->end - at < level + 2 || at[0] != ']' || at[level + 1] != ']')
        return false;
    for (int i = 1; i <= level; i++)
        if (at[i] != '=')
            return false;
    return true;
}

static void skip_long(struct lvt_lua_lexer *lexer, int level) {
    lexer->at += level + 2;
    while (lexer->at < lexer->end && !closes(lexer, level))
        step(lexer);
    if (lexer->at < lexer->end)
        lexer->at += level + 2;
}

/* Blanks and comments. */
static void skip_nothing(struct lvt_lua_lexer *lexer) {
    while (lexer->at < lexer->end) {
        if (isspace((unsigned char)*lexer->at)) {
            step(lexer);
        } else if (begins_with(lexer, "--")) {
            lexer->at += 2;
            int level = long_bracket(lexer);
            if (level >= 0)
                skip_long(lexer, level);
            while (level < 0 && lexer->at < lexer->end && *lexer->at != '\n')
                lexer->at++;
        } else {
            return;
        }
    }
}

static void skip_string(struct lvt_lua_lexer *lexer) {
    char quote = *lexer->at++;
    while (lexer->at < lexer->end && *lexer->at != quote) {
        if (*lexer->at == '\\' && lexer->at + 1 < lexer->end)
            step(lexer);
        step(lexer);
    }
    if (lexer->at < lexer->end)
        lexer->at++;
}

/* Digits, letters and points, and the sign of an exponent. */
static void skip_number(struct lvt_lua_lexer *lexer) {
    bool hex = begins_with(lexer, "0x") || begins_with(lexer, "0X");
    const char *exponent = hex ? "pP" : "eE";
    while (lexer->at < lexer->end && (is_word(*lexer->at) || *lexer->at == '.')) {
        bool signs = memchr(exponent, *lexer->at, 2) != NULL;
        lexer->at++;
        if (signs && lexer->at < lexer->end && (*lexer->at == '+' || *lexer->at == '-'))
            lexer->at++;
    }
}

static void skip_symbol(struct lvt_lua_lexer *lexer) {
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
        if (begins_with(lexer, symbols[i])) {
            lexer->at += strlen(symbols[i]);
            return;
        }
    lexer->at++;
}

static bool is_keyword(struct lvt_bytes word) {
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
        if (lvt_bytes_is(word, keywords[i]))
            return true;
    return false;
}

struct lvt_lua_token lvt_lua_lexer_next(struct lvt_lua_lexer *lexer) {
    skip_nothing(lexer);
    const char *begin = lexer->at;
    struct lvt_lua_token token = {.kind = LVT_LUA_END, .line = lexer->line};
    if (begin == lexer->end)
        return token;
    bool number = isdigit((unsigned char)*begin) ||
                  (*begin == '.' && begin + 1 < lexer->end && isdigit((unsigned char)begin[1]));
    if (number) {
        token.kind = LVT_LUA_NUMBER;
        skip_number(lexer);
    } else if (is_word(*begin)) {
        token.kind = LVT_LUA_NAME;
        while (lexer->at < lexer->end && is_word(*lexer->at))
            lexer->at++;
    } else if (*begin == '"' || *begin == '\'') {
        token.kind = LVT_LUA_STRING;
        skip_string(lexer);
    } else if (long_bracket(lexer) >= 0) {
        token.kind = LVT_LUA_STRING;
        skip_long(lexer, long_bracket(lexer));
    } else {
        token.kind = LVT_LUA_SYMBOL;
        skip_symbol(lexer);
    }
    token.text = lvt_bytes(begin, (size_t)(lexer->at - begin));
    if (token.kind == LVT_LUA_NAME && is_keyword(token.text))
        token.kind = LVT_LUA_KEYWORD;
    return token;
}

bool lvt_lua_token_is(const struct lvt_lua_token *token, const char *text) {
    return (token->kind == LVT_LUA_KEYWORD || token->kind == LVT_LUA_SYMBOL) &&
           lvt_bytes_is(token->text, text);
}
