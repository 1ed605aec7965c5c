/* What ctx asks of the services, and how their answers come back. */
#include "lua_fixture.h"

/* ---- ctx.db ---- */

struct cells {
    size_t columns;
    const char *const *names;
    const enum lvt_column_kind *kinds;
    const char *const *texts;
};

static const char *cell_name(void *self, size_t column) {
    return ((struct cells *)self)->names[column];
}

static enum lvt_column_kind cell_kind(void *self, size_t column) {
    return ((struct cells *)self)->kinds[column];
}

static bool cell_text(void *self, size_t row, size_t column, struct lvt_bytes *ret_text) {
    const struct cells *cells = self;
    const char *text = cells->texts[row * cells->columns + column];
    if (text)
        *ret_text = lvt_bytes_of(text);
    return text != NULL;
}

static void answer_rows(struct fake *fake, struct cells *cells, size_t rows, int64_t affected) {
    lvt_rows_done *done = (lvt_rows_done *)take(fake, ASKED_QUERY);
    const struct lvt_rows answer = {cells,     rows,      cells->columns, affected,
                                    cell_name, cell_kind, cell_text};
    done(fake->ctx, LVT_ANSWER_OK, &answer, NULL);
}

static void queries(void **state) {
    (void)state;
    static const char *const names[] = {"i", "n", "b", "j", "t"};
    static const enum lvt_column_kind kinds[] = {LVT_COLUMN_INTEGER, LVT_COLUMN_NUMBER,
                                                 LVT_COLUMN_BOOLEAN, LVT_COLUMN_JSON,
                                                 LVT_COLUMN_TEXT};
    static const char *const texts[] = {"9223372036854775807",
                                        "0.5",
                                        "t",
                                        "{\"a\":[]}",
                                        "1.50",
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL,
                                        "-1",
                                        "Infinity",
                                        "f",
                                        "null",
                                        ""};
    struct cells cells = {5, names, kinds, texts};
    load_body(
        "local rows = ctx.db.query('SELECT', nil, true, 5, 0.1, 'x', { 1 }, ctx.null,\n"
        "  ctx.json.decode('1e999'), 1/3, nil)\n"
        "assert(#rows == 3 and rows[1].i == math.maxinteger and rows[1].n == 0.5)\n"
        "assert(rows[1].b == true and ctx.json.encode(rows[1].j) == '{\"a\":[]}')\n"
        "assert(rows[1].t == '1.50' and next(rows[2]) == nil)\n"
        "assert(rows[3].n == 1/0 and rows[3].b == false and rows[3].j == ctx.null)\n"
        "assert(math.type(rows[3].i) == 'integer' and rows[3].t == '')\n"
        "local none = ctx.db.query('NONE') assert(ctx.json.encode(none) == '[]')\n"
        "assert(ctx.db.exec('UPDATE') == 4)\n");
    struct fake *fake = begin();
    assert_string_equal(fake->text,
                        "SELECT|NULL|true|5|0.1|x|[1]|NULL|1e999|0.3333333333333333|"
                        "NULL");
    answer_rows(fake, &cells, 3, 3);
    assert_string_equal(fake->text, "NONE");
    answer_rows(fake, &cells, 0, 0);
    assert_string_equal(fake->text, "UPDATE");
    answer_rows(fake, &cells, 0, 4);
    ended(fake, LVT_VERDICT_DONE, "");
    fails("ctx.db.query('x', print)", "parameter 1: PostgreSQL cannot be given a function");
    fails("ctx.db.query('x', { print })", "JSON cannot hold a function");
    fails("ctx.db.query({})", "string expected");
}

static void sql_errors_are_objects(void **state) {
    (void)state;
    load_body(
        "local ok, e = pcall(ctx.db.exec, 'BAD')\n"
        "assert(not ok and e.sqlstate == '42601' and e.message == 'syntax error')\n"
        "assert(tostring(e) == 'syntax error (SQLSTATE 42601)')\n"
        "ctx.log.warn('caught', { err = e })\n"
        "ctx.db.exec('AGAIN')");
    struct fake *fake = begin();
    answer_sql_error(fake, "42601", "syntax error");
    logged("2 caught err=syntax error (SQLSTATE 42601)\n");
    answer_sql_error(fake, "23505", "duplicate key");
    assert_string_equal(fake->verdict.sqlstate, "23505");
    assert_non_null(strstr(fake->trace, "a.test.lua:6:"));
    ended(fake, LVT_VERDICT_RETRY, "a.test.lua:6: duplicate key (SQLSTATE 23505)");
}

