/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdlib.h>

#include "engine/routes.h"

static int destroyed;

static void destroy(void *self) {
    (void)self;
    destroyed++;
}

static const struct lvt_runtime runtime = {.destroy = destroy};

static void add_text(struct lvt_strings *strings, const char *text) {
    char **items = realloc(strings->items, (strings->count + 1) * sizeof *items);
    assert_non_null(items);
    items[strings->count++] = strdup(text);
    strings->items = items;
}

/* With a queue, and with one pattern, when they are not NULL. */
static struct lvt_handler *handler(const char *name, const char *queue, const char *events) {
    struct lvt_handler *made = calloc(1, sizeof *made);
    assert_non_null(made);
    made->name = strdup(name);
    made->runtime = &runtime;
    made->options.exchange = strdup("events");
    made->options.dead_letter = strdup("dead");
    made->options.queue = queue ? strdup(queue) : NULL;
    made->options.prefetch = 10;
    made->options.concurrency = 1;
    if (events)
        add_text(&made->options.events, events);
    return made;
}

static struct lvt_handler *add(struct lvt_routes *routes, struct lvt_handler *made) {
    struct leveret_error err = {0};
    assert_int_equal(lvt_routes_add(routes, made, &err), LEVERET_OK);
    return made;
}

static void refuse(struct lvt_routes *routes, struct lvt_handler *made, const char *about) {
    struct leveret_error err = {0};
    size_t handlers = routes->handler_count, queues = routes->queue_count;
    assert_int_equal(lvt_routes_add(routes, made, &err), LEVERET_CONFIG);
    assert_non_null(strstr(err.text, about));
    assert_int_equal(routes->handler_count, handlers);
    assert_int_equal(routes->queue_count, queues);
    lvt_handler_free(made);
}

static bool fits(const char *pattern, const char *type) {
    return lvt_pattern_matches(pattern, lvt_bytes_of(type));
}

static void patterns_are_those_of_topics(void **state) {
    (void)state;
    assert_true(fits("ticket.created", "ticket.created"));
    assert_false(fits("ticket.created", "ticket.created.twice"));
    assert_false(fits("ticket.created", "ticket"));
    assert_false(fits("ticket.created", "ticket.create"));
    assert_true(fits("ticket.*", "ticket.created"));
    assert_false(fits("ticket.*", "ticket"));
    assert_false(fits("ticket.*", "ticket.a.b"));
    assert_true(fits("*", "ticket"));
    assert_false(fits("*", "ticket.created"));
    assert_true(fits("*.created", "ticket.created"));
    assert_true(fits("#", "a"));
    assert_true(fits("#", "a.b.c"));
    assert_true(fits("#", ""));
    assert_true(fits("ticket.#", "ticket"));
    assert_true(fits("ticket.#", "ticket.a.b"));
    assert_false(fits("ticket.#", "tickets.a"));
    assert_true(fits("#.b.#", "a.b.c"));
    assert_true(fits("#.b.#", "b"));
    assert_false(fits("#.b.#", "a.c"));
    assert_true(fits("a.#.z", "a.z"));
    assert_true(fits("a.#.z", "a.b.c.z"));
    assert_false(fits("a.#.z", "a.b.c"));
    assert_true(fits("a..b", "a..b"));
    assert_true(fits("a.*.b", "a..b"));
    assert_false(fits("tick*", "ticket")); /* a star is a whole word */
}

static void most_specific_handler_wins(void **state) {
    struct lvt_routes routes = {0};
    (void)state;
    struct lvt_handler *any = add(&routes, handler("any", "q", "#"));
    struct lvt_handler *tickets = add(&routes, handler("tickets", "q", "ticket.#"));
    struct lvt_handler *one_word = add(&routes, handler("one", "q", "ticket.*"));
    struct lvt_handler *exact = add(&routes, handler("exact", "q", "ticket.created"));
    const struct lvt_queue *queue = routes.queues[0];
    assert_int_equal(routes.queue_count, 1);
    assert_ptr_equal(lvt_routes_match(queue, LVT_LITERAL("ticket.created")), exact);
    assert_ptr_equal(lvt_routes_match(queue, LVT_LITERAL("ticket.closed")), one_word);
    assert_ptr_equal(lvt_routes_match(queue, LVT_LITERAL("ticket.a.b")), tickets);
    assert_ptr_equal(lvt_routes_match(queue, LVT_LITERAL("user.created")), any);
    lvt_routes_free(&routes);
}

