#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/sha256.h"
#include "event/key.h"

static void hex(const unsigned char *bytes, size_t len, char *ret_hex) {
    for (size_t i = 0; i < len; i++)
        sprintf(ret_hex + 2 * i, "%02x", bytes[i]);
}

static void expect_digest(const char *data, size_t len, size_t step, const char *expected) {
    struct sha256_ctx sha;
    unsigned char digest[SHA256_DIGEST_SIZE];
    char text[2 * SHA256_DIGEST_SIZE + 1];
    sha256_init(&sha);
    for (size_t at = 0; at < len; at += step)
        sha256_update(&sha, len - at < step ? len - at : step, (const uint8_t *)data + at);
    lvt_sha256_digest(&sha, digest);
    hex(digest, sizeof digest, text);
    assert_string_equal(text, expected);
}

/* FIPS 180-4's examples, in pieces of every awkward size. */
static void test_sha256(void **state) {
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    char *million = malloc(1000000);
    (void)state;
    assert_non_null(million);
    memset(million, 'a', 1000000);
    expect_digest("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect_digest("abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    for (size_t step = 1; step <= 56; step++)
        expect_digest(two_blocks, 56, step,
                      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    for (size_t step = 63; step <= 66; step++)
        expect_digest(million, 1000000, step,
                      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

/* The value that PostgreSQL's sha256() gives for sql/0001_ledger.sql's formula. */
static void test_key_is_what_the_migration_computes(void **state) {
    unsigned char key[LVT_EVENT_KEY_BYTES];
    char text[2 * LVT_EVENT_KEY_BYTES + 1];
    (void)state;
    lvt_event_key(LVT_LITERAL("worker"), LVT_LITERAL(""), LVT_LITERAL("ticket.created"),
                  LVT_LITERAL("t-\xc3\xa9-1"), key);
    hex(key, sizeof key, text);
    assert_string_equal(text, "1e83078b8ada2da4ff171559c5f0c701");
}

static void test_key_tells_all_four_apart(void **state) {
    unsigned char a[LVT_EVENT_KEY_BYTES], b[LVT_EVENT_KEY_BYTES];
    (void)state;
    lvt_event_key(LVT_LITERAL("w"), LVT_LITERAL("ab"), LVT_LITERAL("c"), LVT_LITERAL("1"), a);
    lvt_event_key(LVT_LITERAL("w"), LVT_LITERAL("a"), LVT_LITERAL("bc"), LVT_LITERAL("1"), b);
    assert_memory_not_equal(a, b, sizeof a);
    lvt_event_key(LVT_LITERAL("w"), LVT_LITERAL("ab"), LVT_LITERAL("c1"), LVT_LITERAL(""), b);
    assert_memory_not_equal(a, b, sizeof a);
    lvt_event_key(LVT_LITERAL("w"), LVT_LITERAL("ab"), LVT_LITERAL("c"), LVT_LITERAL("1"), b);
    assert_memory_equal(a, b, sizeof a);
}

static void test_hash_id(void **state) {
    char a[2 * SHA256_DIGEST_SIZE + 1], b[2 * SHA256_DIGEST_SIZE + 1];
    (void)state;
    lvt_sha256_hex(LVT_LITERAL("t"), LVT_LITERAL("body"), a);
    assert_int_equal(strlen(a), 64);
    lvt_sha256_hex(LVT_LITERAL("tb"), LVT_LITERAL("ody"), b);
    assert_string_not_equal(a, b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_key_is_what_the_migration_computes),
        cmocka_unit_test(test_key_tells_all_four_apart),
        cmocka_unit_test(test_hash_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
