/* Finds the handlers of the folders that the configuration names. */
#ifndef LEVERET_RUNTIME_FOLDER_H
#define LEVERET_RUNTIME_FOLDER_H

#include "base/log.h"
#include "config/config.h"
#include "engine/routes.h"

/* The paths of a folder's handlers, in the order of their names; of a single file, that one.
 * LEVERET_CONFIG: it cannot be read. */
enum leveret_code lvt_folder_list(const char *root, struct lvt_strings *ret_paths,
                                  struct leveret_error *err) LVT_MUST_CHECK;

/* Loads every handler of every folder (or single file) of config.handlers into the routes, in the
 * order of their names. LEVERET_CONFIG: a folder is missing or holds no handler, a file is wrong,
 * or two handlers want the same events of a queue. On failure the routes hold what was loaded so
 * far. */
enum leveret_code lvt_handlers_load(const struct lvt_config *config, const struct lvt_log *log,
                                    struct lvt_routes *routes,
                                    struct leveret_error *err) LVT_MUST_CHECK;

#endif
