/* The program's log lines: their shape, and what a hostile text cannot do to them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Part of the program, not of the library. */
#include "cli/log_writer.c"

#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <sys/time.h>

#include "base/utf8.h"
#include "event/json.h"

#define LINE_ROOM 70000
static const char cut_mark[] = "\xE2\x80\xA6"; /* an ellipsis */
#define TIME "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9][.][0-9]{3}Z"

static char line[LINE_ROOM];
static size_t line_len;

/* Writes one record to a file, and reads it back. */
static void record_as(enum lvt_log_format format, bool colours, enum lvt_level level,
                      const char *text, const struct lvt_field *fields, size_t count) {
    struct lvt_log_writer writer;
    FILE *file = tmpfile();
    assert_non_null(file);
    lvt_log_writer_init(&writer, fileno(file), format, colours);
    lvt_log_writer_sink(&writer, level, text, fields, count);
    lvt_log_writer_done(&writer);
    rewind(file);
    line_len = fread(line, 1, sizeof line - 1, file);
    line[line_len] = '\0';
    fclose(file);
    /* Whatever was in it: one line, and no NUL. */
    assert_true(line_len > 0 && line_len <= 16384);
    assert_int_equal(strlen(line), line_len);
    assert_ptr_equal(strchr(line, '\n'), line + line_len - 1);
    line[--line_len] = '\0';
    if (format == LVT_LOG_JSON) {
        struct leveret_error err;
        if (lvt_json_validate(lvt_bytes(line, line_len), 64, &err) != LEVERET_OK) {
            fail_msg("%s", err.text);
        }
    }
    for (size_t at = 0; at < line_len;) {
        size_t len = lvt_utf8_length(line + at, line_len - at);
        assert_true(len > 0);
        assert_true(colours || !lvt_utf8_is_control(line + at, len));
        at += len;
    }
}

#define RECORD(format, level, text, ...)                                                           \
    do {                                                                                           \
        const struct lvt_field fields_[] = {__VA_ARGS__};                                          \
        record_as((format), false, (level), (text), fields_, sizeof fields_ / sizeof *fields_);    \
    } while (0)

static void line_matches(const char *pattern) {
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&regex, line, 0, NULL, 0) != 0) {
        fail_msg("'%.300s' does not match '%s'", line, pattern);
    }
    regfree(&regex);
}

/* What comes after the time and the level. */
static const char *rest(void) {
    return line + strlen("2026-01-02T03:04:05.678Z info  ");
}

static const char *json_rest(void) {
    return strstr(line, ",\"text\":") + 1;
}

static void text_lines(void **state) {
    (void)state;
    RECORD(LVT_LOG_TEXT, LVT_INFO, "ticket created", LVT_STRING("ticket", "t-1"),
           LVT_INTEGER("n", -7), LVT_NUMBER("s", 0.25), LVT_STRING("who", "some body"));
    line_matches("^" TIME " info  ticket created ticket=t-1 n=-7 s=0.25 who=\"some body\"$");
    RECORD(LVT_LOG_TEXT, LVT_DEBUG, "x");
    line_matches("^" TIME " debug x$");
    RECORD(LVT_LOG_TEXT, LVT_WARN, "x");
    line_matches("^" TIME " warn  x$");
    RECORD(LVT_LOG_TEXT, LVT_ERROR, "x");
    line_matches("^" TIME " error x$");
}

static void the_time_is_now(void **state) {
    (void)state;
    struct tm utc = {0};
    time_t before = time(NULL);
    RECORD(LVT_LOG_TEXT, LVT_INFO, "x");
    assert_non_null(strptime(line, "%Y-%m-%dT%H:%M:%S", &utc));
    time_t seen = timegm(&utc);
    assert_true(seen >= before && seen <= time(NULL));
}

