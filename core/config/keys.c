#include "config/keys.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "event/json.h"

void lvt_strings_free(struct lvt_strings *strings) {
    for (size_t i = 0; i < strings->count; i++) {
        free(strings->items[i]);
    }
    free(strings->items);
    *strings = (struct lvt_strings){0};
}

static bool strings_copy(const char *const *items, size_t count, struct lvt_strings *ret_strings) {
    struct lvt_strings copy = {0};
    copy.items = calloc(count ? count : 1, sizeof *copy.items);
    for (; copy.items && copy.count < count; copy.count++) {
        copy.items[copy.count] = strdup(items[copy.count]);
        if (!copy.items[copy.count]) {
            lvt_strings_free(&copy);
        }
    }
    if (!copy.items) {
        return false;
    }
    *ret_strings = copy;
    return true;
}

/* ---- what a value should have been ---- */

static enum leveret_code fail_memory(const struct lvt_key *key, struct leveret_error *err) {
    return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory while setting %s", key->name);
}

static enum leveret_code fail_value(const struct lvt_key *key, const struct lvt_value *value,
                                    struct leveret_error *err) {
    char memory[300];
    struct lvt_buffer expected;
    lvt_buffer_init_fixed(&expected, memory, sizeof memory);
    lvt_key_expected(key, &expected);
    if (key->type == LVT_KEY_SECRET_URL || key->type == LVT_KEY_JSON) {
        return leveret_fail(err, LEVERET_CONFIG, "%s must be %s", key->name, memory);
    }
    switch (value->kind) {
    case LVT_VALUE_TEXT:
        return leveret_fail(err, LEVERET_CONFIG, "%s must be %s, not \"%.60s%s\"", key->name,
                            memory, value->text, strlen(value->text) > 60 ? "..." : "");
    case LVT_VALUE_NUMBER:
        return leveret_fail(err, LEVERET_CONFIG, "%s must be %s, not %.14g", key->name, memory,
                            value->number);
    case LVT_VALUE_BOOLEAN:
        return leveret_fail(err, LEVERET_CONFIG, "%s must be %s, not %s", key->name, memory,
                            value->boolean ? "true" : "false");
    case LVT_VALUE_LIST:
        break;
    }
    return leveret_fail(err, LEVERET_CONFIG, "%s must be %s, not a list of %zu", key->name, memory,
                        value->item_count);
}

static bool in_range(const struct lvt_key *key, double number) {
    return number >= key->min && number <= key->max; /* false for a NaN */
}

/* ---- setters, one a type; each returns LEVERET_CONFIG for a value that does not fit ---- */

static enum leveret_code set_text(const struct lvt_key *key, char **field, const char *text) {
    if (!in_range(key, (double)strlen(text))) {
        return LEVERET_CONFIG;
    }
    char *copy = strdup(text);
    if (!copy) {
        return LEVERET_NO_MEMORY;
    }
    free(*field);
    *field = copy;
    return LEVERET_OK;
}

static enum leveret_code set_number(const struct lvt_key *key, void *field, double number) {
    if (!in_range(key, number) || (key->type != LVT_KEY_NUMBER && number != floor(number))) {
        return LEVERET_CONFIG;
    }
    if (key->type == LVT_KEY_NUMBER) {
        *(double *)field = number;
    } else if (key->type == LVT_KEY_INTEGER || key->type == LVT_KEY_COUNT) {
        *(uint32_t *)field = (uint32_t)number;
    } else {
        *(uint64_t *)field = (uint64_t)number;
    }
    return LEVERET_OK;
}

static const struct unit {
    const char *name;
    double ms;
} units[] = {{"d", 86400e3}, {"h", 3600e3}, {"m", 60e3}, {"s", 1e3}, {"ms", 1}};
#define UNIT_COUNT (sizeof units / sizeof *units)

