/* Handlers that are plugins: shared objects built on leveret/plugin.h. */
#ifndef LEVERET_RUNTIME_NATIVE_HANDLER_H
#define LEVERET_RUNTIME_NATIVE_HANDLER_H

#include "base/log.h"
#include "config/config.h"
#include "engine/routes.h"
#include "leveret/plugin.h"

/* What a plugin gets. */
extern const struct leveret_host lvt_native_host;

/* Copies the file aside, tries the copy in a child process, loads it, and opens the plugin. Its
 * name is the file's without ".so"; its options are the configuration's defaults, with the plugin's
 * and then those of plugins.NAME.handler over them. The log outlives it. May take five seconds,
 * when a plugin hangs as it is loaded. LEVERET_CONFIG with the file and what is wrong with it. */
enum leveret_code lvt_native_handler_load(const char *path, const struct lvt_config *config,
                                          const struct lvt_log *log,
                                          struct lvt_handler **ret_handler,
                                          struct leveret_error *err) LVT_MUST_CHECK;

/* The same of a plugin that is part of the program: nothing is loaded, and its name is the
 * descriptor's, which outlives the handler. */
enum leveret_code lvt_native_handler_make(const struct leveret_plugin *plugin,
                                          const struct lvt_config *config,
                                          const struct lvt_log *log,
                                          struct lvt_handler **ret_handler,
                                          struct leveret_error *err) LVT_MUST_CHECK;

#endif
