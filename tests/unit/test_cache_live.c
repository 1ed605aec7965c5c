/* The connection to Redis: against the server of REDIS_URL (skipped without one), and against a
 * stand-in on the same loop that greets, hangs, refuses and goes away as it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>
#include <uv.h>

#include "cache/cache.h"

struct fixture {
    uv_loop_t loop;
    struct lvt_log log;
    char lines[8192];
    struct lvt_cache *cache;
    struct lvt_cache_port port;
    char prefix[64];
};

static void sink(void *ctx, enum lvt_level level, const char *text, const struct lvt_field *fields,
                 size_t field_count) {
    struct fixture *f = ctx;
    (void)level, (void)fields, (void)field_count;
    size_t len = strlen(f->lines);
    snprintf(f->lines + len, sizeof f->lines - len, "%s\n", text);
}

static struct fixture *fixture_new(void) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    f->log = (struct lvt_log){.sink = sink, .ctx = f, .level = LVT_INFO};
    snprintf(f->prefix, sizeof f->prefix, "lvt-test:%d:", (int)getpid());
    return f;
}

static void start(struct fixture *f, const char *url) {
    const struct lvt_cache_options options = {.url = url, .log = &f->log, .loop = &f->loop};
    struct leveret_error err = {0};
    assert_int_equal(lvt_cache_new(&options, &f->cache, &err), LEVERET_OK);
    assert_int_equal(lvt_cache_start(f->cache, &err), LEVERET_OK);
    f->port = lvt_cache_port(f->cache);
}

static void set_flag(void *ctx) {
    *(bool *)ctx = true;
}

static void never(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                  const char *error) {
    (void)ctx, (void)answer, (void)reply, (void)error;
    fail();
}

static void stop(struct fixture *f) {
    bool closed = false;
    lvt_cache_close(f->cache, set_flag, &closed);
    while (!closed)
        uv_run(&f->loop, UV_RUN_ONCE);
    const struct lvt_bytes late[] = {LVT_LITERAL("PING")};
    f->port.command(f->port.self, late, 1, never, NULL);
    lvt_cache_free(f->cache);
    f->cache = NULL;
}

static int fixture_free(struct fixture *f) {
    uv_run(&f->loop, UV_RUN_DEFAULT);
    int status = uv_loop_close(&f->loop);
    free(f);
    return status == 0 ? 0 : -1;
}

/* ---- answers ---- */

struct got {
    unsigned count;
    enum lvt_answer answer;
    int64_t integer;
    enum lvt_reply_kind kind;
    char text[300];
    size_t items;
};

static void got_reply(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                      const char *error) {
    struct got *got = ctx;
    got->count++;
    got->answer = answer;
    if (reply) {
        got->kind = reply->kind;
        got->integer = reply->integer;
        got->items = reply->count;
        snprintf(got->text, sizeof got->text, "%.*s", (int)reply->text.len,
                 reply->text.data ? reply->text.data : "");
    } else {
        snprintf(got->text, sizeof got->text, "%s", error);
    }
}

static void got_count(void *ctx, enum lvt_answer answer, int64_t removed, const char *error) {
    struct got *got = ctx;
    got->count++;
    got->answer = answer;
    got->integer = removed;
    snprintf(got->text, sizeof got->text, "%s", error ? error : "");
}

static void wake(uv_timer_t *timer) {
    (void)timer;
}

/* Runs the loop until *count is `wanted`, or for limit_ms; how long it took. The timer is there
 * because a turn of the loop may run what we wait for and then sleep until something else. */
static uint64_t await(struct fixture *f, const unsigned *count, unsigned wanted,
                      uint64_t limit_ms) {
    uv_timer_t timer;
    uv_timer_init(&f->loop, &timer);
    uv_update_time(&f->loop);
    uint64_t began_ms = uv_now(&f->loop);
    uv_timer_start(&timer, wake, 5, 5);
    while (*count < wanted && uv_now(&f->loop) - began_ms < limit_ms)
        uv_run(&f->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&f->loop, UV_RUN_NOWAIT);
    return uv_now(&f->loop) - began_ms;
}

