/* A record of the log as one line of text. */
#ifndef LEVERET_WORKER_LOG_LINE_H
#define LEVERET_WORKER_LOG_LINE_H

#include <stdbool.h>

#include "base/buffer.h"
#include "base/log.h"

/* As the key log.format numbers them. */
enum lvt_log_format { LVT_LOG_TEXT, LVT_LOG_JSON };

struct lvt_log_style {
    enum lvt_log_format format;
    bool colours;     /* for terminals; only in the text format */
    size_t max_bytes; /* of a line; 0: LVT_LOG_LINE_MAX */
};

#define LVT_LOG_LINE_MAX 16383

struct lvt_log_text {
    char text[LVT_LOG_LINE_MAX + 1]; /* NUL-terminated, without a line break */
    size_t len;
};

/* Whatever the texts hold, it is one line: long texts are cut, and fields that have no room are
 * left out, which the field "cut" says. */
void lvt_log_line(const struct lvt_log_style *style, enum lvt_level level, const char *text,
                  const struct lvt_field *fields, size_t field_count, struct lvt_log_text *ret);

/* Writes text that a terminal may show: whatever could end the line, move the cursor or is no UTF-8
 * is escaped; so are the quote and the backslash in `quoted` text. */
void lvt_text_escape(struct lvt_buffer *out, struct lvt_bytes text, bool quoted);

#endif
