#include "ledger/statement.h"

#include <ctype.h>
#include <string.h>

static bool has_nul(struct lvt_bytes bytes) {
    return bytes.len > 0 && memchr(bytes.data, '\0', bytes.len);
}

/* Behind the comment that begins there: comments hold comments. */
static const char *skip_comment(const char *at, const char *end) {
    for (int depth = 0; end - at >= 2; at++) {
        if (at[0] == '/' && at[1] == '*') {
            depth++;
            at++;
        } else if (at[0] == '*' && at[1] == '/') {
            at++;
            if (--depth == 0)
                return at + 1;
        }
    }
    return end;
}

/* The next word of a statement, in capitals; skips white space and comments. */
static struct lvt_bytes next_word(struct lvt_bytes *text, char ret_word[16]) {
    const char *at = text->data, *end = at + text->len;
    size_t len = 0;
    for (;;) {
        while (at < end && (isspace((unsigned char)*at) || *at == ';'))
            at++;
        if (end - at >= 2 && at[0] == '-' && at[1] == '-') {
            while (at < end && *at != '\n')
                at++;
        } else if (end - at >= 2 && at[0] == '/' && at[1] == '*') {
            at = skip_comment(at, end);
        } else {
            break;
        }
    }
    for (; at < end && isalpha((unsigned char)*at); at++)
        if (len < 15)
            ret_word[len++] = (char)toupper((unsigned char)*at);
    ret_word[len] = '\0';
    *text = lvt_bytes(at, (size_t)(end - at));
    return lvt_bytes(ret_word, len);
}

static bool ends_transaction(struct lvt_bytes sql) {
    static const char *const words[] = {"COMMIT", "END", "ABORT", "BEGIN", "START"};
    char word[16], second[16];
    struct lvt_bytes first = next_word(&sql, word);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (lvt_bytes_is(first, words[i]))
            return true;
    if (lvt_bytes_is(first, "ROLLBACK")) {
        struct lvt_bytes next = next_word(&sql, second);
        if (lvt_bytes_is(next, "WORK") || lvt_bytes_is(next, "TRANSACTION"))
            next = next_word(&sql, second);
        return !lvt_bytes_is(next, "TO"); /* a savepoint */
    }
    return lvt_bytes_is(first, "PREPARE") && lvt_bytes_is(next_word(&sql, second), "TRANSACTION");
}

bool lvt_statement_is_local_setting(struct lvt_bytes sql) {
    char word[16], second[16];
    if (!lvt_bytes_is(next_word(&sql, word), "SET"))
        return false;
    struct lvt_bytes next = next_word(&sql, second);
    return lvt_bytes_is(next, "LOCAL") || lvt_bytes_is(next, "TRANSACTION") ||
           lvt_bytes_is(next, "CONSTRAINTS");
}

const char *lvt_statement_objection(const struct lvt_sql *sql) {
    if (ends_transaction(sql->text))
        return "a handler must not begin or end its transaction: return to commit, or call "
               "ctx.retry";
    if (sql->param_count > 65535)
        return "more than 65535 parameters";
    for (size_t i = 0; i < sql->param_count; i++)
        if (has_nul(sql->params[i]))
            return "a parameter holds a NUL byte, which PostgreSQL's texts cannot";
    return has_nul(sql->text) ? "the statement holds a NUL byte" : NULL;
}

bool lvt_statement_changes_session(const char *tag) {
    static const char *const tags[] = {"SET",        "RESET",  "DISCARD", "PREPARE",
                                       "DEALLOCATE", "LISTEN", "LOAD"};
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++)
        if (strncmp(tag, tags[i], strlen(tags[i])) == 0)
            return true;
    return false;
}
