/* The JSON validator, reader and writer. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "event/json.h"

/* Validates an exact copy on the heap, so that a read past the end is caught. */
static enum leveret_code validate(const char *text, size_t len, struct leveret_error *err) {
    char *copy = malloc(len ? len : 1);
    memcpy(copy, text, len);
    enum leveret_code code = lvt_json_validate(lvt_bytes(copy, len), 64, err);
    free(copy);
    return code;
}

static bool valid(const char *text, size_t len) {
    struct leveret_error err = {0};
    enum leveret_code code = validate(text, len, &err);
    assert_true(code == LEVERET_OK || err.text[0] != '\0');
    return code == LEVERET_OK;
}

#define ACCEPT(s) assert_true(valid((s), sizeof(s) - 1))
#define REFUSE(s) assert_false(valid((s), sizeof(s) - 1))

static void assert_refused_as(const char *text, size_t len, const char *expected) {
    struct leveret_error err;
    assert_int_not_equal(validate(text, len, &err), LEVERET_OK);
    assert_string_equal(err.text, expected);
}
#define REFUSE_AS(s, expected) assert_refused_as((s), sizeof(s) - 1, (expected))

static void grammar(void **state) {
    (void)state;
    ACCEPT("null");
    ACCEPT(" \t\r\n true \n");
    ACCEPT("false");
    ACCEPT("{}");
    ACCEPT("[ ]");
    ACCEPT("[1,[],{},\"\"]");
    ACCEPT("{\"a\":{\"a\":[{\"b\" : null}]} , \"c\":0}");
    ACCEPT("{\"a\":1,\"a\":2}");
    ACCEPT("{\"\":1}");
    ACCEPT("\"/\x7F\"");
    REFUSE("");
    REFUSE("   ");
    REFUSE("nul");
    REFUSE("nulll");
    REFUSE("True");
    REFUSE("NaN");
    REFUSE("Infinity");
    REFUSE("undefined");
    REFUSE("'a'");
    REFUSE("{");
    REFUSE("}");
    REFUSE("[");
    REFUSE("]");
    REFUSE("[1,]");
    REFUSE("[,1]");
    REFUSE("[1 2]");
    REFUSE("[1}");
    REFUSE("{\"a\":1]");
    REFUSE("{\"a\":1,}");
    REFUSE("{\"a\"}");
    REFUSE("{\"a\",1}");
    REFUSE("{a:1}");
    REFUSE("{1:1}");
    REFUSE("{\"a\":}");
    REFUSE("{\"a\"::1}");
    REFUSE("[]]");
    REFUSE("{}{}");
    REFUSE("1 2");
    REFUSE(",");
    REFUSE(":");
    REFUSE("[\f1]");
    REFUSE("[1\v]");
    REFUSE("[\xC2\xA0]"); /* no space of JSON's */
    REFUSE("/* c */ 1");
}

static void numbers(void **state) {
    (void)state;
    ACCEPT("0");
    ACCEPT("-0");
    ACCEPT("-0.0");
    ACCEPT("10");
    ACCEPT("1e400");
    ACCEPT("1E-400");
    ACCEPT("1.5e+3");
    ACCEPT("0e0");
    ACCEPT("9223372036854775808");
    ACCEPT("123456789012345678901234567890123456789012345678901234567890123456789012345678901234");
    REFUSE("-");
    REFUSE("+1");
    REFUSE("01");
    REFUSE("-01");
    REFUSE("00");
    REFUSE("1.");
    REFUSE(".5");
    REFUSE("-.5");
    REFUSE("1.e1");
    REFUSE("1e");
    REFUSE("1e+");
    REFUSE("1e1.5");
    REFUSE("0x10");
    REFUSE("1_000");
    REFUSE("--1");
    REFUSE("1-1");
    REFUSE("1a");
}

