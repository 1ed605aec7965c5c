/* The ports in memory, where the engine's tests do not reach. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>

#include "memory/glob.h"
#include "memory/memory_broker.h"
#include "memory/memory_cache.h"
#include "memory/memory_records.h"

static bool fits(const char *pattern, const char *text) {
    return lvt_glob_matches(lvt_bytes_of(pattern), lvt_bytes_of(text));
}

static void globs_are_redis_s(void **state) {
    (void)state;
    assert_true(fits("tickets:*", "tickets:"));
    assert_true(fits("tickets:*:list", "tickets:1:2:list"));
    assert_false(fits("tickets:*:list", "tickets:1:2:lists"));
    assert_true(fits("*", ""));
    assert_true(fits("", ""));
    assert_false(fits("", "a"));
    assert_true(fits("**a**", "bab"));
    assert_true(fits("h?llo", "hello"));
    assert_false(fits("h?llo", "hllo"));
    assert_true(fits("h[ae]llo", "hallo"));
    assert_false(fits("h[ae]llo", "hillo"));
    assert_true(fits("h[^e]llo", "hallo"));
    assert_false(fits("h[^e]llo", "hello"));
    assert_true(fits("[a-c]", "b"));
    assert_true(fits("[c-a]", "b"));
    assert_false(fits("[a-c]", "d"));
    assert_true(fits("[\\]]", "]"));
    assert_true(fits("[a-]", "-"));
    assert_true(fits("a\\*b", "a*b"));
    assert_false(fits("a\\*b", "axb"));
    assert_true(fits("a\\", "a\\"));
    assert_true(fits("[ab", "a"));
    assert_false(fits("[ab", "c"));
    assert_true(fits("*[0-9]", "a1b2"));
}

static void many_stars_do_not_explode(void **state) {
    static char text[5000];
    (void)state;
    memset(text, 'a', sizeof text - 1);
    assert_false(fits("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
}

static const unsigned char *key(uint32_t number) {
    static unsigned char bytes[LVT_KEY_BYTES];
    memcpy(bytes, &number, sizeof number);
    return bytes;
}

static void oldest_records_go_first(void **state) {
    struct lvt_records records;
    (void)state;
    lvt_records_init(&records, 3000);
    for (uint32_t i = 0; i < 10000; i++) {
        assert_true(lvt_records_add(&records, key(i)));
        assert_true(lvt_records_add(&records, key(i))); /* once */
    }
    for (uint32_t i = 0; i < 10000; i++)
        assert_int_equal(lvt_records_has(&records, key(i)), i >= 7000);
    assert_int_equal(records.count, 3000);
    lvt_records_free(&records);
}

/* ---- cache ---- */

struct heard {
    unsigned answers;
    enum lvt_answer answer;
    enum lvt_reply_kind kind;
    int64_t integer;
    char text[160];
};

static void replied(void *ctx, enum lvt_answer answer, const struct lvt_reply *reply,
                    const char *error) {
    struct heard *heard = ctx;
    heard->answers++;
    heard->answer = answer;
    if (answer != LVT_ANSWER_OK) {
        snprintf(heard->text, sizeof heard->text, "%s", error);
        return;
    }
    heard->kind = reply->kind;
    heard->integer = reply->integer;
    snprintf(heard->text, sizeof heard->text, "%.*s", (int)reply->text.len, reply->text.data);
}

static struct heard run(struct lvt_memory_cache *cache, const char *line) {
    struct lvt_cache_port port = lvt_memory_cache_port(cache);
    struct lvt_bytes argv[8];
    struct heard heard = {0};
    char copy[128];
    size_t argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = lvt_bytes_of(word);
    port.command(port.self, argv, argc, replied, &heard);
    assert_int_equal(heard.answers, 0); /* not before it has returned */
    assert_true(lvt_memory_cache_pending(cache));
    lvt_memory_cache_poll(cache);
    assert_int_equal(heard.answers, 1);
    assert_false(lvt_memory_cache_pending(cache));
    return heard;
}

static void commands_answer_as_redis_does(void **state) {
    struct lvt_memory_cache *cache;
    struct heard heard;
    (void)state;
    assert_int_equal(lvt_memory_cache_new(&cache, NULL), LEVERET_OK);
    assert_int_equal(run(cache, "GET a").kind, LVT_REPLY_NIL);
    heard = run(cache, "set a one");
    assert_int_equal(heard.kind, LVT_REPLY_STATUS);
    assert_string_equal(heard.text, "OK");
    heard = run(cache, "GET a");
    assert_int_equal(heard.kind, LVT_REPLY_STRING);
    assert_string_equal(heard.text, "one");
    run(cache, "SET a two");
    assert_string_equal(run(cache, "GET a").text, "two");
    assert_int_equal(run(cache, "EXISTS a a b").integer, 2);
    assert_int_equal(run(cache, "INCR n").integer, 1);
    assert_int_equal(run(cache, "INCRBY n -11").integer, -10);
    assert_string_equal(run(cache, "GET n").text, "-10");
    assert_int_equal(run(cache, "DEL a b n").integer, 2);
    assert_int_equal(run(cache, "UNLINK a").integer, 0);
    lvt_memory_cache_free(cache);
}

