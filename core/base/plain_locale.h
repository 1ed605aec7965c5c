/* A program that leveret is part of may have a locale with another decimal point, by which strtod,
 * printf and Lua would read and write numbers. Who does so works within a hold. */
#ifndef LEVERET_BASE_PLAIN_LOCALE_H
#define LEVERET_BASE_PLAIN_LOCALE_H

#include <locale.h>

struct lvt_plain_locale {
    locale_t before; /* the thread's */
};

/* The C locale for this thread, and no other one. */
void lvt_plain_locale_hold(struct lvt_plain_locale *ret_held);
void lvt_plain_locale_release(const struct lvt_plain_locale *held);

#endif