static void strings(void **state) {
    (void)state;
    ACCEPT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00e9\\uFFFF\"");
    ACCEPT("\"\\ud83d\\ude00\"");
    ACCEPT("\"\\uD800\\uDC00\\uDBFF\\uDFFF\"");
    ACCEPT("\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    REFUSE("\"");
    REFUSE("\"a");
    REFUSE("\"\\\"");
    REFUSE("\"\\a\"");
    REFUSE("\"\\x41\"");
    REFUSE("\"\\U0041\"");
    REFUSE("\"\\u12\"");
    REFUSE("\"\\u12g4\"");
    REFUSE("\"\\u\"");
    REFUSE("\"\\\0\"");
    /* half of a pair, alone or with something else behind it */
    REFUSE("\"\\ud800\"");
    REFUSE("\"\\udc00\"");
    REFUSE("\"\\ud800x\"");
    REFUSE("\"\\ud800\\n\"");
    REFUSE("\"\\ud800\\u0041\"");
    REFUSE("\"\\ud800\\ud800\"");
    REFUSE("\"\\udc00\\ud800\"");
    REFUSE("\"\\ud800\\u\"");
    REFUSE("\"\\ud800\\");
    for (int c = 0; c < 0x20; c++) {
        char text[] = {'"', (char)c, '"'};
        assert_false(valid(text, sizeof text));
    }
}

/* Strings are looked at eight bytes at a time: each byte is told at each place. */
static void every_byte_at_every_place(void **state) {
    (void)state;
    for (size_t place = 0; place < 20; place++) {
        for (int c = 0; c < 256; c++) {
            char text[22];
            memset(text, c % 3 ? 0x20 : 0x7F, sizeof text);
            text[0] = text[sizeof text - 1] = '"';
            text[1 + place] = (char)c;
            assert_int_equal(valid(text, sizeof text),
                             c >= 0x20 && c < 0x80 && c != '"' && c != '\\');
        }
    }
}

static void utf8(void **state) {
    (void)state;
    REFUSE("\"\x80\"");
    REFUSE("\"\xC0\x80\"");
    REFUSE("\"\xC0\xAF\"");
    REFUSE("\"\xE0\x80\xAF\"");
    REFUSE("\"\xF0\x80\x80\xAF\"");
    REFUSE("\"\xED\xA0\x80\"");
    REFUSE("\"\xED\xA0\x81\xED\xB0\x80\"");
    REFUSE("\"\xF4\x90\x80\x80\"");
    REFUSE("\"\xFF\"");
    REFUSE("\"\xC3\"");
    REFUSE("\"\xE2\x82\"");
    REFUSE("\"\xE2\x82");
    REFUSE("{\"\xC3\":1}");
    REFUSE("\xC3\xA9");
}

static void errors_say_what_and_where(void **state) {
    (void)state;
    REFUSE_AS("", "unexpected end at byte 0");
    REFUSE_AS("  ", "unexpected end at byte 2");
    REFUSE_AS("{\"a\": 1, x}", "unexpected 'x' at byte 9");
    REFUSE_AS("[1] ]", "unexpected ']' at byte 4");
    REFUSE_AS("[\"abc", "unexpected end of a text at byte 5");
    REFUSE_AS("[1,\0]", "a NUL byte at byte 3");
    REFUSE_AS("\"a\0\"", "a NUL byte at byte 2");
    REFUSE_AS("1\0", "a NUL byte at byte 1");
    REFUSE_AS("\"a\n\"", "a control character that is not escaped at byte 2");
    REFUSE_AS("\"\xC3(\"", "invalid UTF-8 at byte 1");
    REFUSE_AS("\x01", "unexpected byte 0x01 at byte 0");
    REFUSE_AS("\xEF\xBB\xBF{}", "a byte order mark at byte 0");
    REFUSE_AS("\"ab\\ud800\"", "half of a surrogate pair at byte 3");
    REFUSE_AS("tru", "unexpected end at byte 3");
    REFUSE_AS("01", "unexpected '1' at byte 1");
    assert_int_equal(lvt_json_validate(lvt_bytes(NULL, 0), 64, NULL), LEVERET_MALFORMED);
    assert_int_equal(lvt_json_validate(LVT_LITERAL("["), 64, NULL), LEVERET_MALFORMED);
    assert_int_equal(lvt_json_validate(LVT_LITERAL("[[]]"), 1, NULL), LEVERET_TOO_BIG);
}

