#include "runtime/native/native_options.h"

#include <stdio.h>
#include <stdlib.h>

#include "event/json.h"

#define ITEMS_MAX 256
#define PATH_BYTES 128
#define TEXTS_MAX_BYTES 65536
/* No key has more than two words. */
#define DEPTH_MAX 4

struct reader {
    struct lvt_json_reader json;
    struct lvt_handler_options *options;
    struct lvt_buffer texts; /* of the value that is read */
    struct leveret_error *err;
};

static enum leveret_code set(struct reader *reader, const char *path,
                             const struct lvt_value *value) {
    if (reader->texts.failed)
        return leveret_fail(reader->err, LEVERET_CONFIG, "%s is too long", path);
    return lvt_keys_set(lvt_handler_keys, lvt_handler_key_count, reader->options, path, value,
                        reader->err);
}

/* Appends the string or key that was read last, with a NUL; where it begins. */
static size_t keep_text(struct reader *reader) {
    struct lvt_buffer *texts = &reader->texts;
    size_t at = texts->len;
    char *copy = malloc(reader->json.raw.len + 1);
    if (!copy) {
        texts->failed = true;
        return at;
    }
    size_t len = lvt_json_unescape(reader->json.raw, copy);
    lvt_buffer_append(texts, copy, len);
    lvt_buffer_char(texts, '\0');
    free(copy);
    return at;
}

static enum leveret_code read_list(struct reader *reader, const char *path) {
    size_t starts[ITEMS_MAX], count = 0;
    const char *items[ITEMS_MAX];
    enum lvt_json_token token;
    while ((token = lvt_json_next(&reader->json)) != LVT_JSON_ARRAY_END) {
        if (token != LVT_JSON_STRING)
            return leveret_fail(reader->err, LEVERET_CONFIG, "%s must be a list of texts", path);
        if (count == ITEMS_MAX)
            return leveret_fail(reader->err, LEVERET_CONFIG, "%s has more than %d items", path,
                                ITEMS_MAX);
        starts[count++] = keep_text(reader);
    }
    for (size_t i = 0; i < count && !reader->texts.failed; i++)
        items[i] = reader->texts.data + starts[i];
    const struct lvt_value value = {.kind = LVT_VALUE_LIST, .items = items, .item_count = count};
    return set(reader, path, &value);
}

static enum leveret_code read_object(struct reader *reader, const char *prefix, unsigned depth);

static enum leveret_code read_value(struct reader *reader, const char *path, unsigned depth) {
    struct lvt_value value = {0};
    enum lvt_json_token token = lvt_json_next(&reader->json);
    lvt_buffer_clear(&reader->texts);
    switch (token) {
    case LVT_JSON_STRING:
        keep_text(reader);
        value = (struct lvt_value){.kind = LVT_VALUE_TEXT, .text = reader->texts.data};
        break;
    case LVT_JSON_NUMBER: {
        char spelling[64];
        snprintf(spelling, sizeof spelling, "%.*s", (int)reader->json.raw.len,
                 reader->json.raw.data);
        value = (struct lvt_value){.kind = LVT_VALUE_NUMBER, .number = strtod(spelling, NULL)};
        break;
    }
    case LVT_JSON_TRUE:
    case LVT_JSON_FALSE:
        value = (struct lvt_value){.kind = LVT_VALUE_BOOLEAN, .boolean = token == LVT_JSON_TRUE};
        break;
    case LVT_JSON_ARRAY:
        return read_list(reader, path);
    case LVT_JSON_OBJECT:
        return read_object(reader, path, depth + 1);
    default:
        return leveret_fail(reader->err, LEVERET_CONFIG, "%s cannot be null", path);
    }
    return set(reader, path, &value);
}

/* Behind its '{'. */
static enum leveret_code read_object(struct reader *reader, const char *prefix, unsigned depth) {
    enum leveret_code code = LEVERET_OK;
    if (depth == DEPTH_MAX)
        return leveret_fail(reader->err, LEVERET_CONFIG, "%s: objects are nested too deep", prefix);
    if (depth > 0 && !lvt_keys_is_table(lvt_handler_keys, lvt_handler_key_count, prefix)) {
        const struct lvt_value list = {.kind = LVT_VALUE_LIST};
        return set(reader, prefix, &list); /* which tells what it should be */
    }
    while (code == LEVERET_OK && lvt_json_next(&reader->json) == LVT_JSON_KEY) {
        char path[PATH_BYTES];
        lvt_buffer_clear(&reader->texts);
        keep_text(reader);
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "",
                 reader->texts.failed ? "" : reader->texts.data);
        code = read_value(reader, path, depth);
    }
    return code;
}