static void commands_that_fail_say_why(void **state) {
    struct lvt_memory_cache *cache;
    struct heard heard;
    (void)state;
    assert_int_equal(lvt_memory_cache_new(&cache, NULL), LEVERET_OK);
    heard = run(cache, "ZADD a 1 b");
    assert_int_equal(heard.answer, LVT_ANSWER_ERROR);
    assert_non_null(strstr(heard.text, "the embedded cache does not know the command ZADD"));
    heard = run(cache, "SET a b EX 10");
    assert_int_equal(heard.answer, LVT_ANSWER_ERROR);
    assert_non_null(strstr(heard.text, "SET"));
    run(cache, "SET a 9223372036854775807");
    assert_int_equal(run(cache, "INCR a").answer, LVT_ANSWER_ERROR);
    run(cache, "SET a 01");
    assert_int_equal(run(cache, "INCR a").answer, LVT_ANSWER_ERROR);
    assert_string_equal(run(cache, "GET a").text, "01");
    lvt_memory_cache_set_ready(cache, false);
    assert_int_equal(run(cache, "GET a").answer, LVT_ANSWER_OUTAGE);
    lvt_memory_cache_free(cache);
}

static void cache_is_bounded(void **state) {
    enum { SIZE = 1 << 20 };
    struct lvt_memory_cache *cache;
    struct lvt_cache_port port;
    struct heard heard = {0};
    char *value = calloc(1, SIZE), name[16];
    unsigned kept = 0;
    (void)state;
    assert_non_null(value);
    assert_int_equal(lvt_memory_cache_new(&cache, NULL), LEVERET_OK);
    port = lvt_memory_cache_port(cache);
    for (int i = 0; i < 100 && heard.answer == LVT_ANSWER_OK; i++, kept++) {
        snprintf(name, sizeof name, "k%d", i);
        const struct lvt_bytes argv[] = {LVT_LITERAL("SET"), lvt_bytes_of(name),
                                         lvt_bytes(value, SIZE)};
        port.command(port.self, argv, 3, replied, &heard);
        lvt_memory_cache_poll(cache);
    }
    assert_int_equal(kept, 64);
    assert_non_null(strstr(heard.text, "full"));
    assert_int_equal(run(cache, "DEL k0").integer, 1);
    assert_string_equal(run(cache, "SET k0 x").text, "OK");
    lvt_memory_cache_free(cache);
    free(value);
}

/* ---- broker ---- */

struct sink {
    struct lvt_delivery *deliveries;
    struct lvt_publish *answered;
    struct lvt_memory_broker *broker;
    struct lvt_broker_port port;
    struct lvt_timers timers;
    uint64_t now_ms;
};

static uint64_t now(void *self) {
    return ((struct sink *)self)->now_ms;
}

static void delivered(void *ctx, struct lvt_delivery *list) {
    struct lvt_delivery **last = &((struct sink *)ctx)->deliveries;
    while (*last)
        last = &(*last)->next;
    *last = list;
}

static void published(void *ctx, struct lvt_publish *list) {
    ((struct sink *)ctx)->answered = list;
}

static void sink_open(struct sink *sink, const struct lvt_routes *routes) {
    const struct lvt_memory_broker_options options = {
        routes,
        {.self = sink, .now_ms = now, .timers = &sink->timers},
        {sink, delivered, published}};
    assert_int_equal(lvt_memory_broker_new(&options, &sink->broker, NULL), LEVERET_OK);
    sink->port = lvt_memory_broker_port(sink->broker);
}

static void sink_close(struct sink *sink) {
    while (sink->deliveries) {
        struct lvt_delivery *next = sink->deliveries->next;
        lvt_delivery_free(sink->deliveries);
        sink->deliveries = next;
    }
    lvt_memory_broker_free(sink->broker);
    assert_int_equal(sink->timers.count, 0);
    lvt_timers_free(&sink->timers);
}

static struct lvt_queue queue = {
    .name = "q", .exchange = "x", .dead_letter = "dead", .handler_count = 1};
static struct lvt_queue *queues[] = {&queue};
static const struct lvt_routes routes = {.queues = queues, .queue_count = 1};

