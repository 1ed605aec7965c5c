/* HTTP over real sockets: the server is a small one on the same loop. */
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
#include <uv.h>

#include "http/http.h"

#define WAIT_MS 100
#define BIG (1 << 20)

struct fixture {
    uv_loop_t loop;
    struct lvt_http *http;
    struct lvt_http_port port;
    uv_tcp_t server;
    int server_port;
    unsigned connections;
    struct guest *guests;
};

/* ---- the server ---- */

struct guest {
    struct guest *next;
    struct fixture *f;
    uv_tcp_t tcp;
    uv_timer_t timer;
    unsigned handles;
    char request[8192];
    size_t len;
};

static void guest_closed(uv_handle_t *handle) {
    struct guest *guest = handle->data;
    if (--guest->handles > 0)
        return;
    struct guest **at = &guest->f->guests;
    while (*at != guest)
        at = &(*at)->next;
    *at = guest->next;
    free(guest);
}

static void guest_close(struct guest *guest) {
    if (uv_is_closing((uv_handle_t *)&guest->tcp))
        return;
    uv_close((uv_handle_t *)&guest->tcp, guest_closed);
    uv_close((uv_handle_t *)&guest->timer, guest_closed);
}

struct sending {
    uv_write_t write;
    char *text;
};

static void sent(uv_write_t *write, int status) {
    struct sending *sending = write->data;
    (void)status;
    free(sending->text);
    free(sending);
}

static void send_text(struct guest *guest, const char *head, size_t body_len, char fill) {
    struct sending *sending = malloc(sizeof *sending);
    size_t len = strlen(head);
    sending->text = malloc(len + body_len + 1);
    memcpy(sending->text, head, len);
    memset(sending->text + len, fill, body_len);
    sending->write.data = sending;
    uv_buf_t buffer = uv_buf_init(sending->text, (unsigned)(len + body_len));
    uv_write(&sending->write, (uv_stream_t *)&guest->tcp, &buffer, 1, sent);
}

static void send_ok(uv_timer_t *timer) {
    send_text(timer->data, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0, 0);
}

static void send_headers(struct guest *guest, unsigned count) {
    char head[16384] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
    size_t len = strlen(head);
    for (unsigned i = 0; i < count; i++)
        len += (size_t)sprintf(head + len, "X-H-%u:  v%u \r\n", i, i);
    strcpy(head + len, "\r\n");
    send_text(guest, head, 0, 0);
}

/* The request as it came is the body of the answer. */
static void send_echo(struct guest *guest) {
    char text[9000];
    snprintf(text, sizeof text, "HTTP/1.1 201 Created\r\nContent-Length: %zu\r\n\r\n%s", guest->len,
             guest->request);
    send_text(guest, text, 0, 0);
}

