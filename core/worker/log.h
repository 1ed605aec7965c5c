/* The log's way to the program that embeds the worker. */
#ifndef LEVERET_WORKER_LOG_H
#define LEVERET_WORKER_LOG_H

#include "base/log.h"

/* A sink for struct lvt_log; ctx is the worker, whose own sink is called. */
void lvt_worker_log_sink(void *ctx, enum lvt_level level, const char *text,
                         const struct lvt_field *fields, size_t field_count);

#endif
