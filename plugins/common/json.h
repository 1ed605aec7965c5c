/* Strings and settings out of the host's JSON. */
#ifndef LEVERET_PLUGINS_JSON_H
#define LEVERET_PLUGINS_JSON_H

#include "common/failure.h"

/* The string there, with a NUL behind it, for free(). With ret_len NULL one that holds a NUL itself
 * is refused. `name` is what the error calls it. */
bool lvt_json_text(const struct leveret_host *host, struct leveret_text json, const char *pointer,
                   const char *name, size_t *ret_len, char **ret_text, struct lvt_failure *failure);

enum lvt_setting_kind {
    LVT_SETTING_TEXT,    /* char *, for lvt_settings_free */
    LVT_SETTING_INTEGER, /* int64_t, from 0 to max */
    LVT_SETTING_BOOLEAN, /* bool */
    LVT_SETTING_LIST,    /* struct leveret_text: JSON, for as long as what it was read from */
    LVT_SETTING_TABLE,   /* the same */
};

/* A key of a table of the configuration, and the member of a struct that it sets. */
struct lvt_setting {
    const char *key;
    enum lvt_setting_kind kind;
    size_t offset;
    bool required;
    int64_t max;
};

/* Sets in *target what the object says; the rest stays as it is. An unknown key is an error, and so
 * is one of the wrong kind. lvt_settings_free is called either way. */
bool lvt_settings_read(const struct leveret_host *host, struct leveret_text json,
                       const struct lvt_setting *rows, size_t row_count, void *target,
                       struct lvt_failure *failure);
void lvt_settings_free(const struct lvt_setting *rows, size_t row_count, void *target);

#endif
