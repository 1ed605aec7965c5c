/* Metrics of several lanes as one text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "supervisor/merge.h"

#define COUNTER "# HELP c_total A counter.\n# TYPE c_total counter\n"
#define HISTOGRAM "# HELP h A histogram.\n# TYPE h histogram\n"
#define GAUGE(name) "# HELP " name " A gauge.\n# TYPE " name " gauge\n"

static void check(const char *first, const char *second, const char *expected) {
    struct lvt_merge *merge = lvt_merge_new();
    struct lvt_buffer out;
    lvt_buffer_init(&out, 1 << 20);
    lvt_merge_add(merge, lvt_bytes_of(first));
    lvt_merge_add(merge, lvt_bytes_of(second));
    lvt_merge_write(merge, &out);
    assert_false(out.failed);
    assert_string_equal(out.data ? out.data : "", expected);
    lvt_buffer_free(&out);
    lvt_merge_free(merge);
}

static void counters_are_added(void **state) {
    (void)state;
    check(COUNTER "c_total{event=\"a\"} 3\nc_total{event=\"b\"} 1\n",
          COUNTER "c_total{event=\"a\"} 4\nc_total{event=\"x y} 1\"} 2\n",
          COUNTER "c_total{event=\"a\"} 7\nc_total{event=\"b\"} 1\nc_total{event=\"x y} 1\"} 2\n");
}

static void histograms_are_added(void **state) {
    (void)state;
    check(HISTOGRAM "h_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 0.350\nh_count 2\n",
          HISTOGRAM "h_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 0.005\nh_count 1\n",
          HISTOGRAM "h_bucket{le=\"0.1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 0.355\nh_count 3\n");
}

static void gauges_have_rules(void **state) {
    (void)state;
    check(GAUGE("leveret_in_flight") "leveret_in_flight 3\n" GAUGE("leveret_queue_depth")
              "leveret_queue_depth{queue=\"a\"} 7\n" GAUGE("leveret_connected")
                  "leveret_connected{to=\"redis\"} 1\n",
          GAUGE("leveret_in_flight") "leveret_in_flight 4\n" GAUGE("leveret_queue_depth")
              "leveret_queue_depth{queue=\"a\"} 6\n" GAUGE("leveret_connected")
                  "leveret_connected{to=\"redis\"} 0\n",
          GAUGE("leveret_in_flight") "leveret_in_flight 7\n" GAUGE("leveret_queue_depth")
              "leveret_queue_depth{queue=\"a\"} 7\n" GAUGE("leveret_connected")
                  "leveret_connected{to=\"redis\"} 0\n");
}

static void a_family_stays_together(void **state) {
    (void)state;
    check(COUNTER "c_total 1\n" GAUGE("g") "g 1\n",
          GAUGE("g") "g 1\n" COUNTER "c_total{a=\"b\"} 1\n",
          COUNTER "c_total 1\nc_total{a=\"b\"} 1\n" GAUGE("g") "g 2\n");
}

static void what_is_not_understood_is_left_out(void **state) {
    (void)state;
    check("stray 1\n" COUNTER "c_total 1\nc_total\n\nno_value \nc_total 2", "# HELP x",
          COUNTER "c_total 1\n");
}

static void the_dead_leave_their_counters(void **state) {
    struct lvt_merge *merge = lvt_merge_new();
    struct lvt_buffer out;
    (void)state;
    lvt_buffer_init(&out, 1 << 20);
    lvt_merge_add_counters(merge, LVT_LITERAL(COUNTER "c_total 5\n" GAUGE(
                                      "leveret_in_flight") "leveret_in_flight 3\n"));
    lvt_merge_write(merge, &out);
    assert_string_equal(out.data, COUNTER "c_total 5\n" GAUGE("leveret_in_flight"));
    lvt_buffer_free(&out);
    lvt_merge_free(merge);
}

static void many_samples_are_each_found(void **state) {
    struct lvt_merge *merge = lvt_merge_new();
    struct lvt_buffer text, out;
    (void)state;
    lvt_buffer_init(&text, 1 << 20);
    lvt_buffer_init(&out, 1 << 20);
    lvt_buffer_text(&text, COUNTER);
    for (int i = 0; i < 5000; i++)
        lvt_buffer_printf(&text, "c_total{event=\"e%d\"} %d\n", i, i);
    lvt_merge_add(merge, lvt_bytes(text.data, text.len));
    lvt_buffer_truncate(&text, strlen(COUNTER));
    for (int i = 0; i < 5000; i++)
        lvt_buffer_printf(&text, "c_total{event=\"e%d\"} 0\n", i);
    lvt_merge_add(merge, lvt_bytes(text.data, text.len));
    lvt_merge_write(merge, &out);
    assert_non_null(strstr(out.data, "c_total{event=\"e4999\"} 4999\n"));
    size_t lines = 0;
    for (const char *at = out.data; (at = strchr(at, '\n')); at++)
        lines++;
    assert_int_equal(lines, 5002);
    lvt_buffer_free(&text);
    lvt_buffer_free(&out);
    lvt_merge_free(merge);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_are_added),
        cmocka_unit_test(histograms_are_added),
        cmocka_unit_test(gauges_have_rules),
        cmocka_unit_test(a_family_stays_together),
        cmocka_unit_test(what_is_not_understood_is_left_out),
        cmocka_unit_test(the_dead_leave_their_counters),
        cmocka_unit_test(many_samples_are_each_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
