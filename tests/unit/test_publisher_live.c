/* The publisher of leveret.h: what it promises without a server, and, with RABBITMQ_URL set, from
 * several threads at once. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/connection.h"
#include "broker/declare.h"
#include "broker/url.h"
#include "broker/watchdog.h"
#include "leveret/leveret.h"

#define NOWHERE "amqp://user:secret@127.0.0.1:1/"
#define THREADS 4
#define EACH 1500

/* ---- a publisher, and its answers ---- */

struct tally {
    atomic_uint confirmed, refused, unavailable, other;
    char why[512], id[LEVERET_ID_SIZE];
};

static void count(void *ctx, int32_t code, struct leveret_text id, const char *why) {
    struct tally *tally = ctx;
    snprintf(tally->why, sizeof tally->why, "%s", why);
    snprintf(tally->id, sizeof tally->id, "%.*s", (int)id.len, id.data);
    switch (code) {
    case LEVERET_OK:
        atomic_fetch_add(&tally->confirmed, 1);
        break;
    case LEVERET_REFUSED:
        atomic_fetch_add(&tally->refused, 1);
        break;
    case LEVERET_UNAVAILABLE:
        atomic_fetch_add(&tally->unavailable, 1);
        break;
    default:
        atomic_fetch_add(&tally->other, 1);
        break;
    }
}

static struct leveret_publisher *publisher_at(const char *url) {
    struct leveret_config *config;
    struct leveret_publisher *publisher;
    struct leveret_error err;
    assert_int_equal(leveret_config_new(&config, &err), LEVERET_OK);
    assert_int_equal(leveret_config_set(config, "rabbitmq.url", url, &err), LEVERET_OK);
    if (leveret_publisher_new(config, NULL, NULL, &publisher, &err) != LEVERET_OK)
        fail_msg("%s", err.text);
    leveret_config_free(config);
    return publisher;
}

static struct leveret_outgoing event_for(const char *queue) {
    struct leveret_outgoing outgoing =
        leveret_outgoing(leveret_text_of("a.test"), leveret_text_of("{\"n\":1}"));
    outgoing.queue = leveret_text_of(queue);
    return outgoing;
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- without a server ---- */

static void without_a_broker_it_fails_fast(void **state) {
    struct leveret_publisher *publisher = publisher_at(NOWHERE);
    struct leveret_outgoing outgoing = event_for("q");
    struct leveret_error err;
    (void)state;
    double began_s = now_s();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(leveret_publisher_publish_wait(publisher, &outgoing, 0, NULL, &err),
                         LEVERET_UNAVAILABLE);
        assert_non_null(strstr(err.text, "cannot reach RabbitMQ"));
        assert_null(strstr(err.text, "secret"));
    }
    assert_true(now_s() - began_s < 10);
    assert_false(leveret_publisher_ready(publisher));
    leveret_publisher_free(publisher);
}

static void without_a_broker_it_waits_for_the_deadline(void **state) {
    struct leveret_publisher *publisher = publisher_at(NOWHERE);
    struct leveret_outgoing outgoing = event_for("q");
    struct leveret_error err;
    (void)state;
    double began_s = now_s();
    assert_int_equal(leveret_publisher_publish_wait(publisher, &outgoing, 500, NULL, &err),
                     LEVERET_UNAVAILABLE);
    assert_true(now_s() - began_s > 0.49); /* its clock has milliseconds */
    leveret_publisher_free(publisher);
}

static void what_is_out_at_the_end_is_answered(void **state) {
    struct leveret_publisher *publisher = publisher_at(NOWHERE);
    struct leveret_outgoing outgoing = event_for("q");
    struct leveret_error err;
    struct tally tally = {0};
    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(
            leveret_publisher_publish(publisher, &outgoing, LEVERET_FOREVER, count, &tally, &err),
            LEVERET_OK);
    assert_false(leveret_publisher_drain(publisher, 10));
    leveret_publisher_free(publisher);
    assert_int_equal(tally.unavailable, 10);
}

static void there_is_room_for_so_many(void **state) {
    struct leveret_publisher *publisher = publisher_at(NOWHERE);
    struct leveret_outgoing outgoing = event_for("q");
    struct leveret_error err;
    struct tally tally = {0};
    enum leveret_code code = LEVERET_OK;
    unsigned taken = 0;
    (void)state;
    while (code == LEVERET_OK && taken <= 10000) {
        code = leveret_publisher_publish(publisher, &outgoing, 20000, count, &tally, &err);
        taken += code == LEVERET_OK;
        if (taken == 10000)
            code = leveret_publisher_publish(publisher, &outgoing, 100, count, &tally, &err);
    }
    assert_int_equal(taken, 10000);
    assert_int_equal(code, LEVERET_UNAVAILABLE);
    leveret_publisher_free(publisher);
    assert_int_equal(tally.unavailable, 10000);
}

