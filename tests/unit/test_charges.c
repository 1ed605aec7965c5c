/* Charges: their file, whatever has become of it, and the table that lanes read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/charges_file.h"

#define RECORD_BYTES 56

static char folder[64], path[128];
static unsigned warnings;

static void count_warnings(void *ctx, enum lvt_level level, const char *text,
                           const struct lvt_field *fields, size_t field_count) {
    (void)ctx, (void)text, (void)fields, (void)field_count;
    warnings += level >= LVT_WARN;
}

static const struct lvt_log log_counted = {.sink = count_warnings, .level = LVT_DEBUG};

static int set_up(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/leveret-charges-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/the_worker.charges", folder);
    warnings = 0;
    return 0;
}

static int tear_down(void **state) {
    char other[160];
    (void)state;
    unlink(path);
    for (int number = 2; number <= 3; number++) {
        snprintf(other, sizeof other, "%s/the_worker.%d.charges", folder, number);
        unlink(other);
    }
    return rmdir(folder);
}

static struct lvt_charges_file *open_file(void) {
    struct lvt_charges_file *file;
    struct leveret_error err;
    assert_int_equal(lvt_charges_file_open(folder, "the worker", &log_counted, &file, &err),
                     LEVERET_OK);
    return file;
}

static void key_of(unsigned number, unsigned char key[LVT_CHARGE_KEY_BYTES]) {
    memset(key, 0, LVT_CHARGE_KEY_BYTES);
    memcpy(key, &number, sizeof number);
}

static struct lvt_charge charge(struct lvt_charges_file *file, unsigned number) {
    unsigned char key[LVT_CHARGE_KEY_BYTES];
    key_of(number, key);
    return lvt_charges_file_charge(file, key, number, LVT_DEATH_EXIT, 3);
}

static bool pardon(struct lvt_charges_file *file, unsigned number) {
    unsigned char key[LVT_CHARGE_KEY_BYTES];
    key_of(number, key);
    return lvt_charges_file_pardon(file, key);
}

static size_t count(const struct lvt_charges_file *file) {
    size_t number;
    (void)lvt_charges_file_list(file, &number);
    return number;
}

static off_t size_of_file(void) {
    struct stat info;
    return stat(path, &info) == 0 ? info.st_size : -1;
}

static void they_are_there_again(void **state) {
    (void)state;
    struct lvt_charges_file *file = open_file();
    assert_int_equal(size_of_file(), -1); /* not before there is something to keep */
    assert_int_equal(charge(file, 7).crashes, 1);
    assert_int_equal(charge(file, 7).crashes, 2);
    assert_int_equal(charge(file, 8).crashes, 1);
    assert_true(pardon(file, 8));
    assert_false(pardon(file, 8));
    lvt_charges_file_close(file);

    size_t number;
    file = open_file();
    const struct lvt_charge *list = lvt_charges_file_list(file, &number);
    assert_int_equal(number, 1);
    assert_int_equal(list[0].crashes, 2);
    assert_int_equal(list[0].attempt, 7);
    assert_int_equal(list[0].death, LVT_DEATH_EXIT);
    assert_int_equal(list[0].detail, 3);
    lvt_charges_file_close(file);
    assert_int_equal(warnings, 0);
}

static void suspects_are_not_kept(void **state) {
    unsigned char key[LVT_CHARGE_KEY_BYTES];
    (void)state;
    struct lvt_charges_file *file = open_file();
    key_of(1, key);
    lvt_charges_file_suspect(file, key);
    assert_int_equal(count(file), 1);
    assert_true(pardon(file, 1));
    assert_int_equal(size_of_file(), -1);
    lvt_charges_file_close(file);
}

static void a_torn_tail_is_written_over(void **state) {
    (void)state;
    struct lvt_charges_file *file = open_file();
    charge(file, 1);
    charge(file, 2);
    lvt_charges_file_close(file);
    assert_int_equal(truncate(path, 2 * RECORD_BYTES - 9), 0);
    file = open_file();
    assert_int_equal(count(file), 1);
    assert_int_equal(warnings, 1);
    charge(file, 3);
    lvt_charges_file_close(file);
    assert_int_equal(size_of_file(), 2 * RECORD_BYTES);
    file = open_file();
    assert_int_equal(count(file), 2);
    assert_int_equal(warnings, 1);
    lvt_charges_file_close(file);
}

