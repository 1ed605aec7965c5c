/* What the quota of a container allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/processors.h"

static char folder[] = "/tmp/leveret-processors-XXXXXX";

static void put(const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static unsigned allowed(const char *own) {
    char path[256];
    put("own", own);
    snprintf(path, sizeof path, "%s/own", folder);
    return lvt_processors_of_quota(folder, path);
}

static int make(void **state) {
    char path[256];
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/pods", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/pods/one", folder);
    mkdir(path, 0700);
    put("pods/one/cpu.max", "max 100000\n");
    return 0;
}

static int clear(void **state) {
    static const char *const names[] = {
        "pods/one/cpu.max", "pods/one", "pods/cpu.max", "pods", "cpu.max", "own", ""};
    char path[256];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    return 0;
}

static void without_a_quota(void **state) {
    (void)state;
    assert_int_equal(allowed("0::/pods/one\n"), 0);
    assert_int_equal(allowed("0::/elsewhere/../no\n"), 0);
    assert_int_equal(allowed(""), 0);
    assert_int_equal(lvt_processors_of_quota("/nowhere", "/nowhere/own"), 0);
}

static void the_smallest_quota_above_counts(void **state) {
    (void)state;
    put("pods/one/cpu.max", "150000 100000\n");
    assert_int_equal(allowed("9:cpu:/other\n0::/pods/one\n"), 2);
    put("pods/cpu.max", "50000 100000\n");
    assert_int_equal(allowed("0::/pods/one\n"), 1);
    put("pods/cpu.max", "400000 100000\n");
    assert_int_equal(allowed("0::/pods/one\n"), 2);
    assert_int_equal(allowed("0::/pods/\n"), 4);
    /* a container sees its own group as the root, whatever it is called outside */
    put("cpu.max", "300000 100000\n");
    assert_int_equal(allowed("0::/\n"), 3);
    assert_int_equal(allowed("0::/unseen/container\n"), 3);
    assert_int_equal(allowed(""), 3);
}

static void what_is_no_quota_is_none(void **state) {
    static const char *const texts[] = {
        "", "100000", "0 100000\n", "-1 100000\n", "100000 0\n", "9223372036854775807 1\n"};
    (void)state;
    put("pods/cpu.max", "max 100000\n");
    put("cpu.max", "max 100000\n");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        put("pods/one/cpu.max", texts[i]);
        assert_int_equal(allowed("0::/pods/one\n"), 0);
    }
}

static void there_is_always_one(void **state) {
    (void)state;
    assert_true(lvt_processors() >= 1);
    assert_true(lvt_processors() <= (unsigned)sysconf(_SC_NPROCESSORS_CONF));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_quota),
        cmocka_unit_test(the_smallest_quota_above_counts),
        cmocka_unit_test(what_is_no_quota_is_none),
        cmocka_unit_test(there_is_always_one),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