static void text_values(void **state) {
    (void)state;
    struct lvt_field yes = {.key = "b", .kind = LVT_FIELD_BOOLEAN, .value.boolean = true};
    struct lvt_field json = {.key = "j",
                             .kind = LVT_FIELD_JSON,
                             .value.text = LVT_LITERAL("{\"a\":\n [1,\t\"x y\"]\r\n}")};
    RECORD(LVT_LOG_TEXT, LVT_INFO, "x", yes, json, LVT_NUMBER("nan", NAN), LVT_NUMBER("one", 1),
           LVT_NUMBER("inf", -INFINITY));
    assert_string_equal(rest(), "x b=true j={\"a\":  [1, \"x y\"]  } nan=nan one=1.0 inf=inf");
    RECORD(LVT_LOG_TEXT, LVT_INFO, "x", LVT_STRING("empty", ""), LVT_STRING("null", NULL),
           LVT_STRING("quote", "a\"b"), LVT_STRING("slash", "a\\b"), LVT_STRING("equals", "a=b"),
           LVT_STRING("euro", "\xE2\x82\xAC"));
    assert_string_equal(rest(),
                        "x empty=\"\" null=\"\" quote=\"a\\\"b\" slash=\"a\\\\b\" "
                        "equals=\"a=b\" euro=\"\xE2\x82\xAC\"");
}

static void text_cannot_be_forged(void **state) {
    (void)state;
    RECORD(LVT_LOG_TEXT, LVT_INFO, "one\n2026-01-01T00:00:00.000Z error forged",
           LVT_TEXT("v", LVT_LITERAL("a\r\nb\0c\x1b[31m\x7F\xC2\x9B\xE2\x80\xA8\xFF\t\" x=\"y")),
           LVT_STRING("k\n=\"\x1b y", "z"));
    assert_string_equal(rest(),
                        "one\\n2026-01-01T00:00:00.000Z error forged "
                        "v=\"a\\r\\nb\\x00c\\x1b[31m\\x7f\\xc2\\x9b\\xe2\\x80\\xa8\\xff\\t"
                        "\\\" x=\\\"y\" k_____y=z");
}

static void json_lines(void **state) {
    (void)state;
    struct lvt_field yes = {.key = "b", .kind = LVT_FIELD_BOOLEAN, .value.boolean = false};
    struct lvt_field json = {
        .key = "j", .kind = LVT_FIELD_JSON, .value.text = LVT_LITERAL("{\"a\":\n[1]}")};
    RECORD(LVT_LOG_JSON, LVT_WARN, "ticket \"created\"", LVT_STRING("ticket", "t-1"),
           LVT_INTEGER("n", INT64_MIN), LVT_NUMBER("s", 1), yes, json, LVT_NUMBER("x", NAN),
           LVT_NUMBER("y", INFINITY));
    line_matches("^\\{\"time\":\"" TIME "\",\"level\":\"warn\",\"text\":");
    assert_string_equal(json_rest(),
                        "\"text\":\"ticket \\\"created\\\"\",\"ticket\":\"t-1\","
                        "\"n\":-9223372036854775808,\"s\":1.0,\"b\":false,\"j\":{\"a\": [1]},"
                        "\"x\":\"nan\",\"y\":\"inf\"}");
    RECORD(LVT_LOG_JSON, LVT_INFO, "x");
    assert_string_equal(json_rest(), "\"text\":\"x\"}");
}

static void json_cannot_be_forged(void **state) {
    (void)state;
    RECORD(LVT_LOG_JSON, LVT_INFO, "a\n{\"level\":\"error\"}",
           LVT_TEXT("v", LVT_LITERAL("\",\"level\":\"x\0\x1b\x7F\xC2\x9B\xFF\n")),
           LVT_STRING("level", "error"), LVT_STRING("time", "never"), LVT_STRING("text", "t"),
           LVT_STRING("a\":1,\"b\n", "c"));
    assert_string_equal(json_rest(),
                        "\"text\":\"a\\n{\\\"level\\\":\\\"error\\\"}\","
                        "\"v\":\"\\\",\\\"level\\\":\\\"x\\u0000\\u001b\\u007f\\u009b\xEF\xBF\xBD"
                        "\\n\",\"level_\":\"error\",\"time_\":\"never\",\"text_\":\"t\","
                        "\"a\\\":1,\\\"b\\n\":\"c\"}");
}

