/* Lua handlers: loading, the sandbox, events, verdicts, waiting, memory. */
#include "lua_fixture.h"

/* ---- loading ---- */

static void loads_function_and_table(void **state) {
    (void)state;
    load_file("return function() end");
    assert_string_equal(handler->name, "a.test");
    assert_string_equal(handler->path, path);
    assert_int_equal(strlen(handler->version), 12);
    assert_int_equal(handler->options.retry.max, config.retry.max);
    char version[13];
    memcpy(version, handler->version, sizeof version);
    load_file(
        "return {\n  retry = { max = 9, base_ms = 5 }, events = { 'a.*' }, bind = false,\n"
        "  queue = 'q', concurrency = 3, rate = 1.5, memory_kb = 1024,\n"
        "  handle = function() end,\n}");
    assert_string_not_equal(handler->version, version);
    assert_int_equal(handler->options.retry.max, 9);
    assert_int_equal(handler->options.retry.base_ms, 5);
    assert_int_equal(handler->options.retry.cap_ms, config.retry.cap_ms);
    assert_string_equal(handler->options.events.items[0], "a.*");
    assert_true(handler->options.bind_none);
    assert_string_equal(handler->options.queue, "q");
    assert_int_equal(handler->options.concurrency, 3);
    ended(begin(), LVT_VERDICT_DONE, "");
}

static void load_errors_name_the_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"return {", ":1: "},
        {"return {\n handle = function() end,\n retyr = {} }", ":3: unknown key \"retyr\""},
        {"return { handle = print,\n retry = {\n  maxx = 3 } }", ":3: unknown key \"retry.maxx\""},
        {"return { handle = print, concurrency = 'x' }", ":1: concurrency"},
        {"return { handle = 3 }", ": the table that it returns has no function `handle`"},
        {"return {}", ": the table that it returns has no function `handle`"},
        {"return 3", ": it must return a function, or a table"},
        {"", ": it must return a function, or a table"},
        {"error('at load')", ":1: at load"},
        {"\n while true do end", ":2: evaluating the file does not come to an end"},
        {"local s = ('x'):rep(1e9)", ": evaluating the file takes over"},
        {"ctx.sleep(1)", ":1: attempt to index a nil value (global 'ctx')"},
        {"coroutine.yield()", ": attempt to yield from outside a coroutine"},
        {"\x1bLuaT", ": "},
        {"s = ('x'):rep(400 * 1024)\nreturn { handle = print,\nmemory_kb = 300 }",
         ":3: memory_kb is 300, but "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct leveret_error err = {0};
        char expected[256];
        assert_int_equal(load_text(cases[i].text, &err), LEVERET_CONFIG);
        snprintf(expected, sizeof expected, "%s%s", path, cases[i].error);
        if (strncmp(err.text, expected, strlen(expected)) != 0)
            fail_msg("got \"%s\", expected \"%s\"", err.text, expected);
    }
}

static void sandbox_is_closed(void **state) {
    (void)state;
    runs(
        "for _, name in ipairs{'load', 'loadstring', 'loadfile', 'dofile', 'require', 'package',\n"
        "  'debug', 'io', 'collectgarbage', 'warn'} do assert(_G[name] == nil, name) end\n"
        "assert(string.dump == nil and ('x').dump == nil)\n"
        "local n = 0 for k in pairs(os) do n = n + 1 end\n"
        "assert(n == 3 and os.time() > 0 and os.date() and os.clock())\n"
        "assert(getmetatable('') == false and not pcall(setmetatable, '', {}))\n"
        "for _, name in ipairs{'__gc', '__close'} do\n"
        "  assert(not pcall(setmetatable, {}, {[name] = true}))\n"
        "end\n"
        "assert(setmetatable({}, {__index = {a = 1}}).a == 1)\n"
        "assert(setmetatable({}, nil))\n"
        "local p = setmetatable({}, {__metatable = 'mine'})\n"
        "assert(getmetatable(p) == 'mine' and not pcall(setmetatable, p, {}))\n"
        "for _, v in ipairs{event, ctx.null, ctx.redis, event.payload.list,\n"
        "                   ctx.json.decode('1e999')} do\n"
        "  assert(getmetatable(v) == false) end\n"
        "assert(not pcall(function() local x <close> = {} end))\n"
        "assert(math.random(1, 1000000) and utf8.char(228) == '\\xc3\\xa4')\n"
        "assert(('x'):rep(3, ',') == 'x,x,x' and table.concat({1, 2}) == '12')\n"
        "cached = (cached or 0) + 1 assert(cached == 1)\n");
    ended(begin(), LVT_VERDICT_RETRY, "assertion failed"); /* globals last */
}

