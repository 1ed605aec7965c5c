/* Folders that events may name, old files in them, and the programs that write there. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backup/child.h"
#include "cleanup/files.h"
#include "common/folders.h"

static char base[] = "/tmp/leveret-folders-XXXXXX";

static char *path_of(const char *name) {
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static int make_base(void **state) {
    (void)state;
    return !mkdtemp(base) || mkdir(path_of("root"), 0700) || mkdir(path_of("root/below"), 0700) ||
           mkdir(path_of("root/nested"), 0700) || mkdir(path_of("outside"), 0700) ||
           symlink(path_of("outside"), path_of("root/way-out")) ||
           symlink("..", path_of("root/up")) || symlink(path_of("root"), path_of("root-link"));
}

static int remove_base(void **state) {
    char command[300];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", base);
    return system(command);
}

static bool opens(const struct lvt_roots *roots, const char *path, struct lvt_failure *failure) {
    int fd;
    if (!lvt_roots_open(roots, path, &fd, failure))
        return false;
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fd);
    return true;
}

static void test_roots(void **state) {
    static const char *const good[] = {"root", "root/", "root//below/", "root/./below"};
    static const struct {
        const char *path;
        int32_t verdict;
    } bad[] = {{"", LEVERET_REJECT},
               {"outside", LEVERET_REJECT},
               {"root-other", LEVERET_REJECT},
               {"root/../outside", LEVERET_REJECT},
               {"root/..", LEVERET_REJECT},
               {"root/nothing/../..", LEVERET_REJECT},
               {"root/way-out", LEVERET_REJECT},
               {"root/way-out/x", LEVERET_REJECT},
               {"root/up/outside", LEVERET_REJECT},
               {"root/nothing", LEVERET_RETRY}};
    struct lvt_roots roots = {0};
    struct lvt_failure failure;
    (void)state;
    assert_true(lvt_roots_add(&roots, path_of("root/"), &failure));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!opens(&roots, path_of(good[i]), &failure))
            fail_msg("%s: %s", good[i], failure.text);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (opens(&roots, path_of(bad[i].path), &failure))
            fail_msg("opened: %s", bad[i].path);
        assert_int_equal(failure.verdict, bad[i].verdict);
    }
    assert_false(opens(&roots, "root", &failure));
    lvt_roots_free(&roots);
}

/* The administrator's own links are fine, and the root that is nearer counts. */
static void test_roots_through_links(void **state) {
    struct lvt_roots roots = {0};
    struct lvt_failure failure;
    (void)state;
    assert_true(lvt_roots_add(&roots, path_of("root-link"), &failure));
    assert_true(opens(&roots, path_of("root-link/below"), &failure));
    assert_false(opens(&roots, path_of("root-link/way-out"), &failure));
    assert_true(lvt_roots_add(&roots, path_of("root-link/way-out"), &failure));
    assert_true(opens(&roots, path_of("root-link/way-out"), &failure));
    lvt_roots_free(&roots);
}

static void test_wrong_roots(void **state) {
    struct lvt_roots roots = {0};
    struct lvt_failure failure;
    (void)state;
    assert_false(lvt_roots_add(&roots, "/", &failure));
    assert_false(lvt_roots_add(&roots, "", &failure));
    assert_false(lvt_roots_add(&roots, "backups", &failure));
    assert_int_equal(roots.count, 0);
}

static void make_file(const char *name, time_t changed) {
    const struct timespec times[2] = {{changed, 0}, {changed, 0}};
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && write(fd, "12345", 5) == 5);
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static bool yes(void *ctx) {
    (void)ctx;
    return true;
}

static bool countdown(void *ctx) {
    int *left = ctx;
    return (*left)-- > 0;
}

static void sweep(struct lvt_sweep *sweep, bool expected) {
    struct lvt_failure failure;
    int folder;
    if (!sweep->wanted)
        sweep->wanted = yes;
    assert_true(lvt_folder_open(path_of("root"), "", &folder, &failure));
    assert_int_equal(lvt_sweep_folder(sweep, folder, &failure), expected);
}

static void test_sweep(void **state) {
    struct lvt_sweep dry = {.before = 1000, .dry_run = true}, wet = {.before = 1000};
    int left = 0;
    struct lvt_sweep ended = {.before = 1000, .wanted = countdown, .ctx = &left};
    (void)state;
    make_file("root/old", 999);
    make_file("root/below/old", 0);
    make_file("root/exact", 1000);
    make_file("outside/old", 0);
    sweep(&dry, true);
    assert_int_equal(dry.files, 2);
    assert_int_equal(dry.bytes, 10);
    sweep(&ended, false);
    assert_int_equal(ended.files, 0);
    sweep(&wet, true);
    assert_int_equal(wet.files, 2);
    assert_int_equal(access(path_of("root/old"), F_OK), -1);
    assert_int_equal(access(path_of("root/below/old"), F_OK), -1);
    assert_int_equal(access(path_of("root/exact"), F_OK), 0);
    assert_int_equal(access(path_of("outside/old"), F_OK), 0);
    assert_int_equal(access(path_of("root/way-out"), F_OK), 0);
}

/* ---- children ---- */

static bool run(const char *script, bool (*wanted)(void *), void *ctx,
                struct lvt_failure *failure) {
    char *const words[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};
    char *const environment[] = {"ONLY=this", NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct lvt_child child = {.words = words,
                                    .environment = environment,
                                    .in = null,
                                    .out = null,
                                    .wanted = wanted,
                                    .ctx = ctx};
    bool done = lvt_child_run(&child, failure);
    close(null);
    return done;
}

static void test_children(void **state) {
    struct lvt_failure failure;
    (void)state;
    assert_true(run("test \"$ONLY\" = this && test -z \"$HOME\"", yes, NULL, &failure));
    assert_false(run("echo one >&2; echo two >&2; exit 3", yes, NULL, &failure));
    assert_string_equal(failure.text, "sh ended with 3: one two ");
    assert_false(run("kill -9 $$", yes, NULL, &failure));
    assert_string_equal(failure.text, "sh was killed by signal 9: ");
    assert_int_equal(failure.verdict, LEVERET_RETRY);
}

/* More than a pipe holds, of which the end is kept; and it goes on when nobody listens. */
static void test_talkative_children(void **state) {
    struct lvt_failure failure;
    (void)state;
    assert_false(run("i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1",
                     yes, NULL, &failure));
    assert_non_null(strstr(failure.text, "line 19999"));
    assert_true(run("exec 2>&-; sleep 0.1", yes, NULL, &failure));
}

static void test_unwanted_children(void **state) {
    struct lvt_failure failure;
    int left = 2;
    (void)state;
    assert_false(run("sleep 100 & wait", countdown, &left, &failure));
    assert_string_equal(failure.text, "sh was ended: the event is over");
}

static void test_children_that_are_not_there(void **state) {
    char *const words[] = {"/nowhere/at/all", NULL};
    char *const environment[] = {NULL};
    const struct lvt_child child = {
        .words = words, .environment = environment, .in = 0, .out = 1, .wanted = yes};
    struct lvt_failure failure;
    (void)state;
    assert_false(lvt_child_run(&child, &failure));
    assert_string_equal(failure.text,
                        "/nowhere/at/all cannot be started: No such file or directory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roots),
        cmocka_unit_test(test_roots_through_links),
        cmocka_unit_test(test_wrong_roots),
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_children),
        cmocka_unit_test(test_talkative_children),
        cmocka_unit_test(test_unwanted_children),
        cmocka_unit_test(test_children_that_are_not_there),
    };
    return cmocka_run_group_tests(tests, make_base, remove_base);
}
