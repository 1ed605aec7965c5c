/* Errors are values: a code that a program can test, and a text that tells a person what is wrong
 * and what to do about it. */
#ifndef LEVERET_BASE_ERROR_H
#define LEVERET_BASE_ERROR_H

#include <stdarg.h>

#define LVT_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define LVT_MUST_CHECK __attribute__((warn_unused_result))

#define LEVERET_CODES(XX)                                                                          \
    XX(OK, 0, "no error")                                                                          \
    XX(NO_MEMORY, -1, "out of memory")                                                             \
    XX(INVALID, -2, "invalid argument")                                                            \
    XX(CONFIG, -3, "configuration error")                                                          \
    XX(UNAVAILABLE, -4, "a service is unavailable")                                                \
    XX(MALFORMED, -5, "malformed input")                                                           \
    XX(TOO_BIG, -6, "over a limit")                                                                \
    XX(REFUSED, -7, "refused by a service")                                                        \
    XX(STATE, -8, "not possible in this state")                                                    \
    XX(SYSTEM, -9, "the operating system failed a call")

enum leveret_code {
#define XX(name, value, text) LEVERET_##name = value,
    LEVERET_CODES(XX)
#undef XX
};

struct leveret_error {
    enum leveret_code code;
    char text[512];
};

/* Fills *err (which may be NULL) and returns code, so that `return leveret_fail(...)` reads well.
 * A text that does not fit is cut. */
enum leveret_code leveret_fail(struct leveret_error *err, enum leveret_code code,
                               const char *format, ...) LVT_PRINTF(3, 4);

/* The code's own short text; never NULL. Static storage. */
const char *leveret_code_text(enum leveret_code code);

#endif