#define ARGV_MAX 8

static void ask_into(struct fixture *f, struct got *got, const char *const *words) {
    struct lvt_bytes argv[ARGV_MAX];
    size_t argc = 0;
    for (; words[argc]; argc++)
        argv[argc] = lvt_bytes_of(words[argc]);
    unsigned before = got->count;
    f->port.command(f->port.self, argv, argc, got_reply, got);
    assert_int_equal(got->count, before); /* never before the call has returned */
}

static struct got ask_words(struct fixture *f, const char *const *words) {
    struct got got = {0};
    ask_into(f, &got, words);
    await(f, &got.count, 1, 5000);
    assert_int_equal(got.count, 1);
    return got;
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define ASK(f, ...) ask_words((f), WORDS(__VA_ARGS__))

static void invalidate_into(struct fixture *f, struct got *got, const char *pattern) {
    unsigned before = got->count;
    f->port.invalidate(f->port.self, lvt_bytes_of(pattern), got_count, got);
    assert_int_equal(got->count, before);
}

static bool connected(struct fixture *f) {
    struct lvt_cache_status status;
    lvt_cache_status(f->cache, &status);
    return status.connected;
}

static void await_connected(struct fixture *f, bool wanted, uint64_t limit_ms) {
    const unsigned never = 0;
    for (uint64_t ms = 0; connected(f) != wanted && ms < limit_ms; ms += 20)
        await(f, &never, 1, 20);
    assert_int_equal(connected(f), wanted);
}

/* ---- URLs ---- */

static void checks_urls(void **state) {
    (void)state;
    static const struct {
        const char *url, *address, *error;
    } cases[] = {
        {"redis://localhost", "localhost:6379", NULL},
        {"redis://", "localhost:6379", NULL},
        {"redis://h:1/15", "h:1", NULL},
        {"redis://h:1/", "h:1", NULL},
        {"redis://user:p%40%2fss@h:7000/3", "h:7000", NULL},
        {"redis://:secret@[::1]:7000", "[::1]:7000", NULL},
        {"redis://h?db=4", "h:6379", NULL},
        {"unix:///run/redis.sock", "/run/redis.sock", NULL},
        {"unix://:secret@/run/redis.sock?db=2", "/run/redis.sock", NULL},
        {"rediss://:secret@h", NULL, "TLS"},
        {"http://:secret@h", NULL, "scheme"},
        {"redis://:secret@h:0x", NULL, "port"},
        {"redis://:secret@h:70000", NULL, "port"},
        {"redis://:secret@h:1/x", NULL, "database"},
        {"redis://:secret@[::1", NULL, "]"},
        {"redis://:secret@[::1]1", NULL, ":"},
        {"redis://:secret%4@h", NULL, "%25"},
        {"redis://:secret%00@h", NULL, "%25"},
        {"redis://secret@h", NULL, "password"},
        {"unix://:secret@", NULL, "path"},
        {"redis://:secret@h?x=1", NULL, "?db="},
        {"", NULL, "scheme"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lvt_cache *cache = NULL;
        struct leveret_error err = {0};
        const struct lvt_cache_options options = {.url = cases[i].url};
        enum leveret_code code = lvt_cache_new(&options, &cache, &err);
        if (cases[i].address) {
            struct lvt_cache_status status;
            assert_int_equal(code, LEVERET_OK);
            lvt_cache_status(cache, &status);
            assert_string_equal(status.address, cases[i].address);
        } else {
            assert_int_equal(code, LEVERET_CONFIG);
            assert_non_null(strstr(err.text, "redis.url"));
            assert_non_null(strstr(err.text, cases[i].error));
            assert_null(strstr(err.text, "secret"));
        }
        lvt_cache_free(cache);
    }
}

/* ---- against Redis ---- */

static int setup_live(void **state) {
    struct fixture *f = fixture_new();
    *state = f;
    if (getenv("REDIS_URL"))
        start(f, getenv("REDIS_URL"));
    return 0;
}

static int teardown_live(void **state) {
    struct fixture *f = *state;
    if (f->cache)
        stop(f);
    return fixture_free(f);
}

static struct fixture *live(void **state) {
    struct fixture *f = *state;
    if (!f->cache)
        skip();
    return f;
}

static void answers_commands(void **state) {
    struct fixture *f = live(state);
    char key[100], list[100];
    snprintf(key, sizeof key, "%skey", f->prefix);
    snprintf(list, sizeof list, "%slist", f->prefix);
    struct got got = ASK(f, "SET", key, "a value");
    assert_int_equal(got.answer, LVT_ANSWER_OK);
    assert_int_equal(got.kind, LVT_REPLY_STATUS);
    assert_string_equal(got.text, "OK");
    got = ASK(f, "GET", key);
    assert_int_equal(got.kind, LVT_REPLY_STRING);
    assert_string_equal(got.text, "a value");
    got = ASK(f, "GET", "lvt-test:none");
    assert_int_equal(got.kind, LVT_REPLY_NIL);
    got = ASK(f, "RPUSH", list, "1", "", "3");
    assert_int_equal(got.kind, LVT_REPLY_INTEGER);
    assert_int_equal(got.integer, 3);
    got = ASK(f, "LRANGE", list, "0", "-1");
    assert_int_equal(got.kind, LVT_REPLY_ARRAY);
    assert_int_equal(got.items, 3);
    got = ASK(f, "INCR", list);
    assert_int_equal(got.answer, LVT_ANSWER_ERROR);
    assert_non_null(strstr(got.text, "WRONGTYPE"));
    got = ASK(f, "NOSUCHCOMMAND");
    assert_int_equal(got.answer, LVT_ANSWER_ERROR);
    got = ASK(f, "EVAL", "return {{{{{{{{1}}}}}}}}", "0");
    assert_int_not_equal(got.answer, LVT_ANSWER_OUTAGE); /* an error, or read by a newer hiredis */
    await_connected(f, true, 2000);
    got = ASK(f, "UNLINK", key, list);
    assert_int_equal(got.integer, 2);
}

static void refuses_what_would_break_others(void **state) {
    struct fixture *f = live(state);
    static const char *const words[][4] = {
        {"SUBSCRIBE", "c", NULL},
        {"psubscribe", "c*", NULL},
        {"Monitor", NULL},
        {"BLPOP", "l", "0", NULL},
        {"MULTI", NULL},
        {"select", "1", NULL},
        {"CLIENT", "REPLY", "OFF", NULL},
        {"hello", "3", NULL},
        {"QUIT", NULL},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct got got = ask_words(f, words[i]);
        assert_int_equal(got.answer, LVT_ANSWER_ERROR);
        assert_non_null(strstr(got.text, "is not possible"));
    }
    struct got got = ASK(f, "XREAD", "block", "0", "STREAMS", "s", "$");
    assert_non_null(strstr(got.text, "XREAD with BLOCK"));
    got = ASK(f, "XREAD", "COUNT", "1", "STREAMS", "block", "0");
    assert_int_equal(got.answer, LVT_ANSWER_OK);
    f->port.command(f->port.self, NULL, 0, got_reply, &got);
    await(f, &got.count, 2, 1000);
    assert_int_equal(got.answer, LVT_ANSWER_ERROR);
    got = ASK(f, "PING");
    assert_string_equal(got.text, "PONG");
}

static void fill(struct fixture *f, const char *name, unsigned count) {
    struct got got = {0};
    for (unsigned i = 0; i < count; i++) {
        char key[128];
        snprintf(key, sizeof key, "%s%s:%u", f->prefix, name, i);
        ask_into(f, &got, WORDS("SET", key, "1"));
        if (i % 1000 == 999)
            await(f, &got.count, i + 1, 5000);
    }
    await(f, &got.count, count, 5000);
    assert_int_equal(got.count, count);
}

static void removes_by_pattern(void **state) {
    struct fixture *f = live(state);
    fill(f, "list", 5000);
    fill(f, "kept", 10);
    char pattern[128];
    struct got got = {0};
    snprintf(pattern, sizeof pattern, "%slist:*", f->prefix);
    invalidate_into(f, &got, pattern);
    await(f, &got.count, 1, 5000);
    assert_int_equal(got.answer, LVT_ANSWER_OK);
    assert_int_equal(got.integer, 5000);
    snprintf(pattern, sizeof pattern, "%skept:3", f->prefix);
    invalidate_into(f, &got, pattern);
    await(f, &got.count, 2, 5000);
    assert_int_equal(got.integer, 1);
    snprintf(pattern, sizeof pattern, "%skept:[0-9]", f->prefix);
    invalidate_into(f, &got, pattern);
    await(f, &got.count, 3, 5000);
    assert_int_equal(got.integer, 9);
    invalidate_into(f, &got, pattern);
    await(f, &got.count, 4, 5000);
    assert_int_equal(got.integer, 0);
}

/* What is asked for during a pass is done by the next one: a key that is written in between may lie
 * behind the scan. */
static void requests_share_the_next_pass(void **state) {
    struct fixture *f = live(state);
    char pattern[128];
    snprintf(pattern, sizeof pattern, "%sshared:*", f->prefix);
    fill(f, "shared", 3000);
    struct got before = ASK(f, "INFO", "commandstats");
    assert_int_equal(before.answer, LVT_ANSWER_OK);
    struct got first = {0}, later = {0}, set = {0};
    char key[128];
    snprintf(key, sizeof key, "%sshared:new", f->prefix);
    invalidate_into(f, &first, pattern);
    for (int i = 0; i < 100; i++)
        invalidate_into(f, &later, pattern);
    ask_into(f, &set, WORDS("SET", key, "1"));
    await(f, &later.count, 100, 5000);
    assert_int_equal(first.count, 1);
    assert_int_equal(later.count, 100);
    assert_int_equal(later.answer, LVT_ANSWER_OK);
    assert_int_equal(first.integer + later.integer, 3001);
    assert_int_equal(ASK(f, "EXISTS", key).integer, 0);
}

static void many_patterns_at_once(void **state) {
    struct fixture *f = live(state);
    struct got got = {0};
    fill(f, "many", 200);
    for (unsigned i = 0; i < 200; i++) {
        char pattern[128];
        snprintf(pattern, sizeof pattern, "%smany:%u*", f->prefix, i);
        invalidate_into(f, &got, pattern);
    }
    await(f, &got.count, 200, 10000);
    assert_int_equal(got.count, 200);
    assert_int_equal(got.answer, LVT_ANSWER_OK);
    char pattern[128];
    snprintf(pattern, sizeof pattern, "%smany:*", f->prefix);
    invalidate_into(f, &got, pattern);
    await(f, &got.count, 201, 5000);
    assert_int_equal(got.integer, 0);
}

static void closing_answers_all(void **state) {
    struct fixture *f = live(state);
    struct got got = {0};
    assert_string_equal(ASK(f, "PING").text, "PONG");
    for (int i = 0; i < 50; i++)
        ask_into(f, &got, WORDS("PING"));
    invalidate_into(f, &got, "lvt-test:*");
    invalidate_into(f, &got, "lvt-test:*");
    stop(f);
    assert_int_equal(got.count, 52);
    assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
}

/* ---- against the stand-in ---- */

enum manner { ANSWERS, HANGS, HANGS_AFTER_GREETING, REFUSES_PASSWORD, IS_READONLY };

struct server {
    uv_tcp_t tcp;
    enum manner manner;
    int port;
    unsigned connections, commands, open;
    struct guest *guests;
};

struct guest {
    uv_tcp_t tcp;
    struct server *server;
    struct guest *next;
    char text[256];
};

static void allocate(uv_handle_t *handle, size_t size, uv_buf_t *buffer) {
    struct guest *guest = handle->data;
    (void)size;
    *buffer = uv_buf_init(guest->text, sizeof guest->text);
}

static void guest_free(uv_handle_t *handle) {
    struct guest *guest = handle->data;
    struct guest **at = &guest->server->guests;
    while (*at != guest)
        at = &(*at)->next;
    *at = guest->next;
    guest->server->open--;
    free(guest);
}

static void say(struct guest *guest, const char *text) {
    uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));
    uv_try_write((uv_stream_t *)&guest->tcp, &buffer, 1);
}

