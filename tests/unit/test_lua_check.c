/* What `leveret check` finds in a handler's file, and above all what it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/lua/lua_check.h"
#include "runtime/lua/lua_lexer.h"

static char dir[] = "/tmp/leveret-test-XXXXXX";
static char path[64];
static char told[8192];
static struct lvt_config config;

static int set_up(void **state) {
    struct leveret_error err;
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/leveret-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/a.test.lua", dir);
    return lvt_config_init(&config, &err) != LEVERET_OK;
}

static int tear_down(void **state) {
    (void)state;
    lvt_config_free(&config);
    unlink(path);
    return rmdir(dir);
}

/* "3! text\n" for what is certain, "3? text\n" for the rest. */
static void on_finding(void *ctx, const struct lvt_lua_finding *finding) {
    size_t len = strlen(told);
    (void)ctx;
    snprintf(told + len, sizeof told - len, "%u%c %s\n", finding->line,
             finding->certain ? '!' : '?', finding->text);
}

static void check_file(const char *text) {
    struct leveret_error err;
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    told[0] = '\0';
    if (lvt_lua_check(path, &config, on_finding, NULL, &err) != LEVERET_OK)
        fail_msg("%s: %s", text, err.text);
}

/* The body of a handler begins on its second line. */
static void check_body(const char *body) {
    char text[4096];
    snprintf(text, sizeof text, "return { handle = function(event, ctx)\n%s\nend }\n", body);
    check_file(text);
}

static void finds(const char *body, const char *findings) {
    check_body(body);
    if (strcmp(told, findings) != 0)
        fail_msg("%s\nfound:\n%sexpected:\n%s", body, told, findings);
}

static void silent(const char *body) {
    finds(body, "");
}

static void silent_file(const char *text) {
    check_file(text);
    if (told[0])
        fail_msg("%s\nfound:\n%s", text, told);
}

static void finds_in_file(const char *text, const char *finding) {
    check_file(text);
    if (strcmp(told, finding) != 0)
        fail_msg("%s\nfound:\n%sexpected:\n%s", text, told, finding);
}

static void test_what_there_is_passes(void **state) {
    (void)state;
    silent(
        "ctx.log.info('x', { a = event.payload.b.c, d = event.headers.e })\n"
        "ctx.db.query('x') ctx.db.exec 'x' ctx.redis.get('x') ctx.redis.whatever('x')\n"
        "ctx.cache.invalidate('x') ctx.http.request{ url = 'x' } ctx.sleep(1)\n"
        "ctx.json.encode(ctx.json.decode('1')) ctx.json.array() print(ctx.null)\n"
        "print(event.type, event.id, event.time, event.attempt, event.raw, event.queue)\n"
        "print(event.exchange, event.routing_key, event.priority)\n"
        "ctx.retry('x', { after_ms = 1 }) ctx.reject() ctx.drop() ctx.snooze(1)");
    silent(
        "print(os.time(), os.date(), math.floor(1), ('x'):rep(3), string.format('x'))\n"
        "print(table.concat({}), utf8.char(1), coroutine.wrap(print), pcall(error), #_VERSION)");
}

static void test_unknown_functions_of_ctx(void **state) {
    (void)state;
    finds("ctx.cahce.invalidate('x')", "2! ctx has no `cahce`; did you mean `cache`?\n");
    finds("ctx.log.inof('x')", "2! ctx.log has no `inof`; did you mean `info`?\n");
    finds("ctx.info('x')", "2! ctx has no `info`; did you mean `log.info`?\n");
    finds("ctx.db.qurey 'x'", "2! ctx.db has no `qurey`; did you mean `query`?\n");
    finds("ctx.http.zzzzzzz{}", "2! ctx.http has no `zzzzzzz`\n");
    finds("\n\nctx\n.\njson\n.\nencod('x')",
          "4! ctx.json has no `encod`; did you mean `encode`?\n");
    finds("local f = ctx.rtry", "2? ctx has no `rtry`; did you mean `retry`?\n");
}

static void test_unknown_fields_of_the_event(void **state) {
    (void)state;
    finds("print(event.paylod.id)", "2! event has no `paylod`; did you mean `payload`?\n");
    finds("print(event.ticketId)",
          "2? event has no `ticketId`; what was published is in its `payload`\n");
    silent("print(event.payload.paylod, event.headers.whatever.more)");
}

