#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The character's bytes, and its number in *ret_code; 0 when it is none. The text ends with a NUL,
 * which continues no character. */
static size_t decode(const unsigned char *text, uint32_t *ret_code) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = 1;
    uint32_t code = text[0];
    if (code >= 0xF0 && code < 0xF8)
        len = 4, code &= 0x07;
    else if (code >= 0xE0 && code < 0xF0)
        len = 3, code &= 0x0F;
    else if (code >= 0xC0 && code < 0xE0)
        len = 2, code &= 0x1F;
    else if (code >= 0x80)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((text[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (text[i] & 0x3F);
    }
    bool surrogate = code >= 0xD800 && code < 0xE000;
    if (code < least[len] || code > 0x10FFFF || surrogate)
        return 0;
    *ret_code = code;
    return len;
}

enum text_result text_check(const char *text, bool lines, size_t *ret_length) {
    size_t length = 0;
    for (const unsigned char *at = (const unsigned char *)text; *at; length++) {
        uint32_t code;
        size_t len = decode(at, &code);
        if (len == 0)
            return TEXT_NOT_UTF8;
        bool control = code < 0x20 || (code >= 0x7F && code < 0xA0);
        if (control && !(lines && (code == '\n' || code == '\r' || code == '\t')))
            return TEXT_CONTROL;
        at += len;
    }
    *ret_length = length;
    return TEXT_OK;
}

bool text_has_nul(const char *json, size_t len) {
    static const char escaped[] = "u0000";
    for (size_t i = 0; i < len; i++) {
        if (json[i] == '\0')
            return true;
        if (json[i] != '\\')
            continue;
        i++; /* what is escaped, if only a backslash */
        if (len - i >= sizeof escaped - 1 && memcmp(json + i, escaped, sizeof escaped - 1) == 0)
            return true;
    }
    return false;
}

bool text_number(const char *text, int64_t least, int64_t most, int64_t *ret_number) {
    if (!*text || text[strspn(text, "0123456789")] != '\0')
        return false;
    errno = 0;
    long long number = strtoll(text, NULL, 10);
    if (errno != 0 || number < least || number > most)
        return false;
    *ret_number = number;
    return true;
}