static char *nested(size_t depth, const char *open, const char *close, size_t *ret_len) {
    size_t open_len = strlen(open), close_len = strlen(close);
    char *text = malloc(depth * (open_len + close_len) + 1), *at = text;
    for (size_t i = 0; i < depth; i++, at += open_len) {
        memcpy(at, open, open_len);
    }
    *at++ = '1';
    for (size_t i = 0; i < depth; i++, at += close_len) {
        memcpy(at, close, close_len);
    }
    *ret_len = (size_t)(at - text);
    return text;
}

static void depth(void **state) {
    (void)state;
    static const struct {
        size_t depth;
        enum leveret_code code;
    } cases[] = {
        {63, LEVERET_OK}, {64, LEVERET_OK}, {65, LEVERET_TOO_BIG}, {1000000, LEVERET_TOO_BIG}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct leveret_error err;
        size_t len;
        char *text = nested(cases[i].depth, "[", "]", &len);
        assert_int_equal(validate(text, len, &err), cases[i].code);
        free(text);
        text = nested(cases[i].depth, "{\"a\":", "}", &len);
        assert_int_equal(validate(text, len, &err), cases[i].code);
        free(text);
    }
    REFUSE_AS("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
              "nested deeper than 64 levels at byte 64");
    /* A greater allowance works, up to a bound of its own. */
    size_t len;
    char *text = nested(1024, "[{\"k\":", "}]", &len);
    assert_int_equal(lvt_json_validate(lvt_bytes(text, len), SIZE_MAX, NULL), LEVERET_TOO_BIG);
    free(text);
    text = nested(512, "[{\"k\":", "}]", &len);
    assert_int_equal(lvt_json_validate(lvt_bytes(text, len), SIZE_MAX, NULL), LEVERET_OK);
    free(text);
    assert_int_equal(lvt_json_validate(LVT_LITERAL("[]"), 0, NULL), LEVERET_TOO_BIG);
    assert_int_equal(lvt_json_validate(LVT_LITERAL("1"), 0, NULL), LEVERET_OK);
    /* Levels that are closed do not count. */
    ACCEPT("[[],[],{},[{},{}],[[[]]]]");
}

static const char sample[] =
    "{\"event\":\"ticket.created\",\"payload\":{\"id\":\"t-1\",\"n\":[1,-2.5e3,true,false,null],"
    "\"s\":\"\\u00e9\\ud83d\\ude00\xE2\x82\xAC\"}}";

static void truncated_at_each_byte(void **state) {
    (void)state;
    ACCEPT(sample);
    for (size_t len = 0; len < sizeof sample - 1; len++) {
        assert_false(valid(sample, len));
    }
}

/* Whatever passes, the reader must be able to walk; the sanitizers look on. */
static void mutated_samples_never_crash(void **state) {
    (void)state;
    unsigned random = 7;
    size_t passed = 0;
    for (int round = 0; round < 60000; round++) {
        char text[sizeof sample];
        memcpy(text, sample, sizeof sample);
        for (int i = 0; i < 1 + round % 3; i++) {
            static const char bytes[] = "{}[]\",:\\u0d81e-.tfn \xC3\xA9\xED\0\n";
            random = random * 1103515245 + 12345;
            size_t at = (random >> 8) % (sizeof sample - 1);
            random = random * 1103515245 + 12345;
            text[at] = bytes[(random >> 8) % (sizeof bytes - 1)];
        }
        if (valid(text, sizeof sample - 1)) {
            char *copy = malloc(sizeof sample - 1), *out = malloc(sizeof sample);
            memcpy(copy, text, sizeof sample - 1);
            struct lvt_json_reader reader;
            enum lvt_json_token token;
            lvt_json_reader_init(&reader, lvt_bytes(copy, sizeof sample - 1));
            while ((token = lvt_json_next(&reader)) != LVT_JSON_END) {
                if (token == LVT_JSON_STRING) {
                    assert_true(lvt_json_unescape(reader.raw, out) <= reader.raw.len);
                }
            }
            passed++;
            free(copy);
            free(out);
        }
    }
    assert_true(passed > 100);
}

/* ---- reader ---- */

