#include "memory/glob.h"

/* One byte of the pattern, or both when the first is a backslash. */
static unsigned char literal(const char **at, const char *end) {
    if (**at == '\\' && *at + 1 < end)
        (*at)++;
    return (unsigned char)*(*at)++;
}

/* at is behind the '[', and is left behind the ']', which may be missing at the pattern's end. */
static bool set_holds(const char **at, const char *end, unsigned char c) {
    bool negated = *at < end && **at == '^';
    bool found = false;
    *at += negated;
    while (*at < end && **at != ']') {
        unsigned char low = literal(at, end);
        unsigned char high = low;
        if (end - *at >= 2 && **at == '-' && (*at)[1] != ']') {
            (*at)++;
            high = literal(at, end);
        }
        found |= low <= high ? c >= low && c <= high : c >= high && c <= low;
    }
    *at += *at < end;
    return found != negated;
}

/* Whether the pattern's item at *at, which is not a star, takes c. Moves behind the item. */
static bool item_takes(const char **at, const char *end, unsigned char c) {
    if (**at == '?') {
        (*at)++;
        return true;
    }
    if (**at == '[') {
        (*at)++;
        return set_holds(at, end, c);
    }
    return literal(at, end) == c;
}

bool lvt_glob_matches(struct lvt_bytes pattern, struct lvt_bytes text) {
    const char *at = pattern.data, *pattern_end = at + pattern.len;
    const char *c = text.data, *text_end = c + text.len;
    const char *star = NULL, *star_c = NULL; /* behind the last star, and what it takes up to */
    while (c < text_end) {
        if (at < pattern_end && *at == '*') {
            star = ++at;
            star_c = c;
        } else if (at < pattern_end && item_takes(&at, pattern_end, (unsigned char)*c)) {
            c++;
        } else if (star) {
            at = star;
            c = ++star_c;
        } else {
            return false;
        }
    }
    while (at < pattern_end && *at == '*')
        at++;
    return at == pattern_end;
}