static void put(struct sink *sink, uint8_t priority, const char *body) {
    const struct lvt_properties properties = {.present = LVT_HAS_PRIORITY, .priority = priority};
    size_t taken = 0;
    assert_int_equal(lvt_memory_broker_publish(sink->broker, LVT_LITERAL(""), LVT_LITERAL("q"),
                                               &properties, lvt_bytes_of(body), &taken),
                     LEVERET_OK);
    assert_int_equal(taken, 1);
}

/* The bodies of what was delivered, one after the other. */
static const char *bodies(const struct sink *sink) {
    static char text[64];
    size_t len = 0;
    text[0] = '\0';
    for (const struct lvt_delivery *at = sink->deliveries; at; at = at->next)
        len += (size_t)snprintf(text + len, sizeof text - len, "%.*s", (int)at->body.len,
                                at->body.data);
    return text;
}

static void window_and_priorities_are_kept(void **state) {
    struct sink sink = {0};
    (void)state;
    queue.prefetch = 3;
    queue.max_priority = 5;
    sink_open(&sink, &routes);
    put(&sink, 0, "a");
    put(&sink, 0, "b");
    put(&sink, 9, "c"); /* as high as the queue has it */
    put(&sink, 5, "d");
    put(&sink, 1, "e");
    lvt_memory_broker_poll(sink.broker);
    assert_string_equal(bodies(&sink), "cde");
    assert_false(lvt_memory_broker_pending(sink.broker));
    sink.port.ack(sink.port.self, sink.deliveries);
    lvt_memory_broker_poll(sink.broker);
    assert_string_equal(bodies(&sink), "cde"); /* acks count once they are flushed */
    sink.port.flush(sink.port.self);
    assert_true(lvt_memory_broker_pending(sink.broker));
    lvt_memory_broker_poll(sink.broker);
    assert_string_equal(bodies(&sink), "cdea");
    sink_close(&sink);
    queue.max_priority = 0;
}

/* What was given back comes again, in its old order, before what came after it; a queue without
 * handlers keeps all. */
static void requeued_deliveries_come_again(void **state) {
    struct sink sink = {0};
    (void)state;
    queue.prefetch = 4;
    sink_open(&sink, &routes);
    for (const char *body = "abcde"; *body; body++)
        put(&sink, 0, (char[]){*body, '\0'});
    lvt_memory_broker_poll(sink.broker);
    assert_string_equal(bodies(&sink), "abcd");
    sink.port.requeue(sink.port.self, sink.deliveries->next);
    sink.port.requeue(sink.port.self, sink.deliveries->next->next);
    sink.port.ack(sink.port.self, sink.deliveries->next->next->next);
    queue.handler_count = 0;
    sink.port.flush(sink.port.self);
    assert_false(lvt_memory_broker_pending(sink.broker));
    queue.handler_count = 1;
    lvt_memory_broker_poll(sink.broker);
    assert_string_equal(bodies(&sink), "abcdbce");
    sink_close(&sink);
}

static void reconnect_gives_back_what_was_out(void **state) {
    struct sink sink = {0};
    struct lvt_memory_broker_status status;
    (void)state;
    queue.prefetch = 3;
    sink_open(&sink, &routes);
    put(&sink, 0, "a");
    put(&sink, 0, "b");
    put(&sink, 0, "c");
    put(&sink, 0, "d");
    lvt_memory_broker_poll(sink.broker);
    struct lvt_delivery *a = sink.deliveries, *b = a->next;
    sink.port.ack(sink.port.self, a);
    sink.port.flush(sink.port.self);
    sink.port.ack(sink.port.self, b); /* and lost before it was sent */
    lvt_memory_broker_disconnect(sink.broker);
    assert_false(sink.port.live(sink.port.self, b));
    lvt_memory_broker_reconnect(sink.broker);
    assert_false(sink.port.live(sink.port.self, b));
    lvt_memory_broker_poll(sink.broker);
    assert_string_equal(bodies(&sink), "abcbcd"); /* in their order */
    const struct lvt_delivery *again = b->next->next;
    assert_true(again->redelivered);
    assert_false(again->next->next->redelivered);
    assert_int_not_equal(again->epoch, b->epoch);
    assert_true(sink.port.live(sink.port.self, again));
    sink.port.ack(sink.port.self, b); /* stale: must not settle anything */
    sink.port.ack(sink.port.self, again);
    sink.port.ack(sink.port.self, again);
    sink.port.flush(sink.port.self);
    lvt_memory_broker_status(sink.broker, &status);
    assert_int_equal(status.unacked, 2);
    assert_int_equal(status.stale_acks, 1);
    assert_int_equal(status.unknown_acks, 1);
    sink_close(&sink);
}

