#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "broker/ack_window.h"

#define TAGS_MAX 5000

/* The broker's view: which tags are out. Fails where the broker would close the channel, and where
 * an ack reaches past unfinished work. */
struct broker {
    char out[TAGS_MAX + 1];  /* delivered, not acked */
    char done[TAGS_MAX + 1]; /* finished by its handler */
    unsigned acks, multiples;
    int fail_after; /* sends; -1: never */
};

static int on_ack(void *ctx, uint64_t tag, bool multiple) {
    struct broker *broker = ctx;
    if (broker->fail_after >= 0 && broker->fail_after-- == 0) {
        return -1;
    }
    assert_in_range(tag, 1, TAGS_MAX);
    assert_true(broker->out[tag]); /* or 406, unknown delivery tag */
    for (uint64_t i = multiple ? 1 : tag; i <= tag; i++) {
        if (broker->out[i]) {
            assert_true(broker->done[i]);
            broker->out[i] = 0;
        }
    }
    broker->acks++;
    broker->multiples += multiple;
    return 0;
}

struct fixture {
    struct lvt_ack_window window;
    struct broker broker;
};

static int set_up(void **state) {
    static const uint32_t prefetch[] = {100, 1000};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->broker.fail_after = -1;
    *state = fixture;
    for (size_t i = 0; i < 2; i++) {
        assert_true(lvt_ack_window_queue(&fixture->window, i, prefetch[i]));
    }
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    lvt_ack_window_free(&fixture->window);
    free(fixture);
    return 0;
}

static void deliver(struct fixture *fixture, uint64_t first, uint64_t last, size_t queue) {
    for (uint64_t tag = first; tag <= last; tag++) {
        assert_true(lvt_ack_window_add(&fixture->window, tag, queue));
        fixture->broker.out[tag] = 1;
    }
}

static void finish(struct fixture *fixture, uint64_t first, uint64_t last, uint64_t now_ms) {
    for (uint64_t tag = first; tag <= last; tag++) {
        fixture->broker.done[tag] = 1;
        lvt_ack_window_finish(&fixture->window, tag, now_ms);
    }
}

static void flush(struct fixture *fixture, uint64_t now_ms, bool all) {
    assert_int_equal(lvt_ack_window_flush(&fixture->window, now_ms, all, on_ack, &fixture->broker),
                     0);
}

static unsigned still_out(const struct fixture *fixture) {
    unsigned count = 0;
    for (size_t i = 1; i <= TAGS_MAX; i++) {
        count += (unsigned)fixture->broker.out[i];
    }
    return count;
}

static void test_a_batch_is_one_ack(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 90, 0);
    finish(fixture, 1, 80, 5);
    flush(fixture, 5, false);
    assert_int_equal(fixture->broker.acks, 1);
    assert_int_equal(fixture->broker.multiples, 1);
    assert_int_equal(still_out(fixture), 10);
    assert_int_equal(lvt_ack_window_wait_ms(&fixture->window, 5), -1);
}

static void test_one_alone_is_acked_singly(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 3, 0);
    finish(fixture, 1, 1, 0);
    flush(fixture, 0, false);
    assert_int_equal(fixture->broker.acks, 1);
    assert_int_equal(fixture->broker.multiples, 0);
}

static void test_never_past_unfinished_work(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 20, 0);
    finish(fixture, 1, 4, 0);
    finish(fixture, 6, 15, 0);
    flush(fixture, 0, false);
    assert_int_equal(still_out(fixture), 16);
    assert_int_equal(lvt_ack_window_wait_ms(&fixture->window, 40), LVT_ACK_GAP_MS - 40);
    finish(fixture, 5, 5, 50);
    flush(fixture, 50, false);
    assert_int_equal(still_out(fixture), 5);
    assert_int_equal(fixture->broker.acks, 2);
}

