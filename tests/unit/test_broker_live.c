/* The broker port: what can be judged without a server, and, with RABBITMQ_URL set, the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "broker/broker.h"
#include "broker/declare.h"
#include "broker/eventfd.h"
#include "broker/link.h"
#include "broker/url.h"

/* ---- without a server ---- */

static void assert_url(const char *text, bool tls, const char *user, const char *password,
                       const char *host, int port, const char *vhost) {
    struct lvt_amqp_url url;
    struct leveret_error err;
    assert_int_equal(lvt_amqp_url_parse(text, &url, &err), LEVERET_OK);
    assert_int_equal(url.tls, tls);
    assert_string_equal(url.user, user);
    assert_string_equal(url.password, password);
    assert_string_equal(url.host, host);
    assert_int_equal(url.port, port);
    assert_string_equal(url.vhost, vhost);
    lvt_amqp_url_free(&url);
}

static void test_urls(void **state) {
    (void)state;
    assert_url("amqp://", false, "guest", "guest", "localhost", 5672, "/");
    assert_url("amqp://h", false, "guest", "guest", "h", 5672, "/");
    assert_url("amqps://h/", true, "guest", "guest", "h", 5671, "/");
    assert_url("amqp://u:p@h:1/v", false, "u", "p", "h", 1, "v");
    assert_url("amqp://u@h/%2f", false, "u", "", "h", 5672, "/");
    assert_url("amqp://u:a%40b%C3%A4:c@[::1]:65535/%2Fa", false, "u", "a@b\xc3\xa4:c", "::1", 65535,
               "/a");
}

static void test_bad_urls(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "http://h",
        "amqp:/h",
        "amqp://h:",
        "amqp://h:x",
        "amqp://h:0",
        "amqp://h:65536",
        "amqp://[::1",
        "amqp://[::1]x",
        "amqp://h/a/b",
        "amqp://h/a?heartbeat=1",
        "amqp://secret%@h",
        "amqp://secret%4@h",
        "amqp://u:%00@h",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct lvt_amqp_url url;
        struct leveret_error err;
        assert_int_equal(lvt_amqp_url_parse(bad[i], &url, &err), LEVERET_CONFIG);
        assert_null(strstr(err.text, "secret"));
    }
}

static void assert_mismatch(const char *text, const char *argument, const char *wanted,
                            const char *found) {
    struct lvt_refusal refusal = {.code = 406};
    struct lvt_mismatch mismatch;
    snprintf(refusal.text, sizeof refusal.text, "%s", text);
    assert_true(lvt_mismatch_read(&refusal, &mismatch));
    assert_string_equal(mismatch.argument, argument);
    assert_string_equal(mismatch.wanted, wanted);
    assert_string_equal(mismatch.found, found);
}

static void test_mismatches(void **state) {
    (void)state;
    assert_mismatch(
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': "
        "received 'true' but current is 'false'",
        "durable", "'true'", "'false'");
    assert_mismatch(
        "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost "
        "'/': received the value 'quorum' of type 'longstr' but current is none",
        "x-queue-type", "'quorum'", "none");
    assert_mismatch(
        "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost "
        "'/': received none but current is the value '5' of type 'signedint'",
        "x-message-ttl", "none", "'5'");
    struct lvt_refusal other = {.code = 406, .text = "PRECONDITION_FAILED - invalid arg 'x'"};
    struct lvt_mismatch mismatch;
    assert_false(lvt_mismatch_read(&other, &mismatch));
}

static void test_backoff(void **state) {
    (void)state;
    uint32_t random = 1;
    for (unsigned failures = 1; failures < 50; failures++) {
        uint64_t least_ms = failures < 6 ? 1000u << (failures - 1) : 20000;
        least_ms = least_ms > 20000 ? 20000 : least_ms;
        for (int i = 0; i < 100; i++) {
            assert_in_range(lvt_backoff_ms(failures, &random), least_ms, least_ms * 3 / 2);
        }
    }
}

/* ---- with a server ---- */

struct live {
    char queue_name[64], other_name[80], dead_letter[64];
    struct lvt_queue queue, other; /* the threads have them until the broker is stopped */
    struct lvt_queue *queues[1], *both[2];
    struct lvt_routes routes;
    struct lvt_log log;
    struct lvt_broker *broker;
    struct lvt_broker_port port;
    int wake_fd;
    struct lvt_delivery *delivered, **delivered_end;
    unsigned delivered_count, answered_count;
};

static void wake(void *ctx) {
    struct live *live = ctx;
    eventfd_write(live->wake_fd, 1);
}

