/* JSON to Lua and back: what comes back is JSON of the same value, with the first of duplicate
 * keys, every integer exact, and every other number the same double. */
#include <lauxlib.h>

#include "event/envelope.h"
#include "event/json.h"
#include "fuzz.h"
#include "runtime/lua/lua_json.h"

static int open_all(lua_State *L) {
    lvt_lua_open_sandbox(L);
    lvt_lua_json_open(L);
    return 0;
}

static int there_and_back(lua_State *L) {
    struct lvt_bytes text;
    text.data = lua_tolstring(L, 1, &text.len);
    lvt_lua_json_decode(L, text);
    lvt_lua_json_encode(L, -1);
    return 1;
}

/* NULL when Lua refuses; else it is on the stack. */
static struct lvt_bytes pass_through(lua_State *L, struct lvt_bytes text) {
    struct lvt_bytes back = {NULL, 0};
    lua_pushcfunction(L, there_and_back);
    lua_pushlstring(L, text.data, text.len);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK)
        back.data = lua_tolstring(L, -1, &back.len);
    return back;
}

/* ---- a value's digest, for which neither the order of keys nor a spelling matters ---- */

#define KEYS_MAX 256

struct digest {
    struct lvt_json_reader reader;
    bool give_up; /* an object has too many keys to look for the same one twice */
};

static uint64_t value_digest(struct digest *digest, enum lvt_json_token first);

static uint64_t mix(uint64_t a, uint64_t b) {
    a = (a ^ b) * 0x9e3779b97f4a7c15u;
    return a ^ (a >> 29);
}

static uint64_t text_digest(const struct lvt_json_reader *reader) {
    char *text = fuzz_alloc(reader->raw.len + 1);
    size_t len = lvt_json_unescape(reader->raw, text);
    uint64_t sum = mix(LVT_JSON_STRING, len);
    for (size_t i = 0; i < len; i++)
        sum = mix(sum, (unsigned char)text[i]);
    free(text);
    return sum;
}

/* A number too large or too small for a double keeps its spelling, sign and all. */
static uint64_t number_digest(struct lvt_bytes raw) {
    int64_t integer;
    if (lvt_json_integer(raw, &integer))
        return mix(LVT_JSON_NUMBER, (uint64_t)integer);
    char *text = fuzz_text(raw);
    double number = strtod(text, NULL);
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    free(text);
    return mix(LVT_JSON_NUMBER + 100, bits);
}

static uint64_t object_digest(struct digest *digest) {
    uint64_t keys[KEYS_MAX], sum = LVT_JSON_OBJECT;
    size_t count = 0;
    enum lvt_json_token token;
    while ((token = lvt_json_next(&digest->reader)) != LVT_JSON_OBJECT_END) {
        uint64_t key = text_digest(&digest->reader);
        bool seen = false;
        for (size_t i = 0; i < count; i++)
            seen = seen || keys[i] == key;
        uint64_t value = value_digest(digest, lvt_json_next(&digest->reader));
        if (seen)
            continue; /* the first wins */
        if (count == KEYS_MAX) {
            digest->give_up = true;
            continue;
        }
        keys[count++] = key;
        sum += mix(key, value);
    }
    return mix(sum, count);
}

static uint64_t value_digest(struct digest *digest, enum lvt_json_token first) {
    uint64_t sum = first;
    enum lvt_json_token token;
    switch (first) {
    case LVT_JSON_STRING:
        return text_digest(&digest->reader);
    case LVT_JSON_NUMBER:
        return number_digest(digest->reader.raw);
    case LVT_JSON_OBJECT:
        return object_digest(digest);
    case LVT_JSON_ARRAY:
        while ((token = lvt_json_next(&digest->reader)) != LVT_JSON_ARRAY_END)
            sum = mix(sum, value_digest(digest, token));
        return sum;
    default:
        return mix(1, first);
    }
}

static bool same_value(struct lvt_bytes a, struct lvt_bytes b) {
    struct digest first = {.give_up = false}, second = {.give_up = false};
    lvt_json_reader_init(&first.reader, a);
    lvt_json_reader_init(&second.reader, b);
    uint64_t one = value_digest(&first, lvt_json_next(&first.reader));
    uint64_t other = value_digest(&second, lvt_json_next(&second.reader));
    return one == other || first.give_up;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct lvt_lua *lua;
    struct leveret_error err;
    struct lvt_bytes text = lvt_bytes((const char *)data, size);
    if (!lua) {
        lua = lvt_lua_new((size_t)64 << 20, NULL);
        FUZZ_CHECK(lua && lvt_lua_open(lua, open_all, &err) == LEVERET_OK);
    }
    bool valid = lvt_json_validate(text, LVT_NESTING_MAX, &err) == LEVERET_OK;
    struct lvt_bytes back = pass_through(lua->state, text);
    FUZZ_CHECK(valid == (back.data != NULL));
    if (valid) {
        FUZZ_CHECK(lvt_json_validate(back, LVT_NESTING_MAX, &err) == LEVERET_OK);
        FUZZ_CHECK(same_value(text, back));
    }
    lua_settop(lua->state, 0);
    return 0;
}
