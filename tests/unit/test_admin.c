/* The pages over a real socket: a blocking client on libuv's threads, the pages on the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "admin/admin.h"

struct fixture {
    uv_loop_t loop;
    struct lvt_log log;
    char line[256];
    struct lvt_stats *stats;
    struct lvt_admin *admin;
    bool live, ready;
    const char *reason;
    struct lvt_queue_figures queues[3];
};

static void sink(void *ctx, enum lvt_level level, const char *text, const struct lvt_field *fields,
                 size_t field_count) {
    struct fixture *f = ctx;
    (void)level, (void)fields, (void)field_count;
    snprintf(f->line, sizeof f->line, "%s", text);
}

static void snapshot(void *ctx, struct lvt_snapshot *ret) {
    struct fixture *f = ctx;
    ret->stats = f->stats;
    ret->live = f->live;
    ret->ready = f->ready;
    snprintf(ret->reason, sizeof ret->reason, "%s", f->reason);
    ret->connected[0] = (struct lvt_connection_figures){"rabbitmq", true};
    ret->connected[1] = (struct lvt_connection_figures){"redis", false};
    ret->connected_count = 2;
    ret->queues = f->queues;
    ret->queue_count = 3;
    ret->uptime_s = 42;
}

static struct lvt_admin_options options_of(struct fixture *f, const char *listen_at) {
    return (struct lvt_admin_options){.listen = listen_at,
                                      .loop = &f->loop,
                                      .log = &f->log,
                                      .source = {.ctx = f, .snapshot = snapshot}};
}

static int setup_at(void **state, const char *listen_at) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    f->log = (struct lvt_log){.sink = sink, .ctx = f, .level = LVT_INFO};
    f->stats = lvt_stats_new(0);
    f->live = f->ready = true;
    f->reason = "";
    f->queues[0] = (struct lvt_queue_figures){"work \"one\"", false, 7, 1};
    f->queues[1] = (struct lvt_queue_figures){"tickets.dlq", true, 5, 0};
    f->queues[2] = (struct lvt_queue_figures){"unknown", false, -1, -1};
    const struct lvt_admin_options options = options_of(f, listen_at);
    struct leveret_error err;
    assert_int_equal(lvt_admin_start(&options, &f->admin, &err), LEVERET_OK);
    *state = f;
    return 0;
}

static int setup(void **state) {
    return setup_at(state, "127.0.0.1:0");
}

static void set_flag(void *ctx) {
    *(bool *)ctx = true;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    bool closed = false;
    lvt_admin_close(f->admin, set_flag, &closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    lvt_admin_free(f->admin);
    lvt_stats_free(f->stats);
    int status = uv_loop_close(&f->loop);
    free(f);
    return closed && status == 0 ? 0 : -1;
}

/* ---- the client ---- */

struct exchange {
    uv_work_t work;
    const char *request;
    int port;
    bool ipv6;
    size_t len;
    char answer[65536];
};

static void converse(uv_work_t *work) {
    struct exchange *exchange = work->data;
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)exchange->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)exchange->port),
                              .sin6_addr = in6addr_loopback};
    int fd = socket(exchange->ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    int status = exchange->ipv6 ? connect(fd, (struct sockaddr *)&v6, sizeof v6)
                                : connect(fd, (struct sockaddr *)&v4, sizeof v4);
    size_t len = strlen(exchange->request);
    if (status == 0 && send(fd, exchange->request, len, MSG_NOSIGNAL) == (ssize_t)len) {
        struct pollfd poll_ = {.fd = fd, .events = POLLIN};
        ssize_t got = 1;
        while (got > 0 && exchange->len < sizeof exchange->answer - 1 &&
               poll(&poll_, 1, 5000) == 1) {
            got = recv(fd, exchange->answer + exchange->len,
                       sizeof exchange->answer - 1 - exchange->len, 0);
            exchange->len += got > 0 ? (size_t)got : 0;
        }
    }
    close(fd);
}

static void conversed(uv_work_t *work, int status) {
    (void)status;
    uv_stop(work->loop);
}

/* The whole answer to a request, which asks for the connection's end. Static storage. */
static const char *say(struct fixture *f, const char *request) {
    static struct exchange exchange;
    exchange.request = request;
    exchange.len = 0;
    const char *address = lvt_admin_address(f->admin);
    exchange.ipv6 = address[0] == '[';
    exchange.port = atoi(strrchr(address, ':') + 1);
    exchange.work.data = &exchange;
    uv_queue_work(&f->loop, &exchange.work, converse, conversed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    exchange.answer[exchange.len] = 0;
    return exchange.answer;
}

static const char *ask(struct fixture *f, const char *method, const char *path) {
    char request[512];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
             method, path);
    return say(f, request);
}

#define HAS(answer, text) assert_non_null(strstr((answer), (text)))
#define HAS_NOT(answer, text) assert_null(strstr((answer), (text)))

/* ---- tests ---- */