static void on_log(void *ctx, enum lvt_level level, const char *text,
                   const struct lvt_field *fields, size_t count) {
    (void)ctx, (void)level, (void)text, (void)fields, (void)count;
}

static void on_delivered(void *ctx, struct lvt_delivery *list) {
    struct live *live = ctx;
    *live->delivered_end = list;
    for (; list; list = list->next) {
        live->delivered_count++;
        live->delivered_end = &list->next;
    }
}

static void on_published(void *ctx, struct lvt_publish *list) {
    struct live *live = ctx;
    for (; list; list = list->next) {
        live->answered_count++;
    }
}

static int start(void **state) {
    struct live *live = calloc(1, sizeof *live);
    *state = live;
    const char *url = getenv("RABBITMQ_URL");
    if (!url) {
        return 0;
    }
    snprintf(live->queue_name, sizeof live->queue_name, "test.broker.%d", getpid());
    snprintf(live->dead_letter, sizeof live->dead_letter, "test.broker.%d.dead", getpid());
    live->queue = (struct lvt_queue){.name = live->queue_name,
                                     .dead_letter = live->dead_letter,
                                     .exchange = "",
                                     .handler_count = 1,
                                     .prefetch = 100};
    live->queues[0] = &live->queue;
    live->routes = (struct lvt_routes){.queues = live->queues, .queue_count = 1};
    live->log = (struct lvt_log){.sink = on_log};
    live->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    live->delivered_end = &live->delivered;
    struct lvt_broker_options options = {
        .url = url,
        .heartbeat_s = 10,
        .name = "test",
        .routes = &live->routes,
        .max_body_bytes = 1000,
        .log = &live->log,
        .sink = {.ctx = live, .delivered = on_delivered, .published = on_published},
        .wake = wake,
        .wake_ctx = live};
    struct leveret_error err;
    if (lvt_broker_new(&options, &live->broker, &err) != LEVERET_OK ||
        lvt_broker_start(live->broker, &err) != LEVERET_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    live->port = lvt_broker_port(live->broker);
    return 0;
}

static int stop(void **state) {
    struct live *live = *state;
    if (live->broker) {
        lvt_broker_stop(live->broker);
        lvt_broker_free(live->broker);
        close(live->wake_fd);
    }
    while (live->delivered) {
        struct lvt_delivery *next = live->delivered->next;
        lvt_delivery_free(live->delivered);
        live->delivered = next;
    }
    free(live);
    return 0;
}

static struct live *need_server(void **state) {
    struct live *live = *state;
    if (!live->broker) {
        skip();
    }
    return live;
}

/* Runs the loop until *count has reached `goal`. */
static void run_until(struct live *live, const unsigned *count, unsigned goal) {
    uint64_t due_ms = lvt_now_ms() + 20000;
    while (*count < goal && lvt_now_ms() < due_ms) {
        lvt_eventfd_wait(live->wake_fd, 100);
        lvt_broker_poll(live->broker);
    }
    assert_in_range(*count, goal, goal + 1000);
}

static unsigned is_consuming(struct live *live) {
    struct lvt_broker_queue queue;
    lvt_broker_queues(live->broker, &queue, 1);
    return queue.consuming;
}

static void wait_for_consumer(struct live *live) {
    uint64_t due_ms = lvt_now_ms() + 20000;
    while (!is_consuming(live) && lvt_now_ms() < due_ms) {
        lvt_eventfd_wait(live->wake_fd, 100);
        lvt_broker_poll(live->broker);
    }
    assert_true(is_consuming(live));
}

static void ack_all(struct live *live) {
    while (live->delivered) {
        struct lvt_delivery *next = live->delivered->next;
        live->port.ack(live->port.self, live->delivered);
        lvt_delivery_free(live->delivered);
        live->delivered = next;
    }
    live->delivered_end = &live->delivered;
    live->port.flush(live->port.self);
}

static struct lvt_publish to(enum lvt_destination_kind kind, const char *name, uint64_t delay_ms) {
    return (struct lvt_publish){
        .destination = {.kind = kind, .name = lvt_bytes_of(name), .delay_ms = delay_ms},
        .body = LVT_LITERAL("{}")};
}

static void test_a_window_goes_round_many_times(void **state) {
    struct live *live = need_server(state);
    enum { COUNT = 2000 };
    struct lvt_publish *publishes = calloc(COUNT, sizeof *publishes);
    wait_for_consumer(live);
    for (int i = 0; i < COUNT; i++) {
        publishes[i] = to(LVT_TO_QUEUE, live->queue_name, 0);
        live->port.publish(live->port.self, &publishes[i]);
    }
    live->port.flush(live->port.self);
    while (live->delivered_count < COUNT) {
        run_until(live, &live->delivered_count, live->delivered_count + 1);
        ack_all(live);
    }
    run_until(live, &live->answered_count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(publishes[i].result, LVT_PUBLISH_CONFIRMED);
    }
    assert_int_equal(live->delivered_count, COUNT);
    free(publishes);
}

static void test_a_delay_is_never_early(void **state) {
    struct live *live = need_server(state);
    wait_for_consumer(live);
    struct lvt_publish delayed = to(LVT_TO_DELAY, live->queue_name, 700);
    struct lvt_publish at_once = to(LVT_TO_DELAY, live->queue_name, 0);
    uint64_t began_ms = lvt_now_ms();
    live->port.publish(live->port.self, &delayed);
    live->port.publish(live->port.self, &at_once);
    live->port.flush(live->port.self);
    run_until(live, &live->delivered_count, 1);
    assert_in_range(lvt_now_ms() - began_ms, 0, 699);
    run_until(live, &live->delivered_count, 2);
    assert_in_range(lvt_now_ms() - began_ms, 700, 5000);
    run_until(live, &live->answered_count, 2);
    assert_int_equal(delayed.result, LVT_PUBLISH_CONFIRMED);
    ack_all(live);
}

/* One that makes the broker close the channel takes nobody down with it. */
static void test_answers_are_everybodys_own(void **state) {
    struct live *live = need_server(state);
    enum { COUNT = 60 };
    struct lvt_publish publishes[COUNT];
    char long_name[300] = "";
    memset(long_name, 'q', sizeof long_name - 1);
    wait_for_consumer(live);
    for (int i = 0; i < COUNT; i++) {
        static const enum lvt_destination_kind kinds[] = {LVT_TO_QUEUE, LVT_TO_QUEUE,
                                                          LVT_TO_EXCHANGE, LVT_TO_QUEUE};
        const char *names[] = {live->queue_name, "test.broker.nowhere", "test.broker.nothing",
                               long_name};
        publishes[i] = to(kinds[i % 4], names[i % 4], 0);
        live->port.publish(live->port.self, &publishes[i]);
    }
    live->port.flush(live->port.self);
    run_until(live, &live->answered_count, COUNT);
    static const enum lvt_publish_result results[] = {LVT_PUBLISH_CONFIRMED, LVT_PUBLISH_RETURNED,
                                                      LVT_PUBLISH_REFUSED, LVT_PUBLISH_REFUSED};
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(publishes[i].result, results[i % 4]);
    }
    assert_non_null(strstr(publishes[2].reason, "test.broker.nothing"));
    run_until(live, &live->delivered_count, COUNT / 4);
    ack_all(live);
}