static void colours_are_for_terminals(void **state) {
    (void)state;
    record_as(LVT_LOG_TEXT, true, LVT_ERROR, "x", NULL, 0);
    line_matches("^" TIME " \x1b\\[31merror\x1b\\[0m x$");
    record_as(LVT_LOG_JSON, true, LVT_ERROR, "x", NULL, 0);
    assert_null(strchr(line, '\x1b'));
}

/* ---- bounds ---- */

static char *repeated(const char *piece, size_t count) {
    size_t len = strlen(piece);
    char *text = malloc(len * count + 1);
    for (size_t i = 0; i < count; i++) {
        memcpy(text + i * len, piece, len);
    }
    text[len * count] = '\0';
    return text;
}

static void long_texts_are_cut(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "a", "\n", "\"", "\xE2\x82\xAC", "\xFF", "\xC2\x9B", "\xF0\x9F\x98\x80"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        char *text = repeated(pieces[i], 30000);
        for (enum lvt_log_format format = LVT_LOG_TEXT; format <= LVT_LOG_JSON; format++) {
            RECORD(format, LVT_INFO, text);
            assert_non_null(strstr(line, cut_mark));
            RECORD(format, LVT_INFO, "short", LVT_STRING("v", text), LVT_INTEGER("after", 1));
            assert_non_null(strstr(line, format == LVT_LOG_JSON ? "\"after\":1" : "after=1"));
            RECORD(format, LVT_INFO, text, LVT_STRING("v", text), LVT_STRING("w", text),
                   LVT_STRING("x", text), LVT_INTEGER("after", 1));
        }
        free(text);
    }
}

static void fields_without_room_are_left_out(void **state) {
    (void)state;
    struct lvt_field fields[3000];
    char *key = repeated("k", 30000);
    for (size_t i = 0; i < 3000; i++) {
        fields[i] = LVT_INTEGER("number", (int64_t)i);
    }
    record_as(LVT_LOG_TEXT, false, LVT_INFO, "x", fields, 3000);
    line_matches(" cut=true$");
    record_as(LVT_LOG_JSON, false, LVT_INFO, "x", fields, 3000);
    line_matches(",\"cut\":true}$");
    RECORD(LVT_LOG_JSON, LVT_INFO, "x", LVT_STRING(key, "v"), LVT_INTEGER("kept", 1));
    assert_string_equal(json_rest(), "\"text\":\"x\",\"kept\":1,\"cut\":true}");
    RECORD(LVT_LOG_TEXT, LVT_INFO, "x", LVT_STRING(key, "v"), LVT_INTEGER("kept", 1));
    assert_string_equal(rest(), "x kept=1 cut=true");
    RECORD(LVT_LOG_JSON, LVT_INFO, "x", LVT_STRING("cut", "mine"));
    assert_string_equal(json_rest(), "\"text\":\"x\",\"cut_\":\"mine\"}");
    free(key);
}

/* JSON that is cut is no JSON: it becomes a text. */
static void long_json_becomes_a_text(void **state) {
    (void)state;
    char *items = repeated("[1],", 3000), *json = malloc(12004);
    snprintf(json, 12004, "[%s1]", items);
    struct lvt_field field = {.key = "j", .kind = LVT_FIELD_JSON, .value.text = lvt_bytes_of(json)};
    RECORD(LVT_LOG_JSON, LVT_INFO, "x", field);
    line_matches(",\"j\":\"\\[\\[1\\],.*\xE2\x80\xA6\"}$");
    RECORD(LVT_LOG_TEXT, LVT_INFO, "x", field);
    line_matches(" j=\"\\[\\[1\\],.*\xE2\x80\xA6\"$");
    free(items);
    free(json);
}

/* ---- writing ---- */

enum { THREADS = 4, LINES = 500 };

