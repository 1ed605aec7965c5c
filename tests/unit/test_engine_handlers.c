/* Handlers that come and go while events flow. */
#include "engine_fixture.h"

/* Counts the handlers that were freed. A script belongs to its handler. */
static unsigned destroyed;

static void destroy(void *self) {
    destroyed++;
    free(self);
}

static const struct lvt_runtime counted_runtime = {runtime_start, runtime_abort, destroy};

static struct script *make(struct world *world, const char *name) {
    struct script *script = handler_new(world, name);
    script->handler->runtime = &counted_runtime;
    return script;
}

static struct world *open_with(const char *name, struct script **ret_script) {
    struct world *world = world_new();
    *ret_script = handler_add(world, make(world, name));
    world_open(world);
    destroyed = 0;
    return world;
}

static void change(struct world *world, struct script *old, struct script *next) {
    struct leveret_error err = {0};
    assert_int_equal(handler_change(world, old, next, &err), LEVERET_OK);
}

static void end_all(struct script *script) {
    while (script->held_count > 0)
        finish(script->held[0], LVT_VERDICT_DONE, "");
}

static struct lvt_memory_broker_status status_of(const struct world *world) {
    struct lvt_memory_broker_status status;
    lvt_memory_broker_status(world->broker, &status);
    return status;
}

static void publish_many(struct world *world, const char *type, int count) {
    char id[16];
    for (int i = 0; i < count; i++) {
        snprintf(id, sizeof id, "%s%d", type, i);
        publish(world, type, id);
    }
}

/* What has begun ends with the old one; what waits for its turn begins with the new one. */
static void events_in_flight_finish_on_the_old_one(void **state) {
    struct script *old;
    struct world *world = open_with("a", &old);
    struct script *next = make(world, "a");
    (void)state;
    old->handler->options.concurrency = next->handler->options.concurrency = 2;
    old->body = next->body = hold;
    publish_many(world, "a", 5);
    go(world);
    assert_int_equal(old->running, 2);
    change(world, old, next);
    go(world);
    assert_int_equal(next->starts, 0); /* two run already: the limit is that of both */
    finish(old->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(next->running, 1);
    assert_int_equal(destroyed, 0);
    finish(old->held[0], LVT_VERDICT_DONE, "");
    go(world);
    assert_int_equal(destroyed, 1);
    assert_int_equal(next->running, 2);
    end_all(next);
    go(world);
    end_all(next);
    go(world);
    assert_int_equal(next->starts, 3);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 5);
    assert_settled(world);
    world_free(world);
}

/* A chain of handlers, each of which has an event that runs. */
static void old_ones_end_in_any_order(void **state) {
    enum { COUNT = 4 };
    struct script *scripts[COUNT];
    struct world *world = open_with("a", &scripts[0]);
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        if (i > 0) {
            scripts[i] = make(world, "a");
            change(world, scripts[i - 1], scripts[i]);
        }
        scripts[i]->body = hold;
        publish(world, "a", (char[]){(char)('a' + i), '\0'});
        go(world);
        assert_int_equal(scripts[i]->running, 1);
    }
    end_all(scripts[1]);
    go(world);
    assert_int_equal(destroyed, 0); /* it counts what runs of the first one */
    end_all(scripts[0]);
    go(world);
    assert_int_equal(destroyed, 2);
    assert_int_equal(scripts[3]->handler->running, 2);
    end_all(scripts[3]);
    end_all(scripts[2]);
    go(world);
    assert_int_equal(destroyed, 3);
    assert_int_equal(scripts[3]->handler->running, 0);
    assert_settled(world);
    world_free(world);
}

/* One that waits for a service, or whose claim is asked for, has no handler of its own yet. */
static void waiting_events_meet_the_new_one(void **state) {
    struct script *old;
    struct world *world = open_with("a", &old);
    struct script *next = make(world, "a");
    (void)state;
    add_verdict(old, (struct lvt_verdict){.kind = LVT_VERDICT_OUTAGE});
    publish(world, "a", "e1");
    go(world);
    publish(world, "a", "e2");
    lvt_memory_broker_poll(world->broker);
    lvt_engine_pump(world->engine); /* its claim has not been answered */
    change(world, old, next);
    advance(world, 0);
    assert_int_equal(next->starts, 1);
    assert_int_equal(destroyed, 0);
    advance(world, 5000);
    assert_int_equal(next->starts, 2);
    assert_int_equal(destroyed, 1);
    assert_settled(world);
    world_free(world);
}