static void every_flipped_byte_is_noticed(void **state) {
    (void)state;
    struct lvt_charges_file *file = open_file();
    charge(file, 1);
    charge(file, 2);
    lvt_charges_file_close(file);
    int fd = open(path, O_RDWR);
    for (off_t at = 0; at < RECORD_BYTES; at++) {
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        file = open_file();
        assert_int_equal(count(file), 1); /* the whole one counts */
        lvt_charges_file_close(file);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
    assert_int_equal(warnings, RECORD_BYTES);
}

static void the_oldest_goes_when_there_are_too_many(void **state) {
    (void)state;
    struct lvt_charges_file *file = open_file();
    for (unsigned i = 0; i < LVT_CHARGES_MAX + 3; i++) {
        unsigned char key[LVT_CHARGE_KEY_BYTES];
        key_of(i, key);
        lvt_charges_file_suspect(file, key);
    }
    assert_int_equal(count(file), LVT_CHARGES_MAX);
    assert_false(pardon(file, 2));
    assert_true(pardon(file, 3));
    lvt_charges_file_close(file);
}

static void suspects_go_before_what_is_charged(void **state) {
    (void)state;
    struct lvt_charges_file *file = open_file();
    charge(file, LVT_CHARGES_MAX + 1);
    for (unsigned i = 0; i < LVT_CHARGES_MAX; i++) {
        unsigned char key[LVT_CHARGE_KEY_BYTES];
        key_of(i, key);
        lvt_charges_file_suspect(file, key);
    }
    assert_int_equal(count(file), LVT_CHARGES_MAX);
    assert_int_equal(charge(file, LVT_CHARGES_MAX + 1).crashes, 2);
    assert_false(pardon(file, 0));
    lvt_charges_file_close(file);
}

static void the_file_does_not_grow_for_ever(void **state) {
    (void)state;
    struct lvt_charges_file *file = open_file();
    charge(file, 1);
    for (unsigned i = 0; i < 1000; i++) {
        charge(file, 2);
        pardon(file, 2);
    }
    assert_true(size_of_file() < 1100 * RECORD_BYTES);
    lvt_charges_file_close(file);
    file = open_file();
    assert_int_equal(count(file), 1);
    lvt_charges_file_close(file);
}

static void two_workers_of_one_name_have_a_file_each(void **state) {
    (void)state;
    struct lvt_charges_file *first = open_file();
    charge(first, 1);
    struct lvt_charges_file *second = open_file();
    assert_int_equal(count(second), 0);
    charge(second, 2);
    charge(second, 3);
    assert_int_equal(size_of_file(), RECORD_BYTES);
    lvt_charges_file_close(first);
    lvt_charges_file_close(second);
    assert_int_equal(warnings, 0);
}

/* As at their first start: there is no file until something is charged. */
static void two_that_start_without_a_file_have_one_each_in_the_end(void **state) {
    (void)state;
    struct lvt_charges_file *first = open_file(), *second = open_file(), *third = open_file();
    charge(first, 1);
    charge(second, 2);
    lvt_charges_file_close(first);
    charge(third, 3); /* the first's is nobody's now, but has its charges */
    lvt_charges_file_close(second);
    lvt_charges_file_close(third);
    first = open_file();
    second = open_file();
    third = open_file();
    assert_true(pardon(first, 1) && pardon(second, 2) && pardon(third, 3));
    lvt_charges_file_close(first);
    lvt_charges_file_close(second);
    lvt_charges_file_close(third);
    assert_int_equal(warnings, 0);
}

static void one_that_cannot_be_read_is_passed_over(void **state) {
    (void)state;
    assert_int_equal(symlink("nowhere", path), 0);
    struct lvt_charges_file *file = open_file();
    assert_int_equal(warnings, 1);
    charge(file, 1);
    lvt_charges_file_close(file);
    file = open_file();
    assert_true(pardon(file, 1));
    lvt_charges_file_close(file);
}

static void a_folder_that_cannot_be_made_costs_the_memory_only(void **state) {
    struct lvt_charges_file *file;
    struct leveret_error err;
    (void)state;
    assert_int_equal(lvt_charges_file_open("/proc/nowhere", "x", &log_counted, &file, &err),
                     LEVERET_OK);
    charge(file, 1);
    assert_int_equal(charge(file, 1).crashes, 2);
    assert_int_equal(warnings, 1); /* once, not for each */
    lvt_charges_file_close(file);
}

static void lanes_find_what_is_published(void **state) {
    struct lvt_charges *table = calloc(1, sizeof *table);
    struct lvt_charge *list = calloc(LVT_CHARGES_MAX, sizeof *list), found;
    unsigned char key[LVT_CHARGE_KEY_BYTES];
    (void)state;
    key_of(1, key);
    assert_false(lvt_charges_find(table, key, &found));
    for (unsigned i = 0; i < LVT_CHARGES_MAX; i++) {
        key_of(i % 2 ? i : i << 20, list[i].key); /* some of which want the same place */
        list[i].crashes = i;
    }
    lvt_charges_publish(table, list, LVT_CHARGES_MAX);
    for (unsigned i = 0; i < LVT_CHARGES_MAX; i++) {
        assert_true(lvt_charges_find(table, list[i].key, &found));
        assert_int_equal(found.crashes, i);
    }
    key_of(2, key);
    assert_false(lvt_charges_find(table, key, &found));
    lvt_charges_publish(table, list, 0);
    assert_false(lvt_charges_find(table, list[5].key, &found));
    free(list);
    free(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(they_are_there_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(suspects_are_not_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_torn_tail_is_written_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_flipped_byte_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_goes_when_there_are_too_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(suspects_go_before_what_is_charged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_that_start_without_a_file_have_one_each_in_the_end,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_cannot_be_read_is_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_file_does_not_grow_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_workers_of_one_name_have_a_file_each, set_up,
                                        tear_down),
        cmocka_unit_test(a_folder_that_cannot_be_made_costs_the_memory_only),
        cmocka_unit_test(lanes_find_what_is_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
