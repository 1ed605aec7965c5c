/* The log's way to the program that embeds the worker. */
#ifndef LEVERET_WORKER_LOG_H
#define LEVERET_WORKER_LOG_H

#include "base/log.h"
#include "leveret/leveret.h"
#include "worker/log_line.h"

/* Where the program wants its records. */
struct lvt_program_log {
    enum lvt_log_format format;
    leveret_log_sink *sink; /* NULL: nowhere */
    void *ctx;
};

/* The log that leads there; of that struct, which outlives it. */
struct lvt_log lvt_program_log_of(const struct lvt_program_log *program, int level);

#endif
