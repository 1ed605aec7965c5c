/* The engine under a supervisor, which is played here: what is written down of events, and what
 * becomes of those that are charged. */
#include "engine_fixture.h"

#include <signal.h>

static struct lvt_blackbox *box;
static struct lvt_charges *charges;
static struct world *world;
static struct script *script;

static int set_up(void **state) {
    (void)state;
    box = calloc(1, sizeof *box);
    charges = calloc(1, sizeof *charges);
    assert_non_null(box);
    assert_non_null(charges);
    lvt_blackbox_reset(box, 1000);
    world = world_new();
    world->box = box;
    world->charges = charges;
    script = world_one(world, "a");
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
    assert_false(lvt_seat_busy(&box->seats[0]));
    while (script->held_count > 0)
        finish(script->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(count_running(), 0);
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
        cmocka_unit_test_setup_teardown(one_that_becomes_a_suspect_waits_for_the_others, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
