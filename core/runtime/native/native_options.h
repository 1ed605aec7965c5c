/* A plugin's options as JSON: its descriptor's, and those of the configuration. */
#ifndef LEVERET_RUNTIME_NATIVE_OPTIONS_H
#define LEVERET_RUNTIME_NATIVE_OPTIONS_H

#include "base/buffer.h"
#include "base/log.h"
#include "config/config.h"
#include "engine/routes.h"

/* Sets the handler options that a JSON object holds. LEVERET_CONFIG: it is no valid JSON object, or
 * a key of it is unknown or wrong; the text names it. */
enum leveret_code lvt_native_options_read(struct lvt_bytes json,
                                          struct lvt_handler_options *options,
                                          struct leveret_error *err) LVT_MUST_CHECK;

/* Takes plugins.NAME out of the configuration's table of plugins (NULL: there is none): `handler`,
 * empty when it says nothing, a slice of `plugins`; and all the rest, an object, to `out`. */
enum leveret_code lvt_native_options_split(const char *plugins, const char *name,
                                           struct lvt_bytes *ret_handler, struct lvt_buffer *out,
                                           struct leveret_error *err) LVT_MUST_CHECK;

/* Warns of what the configuration says to plugins that were not loaded: a name may be misspelt. */
void lvt_native_options_warn(const char *plugins, const struct lvt_routes *routes,
                             const struct lvt_log *log);

#endif
