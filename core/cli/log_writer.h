/* Where the program's log goes: one line a record, to a file descriptor. */
#ifndef LEVERET_CLI_LOG_WRITER_H
#define LEVERET_CLI_LOG_WRITER_H

#include <pthread.h>

#include "worker/log_line.h"

struct lvt_log_writer {
    int fd;
    struct lvt_log_style style;
    unsigned lane;         /* a field of every line; 0: none */
    bool can_fill;         /* not a file */
    bool patient;          /* set by the owner: waits for its reader for ever, and loses nothing */
    bool stalled;          /* its reader does not read */
    uint64_t lost;         /* lines since it did */
    pthread_mutex_t mutex; /* keeps a line whole that takes several writes */
};

/* The descriptor stays the caller's. Colours are for terminals, and only in the text format. */
void lvt_log_writer_init(struct lvt_log_writer *writer, int fd, enum lvt_log_format format,
                         bool colours);
/* One of several processes that write to the descriptor: its lines have its number, and stay whole
 * beside theirs. */
void lvt_log_writer_share(struct lvt_log_writer *writer, unsigned lane);
void lvt_log_writer_done(struct lvt_log_writer *writer);

/* A sink for struct lvt_log; ctx is the writer. From any thread. A line that cannot be written is
 * lost: a log must not stop the work. */
void lvt_log_writer_sink(void *ctx, enum lvt_level level, const char *text,
                         const struct lvt_field *fields, size_t field_count);

#endif
