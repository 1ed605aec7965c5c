/* The library's side of leveret/error.h. */
#ifndef LEVERET_BASE_ERROR_H
#define LEVERET_BASE_ERROR_H

#include <stdarg.h>

#include "leveret/error.h"

#define LVT_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define LVT_MUST_CHECK __attribute__((warn_unused_result))

/* Fills *err (which may be NULL) and returns code, so that `return leveret_fail(...)` reads well.
 * A text that does not fit is cut. */
enum leveret_code leveret_fail(struct leveret_error *err, enum leveret_code code,
                               const char *format, ...) LVT_PRINTF(3, 4);

#endif
