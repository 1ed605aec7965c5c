#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/stats.h"

static void counts_by_type_and_in_total(void **state) {
    (void)state;
    struct lvt_stats *stats = lvt_stats_new(1000);
    struct lvt_bytes a = LVT_LITERAL("ticket.created"), b = LVT_LITERAL("ticket.updated");
    lvt_stats_count(stats, a, LVT_OUTCOME_PROCESSED);
    lvt_stats_count(stats, a, LVT_OUTCOME_PROCESSED);
    lvt_stats_count(stats, b, LVT_OUTCOME_RETRIED);
    lvt_stats_count_published(stats, b, LVT_PUBLISH_RETURNED);
    assert_int_equal(lvt_stats_event(stats, a)->outcomes[LVT_OUTCOME_PROCESSED], 2);
    assert_int_equal(lvt_stats_event(stats, a)->outcomes[LVT_OUTCOME_RETRIED], 0);
    assert_int_equal(lvt_stats_event(stats, b)->outcomes[LVT_OUTCOME_RETRIED], 1);
    assert_int_equal(lvt_stats_event(stats, b)->published[LVT_PUBLISH_RETURNED], 1);
    assert_int_equal(stats->outcomes[LVT_OUTCOME_PROCESSED], 2);
    assert_int_equal(stats->outcomes[LVT_OUTCOME_RETRIED], 1);
    assert_int_equal(stats->started_ms, 1000);
    assert_string_equal(stats->first->type.data, "ticket.created");
    assert_string_equal(stats->first->next->type.data, "ticket.updated");
    assert_null(stats->first->next->next);
    lvt_stats_free(stats);
}

static void a_name_is_copied(void **state) {
    (void)state;
    struct lvt_stats *stats = lvt_stats_new(0);
    char name[] = "a.b";
    struct lvt_event_stats *event = lvt_stats_event(stats, lvt_bytes(name, 3));
    name[0] = 'x';
    assert_string_equal(event->type.data, "a.b");
    assert_ptr_equal(lvt_stats_event(stats, LVT_LITERAL("a.b")), event);
    lvt_stats_free(stats);
}

static void types_are_bounded(void **state) {
    (void)state;
    struct lvt_stats *stats = lvt_stats_new(0);
    char name[300];
    for (int i = 0; i < LVT_STATS_TYPES_MAX + 500; i++) {
        int len = snprintf(name, sizeof name, "type.%d", i);
        lvt_stats_count(stats, lvt_bytes(name, (size_t)len), LVT_OUTCOME_PROCESSED);
    }
    memset(name, 'x', sizeof name);
    lvt_stats_count(stats, lvt_bytes(name, sizeof name), LVT_OUTCOME_FAILED);
    lvt_stats_count(stats, lvt_bytes(NULL, 0), LVT_OUTCOME_FAILED);
    lvt_stats_count(stats, LVT_LITERAL("other"), LVT_OUTCOME_FAILED);
    size_t listed = 0;
    for (const struct lvt_event_stats *event = stats->first; event; event = event->next)
        listed++;
    assert_int_equal(listed, LVT_STATS_TYPES_MAX + 1);
    assert_string_equal(stats->other.type.data, "other");
    assert_int_equal(stats->other.outcomes[LVT_OUTCOME_PROCESSED], 500);
    assert_int_equal(stats->other.outcomes[LVT_OUTCOME_FAILED], 3);
    assert_int_equal(stats->outcomes[LVT_OUTCOME_PROCESSED], LVT_STATS_TYPES_MAX + 500);
    lvt_stats_free(stats);
}

