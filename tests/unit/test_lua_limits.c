/* The limits on Lua handlers: processor time, memory, recursion, what no hook can stop. */
#include <lualib.h>
#include <string.h>
#include <time.h>

#include "lua_fixture.h"
#include "runtime/lua/lua_state.h"

#define SPENT "more than budget_ms = 50 of processor time between two waits"

static double used_ms(void) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (double)used.tv_sec * 1e3 + (double)used.tv_nsec / 1e6;
}

/* A run of this body is stopped in time, goes no further, and leaves a state that is as new. */
static void stopped(const char *body, const char *reason) {
    char text[4096];
    snprintf(text, sizeof text,
             "assert(not dirty) if event.payload.id == 0 then ctx.log.info('as new') return end\n"
             "dirty = true\n%s\nprint('went on')",
             body);
    log_text[0] = '\0';
    load_body(text);
    struct fake *fake = begin();
    if (fake->finished != 1)
        fail_msg("not stopped: %s", body);
    if (strstr(log_text, "went on"))
        fail_msg("went on: %s", body);
    ended(fake, LVT_VERDICT_RETRY, reason);
    fake = begin_with("{\"id\":0}");
    start(fake);
    ended(fake, LVT_VERDICT_DONE, "");
    logged("as new");
}

/* ---- processor time ---- */

static void endless_handlers_are_stopped(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error) end",
        "while true do xpcall(error, function() while true do end end) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "local function deep() pcall(deep) while true do end end deep()",
        "while true do coroutine.wrap(function() end)() end",
        "table.sort({3, 2, 1}, function() while true do end end)",
        "while true do pcall(table.sort, {3, 2, 1}, function() while true do end end) end",
        "while true do pcall(string.gsub, 'x', 'x', function() while true do end end) end",
        "('x'):gsub('x', function() coroutine.wrap(function() while true do end end)() end)",
        "setmetatable({}, { __index = function() while true do end end }).x()",
        "for _ in pairs(setmetatable({}, { __pairs = function() while true do end end })) do end",
        "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
        "for _ in function() return 1 end do end",
        "goto again ::again:: goto again",
        "local s = '' while true do s = #s < 1000 and s .. 'x' or '' end",
    };
    config.budget_ms = 50;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        double begun_ms = used_ms();
        stopped(bodies[i], SPENT);
        if (used_ms() - begun_ms > 50 + 100)
            fail_msg("%.0f ms: %s", used_ms() - begun_ms, bodies[i]);
    }
}

static void closing_functions_are_stopped(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "local x <close> = trap(function() while true do end end)",
        "pcall(function() local x <close> = trap(function() while true do end end) error() end)",
        "local co = coroutine.create(function()\n"
        "  local x <close> = trap(function() while true do end end) coroutine.yield() end)\n"
        "coroutine.resume(co) while true do coroutine.close(co) end",
        "coroutine.wrap(function() local x <close> = trap(function() while true do end end)\n"
        "  error() end)()",
        "for _ in function() return 1 end, nil, nil, trap(function() while true do end end) do\n"
        "  break end",
    };
    config.budget_ms = 50;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char body[1024];
        snprintf(body, sizeof body,
                 "local function trap(f) local mt = {} local t = setmetatable({}, mt)\n"
                 "  mt.__close = f return t end\ndo %s end",
                 bodies[i]);
        stopped(body, SPENT);
    }
    config.budget_ms = 10000;
    runs(
        "local mt = {} for i = 1, 100 do setmetatable({}, mt) end\n"
        "mt.__gc = function() while true do end end\n"
        "for i = 1, 100000 do local t = {} end\n"
        "assert(not pcall(setmetatable, {}, mt))\n"
        "local co = coroutine.create(function() coroutine.yield() end) coroutine.resume(co)\n"
        "assert(coroutine.close(co) and coroutine.status(co) == 'dead')\n"
        "assert(not pcall(coroutine.close, coroutine.running()))");
}