static void wrong(struct leveret_publisher *publisher, struct leveret_outgoing outgoing,
                  enum leveret_code code, const char *why) {
    struct leveret_error err;
    struct tally tally = {0};
    assert_int_equal(leveret_publisher_publish(publisher, &outgoing, 0, count, &tally, &err), code);
    if (!strstr(err.text, why))
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void wrong_events_are_refused_at_once(void **state) {
    struct leveret_publisher *publisher = publisher_at(NOWHERE);
    struct leveret_header header = {.name = leveret_text_of("a"), .kind = LEVERET_HEADER_NESTED};
    struct leveret_outgoing outgoing = event_for("q");
    (void)state;
    outgoing.size = 8;
    wrong(publisher, outgoing, LEVERET_INVALID, "leveret_outgoing()");
    outgoing = event_for("q");
    outgoing.payload = leveret_text_of("[1]");
    wrong(publisher, outgoing, LEVERET_MALFORMED, "not a JSON object");
    outgoing = event_for("q");
    outgoing.priority = -2;
    wrong(publisher, outgoing, LEVERET_INVALID, "priority");
    outgoing = event_for("q");
    outgoing.max_attempts = 1000000000;
    wrong(publisher, outgoing, LEVERET_INVALID, "max_attempts");
    outgoing = event_for("q");
    outgoing.delay_ms = 49ull * 86400000;
    wrong(publisher, outgoing, LEVERET_INVALID, "delay");
    outgoing = event_for("q");
    outgoing.headers = &header;
    outgoing.header_count = 1;
    wrong(publisher, outgoing, LEVERET_INVALID, "a text, a number or a boolean");
    leveret_publisher_free(publisher);
}

/* ---- with a server ---- */

static const char *server;
static char queue[64];
static struct lvt_amqp_url url;
static struct lvt_connection connection;
static struct lvt_watchdog watchdog;
static atomic_bool cancelled;

static int declare_queue(void **state) {
    struct leveret_error err;
    struct lvt_refusal refusal;
    struct lvt_arguments arguments = {0};
    (void)state;
    if (!server)
        return 0;
    snprintf(queue, sizeof queue, "test.publisher.%d", (int)getpid());
    const struct lvt_connection_options options = {
        .url = &url, .heartbeat_s = 30, .name = "test", .cancel = &cancelled};
    if (lvt_watchdog_init(&watchdog, &err) != LEVERET_OK)
        return -1;
    connection.watch = &watchdog.watches[0];
    if (lvt_amqp_url_parse(server, &url, &err) != LEVERET_OK ||
        lvt_connection_open(&connection, &options, &err) != LEVERET_OK) {
        print_error("%s\n", err.text);
        return -1;
    }
    lvt_argument_text(&arguments, "x-queue-type", "quorum");
    return lvt_declare_queue(&connection, queue, &arguments, &refusal, &err) != LEVERET_OK;
}

static int delete_queue(void **state) {
    (void)state;
    if (!server)
        return 0;
    amqp_queue_delete(connection.amqp, 1, amqp_cstring_bytes(queue), 0, 0);
    lvt_connection_close(&connection);
    lvt_watchdog_free(&watchdog);
    lvt_amqp_url_free(&url);
    return 0;
}

static uint32_t depth(void) {
    struct leveret_error err;
    struct lvt_refusal refusal;
    uint32_t messages = 0, consumers = 0;
    if (lvt_look_for_queue(&connection, queue, &messages, &consumers, &refusal, &err) != LEVERET_OK)
        fail_msg("%s", err.text);
    return messages;
}

struct part {
    pthread_t thread;
    struct leveret_publisher *publisher;
    struct tally *tally;
    atomic_uint failures;
};

static void *publish_part(void *arg) {
    struct part *part = arg;
    const struct leveret_outgoing outgoing = event_for(queue);
    struct leveret_error err;
    for (int i = 0; i < EACH; i++)
        if (leveret_publisher_publish(part->publisher, &outgoing, 30000, count, part->tally,
                                      &err) != LEVERET_OK)
            atomic_fetch_add(&part->failures, 1);
    return NULL;
}

static void several_threads_share_one(void **state) {
    struct part parts[THREADS] = {0};
    struct tally tally = {0};
    (void)state;
    if (!server)
        skip();
    struct leveret_publisher *publisher = publisher_at(server);
    for (int i = 0; i < THREADS; i++) {
        parts[i].publisher = publisher;
        parts[i].tally = &tally;
        assert_int_equal(pthread_create(&parts[i].thread, NULL, publish_part, &parts[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(parts[i].thread, NULL);
        assert_int_equal(parts[i].failures, 0);
    }
    assert_true(leveret_publisher_drain(publisher, 60000));
    assert_int_equal(tally.confirmed, THREADS * EACH);
    assert_int_equal(depth(), THREADS * EACH);
    leveret_publisher_free(publisher);
}

static void answers_tell_what_became_of_it(void **state) {
    struct leveret_error err;
    char id[LEVERET_ID_SIZE];
    (void)state;
    if (!server)
        skip();
    struct leveret_publisher *publisher = publisher_at(server);
    struct leveret_outgoing outgoing = event_for(queue);
    outgoing.id = leveret_text_of("own");
    assert_int_equal(leveret_publisher_publish_wait(publisher, &outgoing, 30000, id, &err),
                     LEVERET_OK);
    assert_string_equal(id, "own");
    assert_true(leveret_publisher_ready(publisher));
    outgoing = event_for("test.publisher.no.such.queue");
    assert_int_equal(leveret_publisher_publish_wait(publisher, &outgoing, 30000, id, &err),
                     LEVERET_REFUSED);
    assert_non_null(strstr(err.text, "there is no queue"));
    outgoing = event_for(NULL);
    outgoing.exchange = leveret_text_of("no.such.exchange");
    assert_int_equal(leveret_publisher_publish_wait(publisher, &outgoing, 30000, id, &err),
                     LEVERET_REFUSED);
    assert_non_null(strstr(err.text, "no.such.exchange"));
    /* and it goes on */
    outgoing = event_for(queue);
    assert_int_equal(leveret_publisher_publish_wait(publisher, &outgoing, 30000, id, &err),
                     LEVERET_OK);
    assert_int_equal(strlen(id), 36);
    leveret_publisher_free(publisher);
}

/* ---- who may write, and nothing else ---- */

static char server_of_writer[200];
static const char *writer;

static int declare_queue_of_writer(void **state) {
    writer = getenv("RABBITMQ_WRITER_URL");
    if (!server || !writer)
        return 0;
    snprintf(server_of_writer, sizeof server_of_writer, "%swriter", server);
    server = server_of_writer;
    if (declare_queue(state) != 0)
        return -1;
    /* The default exchange of publishers, which the user could not declare. */
    amqp_exchange_declare(connection.amqp, 1, amqp_cstring_bytes("opsdesk.events"),
                          amqp_cstring_bytes("topic"), 0, 1, 0, 0, amqp_empty_table);
    return amqp_get_rpc_reply(connection.amqp).reply_type == AMQP_RESPONSE_NORMAL ? 0 : -1;
}

static int delete_queue_of_writer(void **state) {
    if (!server || !writer)
        return 0;
    amqp_queue_delete(connection.amqp, 1, amqp_cstring_bytes("leveret.outgoing"), 0, 0);
    delete_queue(state);
    server = getenv("RABBITMQ_URL");
    return 0;
}

static void delay_of_writer_is(enum leveret_code code) {
    struct leveret_error err;
    struct tally plain = {0}, delayed = {0};
    struct leveret_publisher *publisher = publisher_at(writer);
    struct leveret_outgoing outgoing = event_for(queue);
    const uint32_t before = depth();
    for (int i = 0; i < 10; i++) {
        outgoing.delay_ms = i % 2 ? 3600000 : 0;
        assert_int_equal(leveret_publisher_publish(publisher, &outgoing, 30000, count,
                                                   i % 2 ? &delayed : &plain, &err),
                         LEVERET_OK);
    }
    assert_true(leveret_publisher_drain(publisher, 20000));
    assert_int_equal(plain.confirmed, 5);
    assert_int_equal(code == LEVERET_OK ? delayed.confirmed : delayed.refused, 5);
    if (code != LEVERET_OK)
        if (!strstr(delayed.why, "grant the user"))
            fail_msg("%s", delayed.why);
    /* and it goes on */
    outgoing.delay_ms = 0;
    assert_int_equal(leveret_publisher_publish_wait(publisher, &outgoing, 30000, NULL, &err),
                     LEVERET_OK);
    assert_int_equal(depth(), before + 6);
    leveret_publisher_free(publisher);
}

static void a_delay_needs_queues_that_somebody_has_declared(void **state) {
    struct leveret_error err;
    (void)state;
    if (!server || !writer)
        skip();
    delay_of_writer_is(LEVERET_REFUSED);
    struct leveret_publisher *publisher = publisher_at(server);
    struct leveret_outgoing outgoing = event_for(queue);
    outgoing.delay_ms = 3600000;
    if (leveret_publisher_publish_wait(publisher, &outgoing, 30000, NULL, &err) != LEVERET_OK)
        fail_msg("%s", err.text);
    leveret_publisher_free(publisher);
    delay_of_writer_is(LEVERET_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_broker_it_fails_fast),
        cmocka_unit_test(without_a_broker_it_waits_for_the_deadline),
        cmocka_unit_test(what_is_out_at_the_end_is_answered),
        cmocka_unit_test(there_is_room_for_so_many),
        cmocka_unit_test(wrong_events_are_refused_at_once),
        cmocka_unit_test_setup_teardown(several_threads_share_one, declare_queue, delete_queue),
        cmocka_unit_test_setup_teardown(answers_tell_what_became_of_it, declare_queue,
                                        delete_queue),
        cmocka_unit_test_setup_teardown(a_delay_needs_queues_that_somebody_has_declared,
                                        declare_queue_of_writer, delete_queue_of_writer),
    };
    server = getenv("RABBITMQ_URL");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