static void no_handler_fits(void **state) {
    struct lvt_routes routes = {0};
    (void)state;
    add(&routes, handler("a", NULL, NULL));
    assert_null(lvt_routes_match(routes.queues[0], LVT_LITERAL("b")));
    lvt_routes_free(&routes);
}

static void name_is_the_default_of_all(void **state) {
    struct lvt_routes routes = {0};
    (void)state;
    struct lvt_handler *made = add(&routes, handler("ticket.created", NULL, NULL));
    const struct lvt_queue *queue = made->queue;
    assert_string_equal(queue->name, "ticket.created.queue");
    assert_string_equal(queue->exchange, "events");
    assert_int_equal(queue->bind.count, 1);
    assert_string_equal(queue->bind.items[0], "ticket.created");
    assert_ptr_equal(lvt_routes_match(queue, LVT_LITERAL("ticket.created")), made);
    lvt_routes_free(&routes);
}

static void bindings_are_those_asked_for(void **state) {
    struct lvt_routes routes = {0};
    struct lvt_handler *none = handler("none", NULL, NULL);
    struct lvt_handler *other = handler("other", "q", "a.*");
    struct lvt_handler *same = handler("same", "q", "b.*");
    (void)state;
    none->options.bind_none = true;
    add_text(&other->options.bind, "x");
    add_text(&other->options.bind, "y");
    add_text(&same->options.bind, "y");
    add(&routes, none);
    add(&routes, other);
    add(&routes, same);
    assert_int_equal(none->queue->bind.count, 0);
    assert_ptr_equal(other->queue, same->queue);
    assert_int_equal(other->queue->bind.count, 2); /* each once */
    assert_string_equal(other->queue->bind.items[0], "x");
    assert_string_equal(other->queue->bind.items[1], "y");
    lvt_routes_free(&routes);
}

static void window_is_twice_the_concurrency(void **state) {
    struct lvt_routes routes = {0};
    struct lvt_handler *first = handler("first", "q", "a");
    struct lvt_handler *second = handler("second", "q", "b");
    struct lvt_handler *huge = handler("huge", "q", "c");
    (void)state;
    first->options.concurrency = 4;
    add(&routes, first);
    assert_int_equal(first->queue->prefetch, 10);
    second->options.concurrency = 100;
    add(&routes, second);
    assert_int_equal(first->queue->prefetch, 208);
    huge->options.concurrency = 4000000;
    add(&routes, huge);
    assert_int_equal(first->queue->prefetch, 65535); /* what AMQP can say */
    lvt_routes_free(&routes);
}

static void two_handlers_for_one_type_are_refused(void **state) {
    struct lvt_routes routes = {0};
    (void)state;
    add(&routes, handler("first", "q", "ticket.created"));
    refuse(&routes, handler("second", "q", "ticket.created"), "first (ticket.created)");
    add(&routes, handler("third", "q", "*.created"));
    /* equally specific, and both take ticket.created */
    refuse(&routes, handler("fourth", "q", "ticket.*"), "third");
    add(&routes, handler("elsewhere", "other", "ticket.created"));
    lvt_routes_free(&routes);
}

/* Equally specific, in either order. */
static void both_take_some(const char *a, const char *b, bool some) {
    const char *const pairs[2][2] = {{a, b}, {b, a}};
    for (size_t i = 0; i < 2; i++) {
        struct lvt_routes routes = {0};
        add(&routes, handler("first", "q", pairs[i][0]));
        struct lvt_handler *second = handler("second", "q", pairs[i][1]);
        if (some)
            refuse(&routes, second, "second");
        else
            add(&routes, second);
        lvt_routes_free(&routes);
    }
}

