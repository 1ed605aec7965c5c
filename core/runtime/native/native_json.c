#include "runtime/native/native_json.h"

#include <locale.h>
#include <pthread.h>
#include <stdlib.h>

#include "event/envelope.h"
#include "event/json.h"

/* Of what json_quote writes. */
#define QUOTED_MAX ((size_t)1 << 30)

/* A value: its first token has been read. */
struct value {
    enum lvt_json_token token;
    struct lvt_json_reader reader;
};

/* ---- JSON pointers ---- */

/* Whether the pointer's next word, up to '/' or the end, with its ~0 and ~1, is this key. */
static bool word_is(const char *word, const char *key, size_t len) {
    size_t at = 0;
    while (*word && *word != '/') {
        char c = *word++;
        if (c == '~') {
            if (*word != '0' && *word != '1')
                return false;
            c = *word++ == '0' ? '~' : '/';
        }
        if (at == len || key[at] != c)
            return false;
        at++;
    }
    return at == len;
}

static bool key_is(const struct lvt_json_reader *reader, const char *word) {
    if (!reader->escaped)
        return word_is(word, reader->raw.data, reader->raw.len);
    char *key = malloc(reader->raw.len + 1);
    if (!key)
        return false;
    bool same = word_is(word, key, lvt_json_unescape(reader->raw, key));
    free(key);
    return same;
}

/* An array's index: digits without a leading zero. */
static bool read_index(const char *word, size_t *ret_index) {
    size_t index = 0, digits = strspn(word, "0123456789");
    if (digits == 0 || digits > 9 || (word[0] == '0' && digits > 1) ||
        (word[digits] && word[digits] != '/'))
        return false;
    for (size_t i = 0; i < digits; i++)
        index = index * 10 + (size_t)(word[i] - '0');
    *ret_index = index;
    return true;
}

/* From the array or object to the value that the word names. */
static bool enter(struct value *value, const char *word) {
    struct lvt_json_reader *reader = &value->reader;
    size_t index;
    if (value->token == LVT_JSON_OBJECT) {
        while ((value->token = lvt_json_next(reader)) == LVT_JSON_KEY) {
            bool found = key_is(reader, word);
            value->token = lvt_json_next(reader);
            if (found)
                return true;
            lvt_json_skip(reader, value->token);
        }
        return false;
    }
    if (value->token != LVT_JSON_ARRAY || !read_index(word, &index))
        return false;
    while ((value->token = lvt_json_next(reader)) != LVT_JSON_ARRAY_END) {
        if (index-- == 0)
            return true;
        lvt_json_skip(reader, value->token);
    }
    return false;
}

static bool find(struct leveret_text json, const char *pointer, struct value *ret_value) {
    if (!pointer || json.len == 0)
        return false;
    lvt_json_reader_init(&ret_value->reader, lvt_bytes(json.data, json.len));
    ret_value->token = lvt_json_next(&ret_value->reader);
    if (ret_value->token == LVT_JSON_END)
        return false;
    while (*pointer == '/') {
        pointer++;
        if (!enter(ret_value, pointer))
            return false;
        pointer += strcspn(pointer, "/");
    }
    return *pointer == '\0';
}

/* ---- values ---- */

static int32_t kind_of(enum lvt_json_token token) {
    switch (token) {
    case LVT_JSON_NULL:
        return LEVERET_JSON_NULL;
    case LVT_JSON_TRUE:
    case LVT_JSON_FALSE:
        return LEVERET_JSON_BOOLEAN;
    case LVT_JSON_NUMBER:
        return LEVERET_JSON_NUMBER;
    case LVT_JSON_STRING:
        return LEVERET_JSON_STRING;
    case LVT_JSON_ARRAY:
        return LEVERET_JSON_ARRAY;
    case LVT_JSON_OBJECT:
        return LEVERET_JSON_OBJECT;
    default:
        return LEVERET_JSON_MISSING;
    }
}

/* Copies as much as there is room for, and a NUL; the length of all of it, -1 without memory. */
static int64_t copy_string(const struct lvt_json_reader *reader, char *buffer, size_t size) {
    const char *text = reader->raw.data;
    size_t len = reader->raw.len;
    char *unescaped = NULL;
    if (reader->escaped) {
        unescaped = malloc(len + 1);
        if (!unescaped)
            return -1;
        len = lvt_json_unescape(reader->raw, unescaped);
        text = unescaped;
    }
    if (buffer && size > 0) {
        size_t fits = len < size ? len : size - 1;
        if (fits > 0)
            memcpy(buffer, text, fits);
        buffer[fits] = '\0';
    }
    free(unescaped);
    return (int64_t)len;
}

