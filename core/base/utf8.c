#include "base/utf8.h"

#include <string.h>

static bool continues(unsigned char c) {
    return (c & 0xC0) == 0x80;
}

size_t lvt_utf8_length(const char *text, size_t len) {
    const unsigned char *c = (const unsigned char *)text;
    if (len == 0) {
        return 0;
    }
    if (c[0] < 0x80) {
        return 1;
    }
    if (c[0] < 0xC2 || c[0] > 0xF4 || len < 2) {
        return 0;
    }
    /* The second byte alone tells the overlong forms, the surrogates and what is too large. */
    unsigned char low = c[0] == 0xE0 ? 0xA0 : c[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = c[0] == 0xED ? 0x9F : c[0] == 0xF4 ? 0x8F : 0xBF;
    if (c[1] < low || c[1] > high) {
        return 0;
    }
    if (c[0] < 0xE0) {
        return 2;
    }
    if (len < 3 || !continues(c[2])) {
        return 0;
    }
    if (c[0] < 0xF0) {
        return 3;
    }
    return len >= 4 && continues(c[3]) ? 4 : 0;
}

size_t lvt_utf8_cut(const char *text, size_t len) {
    size_t lead = len; /* one past the last byte that begins a character */
    while (lead > 0 && len - lead < 4 && continues((unsigned char)text[lead - 1])) {
        lead--;
    }
    if (lead == 0) {
        return len;
    }
    unsigned char c = (unsigned char)text[lead - 1];
    size_t need = c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    return len - (lead - 1) < need ? lead - 1 : len;
}

bool lvt_utf8_is_control(const char *text, size_t len) {
    const unsigned char *c = (const unsigned char *)text;
    if (len == 1) {
        return c[0] < 0x20 || c[0] == 0x7F;
    }
    if (len == 2) {
        return c[0] == 0xC2 && c[1] < 0xA0;
    }
    return len == 3 && (memcmp(text, "\u2028", 3) == 0 || memcmp(text, "\u2029", 3) == 0);
}
