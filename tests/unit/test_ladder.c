#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "broker/ladder.h"

static void test_rounds_up_to_the_tick(void **state) {
    (void)state;
    assert_int_equal(lvt_ladder_ticks(0), 0);
    assert_int_equal(lvt_ladder_ticks(1), 1);
    assert_int_equal(lvt_ladder_ticks(250), 1);
    assert_int_equal(lvt_ladder_ticks(251), 2);
    assert_int_equal(lvt_ladder_ticks(1000), 4);
    assert_int_equal(lvt_ladder_ticks(UINT64_MAX), LVT_LADDER_TICKS_MAX);
    assert_int_equal(lvt_ladder_ticks(LVT_LADDER_MAX_MS), LVT_LADDER_TICKS_MAX);
    assert_true(LVT_LADDER_MAX_MS >= UINT64_C(30) * 24 * 3600 * 1000);
}

/* The ladder as the broker walks it: a topic pattern for each step. */
static int matches(const char *pattern, const char *key) {
    for (;;) {
        if (strcmp(pattern, "#") == 0) {
            return 1;
        }
        if (*pattern == '*') {
            pattern++;
            key += strcspn(key, ".");
        }
        while (*pattern && *pattern != '*' && *pattern != '#') {
            if (*pattern++ != *key++) {
                return 0;
            }
        }
        if (!*pattern) {
            return !*key;
        }
    }
}

/* The only binding of the level's exchange that the key fits. */
static enum lvt_ladder_step step_of(unsigned level, const char *routing_key) {
    static const enum lvt_ladder_step steps[] = {LVT_LADDER_WAIT, LVT_LADDER_PASS,
                                                 LVT_LADDER_LEAVE};
    enum lvt_ladder_step found = 0;
    int count = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char pattern[LVT_LADDER_KEY_SIZE];
        lvt_ladder_pattern(level, steps[i], pattern);
        if (matches(pattern, routing_key)) {
            found = steps[i];
            count++;
        }
    }
    assert_int_equal(count, 1);
    return found;
}

static uint64_t walk(uint64_t delay_ms) {
    struct lvt_ladder_entry entry;
    if (!lvt_ladder_enter(delay_ms, LVT_LITERAL("q"), &entry)) {
        return 0;
    }
    uint64_t waited_ms = 0;
    unsigned level = (unsigned)strtoul(strrchr(entry.exchange, '.') + 1, NULL, 10);
    for (;;) {
        enum lvt_ladder_step step = step_of(level, entry.routing_key);
        if (step == LVT_LADDER_LEAVE) {
            return waited_ms;
        }
        waited_ms += step == LVT_LADDER_WAIT ? lvt_ladder_ttl_ms(level) : 0;
        if (level == 0) {
            assert_int_equal(step, LVT_LADDER_WAIT);
            return waited_ms;
        }
        level--;
    }
}

static void test_every_delay_is_waited_out(void **state) {
    (void)state;
    static const uint64_t delays_ms[] = {
        1, 249, 250, 251, 999, 1000, 2000, 4000, 30000, 61234, 3600000, 86400000, 2592000000,
    };
    for (size_t i = 0; i < sizeof delays_ms / sizeof *delays_ms; i++) {
        uint64_t waited_ms = walk(delays_ms[i]);
        assert_true(waited_ms >= delays_ms[i]);
        assert_true(waited_ms < delays_ms[i] + LVT_LADDER_TICK_MS);
    }
    assert_int_equal(walk(0), 0);
    assert_int_equal(walk(UINT64_MAX), LVT_LADDER_MAX_MS);
}

/* Those of an earlier version stand beside ours in a vhost that it has used. */
static void test_no_key_fits_a_binding_of_the_earlier_kind(void **state) {
    (void)state;
    for (uint64_t delay_ms = 250; delay_ms < LVT_LADDER_MAX_MS; delay_ms = delay_ms * 3 / 2) {
        struct lvt_ladder_entry entry;
        assert_true(lvt_ladder_enter(delay_ms, LVT_LITERAL("q"), &entry));
        for (unsigned level = 0; level < LVT_LADDER_LEVELS; level++) {
            char pattern[LVT_LADDER_KEY_SIZE];
            lvt_ladder_pattern(LVT_LADDER_LEVELS - 1 - level, LVT_LADDER_WAIT, pattern);
            char *word = strchr(pattern, LVT_LADDER_WAIT);
            *word = '1';
            assert_false(matches(pattern, entry.routing_key));
            *word = '0';
            assert_false(matches(pattern, entry.routing_key));
        }
    }
}

static void test_enters_at_the_highest_level(void **state) {
    (void)state;
    struct lvt_ladder_entry entry;
    assert_true(lvt_ladder_enter(250, LVT_LITERAL("q"), &entry));
    assert_string_equal(entry.exchange, "leveret.delay.00");
    assert_true(lvt_ladder_enter(1000, LVT_LITERAL("q"), &entry));
    assert_string_equal(entry.exchange, "leveret.delay.02");
    assert_true(lvt_ladder_enter(UINT64_MAX, LVT_LITERAL("q"), &entry));
    assert_string_equal(entry.exchange, "leveret.delay.23");
    assert_false(lvt_ladder_enter(0, LVT_LITERAL("q"), &entry));
}

static void test_the_key_ends_in_the_queue_of_any_name(void **state) {
    (void)state;
    static char name[255];
    memset(name, '.', sizeof name);
    const struct lvt_bytes names[] = {
        LVT_LITERAL("a"), LVT_LITERAL("b"), LVT_LITERAL(""), {name, sizeof name}};
    struct lvt_ladder_entry entry;
    assert_true(lvt_ladder_enter(UINT64_MAX, names[3], &entry));
    assert_int_equal(strlen(entry.routing_key), LVT_LADDER_LEVELS * 2 + 16);
    for (size_t i = 0; i < 4; i++) {
        assert_true(lvt_ladder_enter(1, names[i], &entry));
        assert_int_equal(strlen(entry.routing_key), sizeof "w." - 1 + 16);
        for (size_t j = 0; j < 4; j++) {
            char end[LVT_LADDER_KEY_SIZE];
            lvt_ladder_end_pattern(names[j], end);
            assert_memory_equal(end, "#.", 2);
            int same = strcmp(strrchr(entry.routing_key, '.') + 1, end + 2) == 0;
            assert_int_equal(same, i == j);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds_up_to_the_tick),
        cmocka_unit_test(test_every_delay_is_waited_out),
        cmocka_unit_test(test_no_key_fits_a_binding_of_the_earlier_kind),
        cmocka_unit_test(test_enters_at_the_highest_level),
        cmocka_unit_test(test_the_key_ends_in_the_queue_of_any_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