enum leveret_code lvt_native_options_read(struct lvt_bytes json,
                                          struct lvt_handler_options *options,
                                          struct leveret_error *err) {
    struct leveret_error why;
    if (lvt_json_validate(json, LVT_NESTING_MAX, &why) != LEVERET_OK)
        return leveret_fail(err, LEVERET_CONFIG, "no valid JSON: %s", why.text);
    struct reader reader = {.options = options, .err = err};
    lvt_json_reader_init(&reader.json, json);
    if (lvt_json_next(&reader.json) != LVT_JSON_OBJECT)
        return leveret_fail(err, LEVERET_CONFIG, "they must be a table");
    lvt_buffer_init(&reader.texts, TEXTS_MAX_BYTES);
    enum leveret_code code = read_object(&reader, "", 0);
    lvt_buffer_free(&reader.texts);
    return code;
}

/* ---- the configuration's table of plugins ---- */

/* The member of the object that the reader is in. Of names with escapes none is a file's. */
static bool find_member(struct lvt_json_reader *reader, const char *name) {
    while (lvt_json_next(reader) == LVT_JSON_KEY) {
        if (!reader->escaped && lvt_bytes_is(reader->raw, name))
            return true;
        lvt_json_skip(reader, lvt_json_next(reader));
    }
    return false;
}

enum leveret_code lvt_native_options_split(const char *plugins, const char *name,
                                           struct lvt_bytes *ret_handler, struct lvt_buffer *out,
                                           struct leveret_error *err) {
    struct lvt_json_reader reader;
    struct lvt_bytes handler = {"", 0};
    bool first = true;
    lvt_buffer_char(out, '{');
    lvt_json_reader_init(&reader, lvt_bytes_of(plugins));
    if (plugins && lvt_json_next(&reader) == LVT_JSON_OBJECT && find_member(&reader, name)) {
        if (lvt_json_next(&reader) != LVT_JSON_OBJECT)
            return leveret_fail(err, LEVERET_CONFIG, "plugins.%s must be a table", name);
        while (lvt_json_next(&reader) == LVT_JSON_KEY) {
            struct lvt_bytes key = reader.raw;
            struct lvt_bytes value = lvt_json_skip(&reader, lvt_json_next(&reader));
            if (lvt_bytes_is(key, "handler")) {
                handler = value;
                continue;
            }
            lvt_buffer_text(out, first ? "\"" : ",\"");
            lvt_buffer_append(out, key.data, key.len);
            lvt_buffer_text(out, "\":");
            lvt_buffer_append(out, value.data, value.len);
            first = false;
        }
    }
    lvt_buffer_char(out, '}');
    if (out->failed)
        return leveret_fail(err, LEVERET_NO_MEMORY, "out of memory for plugins.%s", name);
    *ret_handler = handler;
    return LEVERET_OK;
}

static bool is_loaded(const struct lvt_routes *routes, struct lvt_bytes name) {
    for (size_t i = 0; i < routes->handler_count; i++)
        if (routes->handlers[i]->about && lvt_bytes_is(name, routes->handlers[i]->name))
            return true;
    return false;
}

void lvt_native_options_warn(const char *plugins, const struct lvt_routes *routes,
                             const struct lvt_log *log) {
    struct lvt_json_reader reader;
    if (!plugins)
        return;
    lvt_json_reader_init(&reader, lvt_bytes_of(plugins));
    for (lvt_json_next(&reader); lvt_json_next(&reader) == LVT_JSON_KEY;) {
        if (!is_loaded(routes, reader.raw))
            LVT_LOG(log, LVT_WARN, "the configuration's plugins name one that is not there",
                    LVT_TEXT("plugin", reader.raw));
        lvt_json_skip(&reader, lvt_json_next(&reader));
    }
}
