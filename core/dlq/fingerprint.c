#include "dlq/fingerprint.h"

#include <stdio.h>

#include "base/sha256.h"

/* As much of an error as counts: a header of leveret's holds no more. */
#define ERROR_MAX 1024
#define UUID_LEN 36
/* Longer than this, a text between quotes is taken for two apostrophes that are far apart. */
#define QUOTED_MAX 200

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_word(char c) {
    return is_digit(c) || is_letter(c);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* 8-4-4-4-12 */
static bool is_uuid(struct lvt_bytes text) {
    if (text.len < UUID_LEN || (text.len > UUID_LEN && is_word(text.data[UUID_LEN])))
        return false;
    for (size_t i = 0; i < UUID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text.data[i] != '-' : !is_hex(text.data[i]))
            return false;
    }
    return true;
}

/* A hash, an address, or an id in letters and digits. Words such as "utf8" or "md5" are none. */
static bool is_id(struct lvt_bytes word) {
    size_t digit_runs = 0, hex = 0;
    size_t start = word.len > 2 && word.data[0] == '0' && (word.data[1] | 0x20) == 'x' ? 2 : 0;
    for (size_t i = start; i < word.len; i++) {
        digit_runs += is_digit(word.data[i]) && (i == start || !is_digit(word.data[i - 1]));
        hex += is_hex(word.data[i]);
    }
    if (start > 0)
        return hex == word.len - start;
    if (hex == word.len)
        return word.len >= 16 || (digit_runs > 0 && word.len >= 4);
    return digit_runs >= 2 && word.len >= 8;
}

/* The text between quotes that begins at `text`, with them; 0 when none does. */
static size_t quoted_len(struct lvt_bytes text) {
    for (size_t i = 1; i < text.len && i <= QUOTED_MAX && text.data[i] != '\n'; i++)
        if (text.data[i] == text.data[0])
            return i + 1;
    return 0;
}

/* One '#' for "12", "1.5", "127.0.0.1": how many parts a number has says nothing either. */
static void put_mark(struct lvt_buffer *out) {
    if (out->len >= 2 && out->data[out->len - 1] == '.' && out->data[out->len - 2] == '#')
        lvt_buffer_truncate(out, out->len - 1);
    else
        lvt_buffer_char(out, '#');
}

static void fold_word(struct lvt_bytes word, struct lvt_buffer *out) {
    if (is_id(word)) {
        put_mark(out);
        return;
    }
    for (size_t i = 0; i < word.len; i++) {
        if (!is_digit(word.data[i]))
            lvt_buffer_char(out, word.data[i]);
        else if (i == 0 || !is_digit(word.data[i - 1]))
            put_mark(out);
    }
}

void lvt_error_fold(struct lvt_bytes error, struct lvt_buffer *out) {
    size_t len;
    for (size_t at = 0; at < error.len; at += len) {
        struct lvt_bytes rest = lvt_bytes(error.data + at, error.len - at);
        char c = rest.data[0];
        bool inside = at > 0 && is_word(rest.data[-1]); /* an apostrophe, as in "isn't" */
        len = 1;
        if ((c == '"' || c == '\'' || c == '`') && !inside && quoted_len(rest) > 0) {
            len = quoted_len(rest);
            lvt_buffer_printf(out, "%c#%c", c, c);
        } else if (is_word(c) && is_uuid(rest)) {
            len = UUID_LEN;
            put_mark(out);
        } else if (is_word(c)) {
            while (len < rest.len && is_word(rest.data[len]))
                len++;
            fold_word(lvt_bytes(rest.data, len), out);
        } else if (is_space(c)) {
            while (len < rest.len && is_space(rest.data[len]))
                len++;
            if (at > 0 && len < rest.len)
                lvt_buffer_char(out, ' ');
        } else {
            lvt_buffer_char(out, c);
        }
    }
}

void lvt_fingerprint(struct lvt_bytes error, char ret[LVT_FINGERPRINT_LEN + 1]) {
    char folded[2 * ERROR_MAX];
    struct lvt_buffer out;
    struct sha256_ctx sha;
    unsigned char digest[SHA256_DIGEST_SIZE];
    if (error.len > ERROR_MAX)
        error.len = ERROR_MAX;
    lvt_buffer_init_fixed(&out, folded, sizeof folded);
    lvt_error_fold(error, &out);
    sha256_init(&sha);
    sha256_update(&sha, out.len, (const uint8_t *)folded);
    lvt_sha256_digest(&sha, digest);
    for (size_t i = 0; i < LVT_FINGERPRINT_LEN / 2; i++)
        sprintf(ret + 2 * i, "%02x", digest[i]);
}