bool lvt_duration_parse(const char *text, double *ret_ms) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 15) {
        return false;
    }
    double number = (double)strtoull(text, NULL, 10);
    if (text[digits] == '\0') {
        *ret_ms = number;
        return true;
    }
    for (size_t i = 0; i < UNIT_COUNT; i++) {
        if (strcmp(text + digits, units[i].name) == 0) {
            *ret_ms = number * units[i].ms;
            return true;
        }
    }
    return false;
}

static enum leveret_code set_list(const struct lvt_key *key, struct lvt_strings *field,
                                  const char *const *items, size_t count) {
    if (!in_range(key, (double)count)) {
        return LEVERET_CONFIG;
    }
    for (size_t i = 0; i < count; i++) {
        if (items[i][0] == '\0') {
            return LEVERET_CONFIG;
        }
    }
    struct lvt_strings copy;
    if (!strings_copy(items, count, &copy)) {
        return LEVERET_NO_MEMORY;
    }
    lvt_strings_free(field);
    *field = copy;
    return LEVERET_OK;
}

/* The flag of a BIND stands right behind its list. */
static bool *bind_none(struct lvt_strings *bind) {
    return (bool *)(bind + 1);
}
_Static_assert(offsetof(struct lvt_handler_options, bind_none) ==
                   offsetof(struct lvt_handler_options, bind) + sizeof(struct lvt_strings),
               "bind_none() relies on it");

static enum leveret_code set_items(const struct lvt_key *key, void *field,
                                   const struct lvt_value *value) {
    enum leveret_code code = LEVERET_CONFIG;
    if (value->kind == LVT_VALUE_LIST) {
        code = set_list(key, field, value->items, value->item_count);
    } else if (value->kind == LVT_VALUE_TEXT) {
        code = set_list(key, field, &value->text, 1);
    } else if (key->type == LVT_KEY_BIND && value->kind == LVT_VALUE_BOOLEAN && !value->boolean) {
        lvt_strings_free(field);
        *bind_none(field) = true;
        return LEVERET_OK;
    }
    if (code == LEVERET_OK && key->type == LVT_KEY_BIND) {
        *bind_none(field) = false;
    }
    return code;
}

static enum leveret_code set_choice(const struct lvt_key *key, int *field, const char *text) {
    for (int i = 0; key->choices[i]; i++) {
        if (strcmp(key->choices[i], text) == 0) {
            *field = i;
            return LEVERET_OK;
        }
    }
    return LEVERET_CONFIG;
}

/* An object whose members are objects. */
static enum leveret_code set_json(const struct lvt_key *key, char **field, const char *text) {
    struct lvt_json_reader reader;
    enum lvt_json_token token;
    if (lvt_json_validate(lvt_bytes_of(text), LVT_NESTING_MAX, NULL) != LEVERET_OK) {
        return LEVERET_CONFIG;
    }
    lvt_json_reader_init(&reader, lvt_bytes_of(text));
    if (lvt_json_next(&reader) != LVT_JSON_OBJECT) {
        return LEVERET_CONFIG;
    }
    while (lvt_json_next(&reader) == LVT_JSON_KEY) {
        token = lvt_json_next(&reader);
        if (token != LVT_JSON_OBJECT) {
            return LEVERET_CONFIG;
        }
        lvt_json_skip(&reader, token);
    }
    return set_text(key, field, text);
}

