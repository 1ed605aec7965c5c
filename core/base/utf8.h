/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing past U+10FFFF. */
#ifndef LEVERET_BASE_UTF8_H
#define LEVERET_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The length of the character at `text`, which has len bytes: 1 to 4; 0 when it is not valid. */
size_t lvt_utf8_length(const char *text, size_t len);

/* The most bytes of the text, len at most, that leave no character half. */
size_t lvt_utf8_cut(const char *text, size_t len);

/* Whether the valid character of len bytes at `text` does something instead of showing: a control
 * character (to a terminal U+0080 to U+009F are some too), or a separator that ends a line. */
bool lvt_utf8_is_control(const char *text, size_t len);

#endif