static void serve(struct guest *guest) {
    char path[64] = "";
    char head[128];
    sscanf(guest->request, "%*s %63s", path);
    if (strncmp(path, "/echo", 5) == 0)
        send_echo(guest);
    else if (strcmp(path, "/wait") == 0)
        uv_timer_start(&guest->timer, send_ok, WAIT_MS, 0);
    else if (strcmp(path, "/drop") == 0)
        guest_close(guest);
    else if (strcmp(path, "/many") == 0)
        send_headers(guest, 200);
    else if (strcmp(path, "/toomany") == 0)
        send_headers(guest, 300);
    else if (strcmp(path, "/continue") == 0)
        send_text(guest,
                  "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
                  "HTTP/1.1 204 No Content\r\nX-Late: 2\r\nset-cookie: a\r\nSet-Cookie: b\r\n"
                  "Empty:\r\n\r\n",
                  0, 0);
    else if (strcmp(path, "/moved") == 0)
        send_text(guest, "HTTP/1.1 302 Found\r\nLocation: /echo\r\nContent-Length: 0\r\n\r\n", 0,
                  0);
    else if (strcmp(path, "/limit") == 0 || strcmp(path, "/over") == 0) {
        size_t len = BIG + (strcmp(path, "/over") == 0);
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
        send_text(guest, head, len, 'x');
    } else if (strcmp(path, "/hang") != 0)
        send_text(guest, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", 0, 0);
}

static void allocate(uv_handle_t *handle, size_t size, uv_buf_t *buffer) {
    struct guest *guest = handle->data;
    (void)size;
    *buffer = uv_buf_init(guest->request + guest->len,
                          (unsigned)(sizeof guest->request - 1 - guest->len));
}

static void heard(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer) {
    struct guest *guest = stream->data;
    (void)buffer;
    if (len < 0) {
        guest_close(guest);
        return;
    }
    guest->len += (size_t)len;
    guest->request[guest->len] = 0;
    const char *end = strstr(guest->request, "\r\n\r\n");
    const char *length = strcasestr(guest->request, "content-length: ");
    size_t body_len = length ? (size_t)atol(length + 16) : 0;
    if (!end || guest->len < (size_t)(end + 4 - guest->request) + body_len)
        return;
    serve(guest);
    guest->len = 0;
}

static void visited(uv_stream_t *stream, int status) {
    struct fixture *f = stream->data;
    assert_int_equal(status, 0);
    struct guest *guest = calloc(1, sizeof *guest);
    guest->f = f;
    guest->next = f->guests;
    f->guests = guest;
    f->connections++;
    guest->handles = 2;
    uv_tcp_init(&f->loop, &guest->tcp);
    uv_timer_init(&f->loop, &guest->timer);
    guest->tcp.data = guest->timer.data = guest;
    assert_int_equal(uv_accept(stream, (uv_stream_t *)&guest->tcp), 0);
    uv_read_start((uv_stream_t *)&guest->tcp, allocate, heard);
}

/* ---- fixture ---- */

static int setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct sockaddr_in address;
    int len = sizeof address;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_ip4_addr("127.0.0.1", 0, &address);
    uv_tcp_init(&f->loop, &f->server);
    f->server.data = f;
    assert_int_equal(uv_tcp_bind(&f->server, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&f->server, 1024, visited), 0);
    uv_tcp_getsockname(&f->server, (struct sockaddr *)&address, &len);
    f->server_port = ntohs(address.sin_port);
    assert_int_equal(lvt_http_new(&f->loop, &f->http, NULL), LEVERET_OK);
    f->port = lvt_http_port(f->http);
    *state = f;
    return 0;
}

static void set_flag(void *ctx) {
    *(bool *)ctx = true;
}

static void never(void *ctx, const struct lvt_http_response *response, const char *error) {
    (void)ctx, (void)response, (void)error;
    fail();
}

static void http_close(struct fixture *f) {
    bool closed = false;
    lvt_http_close(f->http, set_flag, &closed);
    while (!closed)
        uv_run(&f->loop, UV_RUN_ONCE);
    const struct lvt_http_request late = {.url = LVT_LITERAL("http://127.0.0.1/")};
    f->port.request(f->port.self, &late, never, NULL);
    lvt_http_free(f->http);
    f->http = NULL;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    if (f->http)
        http_close(f);
    uv_close((uv_handle_t *)&f->server, NULL);
    for (struct guest *guest = f->guests; guest; guest = guest->next)
        guest_close(guest);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    int status = uv_loop_close(&f->loop);
    free(f);
    return status == 0 ? 0 : -1;
}

/* ---- requests ---- */

struct got {
    unsigned count, ok;
    int status;
    char *body;
    size_t body_len;
    char headers[16384];
    size_t header_count;
    char error[300];
};

