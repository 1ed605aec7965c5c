#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "email/mime.h"

static char *build(struct lvt_mail mail) {
    size_t len;
    mail.from = "a@example.org";
    mail.to = "b@example.org";
    mail.message_id = "<1@example.org>";
    mail.date = 1700000000;
    if (!mail.subject)
        mail.subject = "s";
    char *message = lvt_mime_build(&mail, &len);
    assert_non_null(message);
    assert_int_equal(len, strlen(message));
    return message;
}

static void expect(char *message, const char *text) {
    if (!strstr(message, text))
        fail_msg("no \"%s\" in:\n%s", text, message);
}

static void expect_subject(const char *subject, const char *text) {
    char *message = build((struct lvt_mail){.subject = subject, .text = leveret_text_of("x")});
    expect(message, text);
    free(message);
}

static void expect_body(struct leveret_text body, const char *text) {
    char *message = build((struct lvt_mail){.text = body});
    assert_string_equal(strstr(message, "\r\n\r\n") + 4, text);
    free(message);
}

static void test_headers(void **state) {
    (void)state;
    char *message = build((struct lvt_mail){.text = leveret_text_of("x")});
    assert_string_equal(message,
                        "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
                        "From: <a@example.org>\r\n"
                        "To: <b@example.org>\r\n"
                        "Subject: s\r\n"
                        "Message-ID: <1@example.org>\r\n"
                        "Auto-Submitted: auto-generated\r\n"
                        "MIME-Version: 1.0\r\n"
                        "Content-Type: text/plain; charset=utf-8\r\n"
                        "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
                        "x\r\n");
    free(message);
}

static void test_names(void **state) {
    (void)state;
    char *message =
        build((struct lvt_mail){.from_name = "A \"b\" \\c", .text = leveret_text_of("x")});
    expect(message, "From: \"A \\\"b\\\" \\\\c\" <a@example.org>\r\n");
    free(message);
    message = build((struct lvt_mail){.from_name = "\xc3\xbc", .text = leveret_text_of("x")});
    expect(message, "From: =?UTF-8?B?w7w=?= <a@example.org>\r\n");
    free(message);
}

static void test_subjects(void **state) {
    (void)state;
    expect_subject("Hello, world = ?", "Subject: Hello, world = ?\r\n");
    expect_subject("\xc3\xbc", "Subject: =?UTF-8?B?w7w=?=\r\n");
    expect_subject("=?x?", "Subject: =?UTF-8?B?PT94Pw==?=\r\n");
    expect_subject(" x", "Subject: =?UTF-8?B?IHg=?=\r\n");
}

/* 39 bytes, of which the last one begins a character of four: it goes to the next word. */
static void test_long_subjects(void **state) {
    (void)state;
    expect_subject("12345678901234567890123456789012345678\xf0\x9f\x90\x87",
                   "Subject: =?UTF-8?B?MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg=?=\r\n"
                   " =?UTF-8?B?8J+Qhw==?=\r\n");
    char subject[901];
    memset(subject, 'x', 900);
    subject[900] = '\0';
    char *message = build((struct lvt_mail){.subject = subject, .text = leveret_text_of("x")});
    for (char *line = strtok(message, "\r\n"); line; line = strtok(NULL, "\r\n"))
        assert_in_range(strlen(line), 0, 76);
    free(message);
}

static void test_bodies(void **state) {
    (void)state;
    expect_body(leveret_text_of("a=b"), "a=3Db\r\n");
    expect_body(leveret_text_of("a\nb\r\nc\rd"), "a\r\nb\r\nc\r\nd\r\n");
    expect_body(leveret_text_of("a \nb\t"), "a=20\r\nb=09\r\n");
    expect_body(leveret_text_of("\xc3\xbc"), "=C3=BC\r\n");
    expect_body((struct leveret_text){"a\0b", 3}, "a=00b\r\n");
    expect_body((struct leveret_text){"", 0}, "\r\n");
}

static void test_long_lines(void **state) {
    char body[201], expected[300];
    (void)state;
    memset(body, 'x', 200);
    body[200] = '\0';
    snprintf(expected, sizeof expected, "%.75s=\r\n%.75s=\r\n%.50s\r\n", body, body, body);
    expect_body(leveret_text_of(body), expected);
    memcpy(body + 74, "=y", 3); /* does not fit the line: three characters */
    snprintf(expected, sizeof expected, "%.74s=\r\n=3Dy\r\n", body);
    expect_body(leveret_text_of(body), expected);
}

static void test_two_parts(void **state) {
    (void)state;
    char *message = build((struct lvt_mail){.text = leveret_text_of("--=_part_of_this_mail--"),
                                            .html = leveret_text_of("<p>")});
    expect(message,
           "multipart/alternative; boundary=\"=_part_of_this_mail\"\r\n\r\n"
           "--=_part_of_this_mail\r\nContent-Type: text/plain; charset=utf-8\r\n");
    expect(message, "\r\n\r\n--=3D_part_of_this_mail--\r\n--=_part_of_this_mail\r\n");
    expect(message, "\r\n\r\n<p>\r\n--=_part_of_this_mail--\r\n");
    free(message);
}

static void test_addresses(void **state) {
    static const char *const good[] = {"a@b", "a.b+c@d-e.example", "o'neil@example.org"};
    static const char *const bad[] = {
        "",     "a",          "@b",     "a@",          "a@b c",   "a b@c",  "a@@b",
        ".a@b", "a.@b",       "a..b@c", "a@b\r\nX: y", "a@b\n",   "a@-b",   "<a@b>",
        "a@b>", "\xc3\xbc@b", "a@b.",   "a\x7f@b",     "\"a\"@b", "a@[::1]"};
    struct lvt_failure failure;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(lvt_mail_address_check(good[i], "to", &failure));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (lvt_mail_address_check(bad[i], "to", &failure))
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(failure.verdict, LEVERET_REJECT);
    }
}

static void test_message_ids(void **state) {
    char id[256], again[256];
    (void)state;
    lvt_mail_message_id(leveret_text_of("0190-ab_C.d"), "me@example.org", id, sizeof id);
    assert_string_equal(id, "<0190-ab_C.d@example.org>");
    lvt_mail_message_id(leveret_text_of("a>\r\nb"), "me@example.org", id, sizeof id);
    assert_null(strpbrk(id, "\r\n"));
    lvt_mail_message_id(leveret_text_of("a>\r\nb"), "me@example.org", again, sizeof again);
    assert_string_equal(id, again);
    lvt_mail_message_id(leveret_text_of(""), "me@example.org", id, sizeof id);
    lvt_mail_message_id(leveret_text_of(""), "me@example.org", again, sizeof again);
    assert_string_not_equal(id, again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),     cmocka_unit_test(test_names),
        cmocka_unit_test(test_subjects),    cmocka_unit_test(test_long_subjects),
        cmocka_unit_test(test_bodies),      cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_two_parts),   cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_message_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
