/* Lines of a file that may be a terminal or a pipe: a long one takes no memory, and nothing waits
 * where a signal is not heard. */
#ifndef LEVERET_CLI_LINE_INPUT_H
#define LEVERET_CLI_LINE_INPUT_H

#include "base/buffer.h"

struct lvt_line_input {
    int fd;
    /* Called before each read, and twice a second while nothing comes: false ends the input. */
    bool (*go_on)(void *ctx);
    void *ctx;
    int error;              /* an errno; 0: it has ended, or was ended, and all of it was read */
    struct lvt_buffer line; /* without its end; failed: it was longer than the maximum */
    size_t number;          /* of lines so far */
    size_t at, len;
    char chunk[65536];
};

/* Sets the line's maximum. The other members are the caller's to set. */
void lvt_line_input_init(struct lvt_line_input *input, size_t max_bytes);
void lvt_line_input_done(struct lvt_line_input *input);

/* Reads the next line; false when there is none. What comes before an end that go_on or an error
 * made is no line. */
bool lvt_line_input_next(struct lvt_line_input *input);

#endif
