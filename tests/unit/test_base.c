/* Errors, buffers, arenas, timers, UTF-8 and the log's front. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/log.h"
#include "base/timers.h"
#include "base/utf8.h"

/* ---- error ---- */

static void every_code_has_a_text(void **state) {
    (void)state;
#define XX(name, value, text)                                                                      \
    assert_string_equal(leveret_code_text(LEVERET_##name), text);                                  \
    assert_true((value) <= 0);
    LEVERET_CODES(XX)
#undef XX
    assert_string_equal(leveret_code_text((enum leveret_code) - 99), "unknown error");
}

static void fail_fills_and_returns(void **state) {
    (void)state;
    struct leveret_error err = {0};
    assert_int_equal(leveret_fail(&err, LEVERET_CONFIG, "key %s, line %d", "a.b", 7),
                     LEVERET_CONFIG);
    assert_int_equal(err.code, LEVERET_CONFIG);
    assert_string_equal(err.text, "key a.b, line 7");
    assert_int_equal(leveret_fail(NULL, LEVERET_STATE, "nobody listens"), LEVERET_STATE);
}

static void fail_may_wrap_its_own_text(void **state) {
    (void)state;
    struct leveret_error err;
    leveret_fail(&err, LEVERET_SYSTEM, "inner");
    leveret_fail(&err, LEVERET_CONFIG, "outer: %s (%s)", err.text, err.text);
    assert_string_equal(err.text, "outer: inner (inner)");
}

static void a_long_text_is_cut_between_characters(void **state) {
    (void)state;
    struct leveret_error err;
    for (size_t ascii = 500; ascii < 512; ascii++) {
        char text[600];
        memset(text, 'a', ascii);
        strcpy(text + ascii, "\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC");
        leveret_fail(&err, LEVERET_INVALID, "%s", text);
        size_t len = strlen(err.text);
        assert_true(len < sizeof err.text && len >= sizeof err.text - 3);
        for (size_t at = 0; at < len;) {
            size_t step = lvt_utf8_length(err.text + at, len - at);
            assert_true(step > 0);
            at += step;
        }
    }
}

/* ---- UTF-8 ---- */

static void utf8_lengths(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t len, expected;
    } cases[] = {
        {"a", 1, 1},
        {"\0", 1, 1},
        {"\x7F", 1, 1},
        {"\x80", 1, 0}, /* a continuation alone */
        {"\xBF", 1, 0},
        {"\xC0\x80", 2, 0}, /* overlong NUL */
        {"\xC1\xBF", 2, 0},
        {"\xC2\x80", 2, 2},
        {"\xDF\xBF", 2, 2},
        {"\xC3", 1, 0},
        {"\xC3(", 2, 0},
        {"\xE0\x9F\xBF", 3, 0}, /* overlong */
        {"\xE0\xA0\x80", 3, 3},
        {"\xED\x9F\xBF", 3, 3},
        {"\xED\xA0\x80", 3, 0}, /* U+D800 */
        {"\xED\xBF\xBF", 3, 0},
        {"\xEE\x80\x80", 3, 3},
        {"\xEF\xBF\xBF", 3, 3},
        {"\xE2\x82", 2, 0},
        {"\xE2\x82(", 3, 0},
        {"\xF0\x8F\xBF\xBF", 4, 0}, /* overlong */
        {"\xF0\x90\x80\x80", 4, 4},
        {"\xF4\x8F\xBF\xBF", 4, 4},
        {"\xF4\x90\x80\x80", 4, 0}, /* past U+10FFFF */
        {"\xF0\x9F\x98", 3, 0},
        {"\xF0\x9F\x98(", 4, 0},
        {"\xF5\x80\x80\x80", 4, 0},
        {"\xFE", 1, 0},
        {"\xFF", 1, 0},
        {"", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(lvt_utf8_length(cases[i].text, cases[i].len), cases[i].expected);
    }
}

static void utf8_is_cut_between_characters(void **state) {
    (void)state;
    assert_int_equal(lvt_utf8_cut("", 0), 0);
    assert_int_equal(lvt_utf8_cut("abc", 3), 3);
    assert_int_equal(lvt_utf8_cut("ab\xC3\xA4", 4), 4);
    assert_int_equal(lvt_utf8_cut("ab\xC3\xA4", 3), 2);
    assert_int_equal(lvt_utf8_cut("a\xF0\x9F\x98\x80", 5), 5);
    assert_int_equal(lvt_utf8_cut("a\xF0\x9F\x98\x80", 4), 1);
    assert_int_equal(lvt_utf8_cut("a\xF0\x9F\x98\x80", 2), 1);
    assert_int_equal(lvt_utf8_cut("\x80\x80\x80\x80\x80\x80", 6), 6); /* rubbish stays */
}

static void utf8_controls(void **state) {
    (void)state;
    assert_true(lvt_utf8_is_control("\n", 1));
    assert_true(lvt_utf8_is_control("\0", 1));
    assert_true(lvt_utf8_is_control("\x7F", 1));
    assert_true(lvt_utf8_is_control("\xC2\x9B", 2));
    assert_true(lvt_utf8_is_control("\xE2\x80\xA8", 3));
    assert_true(lvt_utf8_is_control("\xE2\x80\xA9", 3));
    assert_false(lvt_utf8_is_control(" ", 1));
    assert_false(lvt_utf8_is_control("\xC2\xA0", 2));
    assert_false(lvt_utf8_is_control("\xC3\x80", 2));
    assert_false(lvt_utf8_is_control("\xE2\x82\xAC", 3));
}

/* ---- buffer ---- */

static void a_buffer_grows(void **state) {
    (void)state;
    struct lvt_buffer buffer;
    lvt_buffer_init(&buffer, 1 << 20);
    assert_null(buffer.data);
    for (int i = 0; i < 10000; i++) {
        lvt_buffer_char(&buffer, 'x');
        lvt_buffer_text(&buffer, "yz");
        lvt_buffer_printf(&buffer, "%d", i % 10);
    }
    assert_false(buffer.failed);
    assert_int_equal(buffer.len, 40000);
    assert_int_equal(strlen(buffer.data), 40000);
    assert_memory_equal(buffer.data + 39996, "xyz9", 4);
    lvt_buffer_free(&buffer);
    assert_null(buffer.data);
    lvt_buffer_free(NULL);
}

static void a_buffer_holds_its_maximum_and_no_more(void **state) {
    (void)state;
    struct lvt_buffer buffer;
    lvt_buffer_init(&buffer, 5);
    lvt_buffer_append(&buffer, "a\0b", 3);
    lvt_buffer_printf(&buffer, "%s", "cd");
    assert_false(buffer.failed);
    assert_memory_equal(buffer.data, "a\0bcd", 6);
    lvt_buffer_append(&buffer, "", 0);
    assert_false(buffer.failed);
    lvt_buffer_char(&buffer, 'e');
    assert_true(buffer.failed);
    assert_int_equal(buffer.len, 5);

    lvt_buffer_truncate(&buffer, 2);
    assert_false(buffer.failed);
    lvt_buffer_printf(&buffer, "%s", "four");
    assert_true(buffer.failed);
    assert_int_equal(buffer.len, 2);
    assert_int_equal(buffer.data[2], '\0');
    lvt_buffer_text(&buffer, "x"); /* would fit, but the failure sticks */
    assert_int_equal(buffer.len, 2);

    lvt_buffer_clear(&buffer);
    lvt_buffer_text(&buffer, "five!");
    assert_false(buffer.failed);
    assert_string_equal(buffer.data, "five!");
    lvt_buffer_free(&buffer);
}

static void a_fixed_buffer_stays_in_its_memory(void **state) {
    (void)state;
    char memory[8];
    struct lvt_buffer buffer;
    lvt_buffer_init_fixed(&buffer, memory, sizeof memory);
    assert_string_equal(memory, "");
    lvt_buffer_text(&buffer, "1234567");
    assert_false(buffer.failed);
    assert_ptr_equal(buffer.data, memory);
    lvt_buffer_char(&buffer, '8');
    assert_true(buffer.failed);
    assert_string_equal(memory, "1234567");

    lvt_buffer_init_fixed(&buffer, memory, 1);
    lvt_buffer_printf(&buffer, "%d", 1);
    assert_true(buffer.failed);
    assert_string_equal(memory, "");
}

/* ---- arena ---- */

static void an_arena_aligns_and_keeps(void **state) {
    (void)state;
    struct lvt_arena arena;
    unsigned char *blocks[200];
    lvt_arena_init(&arena, 1000);
    assert_null(arena.blocks);
    for (size_t i = 0; i < 200; i++) {
        size_t size = i * 7 % 1500; /* smaller and larger than a block */
        blocks[i] = lvt_arena_alloc(&arena, size);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
        memset(blocks[i], (int)i, size);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t at = 0; at < i * 7 % 1500; at++) {
            assert_int_equal(blocks[i][at], i);
        }
    }
    unsigned char *zero = lvt_arena_zalloc(&arena, 300);
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(zero[i], 0);
    }
    assert_null(lvt_arena_alloc(&arena, SIZE_MAX));
    lvt_arena_free(&arena);
    lvt_arena_free(NULL);
}

