/* The grammar of RFC 8259 as a loop: what is open is one bit a level, so that no nesting, however
 * deep, costs stack. */
#include "event/json.h"

#include "base/utf8.h"

#define DEPTH_MAX 1024

struct check {
    const unsigned char *begin, *at, *end;
    struct leveret_error *err;
    size_t depth, max_depth;
    uint64_t objects[DEPTH_MAX / 64]; /* a set bit: this level is an object */
};

enum step { STEP_VALUE, STEP_KEY, STEP_AFTER, STEP_FAILED };

/* Eight bytes at once: whether all of them need no look in a string, being ASCII, but no control
 * character, '"' or '\\'. The high bit of each byte of the sum tells of that byte; a borrow from a
 * neighbour can only tell of a byte too many, which the slow way then looks at. */
static bool is_plain(const unsigned char *at) {
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t word;
    memcpy(&word, at, sizeof word);
    uint64_t quote = word ^ (ones * '"'), backslash = word ^ (ones * '\\');
    return ((word | (word - ones * 0x20) | (quote - ones) | (backslash - ones)) & highs) == 0;
}

static void fail(const struct check *check, const char *what) {
    leveret_fail(check->err, LEVERET_MALFORMED, "%s at byte %zu", what,
                 (size_t)(check->at - check->begin));
}

static void fail_unexpected(const struct check *check) {
    size_t offset = (size_t)(check->at - check->begin);
    if (check->at == check->end) {
        leveret_fail(check->err, LEVERET_MALFORMED, "unexpected end at byte %zu", offset);
    } else if (*check->at == 0) {
        leveret_fail(check->err, LEVERET_MALFORMED, "a NUL byte at byte %zu", offset);
    } else if (*check->at > 0x20 && *check->at < 0x7F) {
        leveret_fail(check->err, LEVERET_MALFORMED, "unexpected '%c' at byte %zu", *check->at,
                     offset);
    } else {
        leveret_fail(check->err, LEVERET_MALFORMED, "unexpected byte 0x%02X at byte %zu",
                     *check->at, offset);
    }
}

static void skip_space(struct check *check) {
    while (check->at < check->end &&
           (*check->at == ' ' || *check->at == '\n' || *check->at == '\r' || *check->at == '\t')) {
        check->at++;
    }
}