static void assert_token(struct lvt_json_reader *reader, enum lvt_json_token token,
                         const char *raw) {
    assert_int_equal(lvt_json_next(reader), token);
    assert_true(lvt_bytes_is(reader->raw, raw));
}

static void reader_walks(void **state) {
    (void)state;
    struct lvt_json_reader reader;
    lvt_json_reader_init(
        &reader, LVT_LITERAL(" { \"a\" : [ 1 , -0.5E1,true,false , null,\"x\\\"y\",\"z\" ] ,"
                             "\"b\\n\":{} , \"c\":\"}\" } "));
    assert_token(&reader, LVT_JSON_OBJECT, "{");
    assert_token(&reader, LVT_JSON_KEY, "a");
    assert_token(&reader, LVT_JSON_ARRAY, "[");
    assert_token(&reader, LVT_JSON_NUMBER, "1");
    assert_token(&reader, LVT_JSON_NUMBER, "-0.5E1");
    assert_token(&reader, LVT_JSON_TRUE, "true");
    assert_token(&reader, LVT_JSON_FALSE, "false");
    assert_token(&reader, LVT_JSON_NULL, "null");
    assert_false(reader.escaped);
    assert_token(&reader, LVT_JSON_STRING, "x\\\"y");
    assert_true(reader.escaped);
    assert_token(&reader, LVT_JSON_STRING, "z");
    assert_false(reader.escaped);
    assert_token(&reader, LVT_JSON_ARRAY_END, "]");
    assert_token(&reader, LVT_JSON_KEY, "b\\n");
    assert_true(reader.escaped);
    assert_token(&reader, LVT_JSON_OBJECT, "{");
    assert_false(reader.escaped);
    assert_token(&reader, LVT_JSON_OBJECT_END, "}");
    assert_token(&reader, LVT_JSON_KEY, "c");
    assert_token(&reader, LVT_JSON_STRING, "}");
    assert_token(&reader, LVT_JSON_OBJECT_END, "}");
    assert_token(&reader, LVT_JSON_END, "");
    assert_token(&reader, LVT_JSON_END, "");

    lvt_json_reader_init(&reader, LVT_LITERAL("\"only\""));
    assert_token(&reader, LVT_JSON_STRING, "only");
    assert_token(&reader, LVT_JSON_END, "");
    lvt_json_reader_init(&reader, lvt_bytes(NULL, 0));
    assert_token(&reader, LVT_JSON_END, "");
}

/* A string whose neighbour is ':' or has one in it is told from a key. */
static void strings_are_not_keys(void **state) {
    (void)state;
    struct lvt_json_reader reader;
    lvt_json_reader_init(&reader, LVT_LITERAL("[\"a\",\":\",\"b:\" , \"c\"]"));
    assert_token(&reader, LVT_JSON_ARRAY, "[");
    assert_token(&reader, LVT_JSON_STRING, "a");
    assert_token(&reader, LVT_JSON_STRING, ":");
    assert_token(&reader, LVT_JSON_STRING, "b:");
    assert_token(&reader, LVT_JSON_STRING, "c");
    assert_token(&reader, LVT_JSON_ARRAY_END, "]");
}

static void backslashes_before_quotes_are_counted(void **state) {
    (void)state;
    struct lvt_json_reader reader;
    struct lvt_bytes text = LVT_LITERAL("[\"\\\\\",\"\\\\\\\"\",\"\\\"\\\"\",\"\\\"\\\\\",\"\"]");
    assert_int_equal(lvt_json_validate(text, 64, NULL), LEVERET_OK);
    lvt_json_reader_init(&reader, text);
    assert_token(&reader, LVT_JSON_ARRAY, "[");
    assert_token(&reader, LVT_JSON_STRING, "\\\\");
    assert_token(&reader, LVT_JSON_STRING, "\\\\\\\"");
    assert_token(&reader, LVT_JSON_STRING, "\\\"\\\"");
    assert_token(&reader, LVT_JSON_STRING, "\\\"\\\\");
    assert_token(&reader, LVT_JSON_STRING, "");
    assert_token(&reader, LVT_JSON_ARRAY_END, "]");
    lvt_json_reader_init(&reader, text);
    assert_true(lvt_bytes_equal(lvt_json_skip(&reader, lvt_json_next(&reader)), text));
}

