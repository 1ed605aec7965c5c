/* Will not run with any host. */
#include "leveret/plugin.h"

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *host) {
    (void)host;
    return NULL;
}
