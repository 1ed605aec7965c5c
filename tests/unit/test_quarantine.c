/* The engine under a supervisor, which is played here: what is written down of events, and what
 * becomes of those that are charged. */
#include "engine_fixture.h"

#include <signal.h>

static struct lvt_blackbox *box;
static struct lvt_charges *charges;
static struct world *world;
static struct script *script, *other;

static void make_world(void) {
    box = calloc(1, sizeof *box);
    charges = calloc(1, sizeof *charges);
    assert_non_null(box);
    assert_non_null(charges);
    lvt_blackbox_reset(box, 1000);
    world = world_new();
    world->box = box;
    world->charges = charges;
}

static int set_up(void **state) {
    (void)state;
    make_world();
    script = world_one(world, "a");
    return 0;
}

static int set_up_two(void **state) {
    (void)state;
    make_world();
    script = handler_add(world, handler_new(world, "a"));
    other = world_one(world, "b");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    world_free(world);
    free(box);
    free(charges);
    return 0;
}

static void accuse(const char *id, uint32_t attempt, uint32_t crashes) {
    struct lvt_charge charge = {.attempt = attempt,
                                .crashes = crashes,
                                .death = LVT_DEATH_SIGNAL,
                                .detail = SIGSEGV,
                                .used = true};
    key_of(script->handler->queue->name, "a", id, charge.key);
    lvt_charges_publish(charges, &charge, 1);
}

static size_t count_running(void) {
    size_t count = 0;
    for (uint32_t i = 0; i < atomic_load(&box->running_top); i++)
        count += atomic_load(&box->running[i].used);
    return count;
}

static void look_around(struct script *of, struct lvt_run *run) {
    const struct lvt_seat *seat = &box->seats[0];
    unsigned char key[LVT_KEY_BYTES];
    (void)of;
    key_of(run->handler->queue->name, "a", "1", key);
    assert_true(lvt_seat_busy(seat));
    assert_memory_equal(seat->subject.key, key, sizeof key);
    assert_string_equal(seat->subject.handler, "a");
    assert_string_equal(seat->subject.id, "1");
    assert_int_equal(seat->subject.attempt, 1);
    assert_int_equal(seat->limit_ms, 1000);
    assert_int_equal(count_running(), 1);
    finish(run, LVT_VERDICT_DONE, "");
    assert_true(lvt_seat_busy(seat)); /* still in the handler's code */
}

static void the_event_that_has_control_is_written_down(void **state) {
    (void)state;
    script->body = look_around;
    publish(world, "a", "1");
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
    assert_false(lvt_seat_busy(&box->seats[0]));
    assert_int_equal(atomic_load(&box->seats[0].turn), 2);
    assert_int_equal(count_running(), 0);
}

static void what_waits_is_running_but_not_on_the_processor(void **state) {
    (void)state;
    script->body = hold;
    publish(world, "a", "1");
    publish(world, "a", "2");
    go(world);
    assert_int_equal(count_running(), 2);
    assert_int_equal(atomic_load(&box->in_flight), 2);
    assert_false(lvt_seat_busy(&box->seats[0]));
    while (script->held_count > 0)
        finish(script->held[0], LVT_VERDICT_DONE, "");
    assert_int_equal(count_running(), 0);
    assert_int_equal(atomic_load(&box->in_flight), 2); /* not recorded yet */
    go(world);
    assert_int_equal(atomic_load(&box->in_flight), 0);
}

static void a_charge_counts_as_an_attempt(void **state) {
    (void)state;
    accuse("1", 1, 1);
    script->body = hold;
    publish(world, "a", "1");
    go(world);
    assert_int_equal(script->held_count, 1);
    assert_int_equal(script->held[0]->event->attempt, 2);
    assert_int_equal(atomic_load(&box->pardoned), 0);
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(atomic_load(&box->pardoned), 1); /* settled for good */
}

static void a_charge_stays_with_a_retry(void **state) {
    (void)state;
    accuse("1", 1, 1);
    script->body = hold;
    publish(world, "a", "1");
    go(world);
    finish(script->held[0], LVT_VERDICT_RETRY, "not yet");
    go(world);
    assert_int_equal(atomic_load(&box->pardoned), 0);
    advance(world, 2000);
    assert_int_equal(script->held_count, 1);
    assert_int_equal(script->held[0]->event->attempt, 3); /* the retry's header counts, once */
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(atomic_load(&box->pardoned), 1);
}