static void heard(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer) {
    struct guest *guest = stream->data;
    struct server *server = guest->server;
    if (len < 0) {
        if (!uv_is_closing((uv_handle_t *)stream))
            uv_close((uv_handle_t *)stream, guest_free);
        return;
    }
    for (ssize_t i = 0; i < len; i++) { /* each command begins with * */
        if (buffer->base[i] != '*')
            continue;
        server->commands++;
        if (server->manner == HANGS ||
            (server->manner == HANGS_AFTER_GREETING && server->commands > 1))
            continue;
        if (server->manner == REFUSES_PASSWORD)
            say(guest, "-WRONGPASS invalid username-password pair\r\n");
        else if (server->manner == IS_READONLY && server->commands > 1)
            say(guest, "-READONLY You can't write against a read only replica.\r\n");
        else
            say(guest, "+PONG\r\n");
    }
}

static void visited(uv_stream_t *stream, int status) {
    struct server *server = stream->data;
    assert_int_equal(status, 0);
    struct guest *guest = calloc(1, sizeof *guest);
    uv_tcp_init(stream->loop, &guest->tcp);
    guest->tcp.data = guest;
    guest->server = server;
    guest->next = server->guests;
    server->guests = guest;
    server->connections++;
    server->open++;
    server->commands = 0;
    assert_int_equal(uv_accept(stream, (uv_stream_t *)&guest->tcp), 0);
    uv_read_start((uv_stream_t *)&guest->tcp, allocate, heard);
}