static void redis_commands(void **state) {
    (void)state;
    load_body(
        "assert(ctx.redis.set('k', 1, 2.5) == 'OK')\n"
        "assert(ctx.redis.get == ctx.redis.get and ctx.redis.get('none') == nil)\n"
        "local all = ctx.redis.MGET('a', 'b')\n"
        "assert(ctx.json.encode(all) == '[null,7,[\"x\"],{\"message\":\"ERR\"}]')\n"
        "assert(select('#', pcall(ctx.redis.incr, 'k')) == 2)\n");
    struct fake *fake = begin();
    struct lvt_reply deep = {.kind = LVT_REPLY_STRING, .text = LVT_LITERAL("x")};
    struct lvt_reply items[] = {{.kind = LVT_REPLY_NIL},
                                {.kind = LVT_REPLY_INTEGER, .integer = 7},
                                {.kind = LVT_REPLY_ARRAY, .items = &deep, .count = 1},
                                {.kind = LVT_REPLY_ERROR, .text = LVT_LITERAL("ERR")}};
    struct lvt_reply ok = {.kind = LVT_REPLY_STATUS, .text = LVT_LITERAL("OK")};
    struct lvt_reply nothing = {.kind = LVT_REPLY_NIL};
    struct lvt_reply array = {.kind = LVT_REPLY_ARRAY, .items = items, .count = 4};
    assert_string_equal(fake->text, "set|k|1|2.5");
    answer_reply(fake, &ok, NULL);
    answer_reply(fake, &nothing, NULL);
    assert_string_equal(fake->text, "MGET|a|b");
    answer_reply(fake, &array, NULL);
    answer_reply(fake, NULL, "WRONGTYPE");
    ended(fake, LVT_VERDICT_DONE, "");
    load_body("ctx.redis.incr('k')");
    fake = begin();
    answer_reply(fake, NULL, "WRONGTYPE it is");
    ended(fake, LVT_VERDICT_RETRY, "a.test.lua:2: ctx.redis.incr: WRONGTYPE it is");
    fails("ctx.redis.set('k', nil)", "argument 3 is a nil");
    fails("ctx.redis.set('k', {})", "argument 3 is a table");
}

static void invalidations(void **state) {
    (void)state;
    load_body(
        "assert(ctx.cache.invalidate('a:*', 'b') == 12)\n"
        "assert(ctx.cache.invalidate('c') == nil)");
    struct fake *fake = begin();
    assert_string_equal(fake->text, "a:*|b");
    answer_removed(fake, 12);
    answer_removed(fake, -1);
    ended(fake, LVT_VERDICT_DONE, "");
    fails("ctx.cache.invalidate()", "value expected");
}

static void answer_published(struct fake *fake, const char *id, const char *error) {
    lvt_published_done *done = (lvt_published_done *)take(fake, ASKED_PUBLISH);
    done(fake->ctx, error ? LVT_ANSWER_ERROR : LVT_ANSWER_OK, lvt_bytes_of(id), error);
}

static void publishes(void **state) {
    (void)state;
    load_body(
        "local id = ctx.publish('b.made', { n = 1 }, { id = 'i-1', delay_ms = 3000, priority = 7,\n"
        "  ttl_ms = 60000, max_attempts = 5, queue = 'q', headers = { ['x-a'] = 1 } })\n"
        "assert(id == 'i-1')\n"
        "local ok, e = pcall(ctx.publish, 'b.made')\n"
        "assert(not ok and e:find('no queue took it'), e)");
    struct fake *fake = begin();
    assert_string_equal(fake->text,
                        "b.made|{\"n\":1}|i-1|NULL|q|"
                        "delay 3000 ttl 60000 priority 7 attempts 5|x-a");
    answer_published(fake, "i-1", NULL);
    assert_string_equal(fake->text,
                        "b.made|{}|NULL|NULL|NULL|delay 0 ttl 0 priority -1 attempts 0");
    answer_published(fake, "i-2", "no queue took it");
    ended(fake, LVT_VERDICT_DONE, "");
}

static void wrong_publishes(void **state) {
    (void)state;
    fails("ctx.publish()", "string expected");
    fails("ctx.publish('e', {}, { priority = -1 })", "priority must be a whole number from 0");
    fails("ctx.publish('e', {}, { max_attempts = 0 })",
          "max_attempts must be a whole number from 1");
    fails("ctx.publish('e', {}, { max_attempts = 1e10 })", "max_attempts must be");
    fails("ctx.publish('e', {}, { delay_ms = -1 })", "delay_ms");
    fails("ctx.publish('e', {}, { delay = 1 })", "unknown key delay");
    fails("ctx.publish('e', {}, { headers = { a = {} } })", "the header a must be");
    fails("ctx.publish('e', {}, { id = 1 })", "id must be a text");
    fails("ctx.publish('e', { f = print })", "a function");
}