static void *write_lines(void *ctx) {
    char *filler = repeated("x", 3000);
    for (int i = 0; i < LINES; i++) {
        /* longer than what a pipe takes whole */
        const struct lvt_field fields[] = {LVT_INTEGER("i", i), LVT_STRING("filler", filler),
                                           LVT_STRING("more", filler)};
        lvt_log_writer_sink(ctx, LVT_INFO, "line", fields, 3);
    }
    free(filler);
    return NULL;
}

static void interrupted(int signal) {
    (void)signal;
}

/* A full, non-blocking pipe gives short writes and EAGAIN; the timer's signal gives EINTR. */
static void threads_share_a_pipe(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    struct sigaction action = {.sa_handler = interrupted};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, NULL);

    struct lvt_log_writer writer;
    pthread_t threads[THREADS];
    lvt_log_writer_init(&writer, ends[1], LVT_LOG_JSON, false);
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, write_lines, &writer);
    }
    sigset_t alarms; /* for the writers only */
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarms, NULL);
    FILE *reader = fdopen(ends[0], "r");
    for (int i = 0; i < THREADS * LINES; i++) {
        assert_non_null(fgets(line, sizeof line, reader));
        assert_int_equal(lvt_json_validate(lvt_bytes_of(line), 64, NULL), LEVERET_OK);
        assert_non_null(strstr(line, "xxxx\"}\n"));
    }
    setitimer(ITIMER_REAL, &never, NULL);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
    lvt_log_writer_done(&writer);
    close(ends[1]);
    fclose(reader);
}

static void what_cannot_be_written_is_lost(void **state) {
    (void)state;
    struct lvt_log_writer writer;
    lvt_log_writer_init(&writer, -1, LVT_LOG_TEXT, false);
    errno = 4711;
    lvt_log_writer_sink(&writer, LVT_INFO, "nowhere", NULL, 0);
    assert_int_equal(errno, 4711);
    lvt_log_writer_done(&writer);
    lvt_log_writer_done(NULL);
}

/* A pipe as a shell makes it: a write into a full one never comes back. */
static void a_pipe_that_nobody_reads_stops_nobody(void **state) {
    struct lvt_log_writer writer;
    int ends[2];
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    lvt_log_writer_init(&writer, ends[1], LVT_LOG_TEXT, false);
    for (int i = 0; i < 5000; i++)
        lvt_log_writer_sink(&writer, LVT_INFO, "a line of which there are far too many", NULL, 0);
    assert_true(writer.lost > 0 && writer.lost < 5000);
    uint64_t lost = writer.lost;
    for (uint64_t i = 0; i < 5000 - lost; i++)
        assert_true(read(ends[0], line,
                         strlen("2026-01-02T03:04:05.678Z info  "
                                "a line of which there are far too many\n")) > 0);
    lvt_log_writer_sink(&writer, LVT_INFO, "read again", NULL, 0);
    assert_int_equal(writer.lost, 0);
    ssize_t len = read(ends[0], line, sizeof line - 1);
    assert_true(len > 0);
    line[len] = '\0';
    char expected[100];
    snprintf(expected, sizeof expected, "the log was not read, and lines of it are lost lines=%d\n",
             (int)lost);
    assert_non_null(strstr(line, expected));
    assert_non_null(strstr(line, "read again\n"));
    lvt_log_writer_done(&writer);
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines),
        cmocka_unit_test(the_time_is_now),
        cmocka_unit_test(text_values),
        cmocka_unit_test(text_cannot_be_forged),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(json_cannot_be_forged),
        cmocka_unit_test(colours_are_for_terminals),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(fields_without_room_are_left_out),
        cmocka_unit_test(long_json_becomes_a_text),
        cmocka_unit_test(threads_share_a_pipe),
        cmocka_unit_test(a_pipe_that_nobody_reads_stops_nobody),
        cmocka_unit_test(what_cannot_be_written_is_lost),
    };
    return cmocka_run_group_tests_name("log_writer", tests, NULL, NULL);
}