static void an_arena_goes_on_after_a_giant(void **state) {
    (void)state;
    struct lvt_arena arena;
    lvt_arena_init(&arena, 4096);
    char *before = lvt_arena_alloc(&arena, 16);
    assert_non_null(lvt_arena_alloc(&arena, 1 << 20));
    assert_ptr_equal(lvt_arena_alloc(&arena, 16), before + 16); /* the rest was not thrown away */
    lvt_arena_free(&arena);

    struct lvt_arena zeroed = {0};
    assert_non_null(lvt_arena_alloc(&zeroed, 8));
    lvt_arena_free(&zeroed);
}

static void an_arena_copies_texts(void **state) {
    (void)state;
    struct lvt_arena arena;
    lvt_arena_init(&arena, 64);
    struct lvt_bytes copy = lvt_arena_copy(&arena, lvt_bytes("a\0b", 3));
    assert_int_equal(copy.len, 3);
    assert_memory_equal(copy.data, "a\0b", 4);
    copy = lvt_arena_copy(&arena, lvt_bytes(NULL, 0));
    assert_string_equal(copy.data, "");
    char *text = lvt_arena_printf(&arena, "%s-%0500d", "n", 1);
    assert_int_equal(strlen(text), 502);
    lvt_arena_free(&arena);
}

