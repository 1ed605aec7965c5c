/* Errors are values: a code that a program can test, and a text that tells a person what is wrong
 * and what to do about it. */
#ifndef LEVERET_ERROR_H
#define LEVERET_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* What the library exports; everything else in it is hidden. */
#define LEVERET_API __attribute__((visibility("default")))

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
    char text[512]; /* one line, without secrets */
};

/* The code's own short text; never NULL. Static storage. From any thread. */
LEVERET_API const char *leveret_code_text(enum leveret_code code);

#ifdef __cplusplus
}
#endif

#endif