static int hex_digit(unsigned char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* At the 'u' of an escape: passes over its four digits. */
static bool read_unit(struct check *check, unsigned *ret_unit) {
    unsigned unit = 0;
    check->at++;
    for (int i = 0; i < 4; i++, check->at++) {
        int digit = check->at < check->end ? hex_digit(*check->at) : -1;
        if (digit < 0) {
            fail_unexpected(check);
            return false;
        }
        unit = unit << 4 | (unsigned)digit;
    }
    *ret_unit = unit;
    return true;
}

static bool check_escape(struct check *check) {
    const unsigned char *begin = check->at++;
    if (check->at == check->end) {
        fail_unexpected(check);
        return false;
    }
    if (*check->at != 'u') {
        if (*check->at == 0 || !strchr("\"\\/bfnrt", *check->at)) {
            fail_unexpected(check);
            return false;
        }
        check->at++;
        return true;
    }
    unsigned unit = 0;
    if (!read_unit(check, &unit)) {
        return false;
    }
    if (unit < 0xD800 || unit > 0xDFFF) {
        return true;
    }
    unsigned low = 0;
    if (unit < 0xDC00 && check->end - check->at >= 2 && check->at[0] == '\\' &&
        check->at[1] == 'u') {
        check->at++;
        if (!read_unit(check, &low)) {
            return false;
        }
    }
    if (low < 0xDC00 || low > 0xDFFF) {
        check->at = begin;
        fail(check, "half of a surrogate pair");
        return false;
    }
    return true;
}

/* At the opening quote. */
static bool check_string(struct check *check) {
    check->at++;
    for (;;) {
        while (check->end - check->at >= 8 && is_plain(check->at)) {
            check->at += 8;
        }
        while (check->at < check->end && *check->at >= 0x20 && *check->at < 0x80 &&
               *check->at != '"' && *check->at != '\\') {
            check->at++;
        }
        if (check->at == check->end) {
            fail(check, "unexpected end of a text");
            return false;
        }
        if (*check->at == '"') {
            check->at++;
            return true;
        }
        if (*check->at == '\\') {
            if (!check_escape(check)) {
                return false;
            }
        } else if (*check->at == 0) {
            fail(check, "a NUL byte");
            return false;
        } else if (*check->at < 0x20) {
            fail(check, "a control character that is not escaped");
            return false;
        } else {
            size_t len = lvt_utf8_length((const char *)check->at, (size_t)(check->end - check->at));
            if (len == 0) {
                fail(check, "invalid UTF-8");
                return false;
            }
            check->at += len;
        }
    }
}

static bool check_digits(struct check *check) {
    if (check->at == check->end || *check->at < '0' || *check->at > '9') {
        fail_unexpected(check);
        return false;
    }
    while (check->at < check->end && *check->at >= '0' && *check->at <= '9') {
        check->at++;
    }
    return true;
}

static bool check_number(struct check *check) {
    if (*check->at == '-') {
        check->at++;
    }
    if (check->at < check->end && *check->at == '0') {
        check->at++;
    } else if (!check_digits(check)) {
        return false;
    }
    if (check->at < check->end && *check->at == '.') {
        check->at++;
        if (!check_digits(check)) {
            return false;
        }
    }
    if (check->at < check->end && (*check->at | 0x20) == 'e') {
        check->at++;
        if (check->at < check->end && (*check->at == '+' || *check->at == '-')) {
            check->at++;
        }
        return check_digits(check);
    }
    return true;
}

static bool check_word(struct check *check, const char *word) {
    for (; *word; word++, check->at++) {
        if (check->at == check->end || *check->at != (unsigned char)*word) {
            fail_unexpected(check);
            return false;
        }
    }
    return true;
}

static bool in_object(const struct check *check) {
    size_t level = check->depth - 1;
    return check->objects[level / 64] >> level % 64 & 1;
}

/* At '{' or '['. */
static enum step open_level(struct check *check, bool object) {
    if (check->depth == check->max_depth) {
        leveret_fail(check->err, LEVERET_TOO_BIG, "nested deeper than %zu levels at byte %zu",
                     check->max_depth, (size_t)(check->at - check->begin));
        return STEP_FAILED;
    }
    size_t level = check->depth++;
    uint64_t bit = (uint64_t)1 << level % 64;
    if (object) {
        check->objects[level / 64] |= bit;
    } else {
        check->objects[level / 64] &= ~bit;
    }
    check->at++;
    skip_space(check);
    if (check->at < check->end && *check->at == (object ? '}' : ']')) {
        check->at++;
        check->depth--;
        return STEP_AFTER;
    }
    return object ? STEP_KEY : STEP_VALUE;
}

static enum step check_value(struct check *check) {
    bool valid;
    skip_space(check);
    switch (check->at < check->end ? *check->at : 0) {
    case '{':
        return open_level(check, true);
    case '[':
        return open_level(check, false);
    case '"':
        valid = check_string(check);
        break;
    case 't':
        valid = check_word(check, "true");
        break;
    case 'f':
        valid = check_word(check, "false");
        break;
    case 'n':
        valid = check_word(check, "null");
        break;
    case '-':
    case '0' ... '9':
        valid = check_number(check);
        break;
    default:
        fail_unexpected(check);
        return STEP_FAILED;
    }
    return valid ? STEP_AFTER : STEP_FAILED;
}

static enum step check_key(struct check *check) {
    skip_space(check);
    if (check->at == check->end || *check->at != '"') {
        fail_unexpected(check);
        return STEP_FAILED;
    }
    if (!check_string(check)) {
        return STEP_FAILED;
    }
    skip_space(check);
    if (check->at == check->end || *check->at != ':') {
        fail_unexpected(check);
        return STEP_FAILED;
    }
    check->at++;
    return STEP_VALUE;
}

/* After a value that is inside another. */
static enum step check_after(struct check *check) {
    bool object = in_object(check);
    skip_space(check);
    if (check->at < check->end && *check->at == ',') {
        check->at++;
        return object ? STEP_KEY : STEP_VALUE;
    }
    if (check->at < check->end && *check->at == (object ? '}' : ']')) {
        check->at++;
        check->depth--;
        return STEP_AFTER;
    }
    fail_unexpected(check);
    return STEP_FAILED;
}

enum leveret_code lvt_json_validate(struct lvt_bytes text, size_t max_depth,
                                    struct leveret_error *err) {
    struct leveret_error ignored;
    struct check check;
    check.begin = check.at = (const unsigned char *)(text.len > 0 ? text.data : "");
    check.end = check.begin + text.len;
    check.err = err ? err : &ignored;
    check.depth = 0;
    check.max_depth = max_depth < DEPTH_MAX ? max_depth : DEPTH_MAX;

    if (text.len >= 3 && memcmp(text.data, "\xEF\xBB\xBF", 3) == 0) {
        fail(&check, "a byte order mark");
        return check.err->code;
    }
    enum step step = STEP_VALUE;
    do {
        switch (step) {
        case STEP_VALUE:
            step = check_value(&check);
            break;
        case STEP_KEY:
            step = check_key(&check);
            break;
        default:
            step = check_after(&check);
        }
        if (step == STEP_FAILED) {
            return check.err->code;
        }
    } while (step != STEP_AFTER || check.depth > 0);
    skip_space(&check);
    if (check.at < check.end) {
        fail_unexpected(&check);
        return check.err->code;
    }
    return LEVERET_OK;
}