/* ---- timers ---- */

struct fixture {
    struct lvt_timer timer;
    struct lvt_timers *timers;
    int fired;
    struct lvt_timer *starts, *stops;
    uint64_t start_at_ms;
};

static uint64_t last_due_ms;
static int total_fired;

static void fired(struct lvt_timer *timer) {
    struct fixture *f = (struct fixture *)timer;
    assert_int_equal(timer->position, 0);
    assert_true(timer->due_ms >= last_due_ms);
    last_due_ms = timer->due_ms;
    f->fired++;
    total_fired++;
    if (f->stops) {
        lvt_timer_stop(f->timers, f->stops);
    }
    if (f->starts) {
        lvt_timer_start(f->timers, f->starts, f->start_at_ms);
    }
}

static void timers_fire_in_order(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    struct lvt_timers timers = {0};
    struct fixture *all = calloc(COUNT, sizeof *all);
    uint64_t due_ms;
    unsigned random = 1;
    last_due_ms = 0;
    total_fired = 0;
    assert_false(lvt_timers_next(&timers, &due_ms));
    for (int i = 0; i < COUNT; i++) {
        all[i].timer.fire = fired;
        random = random * 1103515245 + 12345;
        assert_true(lvt_timer_start(&timers, &all[i].timer, random >> 16 & 1023));
    }
    int stopped = 0;
    for (int i = 0; i < COUNT; i++) {
        random = random * 1103515245 + 12345;
        if (i % 3 == 0) {
            lvt_timer_stop(&timers, &all[i].timer);
            lvt_timer_stop(&timers, &all[i].timer);
            stopped++;
        } else if (i % 3 == 1) {
            lvt_timer_start(&timers, &all[i].timer, random >> 16 & 1023);
        }
    }
    for (size_t i = 0; i < timers.count; i++) {
        assert_int_equal(timers.heap[i]->position, i + 1);
    }
    lvt_timers_run(&timers, 500);
    assert_true(lvt_timers_next(&timers, &due_ms));
    assert_true(due_ms > 500 && last_due_ms <= 500);
    lvt_timers_run(&timers, 1023);
    assert_int_equal(total_fired, COUNT - stopped);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(all[i].fired, i % 3 != 0);
    }
    lvt_timers_free(&timers);
    free(all);
}