static struct leveret_text text_of(struct value *value) {
    struct lvt_bytes text = lvt_json_skip(&value->reader, value->token);
    return (struct leveret_text){text.data, text.len};
}

bool lvt_native_json_valid(struct leveret_text json) {
    return json.len > 0 &&
           lvt_json_validate(lvt_bytes(json.data, json.len), LVT_NESTING_MAX, NULL) == LEVERET_OK;
}

int32_t lvt_native_json_at(struct leveret_text json, const char *pointer,
                           struct leveret_text *ret_value) {
    struct value value;
    if (!find(json, pointer, &value))
        return LEVERET_JSON_MISSING;
    if (ret_value)
        *ret_value = text_of(&value);
    return kind_of(value.token);
}

int64_t lvt_native_json_string(struct leveret_text json, const char *pointer, char *buffer,
                               size_t size) {
    struct value value;
    if (!find(json, pointer, &value) || value.token != LVT_JSON_STRING)
        return -1;
    return copy_string(&value.reader, buffer, size);
}

bool lvt_native_json_integer(struct leveret_text json, const char *pointer, int64_t *ret_integer) {
    struct value value;
    return find(json, pointer, &value) && value.token == LVT_JSON_NUMBER &&
           lvt_json_integer(value.reader.raw, ret_integer);
}

static locale_t c_locale;

static void make_locale(void) {
    c_locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
}

/* The program that leveret is part of may have a locale with another decimal point. */
static bool parse_number(struct lvt_bytes spelling, double *ret_number) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_locale);
    char *copy = c_locale ? strndup(spelling.data, spelling.len) : NULL;
    if (!copy)
        return false;
    *ret_number = strtod_l(copy, NULL, c_locale);
    free(copy);
    return true;
}

bool lvt_native_json_number(struct leveret_text json, const char *pointer, double *ret_number) {
    struct value value;
    return find(json, pointer, &value) && value.token == LVT_JSON_NUMBER &&
           parse_number(value.reader.raw, ret_number);
}

bool lvt_native_json_boolean(struct leveret_text json, const char *pointer, bool *ret_boolean) {
    struct value value;
    if (!find(json, pointer, &value) || kind_of(value.token) != LEVERET_JSON_BOOLEAN)
        return false;
    *ret_boolean = value.token == LVT_JSON_TRUE;
    return true;
}

/* ---- arrays and objects ---- */

/* Goes to the next item or member; false at the end. `key` is the reader as it was at the key. */
static bool next_member(struct value *value, struct lvt_json_reader *key) {
    enum lvt_json_token token = lvt_json_next(&value->reader);
    *key = value->reader;
    if (token == LVT_JSON_OBJECT_END || token == LVT_JSON_ARRAY_END)
        return false;
    value->token = token == LVT_JSON_KEY ? lvt_json_next(&value->reader) : token;
    return true;
}

static bool find_container(struct leveret_text json, const char *pointer, struct value *ret_value) {
    return find(json, pointer, ret_value) &&
           (ret_value->token == LVT_JSON_OBJECT || ret_value->token == LVT_JSON_ARRAY);
}

int64_t lvt_native_json_count(struct leveret_text json, const char *pointer) {
    struct value value;
    struct lvt_json_reader key;
    int64_t count = 0;
    if (!find_container(json, pointer, &value))
        return -1;
    for (; next_member(&value, &key); count++)
        lvt_json_skip(&value.reader, value.token);
    return count;
}

int64_t lvt_native_json_member(struct leveret_text json, const char *pointer, size_t index,
                               char *key_buffer, size_t key_size, struct leveret_text *ret_value) {
    struct value value;
    struct lvt_json_reader key;
    if (!find_container(json, pointer, &value))
        return -1;
    bool in_object = value.token == LVT_JSON_OBJECT;
    bool found = next_member(&value, &key);
    for (; found && index > 0; index--) {
        lvt_json_skip(&value.reader, value.token);
        found = next_member(&value, &key);
    }
    if (!found)
        return -1;
    if (ret_value)
        *ret_value = text_of(&value);
    if (in_object)
        return copy_string(&key, key_buffer, key_size);
    if (key_buffer && key_size > 0)
        key_buffer[0] = '\0';
    return 0;
}

int64_t lvt_native_json_quote(struct leveret_text text, char *buffer, size_t size) {
    struct lvt_buffer out;
    int64_t len = -1;
    lvt_buffer_init(&out, QUOTED_MAX);
    lvt_json_write_string(&out, lvt_bytes(text.data, text.len));
    if (!out.failed) {
        len = (int64_t)out.len;
        if (buffer && out.len < size)
            memcpy(buffer, out.data, out.len + 1);
    }
    lvt_buffer_free(&out);
    return len;
}
