/* What is seen in a handler's statement before it is sent, and in the tag of its answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ledger/statement.h"

static const char *objection(const char *text) {
    const struct lvt_sql sql = {lvt_bytes_of(text), NULL, 0};
    return lvt_statement_objection(&sql);
}

static void ends_of_transactions(void **state) {
    static const char *const refused[] = {
        "COMMIT",
        "commit;",
        " \t\n;Commit AND CHAIN",
        "END",
        "ABORT",
        "BEGIN",
        "START TRANSACTION",
        "ROLLBACK",
        "rollback work",
        "ROLLBACK TRANSACTION AND CHAIN",
        "PREPARE TRANSACTION 'a'",
        "-- why\nCOMMIT",
        "--\n/* a\nb */ -- c\n /**/end",
        "ROLLBACK /* TO */ WORK",
        "/*/* */ */ COMMIT",
        "/***//*/**/*/end",
    };
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const char *why = objection(refused[i]);
        if (!why || !strstr(why, "must not"))
            fail_msg("%s: %s", refused[i], why ? why : "(no objection)");
    }
}

static void other_statements(void **state) {
    static const char *const sent[] = {
        "",
        ";",
        "-- COMMIT",
        "/* COMMIT",
        "/* COMMIT */ SELECT 1",
        "/*/* */ COMMIT",
        "/*/ COMMIT */ SELECT 1",
        "SELECT 'COMMIT'",
        "COMMITMENT",
        "endless",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "ROLLBACK TO SAVEPOINT s",
        "rollback work to s",
        "ROLLBACK TRANSACTION /* x */ TO s",
        "RELEASE s",
        "PREPARE a AS SELECT 1",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "a_word_that_is_longer_than_what_is_kept_of_it",
    };
    (void)state;
    for (size_t i = 0; i < sizeof sent / sizeof sent[0]; i++)
        if (objection(sent[i]))
            fail_msg("%s: %s", sent[i], objection(sent[i]));
    const struct lvt_sql none = {{NULL, 0}, NULL, 0};
    assert_null(lvt_statement_objection(&none));
}

static void parameters(void **state) {
    static struct lvt_bytes many[65536];
    struct lvt_sql sql = {LVT_LITERAL("SELECT 1"), many, 65535};
    (void)state;
    assert_null(lvt_statement_objection(&sql));
    sql.param_count++;
    assert_non_null(strstr(lvt_statement_objection(&sql), "65535"));
    const struct lvt_bytes two[] = {LVT_LITERAL("a"), LVT_LITERAL("b\0c")};
    sql = (struct lvt_sql){LVT_LITERAL("SELECT $1, $2"), two, 2};
    assert_non_null(strstr(lvt_statement_objection(&sql), "a parameter holds a NUL"));
    sql = (struct lvt_sql){LVT_LITERAL("SELECT 1\0"), NULL, 0};
    assert_non_null(strstr(lvt_statement_objection(&sql), "the statement holds a NUL"));
}

static bool is_local(const char *text) {
    return lvt_statement_is_local_setting(lvt_bytes_of(text));
}

static void local_settings(void **state) {
    (void)state;
    assert_true(is_local("SET LOCAL work_mem = '1MB'"));
    assert_true(is_local("set /* x */ transaction isolation level serializable"));
    assert_true(is_local("SET CONSTRAINTS ALL DEFERRED"));
    assert_false(is_local("SET work_mem = '1MB'"));
    assert_false(is_local("SET SESSION work_mem = '1MB'"));
    assert_false(is_local("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"));
    assert_false(is_local("SET locale = 'C'"));
    assert_false(is_local("RESET ALL"));
    assert_false(is_local("LOCAL"));
}

static void changed_sessions(void **state) {
    (void)state;
    assert_true(lvt_statement_changes_session("SET"));
    assert_true(lvt_statement_changes_session("RESET"));
    assert_true(lvt_statement_changes_session("DISCARD ALL"));
    assert_true(lvt_statement_changes_session("PREPARE"));
    assert_true(lvt_statement_changes_session("DEALLOCATE ALL"));
    assert_true(lvt_statement_changes_session("LISTEN"));
    assert_true(lvt_statement_changes_session("LOAD"));
    assert_false(lvt_statement_changes_session("SELECT 1"));
    assert_false(lvt_statement_changes_session("INSERT 0 1"));
    assert_false(lvt_statement_changes_session("SAVEPOINT"));
    assert_false(lvt_statement_changes_session(""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_of_transactions), cmocka_unit_test(other_statements),
        cmocka_unit_test(parameters),           cmocka_unit_test(local_settings),
        cmocka_unit_test(changed_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