static void test_a_gap_that_is_old_is_left_behind(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 10, 0);
    finish(fixture, 2, 10, 1000);
    flush(fixture, 1000 + LVT_ACK_GAP_MS - 1, false);
    assert_int_equal(still_out(fixture), 10);
    assert_int_equal(lvt_ack_window_wait_ms(&fixture->window, 1000 + LVT_ACK_GAP_MS), 0);
    flush(fixture, 1000 + LVT_ACK_GAP_MS, false);
    assert_int_equal(still_out(fixture), 1);
    assert_int_equal(fixture->broker.multiples, 0);
    finish(fixture, 1, 1, 2000);
    flush(fixture, 2000, false);
    assert_int_equal(still_out(fixture), 0);
}

static void test_a_quarter_of_the_window_does_not_wait(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 60, 0);
    finish(fixture, 2, 26, 0);
    flush(fixture, 0, false);
    assert_int_equal(still_out(fixture), 60); /* a quarter, not over it */
    finish(fixture, 27, 27, 0);
    flush(fixture, 0, false);
    assert_int_equal(still_out(fixture), 34);
}

static void test_few_gather_while_the_window_is_full(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 60, 0);
    finish(fixture, 1, 12, 0);
    flush(fixture, 0, false);
    assert_int_equal(still_out(fixture), 60);
    assert_int_equal(lvt_ack_window_wait_ms(&fixture->window, 0), LVT_ACK_GATHER_MS);
    finish(fixture, 13, 13, 1);
    flush(fixture, 1, false);
    assert_int_equal(fixture->broker.acks, 1);
    assert_int_equal(still_out(fixture), 47); /* the half is free: no ack waits any more */
    finish(fixture, 14, 14, 20);
    flush(fixture, 20, false);
    assert_int_equal(still_out(fixture), 46);
}

static void test_what_gathers_does_not_wait_for_ever(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 60, 0);
    finish(fixture, 1, 1, 1000);
    finish(fixture, 3, 3, 1001);
    flush(fixture, 1000 + LVT_ACK_GATHER_MS - 1, false);
    assert_int_equal(still_out(fixture), 60);
    flush(fixture, 1000 + LVT_ACK_GATHER_MS, false);
    assert_int_equal(still_out(fixture), 59);
    assert_int_equal(lvt_ack_window_wait_ms(&fixture->window, 1000 + LVT_ACK_GATHER_MS),
                     LVT_ACK_GAP_MS - LVT_ACK_GATHER_MS); /* the other is above a gap */
}

/* A full queue does not make another queue's acks small. */
static void test_queues_are_apart(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 1, 1);
    deliver(fixture, 2, 40, 0);
    deliver(fixture, 41, 80, 1);
    finish(fixture, 2, 80, 0);
    flush(fixture, 0, false);
    assert_int_equal(still_out(fixture), 1 + 40);
    assert_int_equal(fixture->broker.acks, 39);
}

/* A multiple ack after single ones must name a tag that is still out. */
static void test_multiple_names_a_tag_that_is_out(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 10, 0);
    finish(fixture, 5, 10, 0);
    flush(fixture, 200, false);
    assert_int_equal(still_out(fixture), 4);
    finish(fixture, 1, 4, 300);
    flush(fixture, 300, false);
    assert_int_equal(still_out(fixture), 0);
    assert_int_equal(fixture->window.count, 0);
}

static void test_unknown_and_repeated_tags_are_ignored(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 10, 12, 0);
    deliver(fixture, 20, 22, 0); /* with a hole: rejected ones are never added */
    lvt_ack_window_finish(&fixture->window, 9, 0);
    lvt_ack_window_finish(&fixture->window, 15, 0);
    lvt_ack_window_finish(&fixture->window, 23, 0);
    finish(fixture, 10, 10, 0);
    finish(fixture, 10, 10, 0);
    flush(fixture, 0, false);
    finish(fixture, 10, 10, 0);
    flush(fixture, 0, true);
    assert_int_equal(fixture->broker.acks, 1);
    assert_int_equal(still_out(fixture), 5);
}

static void test_all_sends_all(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 10, 0);
    finish(fixture, 1, 3, 0);
    finish(fixture, 5, 6, 0);
    flush(fixture, 0, true);
    assert_int_equal(still_out(fixture), 5);
}

