/* JSON through Lua and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "event/envelope.h"
#include "event/json.h"
#include "runtime/lua/lua_json.h"

static struct lvt_lua *lua;

static int open_all(lua_State *L) {
    lvt_lua_open_sandbox(L);
    lvt_lua_json_open(L);
    return 0;
}

static int make(void **state) {
    (void)state;
    struct leveret_error err;
    lua = lvt_lua_new((size_t)64 << 20, NULL);
    return !lua || lvt_lua_open(lua, open_all, &err) != LEVERET_OK;
}

static int unmake(void **state) {
    (void)state;
    lvt_lua_free(lua);
    return 0;
}

static int protected_decode(lua_State *L) {
    struct lvt_bytes text;
    text.data = lua_tolstring(L, 1, &text.len);
    lvt_lua_json_decode(L, text);
    return 1;
}

static int protected_encode(lua_State *L) {
    lvt_lua_json_encode(L, 1);
    return 1;
}

/* Leaves the value on the stack. */
static void decode_bytes(struct lvt_bytes text) {
    lua_State *L = lua->state;
    lua_settop(L, 0);
    lua_pushcfunction(L, protected_decode);
    lua_pushlstring(L, text.data, text.len);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK)
        fail_msg("%s: %s", text.data, lua_tostring(L, -1));
}

static void decode(const char *text) {
    decode_bytes(lvt_bytes_of(text));
}

/* The JSON, or error, of the value on the stack, which is replaced by it. */
static const char *encode(void) {
    lua_State *L = lua->state;
    lua_pushcfunction(L, protected_encode);
    lua_insert(L, 1);
    (void)lua_pcall(L, 1, 1, 0);
    return lua_tostring(L, -1);
}

static void evaluate(const char *expression) {
    lua_State *L = lua->state;
    char text[1024];
    lua_settop(L, 0);
    snprintf(text, sizeof text, "return %s", expression);
    if (luaL_dostring(L, text) != LUA_OK)
        fail_msg("%s", lua_tostring(L, -1));
    lua_settop(L, 1);
}

static void is_unchanged(const char *text) {
    decode(text);
    assert_string_equal(encode(), text);
}

