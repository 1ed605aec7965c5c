/* The command line of `leveret publish`. */
#ifndef LEVERET_CLI_PUBLISH_OPTIONS_H
#define LEVERET_CLI_PUBLISH_OPTIONS_H

#include "engine/outgoing.h"

struct lvt_publish_options {
    const char *config_path;
    bool lines; /* events come from standard input, one a line */
    uint64_t wait_ms;
    struct lvt_outgoing outgoing; /* of lines, what all of them have */
    struct lvt_header headers[LVT_OUTGOING_HEADERS_MAX];
    char *body; /* read from a file or standard input */
};

/* Returns -1 to go on, or the exit code. To be freed in any case. */
int lvt_publish_options_read(int argc, char **argv, struct lvt_publish_options *ret);
void lvt_publish_options_free(struct lvt_publish_options *options);

#endif