static void skip_returns_whole_values(void **state) {
    (void)state;
    struct lvt_json_reader reader;
    lvt_json_reader_init(&reader, LVT_LITERAL("[ {\"a\":[1,{\"b\":\"]}\\\"\"}]} ,\"t\\n\", 12 ,"
                                              "[[]],null]"));
    assert_token(&reader, LVT_JSON_ARRAY, "[");
    static const char *const expected[] = {"{\"a\":[1,{\"b\":\"]}\\\"\"}]}", "\"t\\n\"", "12",
                                           "[[]]", "null"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct lvt_bytes whole = lvt_json_skip(&reader, lvt_json_next(&reader));
        assert_true(lvt_bytes_is(whole, expected[i]));
    }
    assert_token(&reader, LVT_JSON_ARRAY_END, "]");
    assert_token(&reader, LVT_JSON_END, "");
}

static void unescape(void **state) {
    (void)state;
    static const struct {
        const char *raw, *plain;
        size_t len;
    } cases[] = {
        {"", "", 0},
        {"plain", "plain", 5},
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t", 8},
        {"\\u0041\\u007f\\u0080\\u07FF", "A\x7F\xC2\x80\xDF\xBF", 6},
        {"\\u0800\\uFFFF", "\xE0\xA0\x80\xEF\xBF\xBF", 6},
        {"\\uD800\\uDC00\\udbff\\udfff", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 8},
        {"a\\u0000b", "a\0b", 3},
        {"\xE2\x82\xAC\\n", "\xE2\x82\xAC\n", 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t raw_len = strlen(cases[i].raw);
        char *out = malloc(raw_len ? raw_len : 1);
        size_t len = lvt_json_unescape(lvt_bytes(cases[i].raw, raw_len), out);
        assert_int_equal(len, cases[i].len);
        assert_memory_equal(out, cases[i].plain, len);
        free(out);
    }
}

static void integers(void **state) {
    (void)state;
    static const struct {
        const char *raw;
        bool ok;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"7", true, 7},
        {"-7", true, -7},
        {"9007199254740993", true, 9007199254740993},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"92233720368547758070", false, 0},
        {"18446744073709551616", false, 0},
        {"-0", false, 0},
        {"1.0", false, 0},
        {"1e2", false, 0},
        {"1E2", false, 0},
        {"-", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t value = 4711;
        assert_int_equal(lvt_json_integer(lvt_bytes_of(cases[i].raw), &value), cases[i].ok);
        assert_true(value == (cases[i].ok ? cases[i].value : 4711));
    }
}

/* ---- writer ---- */

static void assert_string_written(const char *text, size_t len, const char *expected) {
    struct lvt_buffer out;
    lvt_buffer_init(&out, 1 << 16);
    lvt_json_write_string(&out, lvt_bytes(text, len));
    assert_string_equal(out.data, expected);
    assert_true(valid(out.data, out.len));
    lvt_buffer_free(&out);
}