static void publishes_are_answered_by_poll(void **state) {
    struct sink sink = {0};
    struct lvt_publish nowhere = {.destination = {.kind = LVT_TO_QUEUE, .name = LVT_LITERAL("?")}};
    struct lvt_publish dead = {.destination = {.kind = LVT_TO_QUEUE, .name = LVT_LITERAL("dead")}};
    struct lvt_publish later = {
        .destination = {.kind = LVT_TO_DELAY, .name = LVT_LITERAL("q"), .delay_ms = 100}};
    struct lvt_publish unbound = {.destination = {.kind = LVT_TO_EXCHANGE,
                                                  .name = LVT_LITERAL("x"),
                                                  .routing_key = LVT_LITERAL("none")}};
    (void)state;
    queue.prefetch = 3;
    sink_open(&sink, &routes);
    dead.body = LVT_LITERAL("D");
    later.body = LVT_LITERAL("L");
    sink.port.publish(sink.port.self, &nowhere);
    sink.port.publish(sink.port.self, &dead);
    sink.port.publish(sink.port.self, &later);
    sink.port.publish(sink.port.self, &unbound);
    assert_null(sink.answered);
    assert_false(lvt_memory_broker_idle(sink.broker));
    lvt_memory_broker_poll(sink.broker);
    assert_ptr_equal(sink.answered, &nowhere);
    assert_int_equal(nowhere.result, LVT_PUBLISH_RETURNED);
    assert_int_equal(dead.result, LVT_PUBLISH_CONFIRMED);
    assert_int_equal(later.result, LVT_PUBLISH_CONFIRMED);
    assert_int_equal(unbound.result, LVT_PUBLISH_RETURNED);
    assert_null(unbound.next);
    assert_true(lvt_bytes_is(lvt_memory_broker_dead_next(sink.broker, NULL)->body, "D"));
    assert_int_equal(lvt_memory_broker_count(sink.broker), 1);
    assert_false(lvt_memory_broker_pending(sink.broker));
    sink.now_ms = 100;
    lvt_timers_run(&sink.timers, sink.now_ms);
    lvt_memory_broker_poll(sink.broker);
    assert_string_equal(bodies(&sink), "L");
    sink_close(&sink);
}

static void oldest_dead_letters_go_first(void **state) {
    struct sink sink = {0};
    struct lvt_publish dead = {.destination = {.kind = LVT_TO_QUEUE, .name = LVT_LITERAL("dead")}};
    char body[16];
    size_t kept = 0;
    (void)state;
    sink_open(&sink, &routes);
    for (int i = 0; i < LVT_MEMORY_DEAD_MAX + 5; i++) {
        snprintf(body, sizeof body, "%d", i);
        dead.body = lvt_bytes_of(body);
        sink.port.publish(sink.port.self, &dead);
        lvt_memory_broker_poll(sink.broker);
    }
    const struct lvt_memory_message *at = lvt_memory_broker_dead_next(sink.broker, NULL);
    assert_true(lvt_bytes_is(at->body, "5"));
    for (; at; at = lvt_memory_broker_dead_next(sink.broker, at))
        kept++;
    assert_int_equal(kept, LVT_MEMORY_DEAD_MAX);
    assert_int_equal(lvt_memory_broker_dead_count(sink.broker), LVT_MEMORY_DEAD_MAX + 5);
    assert_true(lvt_memory_broker_idle(sink.broker));
    sink_close(&sink);
}

static void full_broker_says_so(void **state) {
    struct sink sink = {0};
    const struct lvt_properties properties = {0};
    size_t taken;
    (void)state;
    queue.prefetch = 3;
    sink_open(&sink, &routes);
    for (int i = 0; i < LVT_MEMORY_MESSAGES_MAX; i++)
        put(&sink, 0, "a");
    assert_int_equal(lvt_memory_broker_publish(sink.broker, LVT_LITERAL(""), LVT_LITERAL("q"),
                                               &properties, LVT_LITERAL("b"), &taken),
                     LEVERET_TOO_BIG);
    lvt_memory_broker_poll(sink.broker);
    sink.port.ack(sink.port.self, sink.deliveries);
    sink.port.flush(sink.port.self);
    put(&sink, 0, "b");
    sink_close(&sink);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs_are_redis_s),
        cmocka_unit_test(many_stars_do_not_explode),
        cmocka_unit_test(oldest_records_go_first),
        cmocka_unit_test(commands_answer_as_redis_does),
        cmocka_unit_test(commands_that_fail_say_why),
        cmocka_unit_test(cache_is_bounded),
        cmocka_unit_test(window_and_priorities_are_kept),
        cmocka_unit_test(requeued_deliveries_come_again),
        cmocka_unit_test(reconnect_gives_back_what_was_out),
        cmocka_unit_test(publishes_are_answered_by_poll),
        cmocka_unit_test(oldest_dead_letters_go_first),
        cmocka_unit_test(full_broker_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