static enum leveret_code set_value(const struct lvt_key *key, void *field,
                                   const struct lvt_value *value) {
    double duration_ms;
    switch (key->type) {
    case LVT_KEY_TEXT:
    case LVT_KEY_SECRET_URL:
        return value->kind == LVT_VALUE_TEXT ? set_text(key, field, value->text) : LEVERET_CONFIG;
    case LVT_KEY_DURATION:
        if (value->kind == LVT_VALUE_TEXT && lvt_duration_parse(value->text, &duration_ms)) {
            return set_number(key, field, duration_ms);
        }
        __attribute__((fallthrough));
    case LVT_KEY_COUNT:
        if (value->kind == LVT_VALUE_TEXT && strcmp(value->text, "auto") == 0) {
            *(uint32_t *)field = 0;
            return LEVERET_OK;
        }
        __attribute__((fallthrough));
    case LVT_KEY_INTEGER:
    case LVT_KEY_LONG:
    case LVT_KEY_NUMBER:
        return value->kind == LVT_VALUE_NUMBER ? set_number(key, field, value->number)
                                               : LEVERET_CONFIG;
    case LVT_KEY_BOOLEAN:
        if (value->kind == LVT_VALUE_BOOLEAN) {
            *(bool *)field = value->boolean;
            return LEVERET_OK;
        }
        return LEVERET_CONFIG;
    case LVT_KEY_CHOICE:
        return value->kind == LVT_VALUE_TEXT ? set_choice(key, field, value->text) : LEVERET_CONFIG;
    case LVT_KEY_LIST:
    case LVT_KEY_BIND:
        return set_items(key, field, value);
    case LVT_KEY_JSON:
        return value->kind == LVT_VALUE_TEXT ? set_json(key, field, value->text) : LEVERET_CONFIG;
    }
    return LEVERET_CONFIG;
}

static enum leveret_code set(const struct lvt_key *key, void *target, const struct lvt_value *value,
                             struct leveret_error *err) {
    enum leveret_code code = set_value(key, (char *)target + key->offset, value);
    switch (code) {
    case LEVERET_OK:
        return code;
    case LEVERET_NO_MEMORY:
        return fail_memory(key, err);
    default:
        return fail_value(key, value, err);
    }
}

/* ---- from text ---- */

#define LIST_MAX 256

/* Splits at commas; spaces around an item do not count. */
static enum leveret_code set_split(const struct lvt_key *key, void *target, const char *text,
                                   struct leveret_error *err) {
    const char *items[LIST_MAX];
    struct lvt_value value = {.kind = LVT_VALUE_LIST, .items = items};
    char *copy = strdup(text), *rest = copy, *item;
    if (!copy) {
        return fail_memory(key, err);
    }
    while ((item = strsep(&rest, ",")) && value.item_count < LIST_MAX) {
        item += strspn(item, " ");
        size_t len = strlen(item);
        while (len > 0 && item[len - 1] == ' ') {
            item[--len] = '\0';
        }
        items[value.item_count++] = item;
    }
    enum leveret_code code = set(key, target, &value, err);
    free(copy);
    return code;
}

enum leveret_code lvt_key_set_text(const struct lvt_key *key, void *target, const char *text,
                                   struct leveret_error *err) {
    struct lvt_value value = {.kind = LVT_VALUE_TEXT, .text = text};
    bool truth = strcmp(text, "true") == 0;
    switch (key->type) {
    case LVT_KEY_INTEGER:
    case LVT_KEY_LONG:
    case LVT_KEY_NUMBER:
    case LVT_KEY_COUNT:
        /* Of what strtod accepts only the decimal spellings. */
        if (text[0] && text[strspn(text, "0123456789.eE+-")] == '\0') {
            char *end;
            double number = strtod(text, &end);
            if (*end == '\0') {
                value = (struct lvt_value){.kind = LVT_VALUE_NUMBER, .number = number};
            }
        }
        break;
    case LVT_KEY_BOOLEAN:
    case LVT_KEY_BIND:
        if (truth || strcmp(text, "false") == 0) {
            value = (struct lvt_value){.kind = LVT_VALUE_BOOLEAN, .boolean = truth};
            break;
        }
        if (key->type == LVT_KEY_BOOLEAN) {
            break;
        }
        return set_split(key, target, text, err);
    case LVT_KEY_LIST:
        return set_split(key, target, text, err);
    default:
        break;
    }
    return set(key, target, &value, err);
}

/* ---- tables of keys ---- */

enum leveret_code lvt_keys_init(const struct lvt_key *keys, size_t key_count, void *target,
                                struct leveret_error *err) {
    for (size_t i = 0; i < key_count; i++) {
        if (keys[i].initial) {
            enum leveret_code code = lvt_key_set_text(&keys[i], target, keys[i].initial, err);
            if (code != LEVERET_OK) {
                return code;
            }
        }
    }
    return LEVERET_OK;
}