static void writes_strings(void **state) {
    (void)state;
    assert_string_written(NULL, 0, "\"\"");
    assert_string_written("plain", 5, "\"plain\"");
    assert_string_written("a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"");
    assert_string_written("\b\f\n\r\t\x01\x1F\x7F", 8, "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\"");
    assert_string_written("a\0b", 3, "\"a\\u0000b\"");
    assert_string_written("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9,
                          "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    assert_string_written("\xC2\x9B\xE2\x80\xA8\xE2\x80\xA9", 8, "\"\\u009b\\u2028\\u2029\"");
    /* invalid: one U+FFFD a byte */
    assert_string_written("a\xFFz", 3, "\"a\xEF\xBF\xBDz\"");
    assert_string_written("\xED\xA0\x80", 3, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    assert_string_written("x\xE2\x82", 3, "\"x\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

static void strings_survive_a_round_trip(void **state) {
    (void)state;
    for (unsigned code = 0; code < 0x3000; code++) {
        char text[8];
        size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
        if (len == 1) {
            text[0] = (char)code;
        } else if (len == 2) {
            text[0] = (char)(0xC0 | code >> 6);
            text[1] = (char)(0x80 | (code & 0x3F));
        } else {
            text[0] = (char)(0xE0 | code >> 12);
            text[1] = (char)(0x80 | (code >> 6 & 0x3F));
            text[2] = (char)(0x80 | (code & 0x3F));
        }
        struct lvt_buffer out;
        struct lvt_json_reader reader;
        char plain[32];
        lvt_buffer_init(&out, 64);
        lvt_json_write_string(&out, lvt_bytes(text, len));
        assert_true(valid(out.data, out.len));
        lvt_json_reader_init(&reader, lvt_bytes(out.data, out.len));
        assert_int_equal(lvt_json_next(&reader), LVT_JSON_STRING);
        assert_int_equal(lvt_json_unescape(reader.raw, plain), len);
        assert_memory_equal(plain, text, len);
        lvt_buffer_free(&out);
    }
}

static void assert_number_written(double number, const char *expected) {
    struct lvt_buffer out;
    lvt_buffer_init(&out, 64);
    assert_true(lvt_json_write_number(&out, number));
    assert_string_equal(out.data, expected);
    assert_true(valid(out.data, out.len));
    lvt_buffer_free(&out);
}

static void writes_numbers(void **state) {
    (void)state;
    assert_number_written(0, "0.0");
    assert_number_written(-0.0, "-0.0");
    assert_number_written(1, "1.0");
    assert_number_written(-42, "-42.0");
    assert_number_written(0.1, "0.1");
    assert_number_written(0.1 + 0.2, "0.30000000000000004");
    assert_number_written(1.0 / 3, "0.3333333333333333");
    assert_number_written(1e22, "1e+22");
    assert_number_written(123456789012345680.0, "1.2345678901234568e+17");
    assert_number_written(9007199254740993.0, "9007199254740992.0");
    assert_number_written(5e-324, "5e-324");
    assert_number_written(2.2250738585072014e-308, "2.2250738585072014e-308");
    assert_number_written(1.7976931348623157e308, "1.7976931348623157e+308");

    struct lvt_buffer out;
    lvt_buffer_init(&out, 64);
    assert_false(lvt_json_write_number(&out, NAN));
    assert_false(lvt_json_write_number(&out, INFINITY));
    assert_false(lvt_json_write_number(&out, -INFINITY));
    assert_int_equal(out.len, 0);
}

static void numbers_survive_a_round_trip(void **state) {
    (void)state;
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        double number;
        struct lvt_buffer out;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        memcpy(&number, &random, sizeof number);
        if (!isfinite(number)) {
            continue;
        }
        lvt_buffer_init(&out, 64);
        assert_true(lvt_json_write_number(&out, number));
        double back = strtod(out.data, NULL);
        assert_memory_equal(&back, &number, sizeof number);
        assert_true(strpbrk(out.data, ".e") != NULL);
        lvt_buffer_free(&out);
    }
}

static void numbers_do_not_follow_the_locale(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "ps_AF.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (setlocale(LC_NUMERIC, names[i])) {
            assert_number_written(0.5, "0.5");
            assert_number_written(-1.25e-20, "-1.25e-20");
        }
    }
    setlocale(LC_NUMERIC, "C");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammar),
        cmocka_unit_test(numbers),
        cmocka_unit_test(strings),
        cmocka_unit_test(every_byte_at_every_place),
        cmocka_unit_test(utf8),
        cmocka_unit_test(errors_say_what_and_where),
        cmocka_unit_test(depth),
        cmocka_unit_test(truncated_at_each_byte),
        cmocka_unit_test(mutated_samples_never_crash),
        cmocka_unit_test(reader_walks),
        cmocka_unit_test(strings_are_not_keys),
        cmocka_unit_test(backslashes_before_quotes_are_counted),
        cmocka_unit_test(skip_returns_whole_values),
        cmocka_unit_test(unescape),
        cmocka_unit_test(integers),
        cmocka_unit_test(writes_strings),
        cmocka_unit_test(strings_survive_a_round_trip),
        cmocka_unit_test(writes_numbers),
        cmocka_unit_test(numbers_survive_a_round_trip),
        cmocka_unit_test(numbers_do_not_follow_the_locale),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
