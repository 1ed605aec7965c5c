/* Makes a handler of a file, whatever kind of file it is. */
#ifndef LEVERET_RUNTIME_LOAD_H
#define LEVERET_RUNTIME_LOAD_H

#include <stdbool.h>

#include "base/log.h"
#include "config/config.h"
#include "engine/routes.h"

/* Whether a file of this name is a handler's. Hidden, temporary and backup files are not. */
bool lvt_handler_is_file(const char *name);

/* The name of a file's handler. NULL when out of memory; the caller frees it. */
char *lvt_handler_name_of(const char *path);

/* Reads the file once, and makes and checks its handler beside whatever runs. The log outlives the
 * handler. LEVERET_CONFIG with the file and, where it can be told, the line. */
enum leveret_code lvt_handler_load(const char *path, const struct lvt_config *config,
                                   const struct lvt_log *log, struct lvt_handler **ret_handler,
                                   struct leveret_error *err) LVT_MUST_CHECK;

#endif