static void test_colons(void **state) {
    (void)state;
    finds("ctx:retry('x')",
          "2! ctx.retry is called with a colon, which makes itself the first "
          "argument: it wants a dot\n");
    finds("ctx.redis:get('x')",
          "2! ctx.redis.get is called with a colon, which makes itself the "
          "first argument: it wants a dot\n");
    silent("local s = event.type:upper() print(event.payload.x:lower(), ctx.null)");
}

static void test_text_that_is_no_code(void **state) {
    (void)state;
    silent(
        "-- ctx.nope()\n--[[ ctx.nope() ]] --[==[ ]] ctx.nope() ]==]\n"
        "--[ ctx.nope()\n--[=nothing ctx.nope()");
    silent(
        "local a = 'ctx.nope()' .. \"ctx.nope()\\\" ctx.nope()\" .. '\\\\' .. [[\nctx.nope()]]\n"
        "local b = [=[ ]] ctx.nope() ]=] .. 'a\\\nctx.nope()' .. 'x\\z\n  ctx.nope()'\n"
        "print(a, b, 0x1p-4, 1e+3, .5, 3 .. 4, 0xA.8p0)");
    finds("local a = '\\\\' ctx.nope() --'", "2! ctx has no `nope`\n");
    finds("--[[\n\n]] local a = [[\n]] ctx.nope()", "5! ctx has no `nope`\n");
}

static void test_names_that_are_others(void **state) {
    (void)state;
    silent("local function f(ctx) ctx.nope() end f()");
    silent("local f = function(a, ctx, ...) ctx.nope() end f()");
    silent("do local ctx = {} ctx.nope() end");
    silent("local event <const>, ctx <const> = {}, {} ctx.nope() event.nope()");
    silent("for ctx = 1, 2 do ctx.nope() end for event, ctx in pairs({}) do ctx.nope() end");
    silent("local t = {} function t:ctx() self.nope() end function t.f(ctx) ctx.nope() end");
    silent("local function ctx() end ctx.nope()");
    silent("repeat local ctx = {} until ctx.nope()");
    silent(
        "print(event.payload.ctx.nope, ({}).ctx.nope) local t = { ctx = 1, event = { ctx = 2 } }");
    silent("goto ctx ::ctx:: print(1)");
    finds("do local ctx = {} end ctx.nope()", "2! ctx has no `nope`\n");
    finds("local function f(ctx) end ctx.nope()", "2! ctx has no `nope`\n");
    finds("for ctx = 1, 2 do end ctx.nope()", "2! ctx has no `nope`\n");
    finds("while true do if ctx then local ctx = 1 elseif event then ctx.nope() else end break end",
          "2! ctx has no `nope`\n");
    finds("local t = { f = function() ctx.nope() end, [ctx.nope()] = 1 }",
          "2! ctx has no `nope`\n2! ctx has no `nope`\n");
    finds("pcall(function() for _ = 1, 2 do ctx.nope() end end)", "2! ctx has no `nope`\n");
}

static void test_what_may_be_meant(void **state) {
    (void)state;
    silent("ctx.mine = function() end ctx.mine()");
    silent("function ctx.mine() end ctx.mine()");
    silent("event.mine = {} print(event.mine.x)");
    silent("ctx = { nope = print } ctx.nope()");
    silent("for k, v in pairs({}) do ctx[k] = v end ctx.nope()");
    silent("local name = 'x' ctx[name]() ctx['log'].info('x')");
    finds("if ctx.novel then ctx.novel() end", "2? ctx has no `novel`\n");
    silent("local function helper(c, e) c.nope() e.nope() end helper(ctx, event)");
}

static void test_which_function_handles(void **state) {
    static const char found[] = "1! c has no `nope`\n";
    (void)state;
    finds_in_file("return function(e, c) c.nope() end", found);
    finds_in_file("local function h(e, c) c.nope() end return h", found);
    finds_in_file("local M = {} function M.handle(e, c) c.nope() end return M", found);
    finds_in_file("local M = {} M.handle = function(e, c) c.nope() end return M", found);
    finds_in_file("local function h(e, c) c.nope() end return { handle = h }", found);
    finds_in_file("local function w(f) return f end return w(function(e, c) c.nope() end)", found);
    finds_in_file("return function(e) e.ticketId() end",
                  "1! e has no `ticketId`; what was published is in its `payload`\n");
    silent_file("return function() end");
    silent_file("return function(...) local e, c = ... c.nope() end");
    silent_file("return { handle = print }");
    silent_file("local x = { handle = function(e, c) c.nope() end }\nreturn function(e, c) end");
    /* two that could be it */
    silent_file("local a = function(e, c) c.nope() end return function(e, c) c.nope() end");
}

