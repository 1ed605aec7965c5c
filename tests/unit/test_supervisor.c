/* The supervisor's judgement of lanes, which are played here: none is started. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "admin/line.h"
#include "base/clock.h"
#include "supervisor/private.h"

#define MINUTE_MS 60000

static struct lvt_config config;
static struct lvt_supervisor *supervisor;
static struct lvt_ward *ward;

static void lose_line(void *ctx, enum lvt_level level, const char *text,
                      const struct lvt_field *fields, size_t field_count) {
    (void)ctx, (void)level, (void)text, (void)fields, (void)field_count;
}

static const struct lvt_log log_lost = {.sink = lose_line, .level = LVT_DEBUG};

static int set_up(void **state) {
    const struct lvt_supervisor_options options = {.config = &config, .log = &log_lost};
    struct leveret_error err;
    (void)state;
    assert_int_equal(lvt_config_init(&config, &err), LEVERET_OK);
    config.admin.listen[0] = 0;
    assert_int_equal(lvt_supervisor_new(&options, &supervisor, &err), LEVERET_OK);
    ward = &supervisor->wards[0];
    ward->pid = getpid(); /* a process that is there */
    ward->started_ms = ward->absent_at_ms = lvt_now_ms();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    lvt_supervisor_free(supervisor);
    lvt_config_free(&config);
    return 0;
}

static struct lvt_subject subject_of(unsigned char number) {
    return (struct lvt_subject){.key = {number}, .attempt = 1, .handler = "h", .type = "t"};
}

static void begin(unsigned char number, bool suspect) {
    struct lvt_running *row = lvt_blackbox_begin(ward->box);
    row->subject = subject_of(number);
    row->subject.suspect = suspect;
    atomic_store(&row->used, true);
}

static uint32_t crashes_of(unsigned char number) {
    const unsigned char key[LVT_CHARGE_KEY_BYTES] = {number};
    struct lvt_charge charge;
    return lvt_charges_find(supervisor->charges, key, &charge) ? charge.crashes : 0;
}

static bool is_suspect(unsigned char number) {
    const unsigned char key[LVT_CHARGE_KEY_BYTES] = {number};
    struct lvt_charge charge;
    return lvt_charges_find(supervisor->charges, key, &charge) && charge.crashes == 0;
}

static void die(int number) {
    lvt_ward_died(supervisor, ward, W_EXITCODE(0, number));
}

/* An event stays on the first seat until its lane is told to be killed. */
static void overstay(unsigned char number) {
    const struct lvt_subject subject = subject_of(number);
    lvt_seat_enter(&ward->box->seats[0], &subject, 1000);
    begin(number, false);
    ward->stays[0].turn = atomic_load(&ward->box->seats[0].turn);
    ward->hung = 1;
}

static void what_hangs_is_charged(void **state) {
    (void)state;
    overstay(1);
    begin(2, false);
    die(SIGKILL);
    assert_int_equal(crashes_of(1), 1);
    assert_false(is_suspect(2));
}

static void what_came_back_before_the_kill_is_not_charged_nor_is_the_next_one(void **state) {
    const struct lvt_subject next = subject_of(2);
    (void)state;
    overstay(1);
    lvt_seat_leave(&ward->box->seats[0]);
    begin(2, false);
    lvt_seat_enter(&ward->box->seats[0], &next, 1000);
    die(SIGKILL);
    assert_int_equal(crashes_of(1), 0);
    assert_int_equal(crashes_of(2), 0);
}

static void what_crashed_before_the_kill_is_charged_with_that(void **state) {
    const struct lvt_subject beside = subject_of(2);
    (void)state;
    overstay(1);
    lvt_seat_enter(&ward->box->seats[1], &beside, 1000);
    atomic_store(&ward->box->culprit, 2);
    die(SIGSEGV);
    assert_int_equal(crashes_of(1), 0);
    assert_int_equal(crashes_of(2), 1);
}

static void a_kill_makes_suspects_and_charges_a_lone_one(void **state) {
    (void)state;
    begin(1, false);
    begin(2, false);
    die(SIGKILL);
    assert_true(is_suspect(1) && is_suspect(2));
    lvt_blackbox_reset(ward->box, 1000);
    begin(1, true);
    die(SIGKILL);
    assert_int_equal(crashes_of(1), 1);
    assert_true(is_suspect(2));
}

static void the_signal_of_a_kill_is_told(void **state) {
    const unsigned char key[LVT_CHARGE_KEY_BYTES] = {1};
    struct lvt_charge charge;
    char text[LVT_DEATH_TEXT];
    (void)state;
    begin(1, true);
    die(SIGUSR1);
    assert_true(lvt_charges_find(supervisor->charges, key, &charge));
    lvt_death_text((enum lvt_death)charge.death, charge.detail, text);
    assert_string_equal(text, "SIGUSR1");
}

static void the_supervisors_own_kill_at_the_end_is_nobodys_fault(void **state) {
    (void)state;
    begin(1, true);
    supervisor->stopping = 1;
    supervisor->killing = true;
    die(SIGKILL);
    assert_int_equal(crashes_of(1), 0);
    assert_false(is_suspect(1));
}