static void a_timer_may_stop_and_start_others(void **state) {
    (void)state;
    struct lvt_timers timers = {0};
    struct fixture a = {.timer.fire = fired, .timers = &timers};
    struct fixture b = a, c = a;
    last_due_ms = 0;
    a.stops = &b.timer;
    a.starts = &c.timer;
    a.start_at_ms = 7;
    lvt_timer_start(&timers, &a.timer, 5);
    lvt_timer_start(&timers, &b.timer, 6);
    lvt_timers_run(&timers, 10);
    lvt_timers_run(&timers, 10);
    assert_int_equal(a.fired, 1);
    assert_int_equal(b.fired, 0);
    assert_int_equal(c.fired, 1);
    lvt_timers_free(&timers);
}

static void a_timer_that_starts_itself_lets_others_go(void **state) {
    (void)state;
    struct lvt_timers timers = {0};
    uint64_t due_ms = 0;
    struct fixture a = {.timer.fire = fired, .timers = &timers, .start_at_ms = 5};
    last_due_ms = 0;
    a.starts = &a.timer;
    lvt_timer_start(&timers, &a.timer, 5);
    lvt_timers_run(&timers, 5);
    assert_int_equal(a.fired, 1);
    assert_true(lvt_timers_next(&timers, &due_ms));
    assert_int_equal(due_ms, 5);
    lvt_timers_free(&timers);
    assert_int_equal(a.timer.position, 0); /* forgotten, and may be armed elsewhere */
    lvt_timers_free(NULL);
}

/* ---- log ---- */

struct seen {
    int count;
    enum lvt_level level;
    char text[2048];
    size_t field_count;
    int64_t integer;
};

static void keep(void *ctx, enum lvt_level level, const char *text, const struct lvt_field *fields,
                 size_t field_count) {
    struct seen *seen = ctx;
    seen->count++;
    seen->level = level;
    snprintf(seen->text, sizeof seen->text, "%s", text);
    seen->field_count = field_count;
    seen->integer = field_count > 0 ? fields[0].value.integer : 0;
}

static void records_below_the_level_are_not_made(void **state) {
    (void)state;
    struct seen seen = {0};
    struct lvt_log log = {keep, &seen, LVT_WARN}, silent = {NULL, NULL, LVT_DEBUG};
    lvt_log(&log, LVT_INFO, "no", NULL, 0);
    lvt_logf(&log, LVT_INFO, "no %d", 1);
    LVT_LOG(&log, LVT_DEBUG, "no", LVT_INTEGER("n", 1));
    assert_int_equal(seen.count, 0);
    LVT_LOG(&log, LVT_WARN, "yes", LVT_INTEGER("n", 42), LVT_STRING("s", "t"));
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.field_count, 2);
    assert_int_equal(seen.integer, 42);
    lvt_logf(&log, LVT_ERROR, "%d of %s", 3, "them");
    assert_string_equal(seen.text, "3 of them");
    assert_int_equal(seen.level, LVT_ERROR);
    lvt_logf(&log, LVT_ERROR, "%02000d", 0);
    assert_int_equal(strlen(seen.text), 1023);
    lvt_logf(&silent, LVT_ERROR, "%d", 1);
    lvt_log(&silent, LVT_ERROR, "no", NULL, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_text),
        cmocka_unit_test(fail_fills_and_returns),
        cmocka_unit_test(fail_may_wrap_its_own_text),
        cmocka_unit_test(a_long_text_is_cut_between_characters),
        cmocka_unit_test(utf8_lengths),
        cmocka_unit_test(utf8_is_cut_between_characters),
        cmocka_unit_test(utf8_controls),
        cmocka_unit_test(a_buffer_grows),
        cmocka_unit_test(a_buffer_holds_its_maximum_and_no_more),
        cmocka_unit_test(a_fixed_buffer_stays_in_its_memory),
        cmocka_unit_test(an_arena_aligns_and_keeps),
        cmocka_unit_test(an_arena_goes_on_after_a_giant),
        cmocka_unit_test(an_arena_copies_texts),
        cmocka_unit_test(timers_fire_in_order),
        cmocka_unit_test(a_timer_may_stop_and_start_others),
        cmocka_unit_test(a_timer_that_starts_itself_lets_others_go),
        cmocka_unit_test(records_below_the_level_are_not_made),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
