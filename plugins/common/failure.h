/* Why an event cannot be handled, and what is to become of it. */
#ifndef LEVERET_PLUGINS_FAILURE_H
#define LEVERET_PLUGINS_FAILURE_H

#include <stdarg.h>
#include <stdio.h>

#include "leveret/plugin.h"

struct lvt_failure {
    int32_t verdict; /* LEVERET_RETRY or LEVERET_REJECT */
    char text[512];
};

/* Always returns false, so that a function can end with it. */
__attribute__((format(printf, 3, 4))) static inline bool
lvt_failed(struct lvt_failure *failure, int32_t verdict, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
    failure->verdict = verdict;
    return false;
}

static inline bool lvt_failed_memory(struct lvt_failure *failure) {
    return lvt_failed(failure, LEVERET_RETRY, "out of memory");
}

#endif
