/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "engine/retry.h"

static const struct lvt_retry_policy usual = {
    .max = 3, .base_ms = 1000, .factor = 2, .cap_ms = 30000};

static void delays_double_up_to_the_cap(void **state) {
    static const uint64_t delays_ms[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    (void)state;
    for (uint32_t i = 0; i < sizeof delays_ms / sizeof delays_ms[0]; i++)
        assert_int_equal(lvt_retry_delay(&usual, i, 0), delays_ms[i]);
}

static void many_failures_do_not_overflow(void **state) {
    struct lvt_retry_policy policy = usual;
    (void)state;
    assert_int_equal(lvt_retry_delay(&usual, UINT32_MAX, 0), 30000);
    policy.factor = 100;
    policy.cap_ms = 2592000000;
    assert_int_equal(lvt_retry_delay(&policy, 1000000, 0), 2592000000);
}

static void factor_of_one_stays(void **state) {
    struct lvt_retry_policy policy = usual;
    (void)state;
    policy.factor = 1;
    assert_int_equal(lvt_retry_delay(&policy, UINT32_MAX, 0), 1000);
    policy.base_ms = 0;
    policy.factor = 2;
    assert_int_equal(lvt_retry_delay(&policy, UINT32_MAX, 0), 0);
}

static void cap_below_the_base_wins(void **state) {
    struct lvt_retry_policy policy = usual;
    (void)state;
    policy.cap_ms = 10;
    assert_int_equal(lvt_retry_delay(&policy, 0, 0), 10);
}

static void jitter_only_shortens(void **state) {
    struct lvt_retry_policy policy = usual;
    (void)state;
    policy.jitter = 0.5;
    assert_int_equal(lvt_retry_delay(&policy, 0, 0), 1000);
    assert_int_equal(lvt_retry_delay(&policy, 0, UINT32_MAX), 500);
    assert_in_range(lvt_retry_delay(&policy, 0, UINT32_MAX / 2), 749, 751);
    policy.jitter = 1;
    assert_int_equal(lvt_retry_delay(&policy, 5, UINT32_MAX), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delays_double_up_to_the_cap),
        cmocka_unit_test(many_failures_do_not_overflow),
        cmocka_unit_test(factor_of_one_stays),
        cmocka_unit_test(cap_below_the_base_wins),
        cmocka_unit_test(jitter_only_shortens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