static void server_open(struct fixture *f, struct server *server) {
    struct sockaddr_in address;
    int len = sizeof address;
    uv_ip4_addr("127.0.0.1", server->port, &address);
    uv_tcp_init(&f->loop, &server->tcp);
    server->tcp.data = server;
    assert_int_equal(uv_tcp_bind(&server->tcp, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&server->tcp, 16, visited), 0);
    uv_tcp_getsockname(&server->tcp, (struct sockaddr *)&address, &len);
    server->port = ntohs(address.sin_port);
}

static void server_close(struct server *server) {
    uv_close((uv_handle_t *)&server->tcp, NULL);
    for (struct guest *guest = server->guests; guest; guest = guest->next)
        if (!uv_is_closing((uv_handle_t *)&guest->tcp))
            uv_close((uv_handle_t *)&guest->tcp, guest_free);
}

static struct fixture *visit(struct server *server, const char *password) {
    struct fixture *f = fixture_new();
    char url[100];
    server_open(f, server);
    snprintf(url, sizeof url, "redis://%s127.0.0.1:%d", password, server->port);
    start(f, url);
    return f;
}

static void leave(struct fixture *f, struct server *server) {
    stop(f);
    server_close(server);
    assert_int_equal(fixture_free(f), 0);
    assert_int_equal(server->open, 0);
}

