/* Texts from outside. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum text_result {
    TEXT_OK,
    TEXT_NOT_UTF8,
    TEXT_CONTROL,
};

/* Counts the characters. Line breaks and tabs are control characters where `lines` is false. */
enum text_result text_check(const char *text, bool lines, size_t *ret_length);

/* Whether the JSON has a NUL, as it is or as \u0000. */
bool text_has_nul(const char *json, size_t len);

/* A whole number from `least` to `most`, in digits and nothing else. */
bool text_number(const char *text, int64_t least, int64_t most, int64_t *ret_number);

#endif