static void print_is_a_log_line(void **state) {
    (void)state;
    load_file("print('loading', 1) return function() print('running', nil, {} ~= nil) end");
    ended(begin(), LVT_VERDICT_DONE, "");
    logged("1 loading\t1\n");
    logged("1 running\tnil\ttrue\n");
}

/* ---- verdicts ---- */

static void returning_is_done(void **state) {
    (void)state;
    runs("return 1, 2, 3");
    runs("");
}

static void errors_are_retries(void **state) {
    (void)state;
    load_body("local function f() error('boom') end f() return 1");
    struct fake *fake = begin();
    assert_non_null(strstr(fake->reason, "a.test.lua:2: boom"));
    assert_non_null(strstr(fake->trace, "stack traceback"));
    assert_non_null(strstr(fake->trace, "a.test.lua:2:"));
    assert_int_equal(fake->verdict.after_ms, -1);
    ended(fake, LVT_VERDICT_RETRY, "boom");
    fails("error({ code = 5 })", "{\"code\":5}");
    fails("error(setmetatable({}, { __tostring = function() return 'own text' end }))", "own text");
    fails("error({ print })", "table: 0x");
    fails("error()", "nil");
    fails("error(ctx.null)", "null");
    fails("error(('y'):rep(5000))", "yyy");
    config.memory_kb = 131072; /* room for the highest stack */
    config.budget_ms = 60000;
    fails("local function f() return f() + 1 end f()", "stack overflow");
    fails("error(setmetatable({}, { __tostring = function() ctx.sleep(1) end }))",
          "cannot be shown");
}

static void verdicts_end_at_once(void **state) {
    (void)state;
    load_body("pcall(function() ctx.retry('later', { after_ms = 1500 }) end) print('still here')");
    struct fake *fake = begin();
    assert_int_equal(fake->verdict.after_ms, 1500);
    ended(fake, LVT_VERDICT_RETRY, "later");
    load_body("ctx.retry() print('still here')");
    fake = begin();
    assert_int_equal(fake->verdict.after_ms, -1);
    ended(fake, LVT_VERDICT_RETRY, "");
    load_body("xpcall(ctx.reject, print, 'no good') print('still here')");
    ended(begin(), LVT_VERDICT_REJECT, "no good");
    load_body(
        "coroutine.wrap(function() pcall(coroutine.wrap(function() ctx.drop('old') end)) end)()"
        " print('still here')");
    ended(begin(), LVT_VERDICT_DROP, "old");
    load_body("ctx.snooze(60000) print('still here')");
    fake = begin();
    assert_int_equal(fake->verdict.after_ms, 60000);
    ended(fake, LVT_VERDICT_SNOOZE, "");
    assert_string_equal(log_text, "");
}

static void the_first_verdict_stands_where_no_yield_can(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "table.sort({3, 2, 1}, function() ctx.reject('first') end)",
        "pcall(table.sort, {3, 2, 1}, function() ctx.reject('first') end) still = true",
        "pcall(table.sort, {3, 2, 1}, function()\n"
        "  pcall(ctx.reject, 'first') pcall(ctx.retry, 'second') return true end) still = true",
        "pcall(string.gsub, 'x', 'x', function() coroutine.wrap(function()\n"
        "  ctx.reject('first') end)() end) still = true",
        "pcall(string.gsub, 'x', 'x', function()\n"
        "  coroutine.resume(coroutine.create(function() ctx.reject('first') end))\n"
        "  still = true end)",
        "xpcall(string.gsub, function() pcall(ctx.drop) end, 'x', 'x', ctx.reject)",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char body[512];
        snprintf(body, sizeof body, "assert(not still)\n%s", bodies[i]);
        load_body(body);
        ended(begin(), LVT_VERDICT_REJECT, i < 5 ? "first" : "x");
        /* Had the first run gone on behind its verdict, this one would know. */
        ended(begin(), LVT_VERDICT_REJECT, i < 5 ? "first" : "x");
    }
}

static void verdict_arguments_are_checked(void **state) {
    (void)state;
    fails("ctx.retry('x', { after = 1 })", "after is no option");
    fails("ctx.retry('x', { after_ms = 'soon' })", "after_ms: a number of milliseconds");
    fails("ctx.snooze(-1)", "ctx.snooze: a number");
    fails("ctx.snooze(0/0)", "ctx.snooze: a number");
    fails("ctx.snooze()", "ctx.snooze: a number");
}

/* ---- the event ---- */