static void serves_prometheus_text(void **state) {
    struct fixture *f = *state;
    char line[300];
    snprintf(line, sizeof line, "metrics on http://%s/metrics", lvt_admin_address(f->admin));
    assert_string_equal(f->line, line);
    struct lvt_bytes type = LVT_LITERAL("ticket.created");
    lvt_stats_count(f->stats, type, LVT_OUTCOME_PROCESSED);
    lvt_stats_count(f->stats, LVT_LITERAL("a\"b\\c\nd\xff"), LVT_OUTCOME_FAILED);
    lvt_stats_count_published(f->stats, LVT_LITERAL("out"), LVT_PUBLISH_CONFIRMED);
    lvt_stats_observe_handler(f->stats, type, "h", "abcdef012345", 3);
    lvt_stats_observe_handler(f->stats, type, "h", "abcdef012345", 1500);
    lvt_stats_observe_age(f->stats, type, 20);
    lvt_stats_count_reload(f->stats, "h", LVT_RELOAD_OK);
    f->stats->in_flight = 9;
    f->stats->events_without_id = 4;
    const char *answer = ask(f, "GET", "/metrics");
    HAS(answer, "HTTP/1.1 200 ");
    HAS(answer, "text/plain; version=0.0.4");
    HAS(answer, "# TYPE leveret_events_total counter\n");
    HAS(answer, "\nleveret_events_total{event=\"ticket.created\",outcome=\"processed\"} 1\n");
    HAS(answer, "\nleveret_events_total{event=\"ticket.created\",outcome=\"retried\"} 0\n");
    HAS(answer, "{event=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\",outcome=\"failed\"} 1\n");
    HAS(answer, "\nleveret_published_total{event=\"out\",outcome=\"confirmed\"} 1\n");
    HAS_NOT(answer, "leveret_events_total{event=\"out\"");
    HAS(answer, "# TYPE leveret_handler_seconds histogram\n");
    HAS(answer,
        "\nleveret_handler_seconds_bucket{event=\"ticket.created\",handler=\"h\",version="
        "\"abcdef012345\",le=\"0.002\"} 0\n");
    HAS(answer,
        "\nleveret_handler_seconds_bucket{event=\"ticket.created\",handler=\"h\",version="
        "\"abcdef012345\",le=\"0.005\"} 1\n");
    HAS(answer,
        "\nleveret_handler_seconds_bucket{event=\"ticket.created\",handler=\"h\",version="
        "\"abcdef012345\",le=\"1\"} 1\n");
    HAS(answer,
        "\nleveret_handler_seconds_bucket{event=\"ticket.created\",handler=\"h\",version="
        "\"abcdef012345\",le=\"2.5\"} 2\n");
    HAS(answer,
        "\nleveret_handler_seconds_bucket{event=\"ticket.created\",handler=\"h\",version="
        "\"abcdef012345\",le=\"+Inf\"} 2\n");
    HAS(answer,
        "\nleveret_handler_seconds_sum{event=\"ticket.created\",handler=\"h\",version="
        "\"abcdef012345\"} 1.503\n");
    HAS(answer,
        "\nleveret_handler_seconds_count{event=\"ticket.created\",handler=\"h\",version="
        "\"abcdef012345\"} 2\n");
    HAS(answer, "\nleveret_reloads_total{handler=\"h\",result=\"ok\"} 1\n");
    HAS(answer, "\nleveret_event_age_seconds_bucket{event=\"ticket.created\",le=\"86400\"} 1\n");
    HAS(answer, "\nleveret_in_flight 9\n");
    HAS(answer, "\nleveret_queue_depth{queue=\"work \\\"one\\\"\"} 7\n");
    HAS(answer, "\nleveret_queue_depth{queue=\"tickets.dlq\"} 5\n");
    HAS_NOT(answer, "queue=\"unknown\"");
    HAS(answer, "\nleveret_consumers{queue=\"tickets.dlq\"} 0\n");
    HAS(answer, "\nleveret_connected{to=\"rabbitmq\"} 1\n");
    HAS(answer, "\nleveret_connected{to=\"redis\"} 0\n");
    HAS(answer, "\nleveret_events_without_id_total 4\n");
    HAS(answer, "\nleveret_up{version=\"");
}

static void serves_the_seeds_counters(void **state) {
    struct fixture *f = *state;
    struct lvt_bytes type = LVT_LITERAL("t");
    lvt_stats_count(f->stats, type, LVT_OUTCOME_PROCESSED);
    lvt_stats_count(f->stats, type, LVT_OUTCOME_DUPLICATE);
    lvt_stats_count(f->stats, type, LVT_OUTCOME_DUPLICATE);
    const char *answer = ask(f, "GET", "/metrics.json");
    HAS(answer, "Content-Type: application/json\r\n");
    HAS(answer,
        "\r\n\r\n{\"processed\":1,\"failed\":0,\"retried\":0,\"duplicates\":2,"
        "\"queueDepth\":7,\"uptimeSeconds\":42}\n");
}

