#include "rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POINTER_BYTES 128
#define VALUE_BYTES 512
#define TYPE_BYTES 256
#define PATTERN_BYTES 512

void rules_free(struct rules *rules) {
    for (size_t i = 0; i < rules->count; i++) {
        for (size_t j = 0; j < rules->items[i].count; j++)
            free(rules->items[i].patterns[j]);
        free(rules->items[i].type);
    }
    free(rules->items);
    *rules = (struct rules){0};
}

const struct rule *rules_find(const struct rules *rules, struct leveret_text type) {
    for (size_t i = 0; i < rules->count; i++) {
        const struct rule *rule = &rules->items[i];
        if (strlen(rule->type) == type.len && memcmp(rule->type, type.data, type.len) == 0)
            return rule;
    }
    return NULL;
}

/* ---- what an event makes of a pattern ---- */

/* The JSON pointer between the braces, of which the first is at `open`. False: it is none. */
static bool read_pointer(const char *open, char pointer[POINTER_BYTES], const char **ret_behind) {
    const char *name = open + 1, *close = strchr(name, '}');
    if (!close || close == name || close - name > POINTER_BYTES - 2 ||
        memchr(name, '{', (size_t)(close - name)))
        return false;
    snprintf(pointer, POINTER_BYTES, "%s%.*s", name[0] == '/' ? "" : "/", (int)(close - name),
             name);
    *ret_behind = close + 1;
    return true;
}

/* A text, or a number as it is spelled; -1 for anything else, and for a longer one. */
static int64_t read_value(struct leveret_text payload, const char *pointer,
                          char value[VALUE_BYTES]) {
    struct leveret_text raw;
    int64_t len = -1;
    switch (host->json_at(payload, pointer, &raw)) {
    case LEVERET_JSON_STRING:
        len = host->json_string(payload, pointer, value, VALUE_BYTES);
        break;
    case LEVERET_JSON_NUMBER:
        len = (int64_t)raw.len;
        if (raw.len < VALUE_BYTES)
            memcpy(value, raw.data, raw.len);
        break;
    default:
        break;
    }
    return len < VALUE_BYTES ? len : -1;
}

/* An id must not turn into a pattern: one that is "*" would empty the cache. */
static size_t escape(const char *value, size_t len, char *buffer, size_t size) {
    size_t at = 0;
    for (size_t i = 0; i < len && at + 2 < size; i++) {
        if (memchr("*?[\\", value[i], 4))
            buffer[at++] = '\\';
        buffer[at++] = value[i];
    }
    return at;
}

int64_t pattern_expand(const char *pattern, struct leveret_text payload, char *buffer, size_t size,
                       char *error, size_t error_size) {
    char pointer[POINTER_BYTES], value[VALUE_BYTES];
    size_t len = 0;
    while (*pattern) {
        /* Room for the longest value, every byte of it escaped. */
        if (size - len < (size_t)2 * VALUE_BYTES + 2) {
            snprintf(error, error_size, "the patterns are too long for an event");
            return -1;
        }
        if (*pattern != '{') {
            buffer[len++] = *pattern++;
            continue;
        }
        if (!read_pointer(pattern, pointer, &pattern))
            return -1; /* rules_read has seen that it can */
        int64_t value_len = read_value(payload, pointer, value);
        if (value_len < 0) {
            snprintf(error, error_size, "the payload has no usable %s", pointer + 1);
            return -1;
        }
        len += escape(value, (size_t)value_len, buffer + len, size - len);
    }
    return (int64_t)len;
}

/* ---- the configuration ---- */

static bool braces_match(const char *pattern) {
    char pointer[POINTER_BYTES];
    while (*pattern) {
        if (*pattern == '}' || (*pattern == '{' && !read_pointer(pattern, pointer, &pattern)))
            return false;
        if (*pattern && *pattern != '{')
            pattern++;
    }
    return true;
}