/* Texts of the protocol may have any byte in them: a return is known by all of them. */
static void test_a_return_with_a_nul_in_it_is_no_confirm(void **state) {
    struct live *live = need_server(state);
    struct lvt_publish publish = to(LVT_TO_QUEUE, "test.broker.nowhere", 0);
    publish.destination.name = LVT_LITERAL("test.broker\0nowhere");
    publish.properties.present = LVT_HAS_MESSAGE_ID;
    publish.properties.message_id = LVT_LITERAL("a\0b");
    live->port.publish(live->port.self, &publish);
    live->port.flush(live->port.self);
    run_until(live, &live->answered_count, 1);
    assert_int_equal(publish.result, LVT_PUBLISH_RETURNED);
}

static void test_a_body_over_the_limit_goes_to_the_dead_letters(void **state) {
    struct live *live = need_server(state);
    static char body[300000];
    wait_for_consumer(live);
    struct lvt_publish big = to(LVT_TO_QUEUE, live->queue_name, 0);
    struct lvt_publish small = to(LVT_TO_QUEUE, live->queue_name, 0);
    big.body = lvt_bytes(body, sizeof body);
    live->port.publish(live->port.self, &big);
    live->port.publish(live->port.self, &small);
    live->port.flush(live->port.self);
    run_until(live, &live->delivered_count, 1);
    run_until(live, &live->answered_count, 2);
    assert_int_equal(live->delivered->body.len, 2);
    ack_all(live);
    struct lvt_broker_queue queues[2] = {0};
    uint64_t due_ms = lvt_now_ms() + 20000;
    while (queues[1].depth != 1 && lvt_now_ms() < due_ms) {
        lvt_eventfd_wait(live->wake_fd, 100);
        lvt_broker_queues(live->broker, queues, 2);
    }
    assert_string_equal(queues[1].name, live->dead_letter);
    assert_true(queues[1].dead_letter);
    assert_int_equal(queues[1].depth, 1);
    assert_int_equal(live->delivered_count, 1);
}