static void test_one_slow_tag_does_not_grow_the_window(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 1, 0);
    for (uint64_t tag = 2; tag < TAGS_MAX - 50; tag += 50) {
        deliver(fixture, tag, tag + 49, 0);
        finish(fixture, tag, tag + 49, tag);
        flush(fixture, tag, false);
        assert_int_equal(still_out(fixture), 1);
    }
    assert_in_range(fixture->window.size, 1, 512);
}

static void test_a_failed_send_is_told(void **state) {
    struct fixture *fixture = *state;
    deliver(fixture, 1, 10, 0);
    finish(fixture, 1, 2, 0);
    fixture->broker.fail_after = 0;
    assert_int_equal(lvt_ack_window_flush(&fixture->window, 0, true, on_ack, &fixture->broker), -1);
}

static void test_any_order(void **state) {
    struct fixture *fixture = *state;
    uint64_t delivered = 0, now_ms = 0;
    srand(7);
    while (delivered < TAGS_MAX || still_out(fixture) > 0) {
        now_ms += (uint64_t)rand() % 30;
        for (int i = rand() % 20; i > 0 && delivered < TAGS_MAX; i--) {
            delivered++;
            deliver(fixture, delivered, delivered, (size_t)rand() % 2);
        }
        for (int i = rand() % 40; i > 0 && delivered > 0; i--) {
            uint64_t tag = delivered - (uint64_t)rand() % (delivered < 90 ? delivered : 90);
            finish(fixture, tag, tag, now_ms);
        }
        if (delivered == TAGS_MAX) {
            finish(fixture, 1, TAGS_MAX, now_ms);
        }
        flush(fixture, now_ms, rand() % 50 == 0);
        assert_true(fixture->window.waiting <= fixture->window.count);
    }
    assert_int_equal(fixture->window.count, 0);
    assert_int_equal(fixture->window.waiting, 0);
}

/* What was given back is nobody's to ack, and holds nothing up. */
static void test_dropped_tags(void **state) {
    struct fixture *fixture = *state;
    struct lvt_ack_window *window = &fixture->window;
    for (uint64_t tag = 1; tag <= 4; tag++) {
        assert_true(lvt_ack_window_add(window, tag, 0));
        fixture->broker.out[tag] = 1;
    }
    assert_true(lvt_ack_window_drop(window, 1));
    assert_false(lvt_ack_window_drop(window, 1));
    assert_false(lvt_ack_window_drop(window, 9));
    fixture->broker.out[1] = 0;
    lvt_ack_window_finish(window, 1, 0);
    for (uint64_t tag = 2; tag <= 3; tag++) {
        fixture->broker.done[tag] = 1;
        lvt_ack_window_finish(window, tag, 0);
    }
    assert_false(lvt_ack_window_drop(window, 2)); /* it is finished */
    assert_int_equal(lvt_ack_window_flush(window, 0, false, on_ack, &fixture->broker), 0);
    assert_int_equal(fixture->broker.acks, 1);
    assert_int_equal(fixture->broker.multiples, 1);
    assert_true(fixture->broker.out[4]);
    assert_int_equal(lvt_ack_window_wait_ms(window, 0), -1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_batch_is_one_ack),
        TEST(test_one_alone_is_acked_singly),
        TEST(test_never_past_unfinished_work),
        TEST(test_a_gap_that_is_old_is_left_behind),
        TEST(test_a_quarter_of_the_window_does_not_wait),
        TEST(test_few_gather_while_the_window_is_full),
        TEST(test_what_gathers_does_not_wait_for_ever),
        TEST(test_queues_are_apart),
        TEST(test_multiple_names_a_tag_that_is_out),
        TEST(test_unknown_and_repeated_tags_are_ignored),
        TEST(test_all_sends_all),
        TEST(test_one_slow_tag_does_not_grow_the_window),
        TEST(test_a_failed_send_is_told),
        TEST(test_any_order),
        TEST(test_dropped_tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