static void test_globals(void **state) {
    (void)state;
    finds("os.getenv('x')", "2! os has no `getenv` in a handler\n");
    finds("io.open('x')", "2! there is no `io` in a handler\n");
    finds("local x = require 'x'", "2! there is no `require` in a handler\n");
    finds("tsotring(1)", "2! there is no `tsotring` in a handler; did you mean `tostring`?\n");
    finds("local x = evnt", "2? there is no `evnt` in a handler\n");
    finds("string.trim('x')", "2! string has no `trim` in a handler\n");
    silent("count = 1 count = count + 1");
    silent("local function f() later() end function later() end f()");
    silent("a, b = 1, 2 print(a, b)");
    finds("if io then io.open('x') end", "2? there is no `io` in a handler\n");
    silent("function string.trim(s) return s end print(string.trim('x'))");
    silent("print(_G.whatever) nothing()");
    silent("local _ENV = { f = print } f()");
    silent_file(
        "Config = { a = 1 } local f = function() return Config.a, Config.b end\n"
        "return function() f() print(Config.c.d) end");
}

static void test_what_cannot_be_checked(void **state) {
    struct leveret_error err;
    (void)state;
    check_file("return function() end");
    assert_int_equal(lvt_lua_check("/nonexistent.lua", &config, on_finding, NULL, &err),
                     LEVERET_CONFIG);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("return 1 +", file);
    fclose(file);
    assert_int_equal(lvt_lua_check(path, &config, on_finding, NULL, &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "a.test.lua:1:"));
}

static void test_more_names_than_it_follows(void **state) {
    char text[65536] = "return function(event, ctx)\n";
    (void)state;
    for (int i = 0; i < 15; i++) {
        size_t len = strlen(text);
        len += (size_t)snprintf(text + len, sizeof text - len, "do\n");
        for (int j = 0; j < 190; j++)
            len += (size_t)snprintf(text + len, sizeof text - len, "local v%d\n", j);
        snprintf(text + len, sizeof text - len, "local function f() ");
    }
    for (int i = 0; i < 15; i++)
        strcat(text, " end end ");
    strcat(text, "ctx.nope()\nend");
    silent_file(text);
}

static void test_tokens(void **state) {
    static const char *const expected[] = {"a",           "..", "b",      "...",  "::",  "x",
                                           "::",          "==", "~=",     "<",    "1.5", "[",
                                           "[=[x]]\n]=]", "]",  "0x1p-2", "'\\''"};
    struct lvt_lua_lexer lexer;
    struct lvt_lua_token token = {0};
    (void)state;
    lvt_lua_lexer_init(&lexer,
                       LVT_LITERAL("a..b ...::x:: -- c\n==~= <1.5[ [=[x]]\n]=]]0x1p-2'\\''"));
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        token = lvt_lua_lexer_next(&lexer);
        if (!lvt_bytes_is(token.text, expected[i]))
            fail_msg("token %zu is %.*s, not %s", i, (int)token.text.len, token.text.data,
                     expected[i]);
    }
    assert_int_equal(token.line, 3);
    assert_int_equal(lvt_lua_lexer_next(&lexer).kind, LVT_LUA_END);
    /* what Lua would not compile ends, too */
    lvt_lua_lexer_init(&lexer, LVT_LITERAL("'x\\"));
    assert_int_equal(lvt_lua_lexer_next(&lexer).kind, LVT_LUA_STRING);
    assert_int_equal(lvt_lua_lexer_next(&lexer).kind, LVT_LUA_END);
    lvt_lua_lexer_init(&lexer, LVT_LITERAL("--[==[ x ]=]"));
    assert_int_equal(lvt_lua_lexer_next(&lexer).kind, LVT_LUA_END);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_what_there_is_passes),
        TEST(test_unknown_functions_of_ctx),
        TEST(test_unknown_fields_of_the_event),
        TEST(test_colons),
        TEST(test_text_that_is_no_code),
        TEST(test_names_that_are_others),
        TEST(test_what_may_be_meant),
        TEST(test_which_function_handles),
        TEST(test_globals),
        TEST(test_what_cannot_be_checked),
        TEST(test_more_names_than_it_follows),
        TEST(test_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