static void event_fields_come_when_read(void **state) {
    (void)state;
    load_body(
        "assert(event.type == 'a.test' and event.id == 'id-1' and event.attempt == 1)\n"
        "assert(event.exchange == 'events' and event.routing_key == 'a.test')\n"
        "assert(event.time == nil and event.priority == 5 and event.other == nil)\n"
        "assert(event.raw == '{\"id\":7,\"name\":\"x\",\"list\":[]}')\n"
        "assert(event.payload.id == 7 and event.payload == event.payload)\n"
        "assert(event.queue == 'a.queue')\n"
        "assert(event.headers.text == 'v' and event.headers.big == 3)\n"
        "assert(tostring(event.headers.huge) == '18446744073709551615')\n"
        "assert(event.headers.nested[1].flag == true and event.headers.void == ctx.null)\n"
        "assert(event.headers.decimal == 1.25 and event.headers.twice == 1)\n"
        "assert(ctx.json.encode(event.headers.nested) == '[{\"flag\":true}]')\n"
        "event.own = 1 assert(event.own == 1)\n");
    struct lvt_header flag = {
        .name = LVT_LITERAL("flag"), .kind = LVT_HEADER_BOOLEAN, .value.boolean = true};
    struct lvt_header table = {.kind = LVT_HEADER_TABLE, .value.nested = {&flag, 1}};
    struct lvt_header headers[] = {
        {.name = LVT_LITERAL("text"), .kind = LVT_HEADER_STRING, .value.bytes = LVT_LITERAL("v")},
        {.name = LVT_LITERAL("big"), .kind = LVT_HEADER_INT64, .value.integer = 3},
        {.name = LVT_LITERAL("huge"),
         .kind = LVT_HEADER_UINT64,
         .value.unsigned_integer = UINT64_MAX},
        {.name = LVT_LITERAL("nested"), .kind = LVT_HEADER_ARRAY, .value.nested = {&table, 1}},
        {.name = LVT_LITERAL("void"), .kind = LVT_HEADER_VOID},
        {.name = LVT_LITERAL("decimal"), .kind = LVT_HEADER_DECIMAL, .value.decimal = {2, 125}},
        {.name = LVT_LITERAL("twice"), .kind = LVT_HEADER_INT8, .value.integer = 1},
        {.name = LVT_LITERAL("twice"), .kind = LVT_HEADER_INT8, .value.integer = 2},
    };
    struct lvt_queue queue = {.name = (char *)"a.queue"};
    struct fake *fake = begin_with("{\"id\":7,\"name\":\"x\",\"list\":[]}");
    fake->delivery->queue = &queue;
    fake->delivery->properties.present = LVT_HAS_HEADERS;
    fake->event.priority = 5;
    fake->delivery->properties.headers =
        (struct lvt_headers){headers, sizeof headers / sizeof *headers};
    start(fake);
    ended(fake, LVT_VERDICT_DONE, "");
}

static void pairs_shows_the_whole_event(void **state) {
    (void)state;
    runs(
        "local seen = {} for k, v in pairs(event) do seen[k] = v end\n"
        "assert(seen.type == 'a.test' and seen.payload.id == 7 and seen.raw and seen.headers)\n"
        "assert(seen.time == nil)");
    fails("ctx.json.encode(event)", "such as an event");
}

static void an_event_is_over_with_its_run(void **state) {
    (void)state;
    load_body("if kept then local t = kept.type return kept.id end kept = event t = event.type");
    ended(begin(), LVT_VERDICT_DONE, "");
    ended(begin(), LVT_VERDICT_RETRY, "this event is over");
}

static void payload_is_lossless(void **state) {
    (void)state;
    load_body("ctx.log.info(ctx.json.encode(event.payload))");
    struct fake *fake = begin_with("[9007199254740993,1.0,1,[],{},null,18446744073709551616]");
    start(fake);
    ended(fake, LVT_VERDICT_DONE, "");
    logged("[9007199254740993,1.0,1,[],{},null,18446744073709551616]");
}

/* ---- waiting ---- */

