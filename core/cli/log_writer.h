/* Where the program's log goes: one line a record, to a file descriptor. */
#ifndef LEVERET_CLI_LOG_WRITER_H
#define LEVERET_CLI_LOG_WRITER_H

#include <pthread.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "base/log.h"

/* As the key log.format numbers them. */
enum lvt_log_format { LVT_LOG_TEXT, LVT_LOG_JSON };

struct lvt_log_writer {
    int fd;
    enum lvt_log_format format;
    bool colours;
    pthread_mutex_t mutex; /* keeps a line whole that takes several writes */
};

/* The descriptor stays the caller's. Colours are for terminals, and only in the text format. */
void lvt_log_writer_init(struct lvt_log_writer *writer, int fd, enum lvt_log_format format,
                         bool colours);
void lvt_log_writer_done(struct lvt_log_writer *writer);

/* A sink for struct lvt_log; ctx is the writer. From any thread. A line that cannot be written is
 * lost: a log must not stop the work. Whatever the texts hold, it is one line, of 16 KiB at most:
 * long texts are cut, and fields that have no room are left out, which the field "cut" says. */
void lvt_log_writer_sink(void *ctx, enum lvt_level level, const char *text,
                         const struct lvt_field *fields, size_t field_count);

/* Writes text that a terminal may show: whatever could end the line, move the cursor or is no UTF-8
 * is escaped; so are the quote and the backslash in `quoted` text. */
void lvt_text_escape(struct lvt_buffer *out, struct lvt_bytes text, bool quoted);

#endif