static void c_functions_are_stopped(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "string.find(('a'):rep(300), ('a*'):rep(20) .. 'b')",
        "while true do pcall(string.match, ('a'):rep(300), ('a-'):rep(150) .. 'b') end",
        "for _ in ('a'):rep(300):gmatch(('a?'):rep(90) .. ('a'):rep(90) .. 'b') do end",
        "string.gsub(('a'):rep(300), '(.-)(.-)(.-)(.-)(.-)(.-)(.-)b', '')",
        "string.find(('('):rep(100000), '%b()')",
        "string.find(('x'):rep(200000), '.-y')",
        "table.move({}, 1, 1 << 60, 2)",
        "table.insert(setmetatable({}, { __len = function() return 1 << 60 end }), 1, 'x')",
        "table.remove(setmetatable({}, { __len = function() return 1 << 60 end }), 1)",
        "table.concat(setmetatable({}, { __len = function() return 1 << 60 end,\n"
        "  __index = getmetatable, __metatable = '' }))",
        "local t = {} for i = 1, 20000 do t[i] = 0 end\n"
        "while true do for i = 1, #t do t[i] = i * 7919 % 20011 end table.sort(t) end",
        "local t = {} for i = 1, 40 do t = { t, t } end ctx.json.encode(t)",
        "local t = {} for i = 1, 40 do t = { t, t } end ctx.log.info('x', t)",
    };
    config.budget_ms = 50;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        stopped(bodies[i], SPENT);
    config.budget_ms = 10000;
    runs(
        "assert(('').rep('', 1 << 60) == '' and ('ab'):rep(2, '-') == 'ab-ab')\n"
        "assert(('x'):rep(0) == '' and ('x'):rep(-1) == '' and (''):rep(3, ',') == ',,')\n"
        "assert(not pcall(string.rep, 'xx', 1 << 62))\n"
        "assert(string.find(('a'):rep(1 << 20), ('a'):rep(1 << 19) .. 'b', 1, true) == nil)\n"
        "assert(not pcall(os.date, ('%c'):rep(1 << 20)) and os.date('%Y'))\n");
}

static void a_breach_says_where(void **state) {
    (void)state;
    config.budget_ms = 50;
    load_body("local function spin()\n  while true do end\nend\nspin()");
    struct fake *fake = begin();
    assert_non_null(strstr(fake->trace, "a.test.lua:3:"));
    assert_non_null(strstr(fake->trace, "spin"));
    assert_int_equal(fake->verdict.after_ms, -1);
    ended(fake, LVT_VERDICT_RETRY, SPENT);
}

static void an_error_is_soon_described(void **state) {
    (void)state;
    config.budget_ms = 50;
    load_body("error(setmetatable({}, { __tostring = function() while true do end end }))");
    double begun_ms = used_ms();
    ended(begin(), LVT_VERDICT_RETRY, "an error that cannot be shown");
    assert_true(used_ms() - begun_ms < 50 + 100);
}

static void waiting_begins_a_new_budget(void **state) {
    (void)state;
    load_file(
        "return { budget_ms = 200, handle = function(event, ctx)\n"
        "  for i = 1, 5 do\n"
        "    local from = os.clock()\n"
        "    while os.clock() - from < 0.05 do end\n"
        "    ctx.sleep(1)\n"
        "  end end }");
    struct fake *fake = begin();
    for (int i = 0; i < 5; i++) {
        assert_true(fake->turns > 0);
        wake(fake);
    }
    ended(fake, LVT_VERDICT_DONE, "");
}

/* ---- interruption ---- */

static void long_runs_let_others_have_their_turn(void **state) {
    (void)state;
    config.budget_ms = 10000;
    load_body(
        "if event.payload.id == 8 then ctx.log.info('quick') return end\n"
        "local sum = 0\n"
        "local co = coroutine.wrap(function(n) while true do\n"
        "  for i = 1, n do sum = sum + i % 7 end coroutine.yield(sum) end end)\n"
        "for i = 1, 300 do pcall(co, 10000) end\n"
        "local same = 0 for i = 1, 10000 do same = same + i % 7 end\n"
        "assert(sum == 300 * same, sum)");
    struct fake *fake = begin_with("{\"id\":7}");
    fake->hold_turns = true;
    start(fake);
    assert_int_equal(fake->asked, ASKED_TURN);
    double longest_ms = 0;
    while (!fake->finished) {
        double begun_ms = used_ms();
        turn(fake);
        if (used_ms() - begun_ms > longest_ms)
            longest_ms = used_ms() - begun_ms;
    }
    assert_true(fake->turns > 3);
    assert_true(longest_ms < 50);
    ended(fake, LVT_VERDICT_DONE, "");
}