/* The events of a queue that is not consumed any more are the broker's again, at once. */
static void removed_handler_gives_back_what_has_not_begun(void **state) {
    struct script *old;
    struct world *world = open_with("a", &old);
    (void)state;
    old->handler->options.concurrency = 1;
    old->body = hold;
    publish_many(world, "a", 5);
    go(world);
    change(world, old, NULL);
    go(world);
    assert_int_equal(world->requeues, 4);
    assert_int_equal(status_of(world).ready, 4);
    assert_int_equal(status_of(world).unacked, 1);
    publish(world, "a", "late"); /* the queue is still there, and bound */
    go(world);
    assert_int_equal(status_of(world).ready, 5);
    end_all(old);
    go(world);
    assert_int_equal(destroyed, 1);
    assert_int_equal(world->routes.handler_count, 0);
    assert_int_equal(world->routes.queue_count, 1);
    struct script *again = make(world, "a");
    change(world, NULL, again);
    go(world);
    assert_int_equal(again->starts, 5);
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), 6);
    assert_settled(world);
    world_free(world);
}

/* Where others still consume the queue it goes as at a start without the handler. */
static void removed_from_a_shared_queue_its_events_are_dead_letters(void **state) {
    struct script *old;
    struct world *world = world_new();
    (void)state;
    struct script *stays = make(world, "b");
    stays->handler->options.queue = strdup("shared");
    old = make(world, "a");
    old->handler->options.queue = strdup("shared");
    old->handler->options.concurrency = 1;
    old->body = hold;
    handler_add(world, stays);
    handler_add(world, old);
    world_open(world);
    destroyed = 0;
    publish_many(world, "a", 3);
    go(world);
    change(world, old, NULL);
    end_all(old);
    const struct lvt_properties late = {.present = LVT_HAS_MESSAGE_ID | LVT_HAS_TYPE,
                                        .message_id = LVT_LITERAL("late"),
                                        .type = LVT_LITERAL("a")};
    size_t queues = 0;
    assert_int_equal(
        lvt_memory_broker_publish(world->broker, LVT_LITERAL(""), LVT_LITERAL("shared"), &late,
                                  LVT_LITERAL("{\"event\":\"a\",\"payload\":{}}"), &queues),
        LEVERET_OK);
    publish(world, "b", "b1");
    go(world);
    assert_int_equal(lvt_memory_broker_dead_count(world->broker), 3);
    assert_header(&first_dead(world)->properties.headers, LVT_HEADER_ERROR,
                  "no handler of queue shared takes the event type a");
    assert_int_equal(stays->starts, 1);
    assert_int_equal(destroyed, 1);
    assert_settled(world);
    world_free(world);
}

static void refused_change_changes_nothing(void **state) {
    struct script *first;
    struct world *world = open_with("a", &first);
    struct leveret_error err = {0};
    (void)state;
    first->handler->options.retry.max = 7;
    struct script *twin = make(world, "twin");
    twin->handler->options.queue = strdup("a.queue");
    twin->handler->options.events.items = calloc(1, sizeof(char *));
    twin->handler->options.events.items[0] = strdup("a");
    twin->handler->options.events.count = 1;
    assert_int_equal(handler_change(world, NULL, twin, &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, "both take the same events"));
    assert_int_equal(world->routes.handler_count, 1);
    assert_int_equal(world->routes.queues[0]->handler_count, 1);
    lvt_handler_free(twin->handler);
    publish(world, "a", "e1");
    go(world);
    assert_int_equal(first->starts, 1);
    assert_settled(world);
    world_free(world);
}

/* Two that exchange what they handle agree with one another only together. */
static void several_changes_at_once(void **state) {
    struct world *world = world_new();
    struct script *old[2], *next[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        for (int new = 0; new < 2; new ++) {
            struct script *script = make(world, i ? "two" : "one");
            script->handler->options.queue = strdup("shared");
            script->handler->options.events.items = calloc(1, sizeof(char *));
            script->handler->options.events.items[0] = strdup(i == new ? "x" : "y");
            script->handler->options.events.count = 1;
            *(new ? &next[i] : &old[i]) = script;
        }
        handler_add(world, old[i]);
    }
    world_open(world);
    struct leveret_error err = {0};
    assert_int_equal(handler_change(world, old[0], next[0], &err), LEVERET_CONFIG);
    const struct lvt_handler_change changes[] = {{old[0]->handler, next[0]->handler},
                                                 {old[1]->handler, next[1]->handler}};
    assert_int_equal(lvt_engine_change_handlers(world->engine, changes, 2, &err), LEVERET_OK);
    world->scripts[0] = next[0];
    world->scripts[1] = next[1];
    publish(world, "x", "e1");
    go(world);
    assert_int_equal(next[1]->starts, 1);
    assert_settled(world);
    world_free(world);
}

