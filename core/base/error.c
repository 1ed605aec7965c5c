#include "base/error.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum leveret_code leveret_fail(struct leveret_error *err, enum leveret_code code,
                               const char *format, ...) {
    if (!err) {
        return code;
    }
    /* Not into err->text at once: it may be among the arguments, when an error wraps another. */
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len < 0) {
        snprintf(text, sizeof text, "%s", leveret_code_text(code));
    } else if ((size_t)len >= sizeof text) {
        text[lvt_utf8_cut(text, sizeof text - 1)] = '\0';
    }
    err->code = code;
    memcpy(err->text, text, strlen(text) + 1);
    return code;
}

const char *leveret_code_text(enum leveret_code code) {
    switch (code) {
#define XX(name, value, text)                                                                      \
    case LEVERET_##name:                                                                           \
        return text;
        LEVERET_CODES(XX)
#undef XX
    }
    return "unknown error";
}
