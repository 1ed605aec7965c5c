#include "event/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"

void lvt_json_reader_init(struct lvt_json_reader *reader, struct lvt_bytes text) {
    const char *begin = text.len > 0 ? text.data : ""; /* not NULL: it is counted from */
    *reader = (struct lvt_json_reader){.at = begin, .end = begin + text.len};
}

/* What stands between two tokens; valid text needs no look at which of it stands where. */
static bool between(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == ',' || c == ':';
}

/* From behind the opening quote of a string to its closing one: the first that an even number of
 * backslashes stands before. */
static const char *string_end(const char *at, const char *end) {
    const char *quote = memchr(at, '"', (size_t)(end - at));
    for (;;) {
        const char *before = quote;
        while (before > at && before[-1] == '\\') {
            before--;
        }
        if ((quote - before) % 2 == 0) {
            return quote;
        }
        at = quote + 1;
        quote = memchr(at, '"', (size_t)(end - at));
    }
}

static enum lvt_json_token read_string(struct lvt_json_reader *reader) {
    const char *begin = reader->at + 1;
    const char *end = string_end(begin, reader->end);
    reader->raw = lvt_bytes(begin, (size_t)(end - begin));
    reader->escaped = memchr(begin, '\\', reader->raw.len) != NULL;
    reader->at = end + 1;
    const char *after = reader->at;
    while (after < reader->end && between(*after)) {
        if (*after == ':') {
            reader->at = after + 1;
            return LVT_JSON_KEY;
        }
        if (*after == ',') {
            break;
        }
        after++;
    }
    return LVT_JSON_STRING;
}

static enum lvt_json_token take(struct lvt_json_reader *reader, size_t len,
                                enum lvt_json_token token) {
    reader->raw = lvt_bytes(reader->at, len);
    reader->at += len;
    return token;
}

enum lvt_json_token lvt_json_next(struct lvt_json_reader *reader) {
    reader->escaped = false;
    while (reader->at < reader->end && between(*reader->at)) {
        reader->at++;
    }
    if (reader->at == reader->end) {
        return take(reader, 0, LVT_JSON_END);
    }
    switch (*reader->at) {
    case '{':
        return take(reader, 1, LVT_JSON_OBJECT);
    case '}':
        return take(reader, 1, LVT_JSON_OBJECT_END);
    case '[':
        return take(reader, 1, LVT_JSON_ARRAY);
    case ']':
        return take(reader, 1, LVT_JSON_ARRAY_END);
    case '"':
        return read_string(reader);
    case 't':
        return take(reader, 4, LVT_JSON_TRUE);
    case 'f':
        return take(reader, 5, LVT_JSON_FALSE);
    case 'n':
        return take(reader, 4, LVT_JSON_NULL);
    default:
        break;
    }
    const char *end = reader->at;
    while (end < reader->end && !between(*end) && *end != '}' && *end != ']') {
        end++;
    }
    return take(reader, (size_t)(end - reader->at), LVT_JSON_NUMBER);
}