static void keeps_what_lua_would_lose(void **state) {
    (void)state;
    static const char *const texts[] = {
        "null",
        "[]",
        "{}",
        "[[],{},[{}],null]",
        "{\"a\":null}",
        "[null,null]",
        "1",
        "1.0",
        "-0.0",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "123456789012345678901234567890",
        "1e400",
        "-1e400",
        "1e-400",
        "0.1",
        "true",
        "false",
        "\"\"",
        "\"a\\u0000b\"",
        "\"\xc3\xa4\xf0\x9f\x90\xb0\"",
        "[18446744073709551616,1E999]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        is_unchanged(texts[i]);
}

static void numbers_become_what_they_are(void **state) {
    (void)state;
    lua_State *L = lua->state;
    decode("7");
    assert_true(lua_isinteger(L, 1));
    decode("7.0");
    assert_false(lua_isinteger(L, 1));
    assert_true(lua_isnumber(L, 1));
    decode("-0");
    assert_true(lua_isnumber(L, 1));
    decode("0e999999");
    assert_true(lua_isnumber(L, 1));
    decode("18446744073709551615");
    assert_true(lua_isuserdata(L, 1));
    assert_string_equal(luaL_tolstring(L, 1, NULL), "18446744073709551615");
    char digits[300];
    memset(digits, '1', sizeof digits);
    memcpy(digits, "0.", 2);
    digits[sizeof digits - 1] = '\0';
    decode(digits);
    assert_true(lua_isnumber(L, 1));
}

static void number_objects_compare_and_join(void **state) {
    (void)state;
    lua_State *L = lua->state;
    decode("[18446744073709551615,18446744073709551615,18446744073709551614]");
    lua_setglobal(L, "t");
    evaluate(
        "t[1] == t[2] and t[1] ~= t[3] and ('id ' .. t[1]) == 'id 18446744073709551615' "
        "and getmetatable(t[1]) == false");
    assert_true(lua_toboolean(L, 1));
}

static void of_duplicate_keys_the_first_wins(void **state) {
    (void)state;
    char text[4096];
    int len = snprintf(text, sizeof text, "{\"a\":1,\"a\":2,\"\\u0061\":3");
    for (int i = 0; i < 60; i++)
        len += snprintf(text + len, sizeof text - (size_t)len, ",\"k%d\":%d", i, i);
    snprintf(text + len, sizeof text - (size_t)len, ",\"a\":4,\"k59\":0,\"last\":5}");
    decode(text);
    lua_setglobal(lua->state, "t");
    evaluate("t.a == 1 and t.k0 == 0 and t.k30 == 30 and t.k59 == 59 and t.last == 5");
    assert_true(lua_toboolean(lua->state, 1));
}

static void long_arrays_keep_their_order(void **state) {
    (void)state;
    for (int count = 0; count < 100; count++) {
        char text[1024] = "[";
        int len = 1;
        for (int i = 1; i <= count; i++)
            len += snprintf(text + len, sizeof text - (size_t)len, "%s%d", i > 1 ? "," : "", i);
        snprintf(text + len, sizeof text - (size_t)len, "]");
        is_unchanged(text);
    }
}

static void nesting_has_a_limit(void **state) {
    (void)state;
    char text[2 * LVT_NESTING_MAX + 3] = "";
    memset(text, '[', LVT_NESTING_MAX);
    memset(text + LVT_NESTING_MAX, ']', LVT_NESTING_MAX);
    is_unchanged(text);

    lua_State *L = lua->state;
    lua_settop(L, 0);
    lua_pushcfunction(L, protected_decode);
    lua_pushfstring(L, "[%s]", text);
    assert_int_not_equal(lua_pcall(L, 1, 1, 0), LUA_OK);
    assert_non_null(strstr(lua_tostring(L, -1), "not valid JSON"));
}

static void refuses_what_json_cannot_hold(void **state) {
    (void)state;
    static const struct {
        const char *expression, *error;
    } cases[] = {
        {"{1, 2, nil, 4, [7] = 7}", "holes"},
        {"{[2] = 1}", "holes"},
        {"{1, a = 2}", "keys"},
        {"{a = 2, [true] = 1}", "keys"},
        {"{[1.5] = 1}", "keys"},
        {"{[0] = 1}", "keys"},
        {"0/0", "not a number"},
        {"{1/0}", "infinite"},
        {"'\\xff'", "UTF-8"},
        {"{['\\xed\\xa0\\x80'] = 1}", "UTF-8"},
        {"print", "a function"},
        {"setmetatable({}, {__pairs = print})", "__pairs"},
        {"(function() local t = {}; t.t = t; return t end)()", "contains itself"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        evaluate(cases[i].expression);
        const char *text = encode();
        if (!strstr(text, cases[i].error) || !strstr(text, "JSON cannot hold"))
            fail_msg("%s: %s", cases[i].expression, text);
    }
}

static void refuses_what_is_not_json(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{", "[1,]", "nul", "1 2", "\"\\ud800\"", "\"\xff\""};
    lua_State *L = lua->state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        lua_settop(L, 0);
        lua_pushcfunction(L, protected_decode);
        lua_pushstring(L, texts[i]);
        assert_int_not_equal(lua_pcall(L, 1, 1, 0), LUA_OK);
    }
}

static void plain_tables_are_told_apart(void **state) {
    (void)state;
    evaluate("{}");
    assert_string_equal(encode(), "{}");
    evaluate("{1, 2.0, 'x', true}");
    assert_string_equal(encode(), "[1,2.0,\"x\",true]");
    evaluate("{a = {b = {}}}");
    assert_string_equal(encode(), "{\"a\":{\"b\":{}}}");
}

/* ---- a property: what is decoded and encoded is what it was, but for the order of keys ---- */

static uint64_t random_state = 88172645463325252u;

static unsigned random_below(unsigned limit) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % limit;
}

static void space(struct lvt_buffer *out) {
    static const char *const spaces[] = {"", "", " ", "\n\t", "\r\n  "};
    lvt_buffer_text(out, spaces[random_below(5)]);
}

static void random_string(struct lvt_buffer *out) {
    static const struct lvt_bytes parts[] = {
        {"a", 1},
        {"\"", 1},
        {"\\", 1},
        {"\0", 1},
        {"\n", 1},
        {"\x01", 1},
        {"\xc3\xa4", 2},
        {"\xe2\x82\xac", 3},
        {"\x7f", 1},
        {"/", 1},
        {"\xf0\x9f\x90\xb0", 4},
        {"key", 3},
    };
    struct lvt_buffer text;
    lvt_buffer_init(&text, 1000);
    for (unsigned i = random_below(8); i > 0; i--) {
        struct lvt_bytes part = parts[random_below(12)];
        lvt_buffer_append(&text, part.data, part.len);
    }
    lvt_json_write_string(out, lvt_bytes(text.data, text.len));
    lvt_buffer_free(&text);
}

static void random_number(struct lvt_buffer *out) {
    static const char *const large[] = {"18446744073709551616", "-9223372036854775809", "1e4000",
                                        "-2E+999", "1e-999"};
    double number;
    switch (random_below(4)) {
    case 0:
        lvt_buffer_printf(out, "%d", (int)random_below(2000) - 1000);
        break;
    case 1:
        lvt_buffer_printf(out, "%lld", (long long)random_state);
        random_below(2);
        break;
    case 2:
        do {
            random_below(2);
            memcpy(&number, &random_state, sizeof number);
        } while (!lvt_json_write_number(out, number));
        break;
    default:
        lvt_buffer_text(out, large[random_below(5)]);
        break;
    }
}

