#include "cli/log_writer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STALL_MS 1000
#define FIELDS_MAX 64

/* A pipe whose reader does not read for so long that it is full for a second loses lines. */
static bool wait_writable(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    int ready;
    do {
        ready = poll(&poll_fd, 1, STALL_MS);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

static void write_all(struct lvt_log_writer *writer, const char *data, size_t len) {
    pthread_mutex_lock(&writer->mutex);
    while (len > 0) {
        ssize_t written = write(writer->fd, data, len);
        if (written > 0) {
            data += written;
            len -= (size_t)written;
        } else if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!wait_writable(writer->fd)) {
                break;
            }
        } else if (written == 0 || errno != EINTR) {
            break;
        }
    }
    pthread_mutex_unlock(&writer->mutex);
}

void lvt_log_writer_init(struct lvt_log_writer *writer, int fd, enum lvt_log_format format,
                         bool colours) {
    writer->fd = fd;
    writer->lane = 0;
    writer->style = (struct lvt_log_style){.format = format, .colours = colours};
    pthread_mutex_init(&writer->mutex, NULL);
}

/* Files are opened to append, as a rule, and take any line whole; pipes do up to a limit. */
void lvt_log_writer_share(struct lvt_log_writer *writer, unsigned lane) {
    struct stat info;
    writer->lane = lane;
    if (fstat(writer->fd, &info) != 0 || !S_ISREG(info.st_mode))
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
    write_all(writer, line.text, line.len + 1);
    errno = errno_before;
}