static void patterns_that_overlap_are_found(void **state) {
    (void)state;
    both_take_some("a.#", "#.a", true);
    both_take_some("a.#", "b.#", false);
    both_take_some("#.a", "#.b", false);
    both_take_some("#.a", "b.#", true);
    both_take_some("*.a", "b.*", true);
    both_take_some("*.*", "*", false);
    both_take_some("*.#", "#.*", true);
    both_take_some("*.a", "*.b", false);
    both_take_some("#.a.*", "#.b.*", false);
    both_take_some("#.a.b", "a.#.b", true);
    both_take_some("a.#.b", "b.#.a", false);
    both_take_some("#.#", "*.#.#.*", true);
}

static void nothing_changes_to_nothing(void **state) {
    struct lvt_routes routes = {0};
    struct leveret_error err;
    (void)state;
    assert_int_equal(lvt_routes_change(&routes, NULL, 0, &err), LEVERET_OK);
    assert_int_equal(routes.queue_count, 0);
    struct lvt_handler *unused = handler("a", NULL, NULL);
    unused->runtime = NULL; /* it was never loaded */
    lvt_handler_free(unused);
}

/* The first that is refused ends it. */
static void a_refused_change_leaves_all_as_it_was(void **state) {
    struct lvt_routes routes = {0};
    struct leveret_error err;
    (void)state;
    struct lvt_handler *first = add(&routes, handler("first", "q", "a"));
    add(&routes, handler("second", "q", "b"));
    add(&routes, handler("third", "q", "c"));
    struct lvt_handler *wrong = handler("wrong", "q", "b");
    const struct lvt_handler_change change = {first, wrong};
    assert_int_equal(lvt_routes_change(&routes, &change, 1, &err), LEVERET_CONFIG);
    assert_int_equal(routes.handler_count, 3);
    assert_ptr_equal(lvt_routes_match(first->queue, LVT_LITERAL("a")), first);
    lvt_handler_free(wrong);
    lvt_routes_free(&routes);
}

static void handlers_of_one_queue_must_agree(void **state) {
    struct lvt_routes routes = {0};
    struct lvt_handler *made;
    (void)state;
    add(&routes, handler("first", "q", "a"));
    made = handler("b", "q", NULL);
    made->options.queue_type = LVT_CLASSIC;
    refuse(&routes, made, "queue_type");
    made = handler("b", "q", NULL);
    free(made->options.exchange);
    made->options.exchange = strdup("others");
    refuse(&routes, made, "exchange");
    made = handler("b", "q", NULL);
    free(made->options.dead_letter);
    made->options.dead_letter = strdup("others");
    refuse(&routes, made, "dead_letter");
    made = handler("b", "q", NULL);
    made->options.message_ttl_ms = 1;
    refuse(&routes, made, "message_ttl_ms");
    made = handler("b", "q", NULL);
    made->options.max_priority = 1;
    refuse(&routes, made, "max_priority");
    made = handler("b", "q", NULL);
    made->options.envelope = LVT_ENVELOPE_ITEM;
    refuse(&routes, made, "envelope");
    lvt_routes_free(&routes);
}

static void runtimes_go_with_their_handlers(void **state) {
    struct lvt_routes routes = {0};
    (void)state;
    destroyed = 0;
    add(&routes, handler("a", NULL, NULL));
    add(&routes, handler("b", NULL, NULL));
    lvt_routes_free(&routes);
    assert_int_equal(destroyed, 2);
    lvt_routes_free(&routes); /* empty now */
    lvt_handler_free(NULL);
    assert_int_equal(destroyed, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_those_of_topics),
        cmocka_unit_test(most_specific_handler_wins),
        cmocka_unit_test(no_handler_fits),
        cmocka_unit_test(name_is_the_default_of_all),
        cmocka_unit_test(bindings_are_those_asked_for),
        cmocka_unit_test(window_is_twice_the_concurrency),
        cmocka_unit_test(two_handlers_for_one_type_are_refused),
        cmocka_unit_test(patterns_that_overlap_are_found),
        cmocka_unit_test(nothing_changes_to_nothing),
        cmocka_unit_test(a_refused_change_leaves_all_as_it_was),
        cmocka_unit_test(handlers_of_one_queue_must_agree),
        cmocka_unit_test(runtimes_go_with_their_handlers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