static void got_answer(void *ctx, const struct lvt_http_response *response, const char *error) {
    struct got *got = ctx;
    got->count++;
    free(got->body);
    got->body = NULL;
    got->status = 0;
    got->headers[0] = got->error[0] = 0;
    if (!response) {
        snprintf(got->error, sizeof got->error, "%s", error);
        return;
    }
    got->ok++;
    got->status = response->status;
    got->body = strndup(response->body.data ? response->body.data : "", response->body.len);
    got->body_len = response->body.len;
    got->header_count = response->header_count;
    size_t len = 0;
    for (size_t i = 0; i < response->header_count; i++) {
        const struct lvt_http_header *header = &response->headers[i];
        len += (size_t)snprintf(got->headers + len, sizeof got->headers - len, "%.*s=%.*s\n",
                                (int)header->name.len, header->name.data, (int)header->value.len,
                                header->value.data);
    }
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

static void ask_into(struct fixture *f, struct got *got, const char *path,
                     struct lvt_http_request request) {
    char url[200];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", f->server_port, path);
    if (!request.url.data)
        request.url = lvt_bytes_of(url);
    if (request.timeout_ms == 0)
        request.timeout_ms = 5000;
    unsigned before = got->count;
    f->port.request(f->port.self, &request, got_answer, got);
    assert_int_equal(got->count, before); /* never before the call has returned */
    memset(url, 'x', sizeof url);         /* what was asked is copied */
}

static void ask(struct fixture *f, struct got *got, const char *path,
                struct lvt_http_request request) {
    unsigned before = got->count;
    ask_into(f, got, path, request);
    await(f, &got->count, before + 1, 6000);
    assert_int_equal(got->count, before + 1);
}

#define HAS(text, part) assert_non_null(strstr((text), (part)))
#define HAS_NOT(text, part) assert_null(strstr((text), (part)))

/* ---- tests ---- */

static void asks_and_answers(void **state) {
    struct fixture *f = *state;
    struct got got = {0};
    ask(f, &got, "/echo?a=b", (struct lvt_http_request){0});
    assert_int_equal(got.status, 201);
    HAS(got.body, "GET /echo?a=b HTTP/1.1\r\n");
    HAS_NOT(got.body, "Content-Type");
    HAS(got.headers, "content-length=");
    const struct lvt_http_header headers[] = {
        {LVT_LITERAL("Content-Type"), LVT_LITERAL("application/json")},
        {LVT_LITERAL("X-Empty"), LVT_LITERAL("")},
        {LVT_LITERAL("Authorization"), LVT_LITERAL("Bearer x: y")},
    };
    ask(f, &got, "/echo",
        (struct lvt_http_request){.method = LVT_LITERAL("POST"),
                                  .body = LVT_LITERAL("{\"a\":1}"),
                                  .headers = headers,
                                  .header_count = 3});
    HAS(got.body, "POST /echo HTTP/1.1\r\n");
    HAS(got.body, "\r\nContent-Type: application/json\r\n");
    HAS(got.body, "\r\nX-Empty:\r\n");
    HAS(got.body, "\r\nAuthorization: Bearer x: y\r\n");
    HAS(got.body, "\r\nContent-Length: 7\r\n");
    HAS(got.body, "\r\n\r\n{\"a\":1}");
    HAS_NOT(got.body, "Expect");
    HAS_NOT(got.body, "x-www-form-urlencoded");
    ask(f, &got, "/nothing", (struct lvt_http_request){0});
    assert_int_equal(got.status, 404);
    assert_string_equal(got.body, "none");
    assert_int_equal(f->connections, 1);
    free(got.body);
}

static void knows_methods(void **state) {
    struct fixture *f = *state;
    struct got got = {0};
    static const char *const methods[] = {"PUT", "PATCH", "DELETE", "OPTIONS", "GET", "PROPFIND"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        char line[64];
        snprintf(line, sizeof line, "%s /echo HTTP/1.1\r\n", methods[i]);
        struct lvt_http_request request = {.method = lvt_bytes_of(methods[i])};
        ask(f, &got, "/echo", request);
        HAS(got.body, line);
        assert_int_equal(strstr(got.body, "\r\nContent-Length: 0\r\n") != NULL, i < 2);
        request.body = LVT_LITERAL("with a body");
        ask(f, &got, "/echo", request);
        HAS(got.body, line);
        HAS(got.body, "\r\n\r\nwith a body");
    }
    ask(f, &got, "/none", (struct lvt_http_request){.method = LVT_LITERAL("HEAD")});
    assert_int_equal(got.status, 404);
    assert_int_equal(got.body_len, 0);
    assert_int_equal(f->connections, 1);
    free(got.body);
}

static void refuses_bad_requests(void **state) {
    struct fixture *f = *state;
    struct got got = {0};
    static const char *const urls[] = {
        "file:///etc/passwd",      "ftp://127.0.0.1/",     "gopher://127.0.0.1/",
        "http://127.0.0.1/\r\nX:", "http://[::1/",         "",
        "http://127.0.0.1:99999/", "http://name.invalid/",
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        ask(f, &got, "", (struct lvt_http_request){.url = lvt_bytes_of(urls[i])});
        assert_string_not_equal(got.error, "");
    }
    static const struct lvt_http_header wrong[] = {
        {{"A\r\nB", 4}, {"x", 1}},
        {{"A", 1}, {"x\r\nB: y", 7}},
        {{"A b", 3}, {"x", 1}},
        {{"", 0}, {"x", 1}},
        {{"Content-Length", 14}, {"99", 2}},
        {{"transfer-encoding", 17}, {"chunked", 7}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ask(f, &got, "/echo", (struct lvt_http_request){.headers = &wrong[i], .header_count = 1});
        assert_string_not_equal(got.error, "");
    }
    ask(f, &got, "/echo", (struct lvt_http_request){.method = LVT_LITERAL("GET /x")});
    HAS(got.error, "method");
    ask(f, &got, "/echo",
        (struct lvt_http_request){.method = LVT_LITERAL("HEAD"), .body = LVT_LITERAL("x")});
    HAS(got.error, "HEAD");
    ask(f, &got, "/echo", (struct lvt_http_request){0});
    assert_int_equal(got.status, 201);
    free(got.body);
}

static void reads_headers(void **state) {
    struct fixture *f = *state;
    struct got got = {0};
    ask(f, &got, "/many", (struct lvt_http_request){0});
    assert_int_equal(got.header_count, 201);
    HAS(got.headers, "\nx-h-199=v199\n");
    ask(f, &got, "/toomany", (struct lvt_http_request){0});
    HAS(got.error, "too many headers");
    ask(f, &got, "/continue", (struct lvt_http_request){0});
    assert_int_equal(got.status, 204);
    assert_string_equal(got.headers, "x-late=2\nset-cookie=a\nset-cookie=b\nempty=\n");
    free(got.body);
}

static void leaves_redirects_to_the_handler(void **state) {
    struct fixture *f = *state;
    struct got got = {0};
    ask(f, &got, "/moved", (struct lvt_http_request){0});
    assert_int_equal(got.status, 302);
    HAS(got.headers, "location=/echo\n");
    free(got.body);
}

static void bounds_bodies(void **state) {
    struct fixture *f = *state;
    struct got got = {0};
    ask(f, &got, "/limit", (struct lvt_http_request){0});
    assert_int_equal(got.status, 200);
    assert_int_equal(got.body_len, BIG);
    ask(f, &got, "/over", (struct lvt_http_request){0});
    HAS(got.error, "over 1 MiB");
    ask(f, &got, "/echo", (struct lvt_http_request){0});
    assert_int_equal(got.status, 201);
    free(got.body);
}

static void tells_failures(void **state) {
    struct fixture *f = *state;
    struct got got = {0};
    ask_into(f, &got, "/hang", (struct lvt_http_request){.timeout_ms = 300});
    uint64_t took_ms = await(f, &got.count, 1, 5000);
    assert_in_range(took_ms, 250, 1000);
    assert_string_not_equal(got.error, "");
    ask(f, &got, "/drop", (struct lvt_http_request){0});
    assert_string_not_equal(got.error, "");
    ask(f, &got, "", (struct lvt_http_request){.url = LVT_LITERAL("http://127.0.0.1:1/")});
    assert_string_not_equal(got.error, "");
    assert_null(got.body);
}

static void a_thousand_wait_together(void **state) {
    struct fixture *f = *state;
    struct got *got = calloc(1, sizeof *got);
    for (int round = 1; round <= 3; round++) {
        for (int i = 0; i < 1000; i++)
            ask_into(f, got, "/wait", (struct lvt_http_request){.timeout_ms = 20000});
        await(f, &got->count, (unsigned)round * 1000, 20000);
        assert_int_equal(got->ok, round * 1000);
    }
    assert_in_range(f->connections, 1, 1000);
    free(got->body);
    free(got);
}

static void closing_answers_all(void **state) {
    struct fixture *f = *state;
    struct got got = {0};
    ask(f, &got, "/echo", (struct lvt_http_request){0});
    for (int i = 0; i < 20; i++)
        ask_into(f, &got, "/hang", (struct lvt_http_request){0});
    ask_into(f, &got, "", (struct lvt_http_request){.url = LVT_LITERAL("nonsense://")});
    await(f, &got.count, 2, 100);
    http_close(f);
    assert_int_equal(got.count, 22);
    HAS(got.error, "closing");
    free(got.body);
}

int main(void) {
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_SERVER(asks_and_answers),
        WITH_SERVER(knows_methods),
        WITH_SERVER(refuses_bad_requests),
        WITH_SERVER(reads_headers),
        WITH_SERVER(leaves_redirects_to_the_handler),
        WITH_SERVER(bounds_bodies),
        WITH_SERVER(tells_failures),
        WITH_SERVER(a_thousand_wait_together),
        WITH_SERVER(closing_answers_all),
    };
    signal(SIGPIPE, SIG_IGN);
    setenv("no_proxy", "*", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