static void at_the_limit_it_does_not_run(void **state) {
    (void)state;
    accuse("1", 2, 2);
    script->body = hold;
    publish(world, "a", "1");
    publish(world, "a", "2");
    go(world);
    assert_int_equal(script->held_count, 1); /* the other one */
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    const struct lvt_headers *headers = &first_dead(world)->properties.headers;
    assert_header(headers, "leveret-error",
                  "crash: SIGSEGV in handler a, which ended the process 2 times");
    assert_header(headers, "leveret-handler", "a");
    assert_int_equal(header_number(headers, "leveret-attempt"), 2);
    assert_int_equal(atomic_load(&box->pardoned), 1);
}

static void a_suspect_runs_alone(void **state) {
    (void)state;
    accuse("2", 0, 0);
    script->body = hold;
    for (int i = 1; i <= 4; i++) {
        char id[8];
        snprintf(id, sizeof id, "%d", i);
        publish(world, "a", id);
    }
    go(world);
    assert_int_equal(script->held_count, 1);
    assert_true(lvt_bytes_is(script->held[0]->event->id, "2"));
    assert_int_equal(script->held[0]->event->attempt, 1);
    assert_int_equal(atomic_load(&box->pardoned), 0);
    finish(script->held[0], LVT_VERDICT_DONE, "");
    assert_int_equal(atomic_load(&box->pardoned), 1); /* with the end of its run */
    go(world);
    assert_int_equal(script->held_count, 3);
    while (script->held_count > 0)
        finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_settled(world);
}

static void one_that_becomes_a_suspect_waits_for_the_others(void **state) {
    (void)state;
    script->handler->options.concurrency = 2;
    script->body = hold;
    publish(world, "a", "1");
    publish(world, "a", "2");
    publish(world, "a", "3");
    go(world);
    assert_int_equal(script->held_count, 2);
    accuse("3", 0, 0); /* by a lane beside this one */
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(script->held_count, 1); /* not beside the one that still runs */
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(script->held_count, 1);
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 3);
}

static void one_that_becomes_a_suspect_as_it_starts_is_alone_too(void **state) {
    (void)state;
    script->handler->options.concurrency = 1;
    script->body = hold;
    publish(world, "a", "1");
    publish(world, "a", "2");
    publish(world, "a", "3");
    go(world);
    accuse("2", 0, 0);
    script->handler->options.concurrency = 2;
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(script->held_count, 1);
    assert_true(lvt_bytes_is(script->held[0]->event->id, "2"));
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(script->held_count, 1);
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_settled(world);
}

/* Nothing is known of it, it has no id, and the broker has delivered it before. */
static void redelivered(struct lvt_header count, const char *beside, bool alone) {
    publish_event(world, "a", NULL, (struct lvt_headers){&count, 1});
    lvt_memory_broker_poll(world->broker);
    lvt_memory_broker_disconnect(world->broker);
    go(world);
    script->body = hold;
    publish(world, "a", beside);
    lvt_memory_broker_reconnect(world->broker);
    go(world);
    assert_int_equal(script->held_count, alone ? 1 : 2);
    while (script->held_count > 0) {
        finish(script->held[0], LVT_VERDICT_DONE, "");
        go(world);
    }
    assert_settled(world);
}

static void what_was_delivered_often_is_a_suspect(void **state) {
    struct lvt_header count = {.name = LVT_LITERAL("x-delivery-count"), .kind = LVT_HEADER_INT64};
    (void)state;
    script->handler->options.concurrency = 5;
    count.value.integer = 4;
    redelivered(count, "1", false);
    count.value.integer = 5;
    redelivered(count, "2", true);
    count = (struct lvt_header){.name = LVT_LITERAL("x-delivery-count"),
                                .kind = LVT_HEADER_STRING,
                                .value.bytes = LVT_LITERAL("often")};
    redelivered(count, "3", false);
}

static void enter_again(struct script *of, struct lvt_run *run) {
    (void)of;
    lvt_run_enter(run);
    lvt_run_leave(run->engine);
    assert_true(lvt_seat_busy(&box->seats[0]));
    finish(run, LVT_VERDICT_DONE, "");
}

static void control_nests(void **state) {
    (void)state;
    script->body = enter_again;
    publish(world, "a", "1");
    go(world);
    assert_false(lvt_seat_busy(&box->seats[0]));
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 1);
}

/* What the handler does with the answer is done with control, too. */
static void has_control(void *ctx, enum lvt_answer answer, struct lvt_bytes id, const char *error) {
    (void)answer, (void)id, (void)error;
    assert_true(lvt_seat_busy(&box->seats[0]));
    finish(ctx, LVT_VERDICT_DONE, "");
}