static void tells_health(void **state) {
    struct fixture *f = *state;
    HAS(ask(f, "GET", "/livez"), "HTTP/1.1 200 ");
    HAS(ask(f, "GET", "/readyz"), "\r\n\r\nok\n");
    f->ready = false;
    f->reason = "redis is away: Connection refused";
    const char *answer = ask(f, "GET", "/readyz");
    HAS(answer, "HTTP/1.1 503 ");
    HAS(answer, "\r\n\r\nredis is away: Connection refused\n");
    HAS(ask(f, "GET", "/livez"), "HTTP/1.1 200 ");
    f->live = false;
    HAS(ask(f, "GET", "/livez"), "HTTP/1.1 503 ");
}

static void knows_its_pages_and_methods(void **state) {
    struct fixture *f = *state;
    HAS(ask(f, "GET", "/"), "/metrics.json");
    HAS(ask(f, "GET", "/nothing"), "HTTP/1.1 404 ");
    HAS(ask(f, "GET", "/metrics/"), "HTTP/1.1 404 ");
    HAS(ask(f, "GET", "/livez?verbose=1"), "HTTP/1.1 200 ");
    const char *answer = ask(f, "POST", "/metrics");
    HAS(answer, "HTTP/1.1 405 ");
    HAS(answer, "Allow: GET, HEAD\r\n");
    answer = ask(f, "HEAD", "/metrics.json");
    HAS(answer, "HTTP/1.1 200 ");
    HAS(answer, "Content-Length: ");
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
}

static void survives_bad_requests(void **state) {
    struct fixture *f = *state;
    HAS_NOT(say(f, "nonsense\r\n\r\n"), "200 OK");
    say(f, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    say(f, "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    size_t size = 100000;
    char *request = malloc(size + 64);
    int head = sprintf(request, "GET / HTTP/1.1\r\nHost: x\r\nX-Big: ");
    memset(request + head, 'a', size);
    strcpy(request + (size_t)head + size - 60, "\r\nConnection: close\r\n\r\n");
    HAS_NOT(say(f, request), "200 OK");
    free(request);
    HAS(ask(f, "GET", "/livez"), "HTTP/1.1 200 ");
}

static void a_port_in_use_is_a_clear_error(void **state) {
    struct fixture *f = *state;
    const char *address = lvt_admin_address(f->admin);
    const struct lvt_admin_options options = options_of(f, address);
    struct lvt_admin *second = NULL;
    struct leveret_error err;
    assert_int_equal(lvt_admin_start(&options, &second, &err), LEVERET_CONFIG);
    assert_null(second);
    HAS(err.text, address);
    HAS(err.text, "admin.listen");
    HAS(err.text, "in use");
}

static void addresses_are_checked(void **state) {
    struct fixture *f = *state;
    static const char *const wrong[] = {
        "nonsense", "127.0.0.1", "127.0.0.1:",         "127.0.0.1:x",
        "::1:9464", "[::1]9464", "127.0.0.1:99999999", "256.0.0.1.:1x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const struct lvt_admin_options options = options_of(f, wrong[i]);
        struct lvt_admin *admin = NULL;
        struct leveret_error err = {0};
        assert_int_equal(lvt_admin_start(&options, &admin, &err), LEVERET_CONFIG);
        HAS(err.text, "admin.listen");
        assert_null(admin);
    }
    const struct lvt_admin_options none = options_of(f, "");
    struct lvt_admin *admin = f->admin;
    assert_int_equal(lvt_admin_start(&none, &admin, NULL), LEVERET_OK);
    assert_null(admin);
    assert_string_equal(lvt_admin_address(NULL), "");
    bool closed = false;
    lvt_admin_close(NULL, set_flag, &closed);
    assert_true(closed);
    lvt_admin_free(NULL);
}

static int setup_ipv6(void **state) {
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    bool there = fd >= 0 && bind(fd, (struct sockaddr *)&v6, sizeof v6) == 0;
    if (fd >= 0)
        close(fd);
    return setup_at(state, there ? "[::1]:0" : ":0");
}

static void serves_ipv6_where_there_is_any(void **state) {
    struct fixture *f = *state;
    HAS(ask(f, "GET", "/livez"), "HTTP/1.1 200 ");
}

static void closes_with_a_client_connected(void **state) {
    struct fixture *f = *state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in v4 = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(strrchr(lvt_admin_address(f->admin), ':') + 1)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&v4, sizeof v4), 0);
    assert_int_equal(send(fd, "GET / HT", 8, MSG_NOSIGNAL), 8);
    HAS(ask(f, "GET", "/livez"), "HTTP/1.1 200 ");
    bool closed = false;
    lvt_admin_close(f->admin, set_flag, &closed);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(closed);
    lvt_admin_free(f->admin);
    f->admin = NULL;
    char c;
    assert_int_equal(recv(fd, &c, 1, 0), 0);
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(serves_prometheus_text, setup, teardown),
        cmocka_unit_test_setup_teardown(serves_the_seeds_counters, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_health, setup, teardown),
        cmocka_unit_test_setup_teardown(knows_its_pages_and_methods, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_bad_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(a_port_in_use_is_a_clear_error, setup, teardown),
        cmocka_unit_test_setup_teardown(addresses_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(serves_ipv6_where_there_is_any, setup_ipv6, teardown),
        cmocka_unit_test_setup_teardown(closes_with_a_client_connected, setup, teardown),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