static void interrupted_runs_can_be_aborted(void **state) {
    (void)state;
    load_body("if event.payload.id == 7 then while true do end end");
    struct fake *fake = begin_with("{\"id\":7}");
    fake->hold_turns = true;
    start(fake);
    assert_int_equal(fake->asked, ASKED_TURN);
    handler->runtime->abort(handler->runtime_self, &fake->run);
    assert_int_equal(fake->finished, 0);
    end(fake);
    fake = begin_with("{\"id\":8}");
    start(fake);
    ended(fake, LVT_VERDICT_DONE, "");
}

/* ---- memory and recursion ---- */

static void memory_hogs_are_stopped(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "local t = {} while true do t[#t + 1] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "while true do pcall(string.rep, 'x', 1e9) end",
        "pcall(function() local t = {} while true do t[#t + 1] = {} end end)",
        "coroutine.wrap(function() pcall(function() return ('x'):rep(1e12) end) end)()",
        "coroutine.resume(coroutine.create(function() local s = ('x'):rep(1e10) end))",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
        "table.concat(setmetatable({}, { __index = type }), ',', 1, 1e18)",
        "('x'):rep(1e6):gsub('x', ('y'):rep(1000))",
    };
    config.memory_kb = 2048;
    config.budget_ms = 10000;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        stopped(bodies[i], "memory_kb is 2048");
}

static void garbage_is_no_breach(void **state) {
    (void)state;
    config.memory_kb = 1024;
    config.budget_ms = 10000;
    load_body(
        "for i = 1, 20 do local s = ('x'):rep(300 * 1024) .. i pcall(print, #s) end\n"
        "pcall(error)");
    ended(begin(), LVT_VERDICT_DONE, "");
    ended(begin(), LVT_VERDICT_DONE, "");
}

static void recursion_ends(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "local function f() return f() + 1 end f()",
        "local function f() return pcall(f) end assert(f() == false)",
        "local function f() ('x'):gsub('x', f) end f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(_, k) return t[k] end\n"
        "return t.x",
        "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
        "local function f() coroutine.wrap(f)() end f()",
        "local t = {} t.t = t ctx.json.encode(t)",
        "string.find('x', ('('):rep(100))",
        "string.find('x', ('x?'):rep(1000))",
    };
    config.budget_ms = 10000;
    config.memory_kb = 262144;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        load_body(bodies[i]);
        struct fake *fake = begin();
        assert_int_equal(fake->finished, 1);
        end(fake);
    }
}

/* ---- neighbours ---- */

static void a_breach_costs_its_neighbours_nothing(void **state) {
    (void)state;
    static const char *const breaches[] = {"while true do end",
                                           "local t = {} while true do t[#t + 1] = {} end"};
    static const char *const failures[] = {"error('half done')", "while true do end",
                                           "local t = {} while true do t[#t + 1] = {} end",
                                           "pcall(string.rep, 'x', 1e9)"};
    config.memory_kb = 2048;
    config.budget_ms = 50;
    for (size_t i = 0; i < 8; i++) {
        char body[1024];
        snprintf(body, sizeof body,
                 "if event.payload.id == 1 then ctx.sleep(1) %s\n"
                 "elseif event.payload.id == 2 then ctx.sleep(2) ctx.log.info('finished')\n"
                 "else %s end",
                 failures[i / 2], breaches[i % 2]);
        log_text[0] = '\0';
        load_body(body);
        struct fake *failing = begin_with("{\"id\":1}"), *fine = begin_with("{\"id\":2}");
        start(failing);
        start(fine);
        struct fake *culprit = begin_with("{\"id\":3}");
        start(culprit);
        ended(culprit, LVT_VERDICT_RETRY, "");
        wake(failing);
        ended(failing, LVT_VERDICT_OUTAGE, "");
        wake(fine);
        ended(fine, LVT_VERDICT_DONE, "");
        logged("finished");
        /* in a state of its own it fails for itself */
        failing = begin_with("{\"id\":1}");
        start(failing);
        wake(failing);
        ended(failing, LVT_VERDICT_RETRY, "");
    }
}