static void an_absent_server_is_an_outage_at_once(void **state) {
    (void)state;
    struct fixture *f = fixture_new();
    start(f, "redis://127.0.0.1:1");
    struct got got = {0};
    ask_into(f, &got, WORDS("PING"));
    assert_true(await(f, &got.count, 1, 5000) < 1000);
    assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
    ask_into(f, &got, WORDS("PING"));
    assert_true(await(f, &got.count, 2, 5000) < 100);
    invalidate_into(f, &got, "a*");
    invalidate_into(f, &got, "a*");
    invalidate_into(f, &got, "b");
    assert_true(await(f, &got.count, 5, 5000) < 200);
    assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
    assert_non_null(strstr(f->lines, "Redis at 127.0.0.1:1 is away: Connection refused"));
    stop(f);
    assert_int_equal(fixture_free(f), 0);
}

static void an_unknown_host_is_an_outage(void **state) {
    (void)state;
    struct fixture *f = fixture_new();
    start(f, "redis://name.invalid");
    struct got got = {0};
    ask_into(f, &got, WORDS("PING"));
    await(f, &got.count, 1, 2500);
    assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
    stop(f);
    assert_int_equal(fixture_free(f), 0);
}

static void a_server_that_accepts_and_hangs(void **state) {
    (void)state;
    struct server server = {.manner = HANGS};
    struct fixture *f = visit(&server, "");
    struct got got = {0};
    ask_into(f, &got, WORDS("GET", "k"));
    uint64_t took_ms = await(f, &got.count, 1, 5000);
    assert_in_range(took_ms, 1500, 2200);
    assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
    assert_false(connected(f));
    server.manner = ANSWERS;
    await_connected(f, true, 3000);
    leave(f, &server);
}

