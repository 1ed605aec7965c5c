#include "cli/log_writer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STALL_MS 1000
#define FIELDS_MAX 64

/* A pipe or terminal whose reader does not read for so long that it is full for a second loses
 * lines, from then on without a wait, until it reads again. */
static bool wait_writable(struct lvt_log_writer *writer) {
    struct pollfd poll_fd = {.fd = writer->fd, .events = POLLOUT};
    int wait_ms = writer->patient ? -1 : writer->stalled ? 0 : STALL_MS;
    int ready;
    do {
        ready = poll(&poll_fd, 1, wait_ms);
    } while (ready < 0 && errno == EINTR);
    writer->stalled = ready <= 0;
    return ready > 0;
}

/* In pieces for which a pipe that can be written has room: a blocking one would stop the work. */
static bool write_all(struct lvt_log_writer *writer, const char *data, size_t len) {
    while (len > 0) {
        if (writer->can_fill && !wait_writable(writer))
            return false;
        size_t piece = writer->can_fill && len > PIPE_BUF ? PIPE_BUF : len;
        ssize_t written = write(writer->fd, data, piece);
        if (written > 0) {
            data += written;
            len -= (size_t)written;
        } else if (written == 0 || (errno != EINTR && errno != EAGAIN)) {
            return false;
        }
    }
    return true;
}

/* For those who read again. */
static void tell_lost(struct lvt_log_writer *writer) {
    const struct lvt_field count = LVT_INTEGER("lines", (int64_t)writer->lost);
    struct lvt_log_text line;
    lvt_log_line(&writer->style, LVT_WARN, "the log was not read, and lines of it are lost", &count,
                 1, &line);
    line.text[line.len] = '\n';
    if (write_all(writer, line.text, line.len + 1))
        writer->lost = 0;
}

void lvt_log_writer_init(struct lvt_log_writer *writer, int fd, enum lvt_log_format format,
                         bool colours) {
    struct stat info;
    *writer = (struct lvt_log_writer){
        .fd = fd,
        .can_fill = fstat(fd, &info) != 0 || !S_ISREG(info.st_mode),
        .style = {.format = format, .colours = colours},
    };
    pthread_mutex_init(&writer->mutex, NULL);
}

/* Files are opened to append, as a rule, and take any line whole; pipes do up to a limit. */
void lvt_log_writer_share(struct lvt_log_writer *writer, unsigned lane) {
    writer->lane = lane;
    if (writer->can_fill)
        writer->style.max_bytes = PIPE_BUF - 1;
}

void lvt_log_writer_done(struct lvt_log_writer *writer) {
    if (writer) {
        pthread_mutex_destroy(&writer->mutex);
    }
}

void lvt_log_writer_sink(void *ctx, enum lvt_level level, const char *text,
                         const struct lvt_field *fields, size_t field_count) {
    struct lvt_log_writer *writer = ctx;
    struct lvt_field numbered[FIELDS_MAX + 1];
    struct lvt_log_text line;
    int errno_before = errno;
    if (writer->lane > 0 && field_count <= FIELDS_MAX) {
        if (field_count > 0)
            memcpy(numbered, fields, field_count * sizeof *fields);
        numbered[field_count++] = LVT_INTEGER("lane", writer->lane);
        fields = numbered;
    }
    lvt_log_line(&writer->style, level, text, fields, field_count, &line);
    line.text[line.len] = '\n'; /* in the place of the NUL */
    pthread_mutex_lock(&writer->mutex);
    if (writer->lost > 0)
        tell_lost(writer);
    if (!write_all(writer, line.text, line.len + 1))
        writer->lost++;
    pthread_mutex_unlock(&writer->mutex);
    errno = errno_before;
}