static void publish_payload(struct lvt_run *run, const char *payload) {
    const struct lvt_outgoing outgoing = {
        .event = LVT_LITERAL("b"), .payload = lvt_bytes_of(payload), .priority = LVT_NO_PRIORITY};
    lvt_effect_publish(run, &outgoing, has_control, run);
}

static void publish_straight(struct script *of, struct lvt_run *run) {
    (void)of;
    publish_payload(run, "{}");
}

static void publish_wrong(struct script *of, struct lvt_run *run) {
    (void)of;
    publish_payload(run, "[]");
}

static void publish_after_rows(void *ctx, enum lvt_answer answer, const struct lvt_rows *rows,
                               const struct lvt_sql_error *error) {
    (void)answer, (void)rows, (void)error;
    publish_payload(ctx, "{}");
}

static void publish_in_tx(struct script *of, struct lvt_run *run) {
    (void)of;
    query(run, publish_after_rows);
}

static void what_has_published_has_control_again(void **state) {
    void (*const bodies[])(struct script *, struct lvt_run *) = {publish_straight, publish_wrong,
                                                                 publish_in_tx};
    char id[8];
    (void)state;
    for (int i = 0; i < 3; i++) {
        script->body = bodies[i];
        snprintf(id, sizeof id, "%d", i);
        publish(world, "a", id);
        go(world);
        advance(world, 0);
        assert_int_equal(script->starts, i + 1);
        assert_false(lvt_seat_busy(&box->seats[0]));
    }
    assert_settled(world);
}

#define MANY 300

/* More than start in one pump; and at the rate that their handler keeps. */
static void many_suspects_run_one_after_the_other(void **state) {
    static struct lvt_charge list[MANY];
    struct leveret_error err;
    char id[8];
    (void)state;
    for (int i = 0; i < MANY; i++) {
        snprintf(id, sizeof id, "%d", i);
        list[i] = (struct lvt_charge){.used = true};
        key_of(script->handler->queue->name, "a", id, list[i].key);
    }
    lvt_charges_publish(charges, list, MANY);
    script->handler->queue->prefetch = MANY;
    assert_int_equal(lvt_memory_broker_update(world->broker, &err), LEVERET_OK);
    for (int i = 0; i < MANY; i++) {
        snprintf(id, sizeof id, "%d", i);
        publish(world, "a", id);
    }
    go(world);
    assert_int_equal(script->running_max, 1);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), MANY);
    script->handler->options.rate = 10;
    for (int i = 0; i < 3; i++) {
        snprintf(id, sizeof id, "x%d", i);
        key_of(script->handler->queue->name, "a", id, list[i].key);
    }
    lvt_charges_publish(charges, list, 3);
    for (int i = 0; i < 3; i++) {
        snprintf(id, sizeof id, "x%d", i);
        publish(world, "a", id);
    }
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), MANY + 1);
    advance(world, 1000);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), MANY + 3);
}

/* One waits for its handler's rate, and nothing else has to wait for that. */
static void a_suspect_that_waits_for_its_rate_holds_up_nobody(void **state) {
    (void)state;
    script->handler->options.rate = 1;
    script->body = other->body = hold;
    publish(world, "a", "1"); /* takes what the bucket has */
    go(world);
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    accuse("2", 0, 0);
    publish(world, "a", "2");
    publish(world, "a", "3");
    publish(world, "b", "4");
    go(world);
    assert_int_equal(other->held_count, 1);
    assert_int_equal(script->held_count, 0);
    advance(world, 1100);
    assert_int_equal(script->held_count, 0); /* not beside the other one */
    publish(world, "b", "5");
    go(world);
    assert_int_equal(other->held_count, 1); /* it is the suspect's turn */
    finish(other->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(script->held_count, 1);
    assert_true(lvt_bytes_is(script->held[0]->event->id, "2"));
    assert_int_equal(other->held_count, 0);
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(other->held_count, 1);
    finish(other->held[0], LVT_VERDICT_DONE, "");
    advance(world, 1100);
    assert_int_equal(script->held_count, 1);
    finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_settled(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_event_that_has_control_is_written_down, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_waits_is_running_but_not_on_the_processor, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_charge_counts_as_an_attempt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_charge_stays_with_a_retry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(at_the_limit_it_does_not_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_suspect_runs_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_delivered_often_is_a_suspect, set_up, tear_down),
        cmocka_unit_test_setup_teardown(control_nests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_has_published_has_control_again, set_up_two,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_suspect_that_waits_for_its_rate_holds_up_nobody,
                                        set_up_two, tear_down),
        cmocka_unit_test_setup_teardown(many_suspects_run_one_after_the_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_becomes_a_suspect_as_it_starts_is_alone_too,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_becomes_a_suspect_waits_for_the_others, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
