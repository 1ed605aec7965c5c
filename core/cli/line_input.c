#include "cli/line_input.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define LOOK_MS 500

void lvt_line_input_init(struct lvt_line_input *input, size_t max_bytes) {
    input->error = 0;
    input->number = input->at = input->len = 0;
    lvt_buffer_init(&input->line, max_bytes);
}

void lvt_line_input_done(struct lvt_line_input *input) {
    lvt_buffer_free(&input->line);
}

/* *ret_whole: it is the file that has ended. */
static bool fill(struct lvt_line_input *input, bool *ret_whole) {
    *ret_whole = false;
    while (input->go_on(input->ctx)) {
        struct pollfd file = {.fd = input->fd, .events = POLLIN};
        if (poll(&file, 1, LOOK_MS) <= 0)
            continue;
        ssize_t len = read(input->fd, input->chunk, sizeof input->chunk);
        if (len < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        input->error = len < 0 ? errno : 0;
        input->at = 0;
        input->len = len > 0 ? (size_t)len : 0;
        *ret_whole = len == 0;
        return len > 0;
    }
    return false;
}

bool lvt_line_input_next(struct lvt_line_input *input) {
    struct lvt_buffer *line = &input->line;
    const char *end = NULL;
    bool begun = false, whole;
    lvt_buffer_clear(line);
    while (!end) {
        if (input->at == input->len && !fill(input, &whole)) {
            if (!whole || !begun)
                return false;
            break;
        }
        const char *rest = input->chunk + input->at;
        end = memchr(rest, '\n', input->len - input->at);
        size_t len = end ? (size_t)(end - rest) : input->len - input->at;
        lvt_buffer_append(line, rest, len);
        input->at += len + (end != NULL);
        begun = true;
    }
    if (!line->failed && line->len > 0 && line->data[line->len - 1] == '\r')
        lvt_buffer_truncate(line, line->len - 1);
    input->number++;
    return true;
}
