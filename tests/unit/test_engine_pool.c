/* Who gets the connections of PostgreSQL's pool. */
#include "engine_fixture.h"

static void one_handler_leaves_half_of_the_pool(void **state) {
    struct world *world = world_new();
    struct script *greedy = handler_add(world, handler_new(world, "greedy"));
    struct script *modest = handler_add(world, handler_new(world, "modest"));
    struct lvt_memory_ledger_status ledger;
    char id[16];
    (void)state;
    greedy->body = modest->body = query_and_hold;
    world_open(world);
    for (int i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "greedy", id);
    }
    go(world);
    /* nobody else wants it: all four */
    assert_int_equal(greedy->held_count, 4);
    publish(world, "modest", "m1");
    publish(world, "modest", "m2");
    publish(world, "modest", "m3");
    go(world);
    assert_int_equal(modest->held_count, 0);
    for (unsigned i = 1; i <= 2; i++) {
        finish(greedy->held[0], LVT_VERDICT_DONE, NULL);
        go(world);
        assert_int_equal(modest->held_count, i);
        assert_int_equal(greedy->held_count, 4 - i);
    }
    finish(greedy->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    assert_int_equal(greedy->held_count, 2);
    assert_int_equal(modest->held_count, 2);
    lvt_memory_ledger_status(world->ledger, &ledger);
    assert_int_equal(ledger.transactions, 4);
    while (greedy->held_count + modest->held_count > 0) {
        struct script *any = greedy->held_count > 0 ? greedy : modest;
        finish(any->held[0], LVT_VERDICT_DONE, NULL);
        go(world);
    }
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 11);
    assert_settled(world);
    world_free(world);
}

static void odd_pool_is_used_to_the_last(void **state) {
    struct world *world = world_new();
    struct script *one = handler_add(world, handler_new(world, "one"));
    struct script *two = handler_add(world, handler_new(world, "two"));
    (void)state;
    world->pool = 3;
    one->body = two->body = query_and_hold;
    world_open(world);
    publish(world, "one", "o1");
    publish(world, "two", "t1");
    go(world);
    publish(world, "one", "o2");
    go(world);
    publish(world, "one", "o3");
    publish(world, "two", "t2");
    go(world);
    assert_int_equal(one->held_count + two->held_count, 3);
    finish(one->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    assert_int_equal(one->held_count + two->held_count, 3);
    while (one->held_count + two->held_count > 0) {
        struct script *any = one->held_count > 0 ? one : two;
        finish(any->held[0], LVT_VERDICT_DONE, NULL);
        go(world);
    }
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 5);
    assert_settled(world);
    world_free(world);
}

static void wait_for_the_pool_costs_no_attempt(void **state) {
    struct world *world = world_new();
    struct script *slow = handler_new(world, "slow");
    struct script *other = handler_new(world, "other");
    (void)state;
    slow->handler->options.timeout_ms = 600000;
    handler_add(world, slow);
    handler_add(world, other);
    world->pool = 1;
    slow->body = query_and_hold;
    other->body = query_once;
    world_open(world);
    publish(world, "slow", "s1");
    go(world);
    publish(world, "other", "o1");
    advance(world, 31000);
    assert_int_equal(other->aborts, 1);
    assert_int_equal(other->starts, 2);
    assert_int_equal(other->attempt, 1);
    finish(slow->held[0], LVT_VERDICT_DONE, NULL);
    go(world);
    assert_int_equal(counted(world, LVT_OUTCOME_RETRIED), 0);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 2);
    assert_settled(world);
    world_free(world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_handler_leaves_half_of_the_pool),
        cmocka_unit_test(odd_pool_is_used_to_the_last),
        cmocka_unit_test(wait_for_the_pool_costs_no_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