static void waiting_goes_through_everything(void **state) {
    (void)state;
    load_body(
        "local order = {}\n"
        "local ok, value = pcall(function()\n"
        "  local inner = coroutine.wrap(function(a)\n"
        "    local b = coroutine.yield(a + 1)\n"
        "    local deep = coroutine.create(function() ctx.sleep(5) coroutine.yield('y')\n"
        "      ctx.sleep(6) return 'z' end)\n"
        "    local _, y = coroutine.resume(deep)\n"
        "    local _, z = coroutine.resume(deep)\n"
        "    assert(coroutine.status(deep) == 'dead' and not coroutine.resume(deep))\n"
        "    ctx.sleep(7)\n"
        "    return b .. y .. z end)\n"
        "  assert(inner(1) == 2)\n"
        "  return inner('b') end)\n"
        "assert(ok and value == 'byz', value)\n"
        "for i in coroutine.wrap(function() ctx.sleep(8) coroutine.yield(1) end) do\n"
        "  order[#order + 1] = i end\n"
        "assert(#order == 1)\n"
        "local mt = setmetatable({}, { __index = function(_, k) ctx.sleep(9) return k end })\n"
        "assert(mt.x == 'x')\n");
    struct fake *fake = begin();
    for (uint64_t delay_ms = 5; delay_ms <= 9; delay_ms++) {
        assert_int_equal(fake->delay_ms, delay_ms);
        wake(fake);
    }
    ended(fake, LVT_VERDICT_DONE, "");
}

static void errors_come_through_coroutines(void **state) {
    (void)state;
    load_body(
        "local ok, e = pcall(coroutine.wrap(function() ctx.sleep(1) error('inner') end))\n"
        "assert(not ok and e:find('inner'), e)\n"
        "local ok2, e2 = coroutine.resume(coroutine.create(function() ctx.sleep(1)\n"
        "  error({ code = 1 }) end))\n"
        "assert(not ok2 and e2.code == 1)\n"
        "coroutine.wrap(function() ctx.sleep(1) error('last') end)()\n");
    struct fake *fake = begin();
    wake(fake);
    wake(fake);
    wake(fake);
    ended(fake, LVT_VERDICT_RETRY, "last");
}

static void waiting_where_none_can_is_an_error(void **state) {
    (void)state;
    fails("table.sort({2, 1}, function() ctx.sleep(1) end)", "cannot wait here");
    fails("string.gsub('x', 'x', function() coroutine.wrap(function() ctx.sleep(1) end)() end)",
          "cannot wait here");
    fails("coroutine.yield(1)", "attempt to yield from outside a coroutine");
    runs(
        "assert(not coroutine.isyieldable())\n"
        "coroutine.wrap(function() assert(coroutine.isyieldable()) end)()\n"
        "for i = 1, 3 do local ok = pcall(coroutine.yield) assert(not ok) end\n"
        "local t = {2, 1} table.sort(t, coroutine.wrap(function(a, b)\n"
        "  while true do a, b = coroutine.yield(a < b) end end)) assert(t[1] == 1)");
}

static void many_wait_at_once(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    struct fake **all = calloc(COUNT, sizeof(struct fake *));
    assert_non_null(all);
    load_body(
        "local id = event.payload.id ctx.sleep(100) assert(event.payload.id == id)\n"
        "total = (total or 0) + 1 if total == 3000 then ctx.log.info('all') end");
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++)
            all[i] = begin();
        for (int i = COUNT - 1; i >= 0; i--) {
            wake(all[i]);
            ended(all[i], LVT_VERDICT_DONE, "");
        }
    }
    logged("1 all\n");
    free(all);
}

static void aborted_runs_are_forgotten(void **state) {
    (void)state;
    load_body("kept = kept or ctx if event.payload.id == 7 then ctx.sleep(1) end print('late')");
    struct fake *fake = begin();
    handler->runtime->abort(handler->runtime_self, &fake->run);
    assert_int_equal(fake->finished, 0);
    end(fake);
    fake = begin_with("{\"id\":7}");
    fake->abort_in_effect = true;
    start(fake);
    assert_int_equal(fake->finished, 0);
    end(fake);
    assert_string_equal(log_text, "");
    fake = begin_with("{\"id\":8}");
    start(fake);
    ended(fake, LVT_VERDICT_DONE, "");
}

static void coroutines_of_other_events_are_refused(void **state) {
    (void)state;
    load_body(
        "if stuck then\n"
        "  local ok, e = coroutine.resume(stuck)\n"
        "  assert(not ok and e:find('another event'), e)\n"
        "  ok, e = pcall(wrapped)\n"
        "  assert(not ok and e:find('another event'), e)\n"
        "  ok, e = coroutine.resume(main)\n"
        "  assert(not ok)\n"
        "  ctx.log.info('refused') return end\n"
        "main = coroutine.running()\n"
        "stuck = coroutine.create(function()\n"
        "  wrapped = coroutine.wrap(function() ctx.sleep(1) end) wrapped() end)\n"
        "coroutine.resume(stuck)\n");
    struct fake *first = begin();
    ended(begin(), LVT_VERDICT_DONE, "");
    logged("refused");
    wake(first);
    ended(first, LVT_VERDICT_RETRY, "dead coroutine");
}

