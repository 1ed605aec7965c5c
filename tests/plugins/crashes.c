/* Crashes on the loop's thread. */
#include "crashes.h"

static const char *const events[] = {"crash", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD, "crashes", "1.0",        events, "{\"queue\": \"crashes.queue\"}", 0,
    open_plugin,         handle,    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
