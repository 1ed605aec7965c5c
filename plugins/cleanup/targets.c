#include "cleanup/targets.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"

static const struct lvt_setting settings[] = {
    {"path", LVT_SETTING_TEXT, offsetof(struct lvt_target, path), false, 0},
    {"table", LVT_SETTING_TEXT, offsetof(struct lvt_target, table), false, 0},
    {"column", LVT_SETTING_TEXT, offsetof(struct lvt_target, column), false, 0},
};
#define SETTING_COUNT (sizeof settings / sizeof *settings)

/* Puts each word, as the dots part them, into double quotes. */
static bool quote(char **name, struct lvt_failure *failure) {
    char *quoted = malloc(strlen(*name) * 3 + 3);
    if (!quoted)
        return lvt_failed_memory(failure);
    char *to = quoted;
    *to++ = '"';
    for (const char *from = *name; *from; from++) {
        if (*from == '.') {
            to = mempcpy(to, "\".\"", 3);
            continue;
        }
        if (*from == '"')
            *to++ = '"';
        *to++ = *from;
    }
    *to++ = '"';
    *to = '\0';
    free(*name);
    *name = quoted;
    return true;
}

static bool check(struct lvt_target *target, struct lvt_failure *failure) {
    if (target->path ? target->table || target->column : !target->table || !target->column)
        return lvt_failed(failure, LEVERET_REJECT,
                          "targets.%s must have either a path, or a table and a column",
                          target->name);
    if (!target->path)
        return quote(&target->table, failure) && quote(&target->column, failure);
    size_t len = strlen(target->path);
    while (len > 0 && target->path[len - 1] == '/')
        target->path[--len] = '\0';
    if (target->path[0] != '/')
        return lvt_failed(failure, LEVERET_REJECT,
                          "targets.%s.path must be absolute, and more than /", target->name);
    return true;
}

bool lvt_targets_read(struct lvt_targets *targets, const struct leveret_host *host,
                      struct leveret_text table, struct lvt_failure *failure) {
    int64_t count = host->json_count(table, ""), len;
    if (count > LVT_TARGETS_MAX)
        return lvt_failed(failure, LEVERET_REJECT, "targets has more than %d members",
                          LVT_TARGETS_MAX);
    for (int64_t i = 0; i < count; i++) {
        struct lvt_target *target = &targets->items[targets->count];
        struct lvt_failure why;
        struct leveret_text value;
        len = host->json_member(table, "", (size_t)i, target->name, sizeof target->name, &value);
        if (len < 1 || len > LVT_TARGET_NAME_MAX || strchr(target->name, '/'))
            return lvt_failed(failure, LEVERET_REJECT,
                              "a target's name is 1 to %d bytes, without a slash",
                              LVT_TARGET_NAME_MAX);
        targets->count++;
        if (!lvt_settings_read(host, value, settings, SETTING_COUNT, target, &why))
            return lvt_failed(failure, LEVERET_REJECT, "targets.%s: %.400s", target->name,
                              why.text);
        if (!check(target, failure))
            return false;
    }
    return true;
}

void lvt_targets_free(struct lvt_targets *targets) {
    for (size_t i = 0; i < targets->count; i++)
        lvt_settings_free(settings, SETTING_COUNT, &targets->items[i]);
    targets->count = 0;
}

const struct lvt_target *lvt_targets_find(const struct lvt_targets *targets, const char *text,
                                          const char **ret_below) {
    size_t len = strcspn(text, "/");
    for (size_t i = 0; i < targets->count; i++) {
        const struct lvt_target *target = &targets->items[i];
        bool fits = strlen(target->name) == len && memcmp(target->name, text, len) == 0;
        if (fits && (target->path || text[len] == '\0')) {
            *ret_below = text + len;
            return target;
        }
    }
    return NULL;
}
