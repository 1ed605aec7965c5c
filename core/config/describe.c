#include <stdio.h>
#include <string.h>

#include "config/keys.h"

void lvt_duration_write(double duration_ms, struct lvt_buffer *out) {
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};
    uint64_t ms = (uint64_t)duration_ms;
    for (size_t i = 0; ms > 0 && i < sizeof units / sizeof *units; i++) {
        if (ms % units[i].ms == 0) {
            lvt_buffer_printf(out, "%llu%s", (unsigned long long)(ms / units[i].ms), units[i].name);
            return;
        }
    }
    lvt_buffer_printf(out, "%llums", (unsigned long long)ms);
}

static void write_bound(const struct lvt_key *key, double bound, struct lvt_buffer *out) {
    if (key->type == LVT_KEY_DURATION) {
        lvt_duration_write(bound, out);
    } else {
        lvt_buffer_printf(out, "%.0f", bound);
    }
}

static void write_range(const struct lvt_key *key, const char *before, const char *between,
                        struct lvt_buffer *out) {
    lvt_buffer_text(out, before);
    write_bound(key, key->min, out);
    lvt_buffer_text(out, between);
    write_bound(key, key->max, out);
}

static void write_choices(const struct lvt_key *key, char quote, struct lvt_buffer *out) {
    for (size_t i = 0; key->choices[i]; i++) {
        lvt_buffer_printf(out, "%s%c%s%c", i > 0 ? ", " : "", quote, key->choices[i], quote);
    }
}

void lvt_key_expected(const struct lvt_key *key, struct lvt_buffer *out) {
    switch (key->type) {
    case LVT_KEY_TEXT:
        write_range(key, "a text of ", " to ", out);
        lvt_buffer_text(out, " bytes");
        return;
    case LVT_KEY_SECRET_URL:
        write_range(key, "a URL, as a text of ", " to ", out);
        lvt_buffer_text(out, " bytes");
        return;
    case LVT_KEY_INTEGER:
    case LVT_KEY_LONG:
        write_range(key, "a whole number from ", " to ", out);
        return;
    case LVT_KEY_COUNT:
        write_range(key, "a whole number from ", " to ", out);
        lvt_buffer_text(out, ", or \"auto\"");
        return;
    case LVT_KEY_NUMBER:
        write_range(key, "a number from ", " to ", out);
        return;
    case LVT_KEY_BOOLEAN:
        lvt_buffer_text(out, "true or false");
        return;
    case LVT_KEY_DURATION:
        write_range(key, "a duration from ", " to ", out);
        lvt_buffer_text(out,
                        " (a number of ms, or a text such as \"500ms\", \"30s\", \"10m\", "
                        "\"2h\" or \"7d\")");
        return;
    case LVT_KEY_CHOICE:
        lvt_buffer_text(out, "one of ");
        write_choices(key, '"', out);
        return;
    case LVT_KEY_LIST:
    case LVT_KEY_BIND:
        write_range(key, "a list of ", " to ", out);
        lvt_buffer_text(out, key->type == LVT_KEY_BIND ? " texts, none of them empty, or false"
                                                       : " texts, none of them empty");
        return;
    case LVT_KEY_JSON:
        lvt_buffer_text(out, "a table of tables, one for each plugin");
        return;
    }
}

static const char *type_name(enum lvt_key_type type) {
    static const char *const names[] = {
        [LVT_KEY_TEXT] = "text",         [LVT_KEY_SECRET_URL] = "URL",
        [LVT_KEY_INTEGER] = "integer",   [LVT_KEY_LONG] = "integer",
        [LVT_KEY_NUMBER] = "number",     [LVT_KEY_BOOLEAN] = "boolean",
        [LVT_KEY_DURATION] = "duration", [LVT_KEY_LIST] = "list",
        [LVT_KEY_CHOICE] = "choice",     [LVT_KEY_BIND] = "list or false",
        [LVT_KEY_JSON] = "table",        [LVT_KEY_COUNT] = "integer or auto",
    };
    return names[type];
}

static void write_initial(const struct lvt_key *key, struct lvt_buffer *out) {
    if (!key->initial) {
        return;
    }
    char shown[256];
    lvt_url_redact(key->initial, shown, sizeof shown);
    lvt_buffer_printf(out, "`%s`", key->type == LVT_KEY_SECRET_URL ? shown : key->initial);
}

/* A text's and a list's length need no telling here: they are generous. */
static void write_limits(const struct lvt_key *key, struct lvt_buffer *out) {
    switch (key->type) {
    case LVT_KEY_INTEGER:
    case LVT_KEY_LONG:
    case LVT_KEY_NUMBER:
    case LVT_KEY_COUNT:
    case LVT_KEY_DURATION:
        write_range(key, "", " to ", out);
        return;
    case LVT_KEY_CHOICE:
        write_choices(key, '`', out);
        return;
    default:
        return;
    }
}

void lvt_keys_describe(const struct lvt_key *keys, size_t key_count, struct lvt_buffer *out) {
    lvt_buffer_text(out,
                    "| Key | Type | Default | Range | Reloads | Meaning |\n"
                    "|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < key_count; i++) {
        lvt_buffer_printf(out, "| `%s` | %s | ", keys[i].name, type_name(keys[i].type));
        write_initial(&keys[i], out);
        lvt_buffer_text(out, " | ");
        write_limits(&keys[i], out);
        lvt_buffer_printf(out, " | %s | %s |\n", keys[i].reloadable ? "yes" : "no",
                          keys[i].description);
    }
}
