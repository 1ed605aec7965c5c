#include "runtime/lua/lua_options.h"

#include <stdio.h>
#include <string.h>

#include "runtime/lua/lua_json.h"

/* Items of one list. */
#define ITEMS_MAX 256
#define PATH_MAX_BYTES 128
/* Tables in tables: no key has more than two words. */
#define DEPTH_MAX 4
#define JSON_MAX_BYTES ((size_t)1024 * 1024)

struct reader {
    lua_State *L;
    const struct lvt_lua_source *source;
    const char *skipped;
    const struct lvt_key *keys;
    size_t key_count;
    void *target;
    struct leveret_error *err;
};

static enum leveret_code fail_at(const struct reader *reader, const char *path, const char *text) {
    return lvt_lua_source_fail(reader->source, lvt_lua_source_line(reader->source, path),
                               reader->err, "%s", text);
}

static enum leveret_code set(const struct reader *reader, const char *path,
                             const struct lvt_value *value) {
    struct leveret_error reason;
    enum leveret_code code =
        lvt_keys_set(reader->keys, reader->key_count, reader->target, path, value, &reason);
    if (code == LEVERET_CONFIG)
        return fail_at(reader, path, reason.text);
    if (code != LEVERET_OK)
        return leveret_fail(reader->err, code, "%s", reason.text);
    return LEVERET_OK;
}

/* The list on top of the stack. */
static enum leveret_code read_list(const struct reader *reader, const char *path) {
    lua_State *L = reader->L;
    const char *items[ITEMS_MAX];
    char text[PATH_MAX_BYTES + 80];
    size_t count = 0, keys = 0;
    int table = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
        keys++;
    if (keys > ITEMS_MAX) {
        snprintf(text, sizeof text, "%s has more than %d items", path, ITEMS_MAX);
        return fail_at(reader, path, text);
    }
    while (count < keys) {
        lua_rawgeti(L, table, (lua_Integer)count + 1);
        if (lua_type(L, -1) != LUA_TSTRING) {
            lua_settop(L, table);
            snprintf(text, sizeof text, "%s must be a list of texts", path);
            return fail_at(reader, path, text);
        }
        items[count++] = lua_tostring(L, -1);
        lua_pop(L, 1); /* the list holds it */
    }
    const struct lvt_value value = {.kind = LVT_VALUE_LIST, .items = items, .item_count = count};
    return set(reader, path, &value);
}

static enum leveret_code read_table(const struct reader *reader, const char *prefix,
                                    unsigned depth);

/* The table on top of the stack, for a key that keeps it as it is. */
static enum leveret_code read_json(const struct reader *reader, const char *path) {
    struct lvt_buffer json;
    char text[PATH_MAX_BYTES + 160];
    lvt_buffer_init(&json, JSON_MAX_BYTES);
    const char *why = lvt_lua_json_write(reader->L, -1, &json);
    enum leveret_code code;
    if (why) {
        snprintf(text, sizeof text, "%s cannot hold %s", path, why);
        code = fail_at(reader, path, text);
    } else {
        const struct lvt_value value = {.kind = LVT_VALUE_TEXT, .text = json.data};
        code = set(reader, path, &value);
    }
    lvt_buffer_free(&json);
    return code;
}

static bool is_json(const struct reader *reader, const char *path) {
    const struct lvt_key *key = lvt_keys_find(reader->keys, reader->key_count, path);
    return key && key->type == LVT_KEY_JSON;
}

/* The value on top of the stack. */
static enum leveret_code read_value(const struct reader *reader, const char *path, unsigned depth) {
    lua_State *L = reader->L;
    struct lvt_value value = {0};
    char text[PATH_MAX_BYTES + 80];
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        value.kind = LVT_VALUE_TEXT;
        value.text = lua_tostring(L, -1);
        break;
    case LUA_TNUMBER:
        value.kind = LVT_VALUE_NUMBER;
        value.number = lua_tonumber(L, -1);
        break;
    case LUA_TBOOLEAN:
        value.kind = LVT_VALUE_BOOLEAN;
        value.boolean = lua_toboolean(L, -1);
        break;
    case LUA_TTABLE:
        if (is_json(reader, path))
            return read_json(reader, path);
        return lvt_keys_is_table(reader->keys, reader->key_count, path)
                   ? read_table(reader, path, depth + 1)
                   : read_list(reader, path);
    default:
        snprintf(text, sizeof text, "%s cannot be a %s", path, luaL_typename(L, -1));
        return fail_at(reader, path, text);
    }
    return set(reader, path, &value);
}

/* The table on top of the stack. */
static enum leveret_code read_table(const struct reader *reader, const char *prefix,
                                    unsigned depth) {
    lua_State *L = reader->L;
    int table = lua_gettop(L);
    enum leveret_code code = LEVERET_OK;
    if (depth == DEPTH_MAX || !lua_checkstack(L, LUA_MINSTACK))
        return fail_at(reader, prefix, "tables are nested too deep");
    lua_pushnil(L);
    while (code == LEVERET_OK && lua_next(L, table)) {
        char path[PATH_MAX_BYTES];
        if (lua_type(L, -2) != LUA_TSTRING) {
            snprintf(path, sizeof path, "%s%shas a key that is no text", prefix,
                     *prefix ? " " : "the table ");
            code = fail_at(reader, prefix, path);
            break;
        }
        const char *key = lua_tostring(L, -2);
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", key);
        if (depth > 0 || !reader->skipped || strcmp(key, reader->skipped) != 0)
            code = read_value(reader, path, depth);
        lua_pop(L, 1);
    }
    lua_settop(L, table);
    return code;
}

enum leveret_code lvt_lua_options_read(lua_State *L, const struct lvt_lua_source *source,
                                       const char *skipped, const struct lvt_key *keys,
                                       size_t key_count, void *target, struct leveret_error *err) {
    const struct reader reader = {L, source, skipped, keys, key_count, target, err};
    return read_table(&reader, "", 0);
}