static void a_place_where_no_lane_comes_up_is_lost(void **state) {
    uint64_t now_ms = lvt_now_ms();
    (void)state;
    supervisor->everything_ready = true;
    ward->absent_at_ms = now_ms - MINUTE_MS;
    assert_true(lvt_ward_answers(supervisor, ward, now_ms)); /* it has just been started */
    assert_true(lvt_ward_lost(supervisor, ward, now_ms));
    die(SIGSEGV);
    assert_true(lvt_ward_lost(supervisor, ward, now_ms));

    ward->pid = getpid();
    atomic_store(&ward->box->beats, 1);
    lvt_wards_look(supervisor, now_ms, 1);
    assert_false(lvt_ward_lost(supervisor, ward, now_ms));
    die(SIGSEGV);
    assert_false(lvt_ward_lost(supervisor, ward, lvt_now_ms()));
    assert_true(lvt_ward_lost(supervisor, ward, lvt_now_ms() + MINUTE_MS));
}

static void give_up(enum leveret_code code) {
    ward->pid = getpid();
    ward->box->failure.code = code;
    atomic_store(&ward->box->ended, true);
    lvt_ward_died(supervisor, ward, W_EXITCODE(70, 0));
}

static void a_lane_that_cannot_come_up_again_does_not_end_the_others(void **state) {
    (void)state;
    supervisor->everything_ready = true;
    give_up(LEVERET_CONFIG);
    assert_int_equal(supervisor->stopping, 0);
    atomic_store(&ward->box->beats, 1);
    give_up(LEVERET_SYSTEM);
    assert_int_equal(supervisor->stopping, 0);
    give_up(LEVERET_CONFIG); /* as it worked: of what all of them have */
    assert_int_equal(supervisor->stopping, 1);
    assert_int_equal(supervisor->failure.code, LEVERET_CONFIG);
}

/* Runs until a lane has ended that is told to do so, and takes a moment. */
static void run_to_the_end(int expected_signal) {
    enum lvt_supervised as;
    struct lvt_post post;
    struct leveret_error err;
    int number = -1;
    pid_t pid = fork();
    if (pid == 0) {
        const struct timespec moment = {.tv_nsec = 200000000};
        nanosleep(&moment, NULL);
        _exit(0);
    }
    ward->pid = pid;
    atomic_store(&ward->box->ended, true);
    ward->box->failure.code = LEVERET_OK;
    assert_int_equal(lvt_supervisor_run(supervisor, &as, &post, &number, &err),
                     supervisor->failure.code);
    assert_int_equal(number, expected_signal);
}

static void the_first_signal_after_a_failure_is_the_first(void **state) {
    (void)state;
    give_up(LEVERET_CONFIG);
    raise(SIGTERM); /* blocked: the supervisor reads it */
    run_to_the_end(0);
}

static void the_second_signal_ends_it_at_once(void **state) {
    (void)state;
    raise(SIGTERM);
    raise(SIGINT);
    run_to_the_end(SIGTERM);
}

static void what_is_wrong_at_the_start_ends_all(void **state) {
    (void)state;
    give_up(LEVERET_CONFIG);
    assert_int_equal(supervisor->stopping, 1);
}

static void write_answer(int line, uint64_t processed, const char *metrics) {
    struct lvt_line_answer answer = {.metrics_len = strlen(metrics)};
    answer.report.outcomes[LVT_OUTCOME_PROCESSED] = processed;
    answer.report.ready = true;
    assert_int_equal(write(line, &answer, sizeof answer), sizeof answer);
    assert_int_equal(write(line, metrics, answer.metrics_len), answer.metrics_len);
    lvt_report_receive(ward);
}

static void begin_with_an_answer(int ends[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    ward->line = ends[0];
    lvt_reports_asked(supervisor);
    write_answer(ends[1], 3, "c_total 3\n");
}

static void an_answer_without_metrics_leaves_those_of_before(void **state) {
    int ends[2];
    (void)state;
    begin_with_an_answer(ends);
    lvt_reports_asked(supervisor);
    assert_true(ward->owes_report);
    write_answer(ends[1], 5, "");
    assert_false(ward->owes_report);
    assert_true(ward->reported && ward->report.ready);
    assert_int_equal(ward->report.outcomes[LVT_OUTCOME_PROCESSED], 5);
    assert_true(lvt_bytes_is(ward->report.metrics, "c_total 3\n"));
    close(ends[0]);
    close(ends[1]);
}

/* They are read to their end, or the next answer would not be found. */
static void an_answer_with_metrics_that_find_no_room_counts_without(void **state) {
    int ends[2];
    (void)state;
    begin_with_an_answer(ends);
    ward->incoming.max = 4;
    lvt_reports_asked(supervisor);
    write_answer(ends[1], 5, "c_total 5\nd_total 5\n");
    assert_false(ward->owes_report);
    assert_int_equal(ward->report.outcomes[LVT_OUTCOME_PROCESSED], 5);
    assert_true(lvt_bytes_is(ward->report.metrics, "c_total 3\n"));
    ward->incoming.max = 64;
    lvt_reports_asked(supervisor);
    write_answer(ends[1], 6, "c_total 6\n");
    assert_true(ward->reported);
    assert_true(lvt_bytes_is(ward->report.metrics, "c_total 6\n"));
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_hangs_is_charged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            what_came_back_before_the_kill_is_not_charged_nor_is_the_next_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_crashed_before_the_kill_is_charged_with_that, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_kill_makes_suspects_and_charges_a_lone_one, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_signal_of_a_kill_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_supervisors_own_kill_at_the_end_is_nobodys_fault,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_place_where_no_lane_comes_up_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lane_that_cannot_come_up_again_does_not_end_the_others,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_without_metrics_leaves_those_of_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_answer_with_metrics_that_find_no_room_counts_without,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_first_signal_after_a_failure_is_the_first, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_second_signal_ends_it_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_wrong_at_the_start_ends_all, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