static void a_server_that_hangs_later(void **state) {
    (void)state;
    struct server server = {.manner = HANGS_AFTER_GREETING};
    struct fixture *f = visit(&server, "");
    await_connected(f, true, 2000);
    struct got got = {0};
    for (int i = 0; i < 10; i++)
        ask_into(f, &got, WORDS("GET", "k"));
    uint64_t took_ms = await(f, &got.count, 10, 5000);
    assert_in_range(took_ms, 1500, 2200);
    assert_int_equal(got.count, 10);
    assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
    assert_non_null(strstr(got.text, "no answer for 2 s"));
    server.manner = ANSWERS;
    await_connected(f, true, 3000);
    assert_int_equal(server.connections, 2);
    leave(f, &server);
}

/* A loop that was held up finds its own delay, not Redis's. */
static void a_busy_loop_is_not_an_outage(void **state) {
    (void)state;
    struct server server = {.manner = ANSWERS};
    struct fixture *f = visit(&server, "");
    await_connected(f, true, 2000);
    struct got got = {0};
    ask_into(f, &got, WORDS("GET", "k"));
    usleep(2500000);
    await(f, &got.count, 1, 3000);
    assert_int_equal(got.answer, LVT_ANSWER_OK);
    assert_int_equal(server.connections, 1);
    leave(f, &server);
}

static void comes_back_by_itself(void **state) {
    (void)state;
    struct server server = {.manner = ANSWERS};
    struct fixture *f = visit(&server, "");
    await_connected(f, true, 2000);
    for (int i = 0; i < 3; i++) {
        server_close(&server);
        await_connected(f, false, 2000);
        struct got got = {0};
        ask_into(f, &got, WORDS("GET", "k"));
        await(f, &got.count, 1, 1000);
        assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
        server_open(f, &server);
        await_connected(f, true, 6000);
        assert_string_equal(ASK(f, "PING").text, "PONG");
    }
    leave(f, &server);
}

static void a_wrong_password_is_the_hosts_to_tell(void **state) {
    (void)state;
    struct server server = {.manner = REFUSES_PASSWORD};
    struct fixture *f = visit(&server, ":secret@");
    struct got got = {0};
    ask_into(f, &got, WORDS("PING"));
    await(f, &got.count, 1, 3000);
    assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
    await(f, &server.connections, 4, 5000);
    struct lvt_cache_status status;
    lvt_cache_status(f->cache, &status);
    assert_true(status.refused && status.failed);
    assert_non_null(strstr(status.reason, "WRONGPASS"));
    assert_null(strstr(f->lines, "refuses us"));
    assert_null(strstr(status.reason, "secret"));
    server.manner = ANSWERS;
    await_connected(f, true, 6000);
    lvt_cache_status(f->cache, &status);
    assert_false(status.refused || status.failed);
    leave(f, &server);
}

