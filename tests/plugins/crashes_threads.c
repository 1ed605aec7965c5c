/* Crashes on threads of its own, beside which others work. */
#include "crashes.h"

static const char *const events[] = {"crash.thread", NULL};

static const struct leveret_plugin plugin = {
    LEVERET_PLUGIN_HEAD,
    "crashes_threads",
    "1.0",
    events,
    "{\"queue\": \"crashes_threads.queue\", \"concurrency\": 8, \"timeout_ms\": 500}",
    LEVERET_PLUGIN_BLOCKING,
    open_plugin,
    handle,
    close_plugin,
};

const struct leveret_plugin *leveret_plugin_entry(const struct leveret_host *the_host) {
    host = the_host;
    return &plugin;
}