/* Another queue: the old one's events go back to it, the new one is bound and consumed. */
static void handler_moves_to_another_queue(void **state) {
    struct script *old;
    struct world *world = open_with("a", &old);
    struct script *next = make(world, "a");
    (void)state;
    old->handler->options.concurrency = 1;
    old->body = hold;
    next->handler->options.queue = strdup("elsewhere");
    publish_many(world, "a", 3);
    go(world);
    change(world, old, next);
    end_all(old);
    go(world);
    assert_int_equal(status_of(world).ready, 2);
    assert_int_equal(next->starts, 0);
    assert_string_equal(next->handler->queue->name, "elsewhere");
    assert_int_equal(destroyed, 1);
    world_free(world);
}

/* A dead letter under way keeps the name that it was sent to. */
static void queue_options_change_under_a_publish(void **state) {
    struct script *old;
    struct world *world = open_with("a", &old);
    struct script *next = make(world, "a");
    (void)state;
    add_verdict(old, (struct lvt_verdict){.kind = LVT_VERDICT_REJECT, .reason = LVT_LITERAL("no")});
    free(next->handler->options.dead_letter);
    next->handler->options.dead_letter = strdup("other.dead");
    next->handler->options.prefetch = 7;
    next->handler->options.concurrency = 1;
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_RETURNED, 1);
    publish(world, "a", "e1");
    go(world);
    change(world, old, next);
    assert_string_equal(world->routes.queues[0]->dead_letter, "other.dead");
    assert_int_equal(world->routes.queues[0]->prefetch, 7);
    lvt_memory_broker_fail_publishes(world->broker, LVT_PUBLISH_CONFIRMED, 1);
    advance(world, 5000);
    assert_int_equal(destroyed, 1);
    assert_settled(world);
    world_free(world);
}

/* Reloads at every turn, with every verdict: each event runs to its end once. */
static void many_reloads_lose_nothing(void **state) {
    enum { EVENTS = 400 };
    struct script *script;
    struct world *world = open_with("a", &script);
    unsigned starts = 0, reloads = 0;
    char id[16];
    (void)state;
    for (int i = 0; i < EVENTS; i++) {
        snprintf(id, sizeof id, "e%d", i);
        publish(world, "a", id);
        turn(world);
        if (i % 3 == 0) {
            struct script *next = make(world, "a");
            if (i % 2)
                add_verdict(next, RETRY("once more"));
            add_verdict(next, DONE);
            starts += script->starts;
            /* nothing is held: whatever runs has ended within its turn */
            change(world, script, next);
            script = next;
            reloads++;
        }
    }
    advance(world, 200000);
    starts += script->starts;
    assert_int_equal(counted(world, LVT_OUTCOME_PROCESSED), EVENTS);
    assert_int_equal(starts, EVENTS + counted(world, LVT_OUTCOME_RETRIED));
    assert_int_equal(destroyed, reloads);
    assert_settled(world);
    world_free(world);
}

/* The worker ends while handlers that were replaced still run. */
static void end_with_retired_handlers(void **state) {
    struct script *old;
    struct world *world = open_with("a", &old);
    struct script *next = make(world, "a");
    (void)state;
    old->body = hold;
    publish_many(world, "a", 3);
    go(world);
    change(world, old, next);
    lvt_engine_drain(world->engine);
    lvt_engine_abandon(world->engine);
    world->ended = true;
    assert_int_equal(old->aborts, 3);
    world_free(world);
    assert_int_equal(destroyed, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_in_flight_finish_on_the_old_one),
        cmocka_unit_test(old_ones_end_in_any_order),
        cmocka_unit_test(waiting_events_meet_the_new_one),
        cmocka_unit_test(removed_handler_gives_back_what_has_not_begun),
        cmocka_unit_test(removed_from_a_shared_queue_its_events_are_dead_letters),
        cmocka_unit_test(refused_change_changes_nothing),
        cmocka_unit_test(several_changes_at_once),
        cmocka_unit_test(handler_moves_to_another_queue),
        cmocka_unit_test(queue_options_change_under_a_publish),
        cmocka_unit_test(many_reloads_lose_nothing),
        cmocka_unit_test(end_with_retired_handlers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
