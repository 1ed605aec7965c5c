/* An event as one line of JSON. */
#ifndef LEVERET_PLUGINS_ARCHIVE_LINE_H
#define LEVERET_PLUGINS_ARCHIVE_LINE_H

#include <time.h>

#include "../json_text.h"

extern const struct leveret_host *host;

/* Appends it, with its newline. */
void line_append(struct json_text *out, struct leveret_event event,
                 const struct leveret_event_info *info, const struct timespec *now);

#endif