static bool add_pattern(struct rule *rule, struct leveret_text text, char *error,
                        size_t error_size) {
    char pattern[PATTERN_BYTES];
    int64_t len = host->json_string(text, "", pattern, sizeof pattern);
    if (len <= 0 || len >= PATTERN_BYTES || strlen(pattern) != (size_t)len ||
        !braces_match(pattern)) {
        snprintf(error, error_size,
                 "patterns: of %s, one is no pattern: it must be a text of 1 to %d bytes, with "
                 "fields of the payload in braces, such as tickets:{id}",
                 rule->type, PATTERN_BYTES - 1);
        return false;
    }
    char *copy = strdup(pattern);
    if (!copy) {
        snprintf(error, error_size, "out of memory");
        return false;
    }
    rule->patterns[rule->count++] = copy;
    return true;
}

static bool read_rule(struct rule *rule, struct leveret_text list, char *error, size_t error_size) {
    struct leveret_text item;
    int64_t count = host->json_count(list, "");
    if (host->json_at(list, "", NULL) != LEVERET_JSON_ARRAY) {
        /* In Lua an empty table may be a list or none. */
        if (count == 0)
            return true;
        snprintf(error, error_size, "patterns: of %s: they must be a list", rule->type);
        return false;
    }
    if (count > PATTERNS_MAX) {
        snprintf(error, error_size, "patterns: of %s: more than %d", rule->type, PATTERNS_MAX);
        return false;
    }
    for (int64_t i = 0; i < count; i++)
        if (host->json_member(list, "", (size_t)i, NULL, 0, &item) < 0 ||
            !add_pattern(rule, item, error, error_size))
            return false;
    return true;
}

static bool read_rules(struct leveret_text patterns, struct rules *rules, char *error,
                       size_t error_size) {
    int64_t count = host->json_count(patterns, "");
    rules->items = calloc(count > 0 ? (size_t)count : 1, sizeof *rules->items);
    if (!rules->items) {
        snprintf(error, error_size, "out of memory");
        return false;
    }
    for (int64_t i = 0; i < count; i++) {
        char type[TYPE_BYTES];
        struct leveret_text list;
        int64_t len = host->json_member(patterns, "", (size_t)i, type, sizeof type, &list);
        if (len <= 0 || len >= TYPE_BYTES) {
            snprintf(error, error_size, "patterns: a key of it is no type of events");
            return false;
        }
        struct rule *rule = &rules->items[rules->count];
        rule->type = strdup(type);
        if (!rule->type) {
            snprintf(error, error_size, "out of memory");
            return false;
        }
        rules->count++;
        if (!read_rule(rule, list, error, error_size))
            return false;
    }
    return true;
}

/* The first key that is not known. */
static bool find_unknown(struct leveret_text config, char *name, size_t size) {
    for (size_t i = 0; host->json_member(config, "", i, name, size, NULL) >= 0; i++)
        if (strcmp(name, "patterns") != 0)
            return true;
    return false;
}

bool rules_read(struct leveret_text config, struct rules *ret_rules, char *error,
                size_t error_size) {
    struct rules rules = {0};
    struct leveret_text patterns;
    char name[64];
    if (find_unknown(config, name, sizeof name)) {
        snprintf(error, error_size, "unknown key \"%s\"; it has only `patterns`", name);
        return false;
    }
    int32_t kind = host->json_at(config, "/patterns", &patterns);
    if (kind == LEVERET_JSON_MISSING ||
        (kind == LEVERET_JSON_ARRAY && host->json_count(patterns, "") == 0)) {
        *ret_rules = rules;
        return true;
    }
    if (kind != LEVERET_JSON_OBJECT) {
        snprintf(error, error_size, "patterns must be a table, with a list for each type");
        return false;
    }
    if (!read_rules(patterns, &rules, error, error_size)) {
        rules_free(&rules);
        return false;
    }
    *ret_rules = rules;
    return true;
}
