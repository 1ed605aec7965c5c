#include "common/json.h"

#include <stdlib.h>
#include <string.h>

bool lvt_json_text(const struct leveret_host *host, struct leveret_text json, const char *pointer,
                   const char *name, size_t *ret_len, char **ret_text,
                   struct lvt_failure *failure) {
    struct leveret_text raw;
    int32_t kind = host->json_at(json, pointer, &raw);
    if (kind != LEVERET_JSON_STRING)
        return lvt_failed(failure, LEVERET_REJECT,
                          kind == LEVERET_JSON_MISSING ? "%s is missing" : "%s is not a text",
                          name);
    char *text = malloc(raw.len + 1); /* escapes resolved, it is no longer than with them */
    if (!text)
        return lvt_failed_memory(failure);
    int64_t len = host->json_string(json, pointer, text, raw.len + 1);
    if (!ret_len && strlen(text) != (size_t)len) {
        free(text);
        return lvt_failed(failure, LEVERET_REJECT, "%s has a NUL character", name);
    }
    if (ret_len)
        *ret_len = (size_t)len;
    *ret_text = text;
    return true;
}

static const char *const kind_names[] = {
    [LVT_SETTING_TEXT] = "a text",       [LVT_SETTING_INTEGER] = "a whole number",
    [LVT_SETTING_BOOLEAN] = "a boolean", [LVT_SETTING_LIST] = "a list",
    [LVT_SETTING_TABLE] = "a table",
};

/* Lua knows one kind of table: an empty one may be either. */
static bool is_container(const struct leveret_host *host, struct leveret_text value,
                         enum lvt_setting_kind kind) {
    int32_t found = host->json_at(value, "", NULL);
    int32_t wanted = kind == LVT_SETTING_LIST ? LEVERET_JSON_ARRAY : LEVERET_JSON_OBJECT;
    return found == wanted || ((found == LEVERET_JSON_ARRAY || found == LEVERET_JSON_OBJECT) &&
                               host->json_count(value, "") == 0);
}

static bool set(const struct leveret_host *host, struct leveret_text value,
                const struct lvt_setting *row, void *target, struct lvt_failure *failure) {
    void *member = (char *)target + row->offset;
    int64_t integer;
    switch (row->kind) {
    case LVT_SETTING_TEXT:
        free(*(char **)member); /* of a key that comes twice the last one counts */
        *(char **)member = NULL;
        return lvt_json_text(host, value, "", row->key, NULL, member, failure);
    case LVT_SETTING_INTEGER:
        if (!host->json_integer(value, "", &integer))
            break;
        if (integer < 0 || integer > row->max)
            return lvt_failed(failure, LEVERET_REJECT, "%s must be from 0 to %lld", row->key,
                              (long long)row->max);
        *(int64_t *)member = integer;
        return true;
    case LVT_SETTING_BOOLEAN:
        if (!host->json_boolean(value, "", member))
            break;
        return true;
    case LVT_SETTING_LIST:
    case LVT_SETTING_TABLE:
        if (!is_container(host, value, row->kind))
            break;
        *(struct leveret_text *)member = value;
        return true;
    }
    return lvt_failed(failure, LEVERET_REJECT, "%s must be %s", row->key, kind_names[row->kind]);
}

bool lvt_settings_read(const struct leveret_host *host, struct leveret_text json,
                       const struct lvt_setting *rows, size_t row_count, void *target,
                       struct lvt_failure *failure) {
    char key[64];
    struct leveret_text value;
    for (size_t i = 0; host->json_member(json, "", i, key, sizeof key, &value) >= 0; i++) {
        size_t row = 0;
        while (row < row_count && strcmp(rows[row].key, key) != 0)
            row++;
        if (row == row_count)
            return lvt_failed(failure, LEVERET_REJECT, "unknown key \"%s\"", key);
        if (!set(host, value, &rows[row], target, failure))
            return false;
    }
    for (size_t row = 0; row < row_count; row++) {
        char pointer[80];
        snprintf(pointer, sizeof pointer, "/%s", rows[row].key);
        if (rows[row].required && host->json_at(json, pointer, NULL) == LEVERET_JSON_MISSING)
            return lvt_failed(failure, LEVERET_REJECT, "%s is missing", rows[row].key);
    }
    return true;
}

void lvt_settings_free(const struct lvt_setting *rows, size_t row_count, void *target) {
    for (size_t row = 0; row < row_count; row++)
        if (rows[row].kind == LVT_SETTING_TEXT)
            free(*(char **)((char *)target + rows[row].offset));
}