static void http_requests(void **state) {
    (void)state;
    load_body(
        "local r = ctx.http.request{ method = 'POST', url = 'http://h/', body = 'b',\n"
        "  headers = { ['x-a'] = 1 }, timeout_ms = 250 }\n"
        "assert(r.status == 201 and r.body == 'made' and r.headers['x-r'] == 'a, b')\n"
        "local ok, e = pcall(ctx.http.request, { url = 'http://h/' })\n"
        "assert(not ok and e:find('refused'), e)");
    struct fake *fake = begin();
    assert_string_equal(fake->text, "POST|http://h/|b|x-a|1");
    assert_int_equal(fake->delay_ms, 250);
    const struct lvt_http_header headers[] = {{LVT_LITERAL("x-r"), LVT_LITERAL("a")},
                                              {LVT_LITERAL("x-r"), LVT_LITERAL("b")}};
    const struct lvt_http_response response = {201, headers, 2, LVT_LITERAL("made")};
    lvt_http_done *done = (lvt_http_done *)take(fake, ASKED_HTTP);
    done(fake->ctx, &response, NULL);
    assert_string_equal(fake->text, "GET|http://h/");
    done = (lvt_http_done *)take(fake, ASKED_HTTP);
    done(fake->ctx, NULL, "connection refused");
    ended(fake, LVT_VERDICT_DONE, "");
    fails("ctx.http.request{}", "url is missing");
    fails("ctx.http.request{ url = 'x', verb = 'GET' }", "unknown key verb");
    fails("ctx.http.request{ url = 'x', headers = { a = 'b\\r\\nc: d' } }", "would break");
    fails("ctx.http.request{ url = 'x', timeout_ms = 0 }", "timeout_ms must be");
    fails("ctx.http.request{ url = 'x', body = {} }", "body must be a text");
}

static void log_fields(void **state) {
    (void)state;
    runs(
        "ctx.log.debug('hidden', { a = 1 })\n"
        "ctx.log.info('text', { z = 'last', b = true, i = 3, f = 0.5, t = { 1, { x = 2 } },\n"
        "  n = ctx.null, [1] = 'one', bad = { print } })\n"
        "ctx.log.error(ctx.null)\n"
        "local many = {} for i = 1, 100 do many['k' .. i] = i end ctx.log.warn('many', many)");
    assert_null(strstr(log_text, "hidden"));
    logged("1 text 1=one b=true bad=table: 0x");
    logged(" f=0.5 i=3 n=null t=[1,{\"x\":2}] z=last\n");
    logged("3 null\n");
    logged("2 many k");
    fails("ctx.log.info('x', 'fields')", "table expected");
}

static void json_functions(void **state) {
    (void)state;
    runs(
        "assert(ctx.json.encode(ctx.json.array({})) == '[]' and ctx.json.encode({}) == '{}')\n"
        "assert(ctx.json.encode(ctx.json.array()) == '[]')\n"
        "local t = ctx.json.array({ 1 }) assert(ctx.json.array(t) == t)\n"
        "assert(ctx.json.encode(nil) == 'null' and ctx.json.decode('null') == ctx.null)\n"
        "assert(tostring(ctx.null) == 'null')\n"
        "assert(not pcall(ctx.json.array, setmetatable({}, {})))");
    fails("ctx.json.decode('{')", "a.test.lua:2: not valid JSON: ");
}

/* ---- handlers/opsdesk ---- */

static void load_opsdesk(const char *name) {
    struct leveret_error err;
    char file[512];
    const char *here = __FILE__;
    snprintf(file, sizeof file, "%.*s../../handlers/opsdesk/%s.lua",
             (int)(strrchr(here, '/') + 1 - here), here, name);
    lvt_handler_free(handler);
    handler = NULL;
    if (lvt_lua_handler_load(file, &config, &test_log, &handler, &err) != LEVERET_OK)
        fail_msg("%s", err.text);
    assert_string_equal(handler->name, name);
}

static void opsdesk(void **state) {
    (void)state;
    static const struct {
        const char *name, *payload, *patterns, *line;
    } cases[] = {
        {"ticket.created", "{\"id\":\"t1\",\"ownerId\":\"u1\"}", "tickets:list:*",
         "1 [FAKE] email to ticket owner owner=u1\n"},
        {"ticket.updated", "{\"id\":\"t1\"}", "tickets:list:*|tickets:t1", "1 [FAKE] update"},
        {"ticket.status_changed", "{\"id\":\"t1\",\"newStatus\":\"closed\"}",
         "tickets:list:*|tickets:t1", "1 ticket status changed ticket=t1 to=closed\n"},
        {"message.sent", "{\"ticketId\":\"t1\"}", NULL, "1 [FAKE] message"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        load_opsdesk(cases[i].name);
        struct fake *fake = begin_with(cases[i].payload);
        start(fake);
        if (cases[i].patterns) {
            assert_string_equal(fake->text, cases[i].patterns);
            answer_removed(fake, 3);
            logged("1 invalidated cache keys count=3\n");
        }
        ended(fake, LVT_VERDICT_DONE, "");
        logged(cases[i].line);
        log_text[0] = '\0';
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(queries),       TEST(sql_errors_are_objects), TEST(redis_commands),
        TEST(invalidations), TEST(http_requests),          TEST(log_fields),
        TEST(publishes),     TEST(wrong_publishes),        TEST(json_functions),
        TEST(opsdesk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