static void a_replica_is_an_outage(void **state) {
    (void)state;
    struct server server = {.manner = IS_READONLY};
    struct fixture *f = visit(&server, "");
    await_connected(f, true, 2000);
    struct got got = {0};
    ask_into(f, &got, WORDS("SET", "k", "v"));
    ask_into(f, &got, WORDS("SET", "k", "v"));
    await(f, &got.count, 2, 3000);
    assert_int_equal(got.answer, LVT_ANSWER_OUTAGE);
    assert_non_null(strstr(f->lines, "read-only replica"));
    await(f, &server.connections, 2, 3000);
    leave(f, &server);
}

static void waiting_commands_are_bounded(void **state) {
    (void)state;
    struct server server = {.manner = HANGS_AFTER_GREETING};
    struct fixture *f = visit(&server, "");
    await_connected(f, true, 2000);
    struct got sent = {0}, over = {0};
    for (int i = 0; i < 10000; i++)
        ask_into(f, &sent, WORDS("GET", "k"));
    ask_into(f, &over, WORDS("GET", "k"));
    assert_true(await(f, &over.count, 1, 1000) < 500);
    assert_int_equal(over.answer, LVT_ANSWER_OUTAGE);
    assert_non_null(strstr(over.text, "too many"));
    await(f, &sent.count, 10000, 5000);
    assert_int_equal(sent.count, 10000);
    leave(f, &server);
}

struct asker {
    struct fixture *f;
    unsigned count, left;
};

static void ask_again(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                      const char *error) {
    struct asker *asker = ctx;
    const struct lvt_bytes argv[] = {LVT_LITERAL("GET"), LVT_LITERAL("k")};
    (void)answer, (void)reply, (void)error;
    asker->count++;
    if (asker->left-- > 0)
        asker->f->port.command(asker->f->port.self, argv, 2, ask_again, asker);
}

static void answers_may_ask_again(void **state) {
    (void)state;
    struct server server = {.manner = ANSWERS};
    struct fixture *f = visit(&server, "");
    struct asker asker = {.f = f, .left = 1000};
    const struct lvt_bytes argv[] = {LVT_LITERAL("GET"), LVT_LITERAL("k")};
    f->port.command(f->port.self, argv, 2, ask_again, &asker);
    await(f, &asker.count, 500, 5000);
    for (struct guest *guest = server.guests; guest; guest = guest->next)
        uv_close((uv_handle_t *)&guest->tcp, guest_free);
    await(f, &asker.count, 900, 5000);
    stop(f); /* what it asks for now is answered too */
    assert_int_equal(asker.count, 1001);
    server_close(&server);
    assert_int_equal(fixture_free(f), 0);
}

int main(void) {
#define LIVE(test) cmocka_unit_test_setup_teardown(test, setup_live, teardown_live)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_urls),
        LIVE(answers_commands),
        LIVE(refuses_what_would_break_others),
        LIVE(removes_by_pattern),
        LIVE(requests_share_the_next_pass),
        LIVE(many_patterns_at_once),
        LIVE(closing_answers_all),
        cmocka_unit_test(an_absent_server_is_an_outage_at_once),
        cmocka_unit_test(an_unknown_host_is_an_outage),
        cmocka_unit_test(a_server_that_accepts_and_hangs),
        cmocka_unit_test(a_server_that_hangs_later),
        cmocka_unit_test(a_busy_loop_is_not_an_outage),
        cmocka_unit_test(comes_back_by_itself),
        cmocka_unit_test(a_wrong_password_is_the_hosts_to_tell),
        cmocka_unit_test(a_replica_is_an_outage),
        cmocka_unit_test(waiting_commands_are_bounded),
        cmocka_unit_test(answers_may_ask_again),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