static void test_what_is_not_acked_comes_again(void **state) {
    struct live *live = need_server(state);
    wait_for_consumer(live);
    struct lvt_publish publish = to(LVT_TO_QUEUE, live->queue_name, 0);
    live->port.publish(live->port.self, &publish);
    live->port.flush(live->port.self);
    run_until(live, &live->delivered_count, 1);
    run_until(live, &live->answered_count, 1);
    assert_true(live->port.live(live->port.self, live->delivered));
    assert_ptr_equal(live->delivered->queue, &live->queue);
    stop(state);
    assert_int_equal(start(state), 0);
    live = *state;
    run_until(live, &live->delivered_count, 1);
    assert_true(live->delivered->redelivered);
    ack_all(live);
}

static void test_what_is_given_back_comes_again(void **state) {
    struct live *live = need_server(state);
    wait_for_consumer(live);
    struct lvt_publish publish = to(LVT_TO_QUEUE, live->queue_name, 0);
    live->port.publish(live->port.self, &publish);
    live->port.flush(live->port.self);
    run_until(live, &live->delivered_count, 1);
    run_until(live, &live->answered_count, 1);
    live->port.requeue(live->port.self, live->delivered);
    live->port.flush(live->port.self);
    run_until(live, &live->delivered_count, 2);
    assert_true(live->delivered->next->redelivered);
    assert_int_not_equal(live->delivered->tag, live->delivered->next->tag);
    live->port.ack(live->port.self, live->delivered->next);
    live->port.flush(live->port.self);
    run_until(live, &live->answered_count, 1);
}

static void update(struct live *live) {
    struct leveret_error err;
    assert_int_equal(lvt_broker_update(live->broker, &err), LEVERET_OK);
}

/* What a consumer that is gone has in hand can be settled; the queue is taken up again later. */
static void test_queues_come_and_go(void **state) {
    struct live *live = need_server(state);
    snprintf(live->other_name, sizeof live->other_name, "%s.other", live->queue_name);
    live->other = live->queue;
    live->other.name = live->other_name;
    live->both[0] = &live->queue;
    live->both[1] = &live->other;
    wait_for_consumer(live);
    struct lvt_publish publishes[3];
    publishes[0] = to(LVT_TO_QUEUE, live->queue_name, 0);
    live->port.publish(live->port.self, &publishes[0]);
    live->port.flush(live->port.self);
    run_until(live, &live->delivered_count, 1);

    live->queue.handler_count = 0;
    live->routes = (struct lvt_routes){.queues = live->both, .queue_count = 2};
    update(live);
    bool consuming = false;
    uint64_t due_ms = lvt_now_ms() + 20000;
    while (!consuming && lvt_now_ms() < due_ms) {
        struct lvt_broker_queue queues[8];
        lvt_eventfd_wait(live->wake_fd, 10);
        size_t count = lvt_broker_queues(live->broker, queues, 8);
        for (size_t i = 0; i < count && i < 8; i++) {
            consuming |= strcmp(queues[i].name, live->other_name) == 0 && queues[i].consuming;
            assert_string_not_equal(queues[i].name, live->queue_name);
        }
    }
    assert_true(consuming);
    publishes[1] = to(LVT_TO_QUEUE, live->queue_name, 0);
    live->port.publish(live->port.self, &publishes[1]);
    publishes[2] = to(LVT_TO_QUEUE, live->other_name, 0);
    live->port.publish(live->port.self, &publishes[2]);
    live->port.flush(live->port.self);
    run_until(live, &live->answered_count, 3);
    run_until(live, &live->delivered_count, 2);
    assert_ptr_equal(live->delivered->next->queue, &live->other);
    ack_all(live); /* also of the one that is not consumed any more */

    live->queue.handler_count = 1;
    live->queue.prefetch = 7;
    update(live);
    run_until(live, &live->delivered_count, 3);
    assert_ptr_equal(live->delivered->queue, &live->queue);
    assert_false(live->delivered->redelivered);
    live->queue.prefetch = 5; /* another consumer: the first one's delivery can still be acked */
    update(live);
    wait_for_consumer(live);
    ack_all(live);
}

int main(void) {
#define LIVE(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_bad_urls),
        cmocka_unit_test(test_mismatches),
        cmocka_unit_test(test_backoff),
        LIVE(test_a_window_goes_round_many_times),
        LIVE(test_a_delay_is_never_early),
        LIVE(test_answers_are_everybodys_own),
        LIVE(test_a_return_with_a_nul_in_it_is_no_confirm),
        LIVE(test_a_body_over_the_limit_goes_to_the_dead_letters),
        LIVE(test_what_is_not_acked_comes_again),
        LIVE(test_what_is_given_back_comes_again),
        LIVE(test_queues_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