/* ---- loading ---- */

static void evaluating_a_file_has_an_end(void **state) {
    (void)state;
    static const char *const texts[] = {
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "coroutine.wrap(function() while true do end end)()",
        "string.find(('a'):rep(300), ('a*'):rep(20) .. 'b')",
        "while true do pcall(string.find, ('a'):rep(300), ('a*'):rep(20) .. 'b') end",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct leveret_error err = {0};
        assert_int_equal(load_text(texts[i], &err), LEVERET_CONFIG);
        if (i < 5 && !strstr(err.text, ":1: evaluating the file does not come to an end"))
            fail_msg("%s: %s", texts[i], err.text);
    }
}

/* ---- patterns are Lua's ---- */

/* Keeps Lua's own functions as the global `stock`, and opens the sandbox beside them. */
static int open_both(lua_State *L) {
    static const char *const names[] = {"find",   "match",  "gmatch", "gsub", "rep",
                                        "insert", "remove", "move",   "sort", "concat"};
    luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 1);
    luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 1);
    lua_newtable(L);
    for (int i = 0; i < 10; i++) {
        lua_getfield(L, i < 5 ? 1 : 2, names[i]);
        lua_setfield(L, -2, names[i]);
    }
    lua_setglobal(L, "stock");
    return lvt_lua_open_sandbox(L);
}