struct lvt_bytes lvt_json_skip(struct lvt_json_reader *reader, enum lvt_json_token first) {
    if (first == LVT_JSON_STRING || first == LVT_JSON_KEY) {
        return lvt_bytes(reader->raw.data - 1, reader->raw.len + 2);
    }
    if (first != LVT_JSON_OBJECT && first != LVT_JSON_ARRAY) {
        return reader->raw;
    }
    const char *begin = reader->raw.data;
    size_t depth = 1;
    while (depth > 0) {
        char c = *reader->at++;
        if (c == '"') {
            reader->at = string_end(reader->at, reader->end) + 1;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return lvt_bytes(begin, (size_t)(reader->at - begin));
}

static unsigned hex_unit(const char *at) {
    unsigned unit = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)at[i];
        unit = unit << 4 | (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return unit;
}

static size_t write_utf8(unsigned code, char *out) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

size_t lvt_json_unescape(struct lvt_bytes raw, char *out) {
    static const char plain[128] = {['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
                                    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};
    const char *at = raw.data, *end = raw.data + raw.len;
    size_t len = 0;
    while (at < end) {
        if (*at != '\\') {
            out[len++] = *at++;
            continue;
        }
        if (at[1] != 'u') {
            out[len++] = plain[at[1] & 0x7F];
            at += 2;
            continue;
        }
        unsigned code = hex_unit(at + 2);
        at += 6;
        if (code >= 0xD800 && code < 0xDC00) {
            code = 0x10000 + ((code - 0xD800) << 10) + (hex_unit(at + 2) - 0xDC00);
            at += 6;
        }
        len += write_utf8(code, out + len);
    }
    return len;
}

bool lvt_json_integer(struct lvt_bytes raw, int64_t *ret_value) {
    bool negative = raw.len > 0 && raw.data[0] == '-';
    size_t at = negative ? 1 : 0;
    if (at == raw.len || (negative && raw.data[at] == '0')) {
        return false;
    }
    /* Counted downwards, where there is one more value than upwards. */
    int64_t value = 0;
    for (; at < raw.len; at++) {
        char c = raw.data[at];
        if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, c - '0', &value)) {
            return false;
        }
    }
    if (!negative && value == INT64_MIN) {
        return false;
    }
    *ret_value = negative ? value : -value;
    return true;
}

/* The code of one of the characters that are escaped: ASCII, or what lvt_utf8_is_control names. */
static unsigned control_code(const char *text, size_t len) {
    unsigned char last = (unsigned char)text[len - 1];
    return len == 3 ? 0x2000u | (last & 0x3Fu) : last;
}

static void write_escape(struct lvt_buffer *out, unsigned code) {
    static const char names[128] = {['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
                                    ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't'};
    if (code < 0x80 && names[code]) {
        lvt_buffer_append(out, (const char[]){'\\', names[code]}, 2);
    } else {
        lvt_buffer_printf(out, "\\u%04x", code);
    }
}

void lvt_json_write_string(struct lvt_buffer *out, struct lvt_bytes text) {
    size_t at = 0, copied = 0;
    lvt_buffer_char(out, '"');
    while (at < text.len) {
        const char *c = text.data + at;
        if (*c >= 0x20 && *c < 0x7F && *c != '"' && *c != '\\') {
            at++;
            continue;
        }
        size_t len = lvt_utf8_length(c, text.len - at);
        if (len > 1 && !lvt_utf8_is_control(c, len)) {
            at += len;
            continue;
        }
        lvt_buffer_append(out, text.data + copied, at - copied);
        if (len == 0) {
            lvt_buffer_text(out, "\xEF\xBF\xBD");
        } else {
            write_escape(out, control_code(c, len));
        }
        at += len ? len : 1;
        copied = at;
    }
    if (at > copied) {
        lvt_buffer_append(out, text.data + copied, at - copied);
    }
    lvt_buffer_char(out, '"');
}

bool lvt_json_write_number(struct lvt_buffer *out, double number) {
    if (!isfinite(number)) {
        return false;
    }
    /* A normal double that has a spelling of at most 15 digits gets it at 15, less the zeros that
     * %g leaves out; a subnormal one may have fewer. */
    char text[40];
    int digits = number != 0 && fabs(number) < DBL_MIN ? 1 : 15;
    for (; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) {
            break;
        }
    }
    /* The host's locale may have another decimal point, of several bytes even. */
    bool marked = false;
    for (const char *at = text; *at; at++) {
        if ((*at >= '0' && *at <= '9') || *at == '-' || *at == '+') {
            lvt_buffer_char(out, *at);
        } else if (*at == 'e' || !marked) {
            lvt_buffer_char(out, *at == 'e' ? 'e' : '.');
            marked = true;
        }
    }
    if (!marked) {
        lvt_buffer_text(out, ".0");
    }
    return true;
}
