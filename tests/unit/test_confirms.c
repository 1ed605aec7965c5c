/* Confirms, in whatever order and form the broker sends them. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <string.h>

#include "broker/confirms.h"

#define SIZE 4
#define PUBLISHES 16

static struct lvt_unconfirmed slots[SIZE];
static struct lvt_publish publishes[PUBLISHES];
static char answers[200]; /* "1+ 2-": by sequence number, what became of it */
static struct lvt_confirms confirms;

static void on_answer(void *ctx, struct lvt_publish *publish, enum lvt_publish_result result,
                      const char *reason) {
    static const char marks[] = {[LVT_PUBLISH_CONFIRMED] = '+',
                                 [LVT_PUBLISH_RETURNED] = '~',
                                 [LVT_PUBLISH_REFUSED] = '-',
                                 [LVT_PUBLISH_DROPPED] = '0'};
    size_t len = strlen(answers);
    (void)ctx;
    snprintf(publish->reason, sizeof publish->reason, "%s", reason);
    snprintf(answers + len, sizeof answers - len, "%s%d%c", len ? " " : "",
             (int)(publish - publishes), marks[result]);
}

/* As if it had been sent. */
static void sent(int count) {
    while (count-- > 0) {
        assert_false(lvt_confirms_full(&confirms));
        slots[confirms.next % SIZE] =
            (struct lvt_unconfirmed){.publish = &publishes[confirms.next]};
        confirms.next++;
        confirms.in_flight++;
    }
}

static int begin(void **state) {
    (void)state;
    memset(slots, 0, sizeof slots);
    memset(publishes, 0, sizeof publishes);
    answers[0] = '\0';
    confirms = (struct lvt_confirms){.slots = slots, .size = SIZE, .answer = on_answer};
    lvt_confirms_reset(&confirms);
    for (int i = 0; i < PUBLISHES; i++)
        publishes[i].destination = (struct lvt_destination){
            .kind = LVT_TO_QUEUE, .name = i % 2 ? LVT_LITERAL("odd") : LVT_LITERAL("even")};
    return 0;
}

static void ack(uint64_t tag, bool multiple) {
    const amqp_basic_ack_t method = {.delivery_tag = tag, .multiple = multiple};
    lvt_confirms_ack(&confirms, &method);
}

static void nack(uint64_t tag, bool multiple) {
    const amqp_basic_nack_t method = {.delivery_tag = tag, .multiple = multiple};
    lvt_confirms_nack(&confirms, &method);
}

static void each_is_answered_once(void **state) {
    (void)state;
    sent(4);
    assert_true(lvt_confirms_full(&confirms));
    ack(2, false);
    ack(2, false);
    assert_true(lvt_confirms_full(&confirms)); /* until the first one is through */
    ack(1, false);
    sent(2);
    ack(5, true);
    nack(6, false);
    ack(4, true);
    assert_string_equal(answers, "2+ 1+ 3+ 4+ 5+ 6-");
    assert_int_equal(confirms.in_flight, 0);
    assert_false(lvt_confirms_wanted(&confirms));
}

static void tags_that_nobody_sent_mean_nothing(void **state) {
    (void)state;
    sent(2);
    ack(7, false);
    ack(0, false);
    nack(UINT64_MAX, false);
    assert_string_equal(answers, "");
    ack(UINT64_MAX, true);
    ack(1, false);
    sent(2);
    ack(0, true); /* all of them */
    assert_string_equal(answers, "1+ 2+ 3+ 4+");
}

static void a_return_comes_before_its_confirm(void **state) {
    struct lvt_incoming incoming = {.kind = LVT_INCOMING_RETURN,
                                    .reply_code = 312,
                                    .routing_key = {3, "odd"},
                                    .message_id = {2, "m3"}};
    (void)state;
    publishes[3].properties.message_id = LVT_LITERAL("m3");
    publishes[3].properties.present = LVT_HAS_MESSAGE_ID;
    sent(4);
    lvt_confirms_return(&confirms, &incoming);
    ack(4, true);
    assert_string_equal(answers, "1+ 2+ 3~ 4+");
    assert_string_equal(publishes[3].reason, "no queue took it: there is no queue \"odd\"");
}

static void a_return_names_the_way_that_led_nowhere(void **state) {
    struct lvt_incoming incoming = {.kind = LVT_INCOMING_RETURN,
                                    .reply_code = AMQP_NO_ROUTE,
                                    .exchange = {6, "events"},
                                    .routing_key = {3, "odd"}};
    (void)state;
    publishes[1].destination = (struct lvt_destination){
        .kind = LVT_TO_EXCHANGE, .name = LVT_LITERAL("events"), .routing_key = LVT_LITERAL("odd")};
    sent(1);
    lvt_confirms_return(&confirms, &incoming);
    ack(1, false);
    assert_string_equal(publishes[1].reason,
                        "no queue took it: none is bound to the exchange \"events\" with the key "
                        "\"odd\"");
}

static void what_has_no_answer_is_taken_back_in_order(void **state) {
    (void)state;
    sent(4);
    ack(2, false);
    atomic_store(&publishes[4].withdrawn, true);
    assert_true(lvt_confirms_wanted(&confirms));
    assert_ptr_equal(lvt_confirms_take_back(&confirms), &publishes[1]);
    assert_ptr_equal(lvt_confirms_take_back(&confirms), &publishes[3]);
    assert_false(lvt_confirms_wanted(&confirms));
    assert_ptr_equal(lvt_confirms_take_back(&confirms), &publishes[4]);
    assert_null(lvt_confirms_take_back(&confirms));
    assert_int_equal(confirms.in_flight, 0);
    sent(4);
    ack(8, true);
    assert_string_equal(answers, "2+ 5+ 6+ 7+ 8+");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_is_answered_once, begin),
        cmocka_unit_test_setup(tags_that_nobody_sent_mean_nothing, begin),
        cmocka_unit_test_setup(a_return_comes_before_its_confirm, begin),
        cmocka_unit_test_setup(a_return_names_the_way_that_led_nowhere, begin),
        cmocka_unit_test_setup(what_has_no_answer_is_taken_back_in_order, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