void lvt_keys_free(const struct lvt_key *keys, size_t key_count, void *target) {
    for (size_t i = 0; i < key_count; i++) {
        void *field = (char *)target + keys[i].offset;
        switch (keys[i].type) {
        case LVT_KEY_TEXT:
        case LVT_KEY_SECRET_URL:
        case LVT_KEY_JSON:
            free(*(char **)field);
            *(char **)field = NULL;
            break;
        case LVT_KEY_LIST:
        case LVT_KEY_BIND:
            lvt_strings_free(field);
            break;
        default:
            break;
        }
    }
}

bool lvt_keys_is_table(const struct lvt_key *keys, size_t key_count, const char *path) {
    size_t len = strlen(path);
    for (size_t i = 0; i < key_count; i++) {
        if (strncmp(keys[i].name, path, len) == 0 && keys[i].name[len] == '.') {
            return true;
        }
    }
    return false;
}

static enum leveret_code fail_key(const struct lvt_key *keys, size_t key_count, const char *path,
                                  struct leveret_error *err) {
    if (lvt_keys_is_table(keys, key_count, path)) {
        return leveret_fail(err, LEVERET_CONFIG, "%s must be a table", path);
    }
    const struct lvt_key *nearest = lvt_keys_nearest(keys, key_count, path);
    if (nearest) {
        return leveret_fail(err, LEVERET_CONFIG, "unknown key \"%.80s\"; did you mean \"%s\"?",
                            path, nearest->name);
    }
    size_t len;
    const char *table = lvt_keys_nearest_table(keys, key_count, path, &len);
    if (table) {
        return leveret_fail(err, LEVERET_CONFIG, "unknown key \"%.80s\"; did you mean \"%.*s\"?",
                            path, (int)len, table);
    }
    return leveret_fail(err, LEVERET_CONFIG,
                        "unknown key \"%.80s\"; the README and `leveret run --help-config` list "
                        "the known ones",
                        path);
}

const struct lvt_key *lvt_keys_find(const struct lvt_key *keys, size_t key_count,
                                    const char *path) {
    for (size_t i = 0; i < key_count; i++) {
        if (strcmp(keys[i].name, path) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

enum leveret_code lvt_keys_set(const struct lvt_key *keys, size_t key_count, void *target,
                               const char *path, const struct lvt_value *value,
                               struct leveret_error *err) {
    const struct lvt_key *key = lvt_keys_find(keys, key_count, path);
    return key ? set(key, target, value, err) : fail_key(keys, key_count, path, err);
}

enum leveret_code lvt_keys_set_text(const struct lvt_key *keys, size_t key_count, void *target,
                                    const char *path, const char *text, struct leveret_error *err) {
    const struct lvt_key *key = lvt_keys_find(keys, key_count, path);
    return key ? lvt_key_set_text(key, target, text, err) : fail_key(keys, key_count, path, err);
}

/* Gives `field` a copy of its own of what it shares with another struct. */
static bool own(const struct lvt_key *key, void *field) {
    if (key->type == LVT_KEY_TEXT || key->type == LVT_KEY_SECRET_URL || key->type == LVT_KEY_JSON) {
        char **text = field;
        char *copy = *text ? strdup(*text) : NULL;
        bool done = copy || !*text;
        *text = copy;
        return done;
    }
    if (key->type == LVT_KEY_LIST || key->type == LVT_KEY_BIND) {
        struct lvt_strings *list = field;
        const struct lvt_strings shared = *list;
        *list = (struct lvt_strings){0};
        return strings_copy((const char *const *)shared.items, shared.count, list);
    }
    return true;
}

bool lvt_keys_own(const struct lvt_key *keys, size_t key_count, void *target) {
    bool done = true;
    for (size_t i = 0; i < key_count; i++) {
        done &= own(&keys[i], (char *)target + keys[i].offset);
    }
    return done;
}