/* Random texts and patterns, to our functions and to Lua's own. */
static const char comparison[] =
    "local function pick(list) return list[math.random(#list)] end\n"
    "local items = {'a', 'b', '.', '%a', '%A', '%d', '%s', '%w', '%W', '%x', '%p', '%u', "
    "'%l',\n"
    "  '%g', '%c', '%z', '%.', '%%', '[ab]', '[^a]', '[a-c]', '[%a]', '[]a]', '[^]]', '[a-]',\n"
    "  '[%]]', '[a%', '[', '%b()', '%b', '%bab', '%f[%a]', '%f[^%a]', '%f', '%1', '%2', '%0',\n"
    "  '(', ')', '(a', '(.)', '()', '(a*)', '(.-)', '^', '$', '%', '\\0', '\\xff', '-', ']',\n"
    "  '[%w_]', '[+-]', '[a-%z]', '[\\0-\\x1f]', '(%w+)', '%s*'}\n"
    "local suffixes = {'', '', '', '*', '+', '-', '?'}\n"
    "local texts = {'a', 'b', 'c', 'ab', '(', ')', ' ', '1', '_', '-', '\\0', '\\xff', 'A', "
    "']',\n"
    "  '%', '^', '$', 'x'}\n"
    "local replacements = {'', 'x', '%0', '%1', '%2', '%%', '<%0>', '%1%1', '%', '%x', 7,\n"
    "  { a = 1, b = 'B', ab = false, [1] = 'one' }, {}, true,\n"
    "  function(...) return select('#', ...) end, function() end,\n"
    "  function(a) return a end, function() return {} end, function() error('no') end}\n"
    "local function some(list, most)\n"
    "  local t = {} for i = 1, math.random(0, most) do t[i] = pick(list) end\n"
    "  return table.concat(t) end\n"
    "local function pattern()\n"
    "  local t = {} if math.random(5) == 1 then t[1] = '^' end\n"
    "  for i = 1, math.random(0, 4) do t[#t + 1] = pick(items) .. pick(suffixes) end\n"
    "  if math.random(5) == 1 then t[#t + 1] = '$' end\n"
    "  return table.concat(t) end\n"
    "local function all(iterate, ...)\n"
    "  local found = {} for a, b, c in iterate(...) do found[#found + 1] =\n"
    "    tostring(a) .. '|' .. tostring(b) .. '|' .. tostring(c) end\n"
    "  return table.concat(found, ';') end\n"
    "local same = 0\n"
    "local function compare(name, own, its, ...)\n"
    "  local a, b = table.pack(pcall(own, ...)), table.pack(pcall(its, ...))\n"
    "  local equal = a[1] == b[1] and a.n == b.n\n"
    "  for i = 2, a[1] and equal and a.n or 0 do equal = equal and a[i] == b[i] end\n"
    "  if a[1] then same = same + 1 end\n"
    "  if not equal then\n"
    "    local t = {} for i, v in ipairs{...} do t[i] = string.format('%q', tostring(v)) end\n"
    "    error(name .. '(' .. table.concat(t, ', ') .. '): ' .. tostring(a[2]) .. ' not '\n"
    "      .. tostring(b[2])) end end\n"
    "for round = 1, 30000 do\n"
    "  local s, p, i = some(texts, 9), pattern(), math.random(-11, 11)\n"
    "  compare('find', string.find, stock.find, s, p, i)\n"
    "  compare('find', string.find, stock.find, s, some(texts, 2), i, math.random(2) == 1)\n"
    "  compare('match', string.match, stock.match, s, p, i)\n"
    "  compare('gmatch', function(...) return all(string.gmatch, ...) end,\n"
    "    function(...) return all(stock.gmatch, ...) end, s, p, i)\n"
    "  local r, n = pick(replacements), pick{false, 0, 1, 2, -1}\n"
    "  if n then compare('gsub', string.gsub, stock.gsub, s, p, r, n)\n"
    "  else compare('gsub', string.gsub, stock.gsub, s, p, r) end\n"
    "  if round % 10 == 0 then\n"
    "  compare('rep', string.rep, stock.rep, s, i, some(texts, 2))\n"
    "  local function edited(functions) return function(f, ...)\n"
    "    local t = {} for k = 1, #s do t[k] = s:byte(k) end\n"
    "    local a, b = functions[f](t, ...)\n"
    "    return table.concat(t, ','), a ~= t and a or nil, b end end\n"
    "  local mine, its = edited(table), edited(stock)\n"
    "  compare('edit', mine, its, 'insert', i) compare('edit', mine, its, 'insert', i, 5)\n"
    "  compare('edit', mine, its, 'insert') compare('edit', mine, its, 'insert', 1, 2, 3)\n"
    "  compare('edit', mine, its, 'remove') compare('edit', mine, its, 'remove', i)\n"
    "  compare('edit', mine, its, 'concat') compare('edit', mine, its, 'concat', some(texts, "
    "2),\n"
    "    i, math.random(-3, 11)) compare('edit', mine, its, 'concat', {})\n"
    "  compare('edit', mine, its, 'sort')\n"
    "  compare('edit', mine, its, 'sort', function(x, y) return x > y end)\n"
    "  compare('edit', mine, its, 'move', i, math.random(-3, 11), math.random(-3, 11)) end\n"
    "end\n"
    "assert(same > 40000, same)\n"
    "for _, depth in ipairs{150, 197, 198, 199, 200, 201, 205} do\n"
    "  local p = ('x?'):rep(depth)\n"
    "  compare('deep', string.find, stock.find, ('x'):rep(depth), p) end\n"
    "compare('captures', string.find, stock.find, 'x', ('()'):rep(32))\n"
    "compare('captures', string.find, stock.find, 'x', ('()'):rep(33))\n";

static void functions_do_what_luas_own_do(void **state) {
    (void)state;
    struct leveret_error err;
    struct lvt_lua *lua = lvt_lua_new((size_t)64 << 20, &test_log);
    assert_non_null(lua);
    assert_int_equal(lvt_lua_open(lua, open_both, &err), LEVERET_OK);
    if (luaL_loadstring(lua->state, comparison) != LUA_OK ||
        lua_pcall(lua->state, 0, 0, 0) != LUA_OK)
        fail_msg("%s", lua_tostring(lua->state, -1));
    lvt_lua_free(lua);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(endless_handlers_are_stopped),
        TEST(closing_functions_are_stopped),
        TEST(c_functions_are_stopped),
        TEST(a_breach_says_where),
        TEST(an_error_is_soon_described),
        TEST(waiting_begins_a_new_budget),
        TEST(long_runs_let_others_have_their_turn),
        TEST(interrupted_runs_can_be_aborted),
        TEST(memory_hogs_are_stopped),
        TEST(garbage_is_no_breach),
        TEST(recursion_ends),
        TEST(a_breach_costs_its_neighbours_nothing),
        TEST(evaluating_a_file_has_an_end),
        TEST(functions_do_what_luas_own_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