static void bounds_belong_to_the_bucket_below(void **state) {
    (void)state;
    struct lvt_stats *stats = lvt_stats_new(0);
    struct lvt_bytes type = LVT_LITERAL("t");
    lvt_stats_observe_handler(stats, type, "h", "v1", 0);
    lvt_stats_observe_handler(stats, type, "h", "v1", 1);
    lvt_stats_observe_handler(stats, type, "h", "v1", 3);
    lvt_stats_observe_handler(stats, type, "h", "v1", 60000);
    lvt_stats_observe_handler(stats, type, "h", "v1", 60001);
    const struct lvt_histogram *handler = &lvt_stats_event(stats, type)->runs->seconds;
    assert_int_equal(handler->buckets[0], 2);
    assert_int_equal(handler->buckets[1], 0);
    assert_int_equal(handler->buckets[2], 1);
    assert_int_equal(handler->buckets[LVT_HISTOGRAM_BOUNDS - 1], 1);
    assert_int_equal(handler->buckets[LVT_HISTOGRAM_BOUNDS], 1);
    assert_int_equal(handler->count, 5);
    assert_int_equal(handler->sum_ms, 120005);
    lvt_stats_observe_age(stats, type, 90000000);
    const struct lvt_histogram *age = &lvt_stats_event(stats, type)->age;
    assert_int_equal(age->buckets[LVT_HISTOGRAM_BOUNDS], 1);
    for (int i = 1; i < LVT_HISTOGRAM_BOUNDS; i++) {
        assert_true(lvt_handler_bounds_ms[i] > lvt_handler_bounds_ms[i - 1]);
        assert_true(lvt_age_bounds_ms[i] > lvt_age_bounds_ms[i - 1]);
    }
    lvt_stats_free(stats);
    lvt_stats_free(NULL);
}

/* A reload must not make the memory, or the page, grow. */
static void few_versions_are_kept(void **state) {
    (void)state;
    struct lvt_stats *stats = lvt_stats_new(0);
    struct lvt_bytes type = LVT_LITERAL("t");
    char version[13];
    for (int i = 0; i < 100; i++) {
        snprintf(version, sizeof version, "v%d", i);
        lvt_stats_observe_handler(stats, type, "h", version, 1);
        lvt_stats_observe_handler(stats, type, "h", version, 1);
    }
    int count = 0;
    const struct lvt_run_stats *runs = lvt_stats_event(stats, type)->runs;
    assert_string_equal(runs->version, "v99");
    for (; runs; runs = runs->next, count++)
        assert_int_equal(runs->seconds.count, 2);
    assert_int_equal(count, LVT_STATS_VERSIONS_MAX);
    lvt_stats_free(stats);
}

static void reloads_are_counted_by_handler(void **state) {
    (void)state;
    struct lvt_stats *stats = lvt_stats_new(0);
    char name[16];
    lvt_stats_count_reload(stats, "a", LVT_RELOAD_OK);
    lvt_stats_count_reload(stats, "a", LVT_RELOAD_OK);
    lvt_stats_count_reload(stats, "a", LVT_RELOAD_FAILED);
    assert_int_equal(stats->reloads->results[LVT_RELOAD_OK], 2);
    assert_int_equal(stats->reloads->results[LVT_RELOAD_FAILED], 1);
    for (int i = 0; i < LVT_STATS_RELOADS_MAX + 50; i++) {
        snprintf(name, sizeof name, "h%d", i);
        lvt_stats_count_reload(stats, name, LVT_RELOAD_ADDED);
    }
    assert_string_equal(stats->reloads->handler, "other");
    assert_int_equal(stats->reloads->results[LVT_RELOAD_ADDED], 51);
    lvt_stats_free(stats);
}

static void outcomes_have_texts(void **state) {
    (void)state;
    assert_string_equal(lvt_outcome_text(LVT_OUTCOME_PROCESSED), "processed");
    assert_string_equal(lvt_outcome_text(LVT_OUTCOME_FAILED), "failed");
    assert_string_equal(lvt_outcome_text(LVT_OUTCOME_RETRIED), "retried");
    assert_string_equal(lvt_outcome_text(LVT_OUTCOME_DUPLICATE), "duplicate");
    assert_string_equal(lvt_outcome_text(LVT_OUTCOME_DROPPED), "dropped");
    assert_string_equal(lvt_outcome_text(LVT_OUTCOME_COUNT), "unknown");
    assert_string_equal(lvt_reload_text(LVT_RELOAD_REMOVED), "removed");
    assert_string_equal(lvt_reload_text(LVT_RELOAD_RESULT_COUNT), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_by_type_and_in_total),
        cmocka_unit_test(a_name_is_copied),
        cmocka_unit_test(types_are_bounded),
        cmocka_unit_test(bounds_belong_to_the_bucket_below),
        cmocka_unit_test(few_versions_are_kept),
        cmocka_unit_test(reloads_are_counted_by_handler),
        cmocka_unit_test(outcomes_have_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