static void ctx_acts_on_the_run_that_calls(void **state) {
    (void)state;
    load_body("local c = kept or ctx kept = ctx ctx.sleep(1) c.log.info('x') c.reject(event.id)");
    struct fake *first = begin();
    struct fake *second = begin();
    wake(first);
    assert_int_equal(second->finished, 0);
    ended(first, LVT_VERDICT_REJECT, "id-1");
    wake(second);
    ended(second, LVT_VERDICT_REJECT, "id-1");
}

/* ---- memory ---- */

static void memory_has_a_limit(void **state) {
    (void)state;
    load_file(
        "return { memory_kb = 2048, handle = function(event, ctx)\n"
        "  count = (count or 0) + 1\n"
        "  if event.payload.id == 7 then local s = ('x'):rep(1e9) end\n"
        "  if event.payload.id == 8 then local t = {} while true do t[#t + 1] = {} end end\n"
        "  if event.payload.id == 9 then ctx.sleep(1) end\n"
        "  if event.payload.id == 10 then pcall(string.rep, 'x', 1e9) end\n"
        "  ctx.log.info('count ' .. count)\n"
        "end }");
    struct fake *waiting = begin_with("{\"id\":9}");
    start(waiting);
    for (int id = 7; id <= 8; id++) {
        char payload[20];
        snprintf(payload, sizeof payload, "{\"id\":%d}", id);
        struct fake *fake = begin_with(payload);
        start(fake);
        ended(fake, LVT_VERDICT_RETRY, "memory_kb is 2048");
    }
    struct fake *fake = begin_with("{\"id\":1}");
    start(fake);
    ended(fake, LVT_VERDICT_DONE, "");
    logged("count 1\n"); /* a fresh state */
    wake(waiting);
    ended(waiting, LVT_VERDICT_DONE, "");
    logged("count 2\n"); /* the old one */
    log_text[0] = '\0';
    fake = begin_with("{\"id\":10}");
    start(fake);
    ended(fake, LVT_VERDICT_RETRY, "memory_kb is 2048");
    assert_string_equal(log_text, ""); /* pcall keeps nobody from it */
    fake = begin_with("{\"id\":1}");
    start(fake);
    ended(fake, LVT_VERDICT_DONE, "");
    logged("count 1\n");
}

/* With each cap in turn some other allocation is the one that fails. */
static void any_allocation_may_fail(void **state) {
    (void)state;
    load_file(
        "return { memory_kb = 256, handle = function(event, ctx)\n"
        "  local keep = {}\n"
        "  local pad = ('x'):rep(event.payload.pad)\n"
        "  for i = 1, 200 do keep[i] = coroutine.create(print) keep[-i] = { i, 'k' .. i } end\n"
        "  local rows = ctx.redis.get('k')\n"
        "  keep.text = ctx.json.encode(event.payload) .. pad\n"
        "  ctx.log.info('done', { keep = keep, a = { b = { c = {} } } })\n"
        "  error(ctx.json.decode('[[[[[1,2,3,{\"a\":[]}]]]]]'))\n"
        "end }");
    for (int pad = 0; pad < 200000; pad += 307) {
        char payload[60];
        snprintf(payload, sizeof payload, "{\"pad\":%d,\"list\":[[],{},1.5]}", pad);
        struct fake *fake = begin_with(payload);
        start(fake);
        if (!fake->finished) {
            struct lvt_reply items[] = {{.kind = LVT_REPLY_NIL}, {.kind = LVT_REPLY_INTEGER}};
            struct lvt_reply reply = {.kind = LVT_REPLY_ARRAY, .items = items, .count = 2};
            answer_reply(fake, &reply, NULL);
        }
        ended(fake, LVT_VERDICT_RETRY, "");
        log_text[0] = '\0';
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(loads_function_and_table),
        TEST(load_errors_name_the_place),
        TEST(sandbox_is_closed),
        TEST(print_is_a_log_line),
        TEST(returning_is_done),
        TEST(errors_are_retries),
        TEST(verdicts_end_at_once),
        TEST(the_first_verdict_stands_where_no_yield_can),
        TEST(verdict_arguments_are_checked),
        TEST(event_fields_come_when_read),
        TEST(pairs_shows_the_whole_event),
        TEST(an_event_is_over_with_its_run),
        TEST(payload_is_lossless),
        TEST(waiting_goes_through_everything),
        TEST(errors_come_through_coroutines),
        TEST(waiting_where_none_can_is_an_error),
        TEST(many_wait_at_once),
        TEST(aborted_runs_are_forgotten),
        TEST(coroutines_of_other_events_are_refused),
        TEST(ctx_acts_on_the_run_that_calls),
        TEST(memory_has_a_limit),
        TEST(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
