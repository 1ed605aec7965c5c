/* What a process that ends still writes down, in a child that does. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "blackbox/blackbox.h"

#define LIBRARY_STATUS 9

static struct lvt_blackbox *box;
static struct lvt_subject subject;

static int set_up(void **state) {
    (void)state;
    box = mmap(NULL, sizeof *box, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(box != MAP_FAILED);
    lvt_blackbox_reset(box, 1000);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    return munmap(box, sizeof *box);
}

/* What a library does at exit: nothing that this process may come to. */
static void library_ends(void) {
    _exit(LIBRARY_STATUS);
}

static void open_box(void) {
    lvt_blackbox_open(box);
    if (atexit(library_ends) != 0)
        _exit(1);
    lvt_blackbox_expect_exit();
}

/* Runs the function in a child, which ends in it: with that status, of that culprit, and having
 * printed that. */
static void assert_end(void (*function)(void), int exit_status, int32_t culprit,
                       const char *expected) {
    int ends[2], status;
    char output[64];
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        function();
        _exit(1);
    }
    close(ends[1]);
    ssize_t len = read(ends[0], output, sizeof output - 1);
    assert_true(len >= 0);
    output[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), exit_status);
    assert_int_equal(atomic_load(&box->culprit), culprit);
    assert_string_equal(output, expected);
}

static void *exit_on_a_seat(void *unused) {
    struct lvt_seat *seat = lvt_blackbox_sit(box);
    lvt_seat_enter(seat, &subject, 1000);
    printf("why");
    exit(3);
    return unused;
}

static void leave_by_a_thread(void) {
    pthread_t thread;
    open_box();
    if (pthread_create(&thread, NULL, exit_on_a_seat, NULL) == 0)
        pthread_join(thread, NULL);
}

static void an_exit_on_a_thread_names_its_seat(void **state) {
    (void)state;
    assert_end(leave_by_a_thread, 3, 2, "why"); /* the second seat */
}

static void leave_unseated(void) {
    open_box();
    exit(4);
}

static void an_exit_without_an_event_is_nobodys(void **state) {
    (void)state;
    assert_end(leave_unseated, 4, LVT_CULPRIT_NOBODY, "");
}

static void end_in_order(void) {
    open_box();
    atomic_store(&box->ended, true);
    exit(0);
}

static void an_orderly_end_is_left_alone(void **state) {
    (void)state;
    assert_end(end_in_order, LIBRARY_STATUS, LVT_CULPRIT_UNKNOWN, "");
}

static void fork_and_exit(void) {
    int status;
    open_box();
    pid_t child = fork();
    if (child == 0)
        exit(0);
    if (waitpid(child, &status, 0) == child)
        _exit(WEXITSTATUS(status));
}

static void a_fork_is_not_the_lane(void **state) {
    (void)state;
    assert_end(fork_and_exit, LIBRARY_STATUS, LVT_CULPRIT_UNKNOWN, "");
}

static void an_opening_is_told(void **state) {
    (void)state;
    lvt_blackbox_opening("nobody's");
    assert_string_equal(box->opening, "");
    lvt_blackbox_open(box);
    lvt_blackbox_opening("archive");
    assert_string_equal(box->opening, "archive");
    lvt_blackbox_reset(box, 1000);
    assert_string_equal(box->opening, "");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_exit_on_a_thread_names_its_seat),
        TEST(an_exit_without_an_event_is_nobodys),
        TEST(an_orderly_end_is_left_alone),
        TEST(a_fork_is_not_the_lane),
        TEST(an_opening_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