/* Keys are numbered, so that none comes twice, and in their order, so that the same text can be
 * made of what comes back. */
static void random_value(struct lvt_buffer *out, unsigned depth) {
    unsigned kind = random_below(depth < 6 ? 7 : 5);
    space(out);
    if (kind < 3) {
        static const char *const words[] = {"null", "true", "false"};
        lvt_buffer_text(out, words[kind]);
    } else if (kind == 3) {
        random_number(out);
    } else if (kind == 4) {
        random_string(out);
    } else {
        unsigned count = random_below(random_below(10) == 0 ? 50 : 6);
        lvt_buffer_char(out, kind == 5 ? '[' : '{');
        space(out);
        for (unsigned i = 0; i < count; i++) {
            if (i > 0)
                lvt_buffer_char(out, ',');
            space(out);
            if (kind == 6) {
                lvt_buffer_printf(out, "\"%03u", i);
                random_below(2) ? lvt_buffer_text(out, "\\u0000\xc3\xa4\"")
                                : lvt_buffer_text(out, "\"");
                space(out);
                lvt_buffer_char(out, ':');
            }
            random_value(out, depth + 1);
        }
        lvt_buffer_char(out, kind == 5 ? ']' : '}');
    }
    space(out);
}

struct pair {
    struct lvt_bytes key, value;
};

static int by_key(const void *a, const void *b) {
    return memcmp(((const struct pair *)a)->key.data, ((const struct pair *)b)->key.data, 3);
}

/* The same value without spaces, keys sorted, strings spelt in one way. */
static void canonical(struct lvt_bytes text, struct lvt_buffer *out) {
    struct lvt_json_reader reader;
    lvt_json_reader_init(&reader, text);
    enum lvt_json_token token = lvt_json_next(&reader);
    struct pair pairs[64];
    size_t count = 0;
    if (token == LVT_JSON_OBJECT) {
        while (lvt_json_next(&reader) == LVT_JSON_KEY) {
            pairs[count].key = reader.raw;
            pairs[count++].value = lvt_json_skip(&reader, lvt_json_next(&reader));
        }
        qsort(pairs, count, sizeof *pairs, by_key);
        lvt_buffer_char(out, '{');
        for (size_t i = 0; i < count; i++) {
            lvt_buffer_append(out, pairs[i].key.data, pairs[i].key.len);
            lvt_buffer_char(out, ':');
            canonical(pairs[i].value, out);
        }
        lvt_buffer_char(out, '}');
    } else if (token == LVT_JSON_ARRAY) {
        lvt_buffer_char(out, '[');
        while ((token = lvt_json_next(&reader)) != LVT_JSON_ARRAY_END) {
            canonical(lvt_json_skip(&reader, token), out);
            lvt_buffer_char(out, ',');
        }
        lvt_buffer_char(out, ']');
    } else {
        lvt_buffer_char(out, token == LVT_JSON_STRING ? '"' : ' ');
        lvt_buffer_append(out, reader.raw.data, reader.raw.len);
    }
}

static void random_values_come_back(void **state) {
    (void)state;
    struct lvt_buffer text, before, after;
    struct leveret_error err;
    lvt_buffer_init(&text, 1 << 24);
    lvt_buffer_init(&before, 1 << 24);
    lvt_buffer_init(&after, 1 << 24);
    for (int i = 0; i < 3000; i++) {
        lvt_buffer_clear(&text);
        lvt_buffer_clear(&before);
        lvt_buffer_clear(&after);
        random_value(&text, 0);
        if (lvt_json_validate(lvt_bytes(text.data, text.len), 64, &err) != LEVERET_OK)
            fail_msg("%s: %s", err.text, text.data);
        decode_bytes(lvt_bytes(text.data, text.len));
        struct lvt_bytes encoded;
        encode();
        encoded.data = lua_tolstring(lua->state, -1, &encoded.len);
        canonical(lvt_bytes(text.data, text.len), &before);
        assert_int_equal(lvt_json_validate(encoded, 64, &err), LEVERET_OK);
        canonical(encoded, &after);
        assert_string_equal(before.data, after.data);
    }
    lvt_buffer_free(&text);
    lvt_buffer_free(&before);
    lvt_buffer_free(&after);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_lua_would_lose),
        cmocka_unit_test(numbers_become_what_they_are),
        cmocka_unit_test(number_objects_compare_and_join),
        cmocka_unit_test(of_duplicate_keys_the_first_wins),
        cmocka_unit_test(long_arrays_keep_their_order),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(refuses_what_json_cannot_hold),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(plain_tables_are_told_apart),
        cmocka_unit_test(random_values_come_back),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
